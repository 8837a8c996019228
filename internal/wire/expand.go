package wire

import (
	"io"
	"net/http"

	"github.com/klauspost/compress/zstd"
)

const (
	// expandedLimit is how long a body may become, in bytes. It is a node's own limit.
	expandedLimit = 20 << 20
	// windowLimit bounds the memory of one decoder, in bytes. It is a node's own limit.
	windowLimit = 8 << 20
)

// Expands tells whether a node decompresses bodies of a route that say Content-Encoding: zstd.
// Whatever else a body of any route is encoded with, a node reads it as it is.
func Expands(route Route) bool { return route.Access == Infer && route.Dialect != Ollama }

// Expand reads the zstd body r as a node does. Bodies that are no zstd, need too much memory
// or become too long end with a *BadRequest in a node's words; faults of r come as they are.
// The caller closes the reader, which starts no goroutines.
func Expand(r io.Reader) (io.ReadCloser, error) {
	source := &faultKeeper{r: r}
	d, err := zstd.NewReader(source, zstd.WithDecoderMaxMemory(windowLimit), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return &expansion{decoder: d, source: source, left: expandedLimit}, nil
}

type expansion struct {
	decoder *zstd.Decoder
	source  *faultKeeper
	left    int // bytes it may still become
}

func (e *expansion) Read(p []byte) (int, error) {
	n, err := e.decoder.Read(p[:min(len(p), e.left+1)])
	switch e.left -= n; {
	case e.left < 0:
		return 0, badEncoding("http: request body too large")
	case err == nil, err == io.EOF:
		return n, err
	case e.source.err != nil:
		return n, e.source.err
	}
	return n, badEncoding(err.Error())
}

func (e *expansion) Close() error {
	e.decoder.Close()
	return nil
}

// badEncoding refuses in the native dialect on every route, since a node decompresses before
// its translators.
func badEncoding(message string) error {
	return &BadRequest{
		Status: http.StatusBadRequest, Message: message, Early: true, Reason: ReasonBadEncoding, Dialect: Ollama,
	}
}

// A faultKeeper remembers what its reader failed with, so that a client's fault is not taken
// for one of the encoding.
type faultKeeper struct {
	r   io.Reader
	err error
}

func (f *faultKeeper) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}
