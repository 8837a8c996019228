package simnode

import (
	"bytes"
	"io"
	"net/http"

	"github.com/klauspost/compress/zstd"
)

// What a real server reads of a compressed body: so much of it expanded, through a window of at most this size.
const (
	unpackedLimit = 20 << 20
	windowLimit   = 8 << 20
)

// unpacking is for the routes that read zstd bodies: those that a real server may have to hand on to the hosted
// service, which it can only tell from the body. What is wrong with the compression is told in the native form.
// Whatever other encoding a request names, its body is read as it is.
func unpacking(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Encoding") == "zstd" {
			body, err := unpack(r.Body)
			if err != nil {
				sendError(w, http.StatusBadRequest, err.Error())
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		next(w, r)
	}
}

func unpack(packed io.Reader) ([]byte, error) {
	d, err := zstd.NewReader(packed,
		zstd.WithDecoderMaxMemory(windowLimit),
		zstd.WithDecoderConcurrency(1)) // no goroutines
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return io.ReadAll(http.MaxBytesReader(nil, d.IOReadCloser(), unpackedLimit))
}
