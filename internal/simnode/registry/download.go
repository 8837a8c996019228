package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/blob"
)

// A fault is what is wrong with the downloads of a blob. The registry's mutex guards it.
type fault struct {
	at    int64
	left  int // how often yet; negative: for ever
	spoil bool
	hold  bool
}

// Break lets the next downloads that reach the offset of the blob end there, the connection cut; a negative number of
// times is for ever, and 0 heals the blob. The digest has 64 hex digits. A blob has one fault, the last one set.
func (r *Registry) Break(digest string, at int64, times int) {
	r.setFault(digest, fault{at: at, left: times})
}

// Spoil lets one byte of the blob at the offset be another one, in as many downloads.
func (r *Registry) Spoil(digest string, at int64, times int) {
	r.setFault(digest, fault{at: at, left: times, spoil: true})
}

// Stall lets downloads that reach the offset wait there until the client leaves, as many times.
func (r *Registry) Stall(digest string, at int64, times int) {
	r.setFault(digest, fault{at: at, left: times, hold: true})
}

func (r *Registry) setFault(digest string, f fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[digest] = &f
	if f.left == 0 {
		delete(r.faults, digest)
	}
}

// strikes returns how many of the n bytes at the offset may be read before a fault of the blob has its turn, and the
// fault itself when that is now, which counts.
func (r *Registry) strikes(digest string, off int64, n int) (before int, f *fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f = r.faults[digest]
	switch {
	case f == nil || f.at < off || f.at >= off+int64(n):
		return n, nil
	case f.at > off:
		return int(f.at - off), nil
	}
	if f.left--; f.left == 0 {
		delete(r.faults, digest)
	}
	return n, f
}

func (r *Registry) getBlob(w http.ResponseWriter, q *http.Request) {
	f, ok := r.file(w, q)
	if !ok {
		return
	}
	content, ok := f.Open()
	if !ok { // nothing is kept that is not whole
		sendError(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", "sha256:"+f.Digest)
	d := &download{
		registry: r, file: f, content: content, ctx: q.Context(), flush: http.NewResponseController(w).Flush, pace: pace{rate: r.opts.Rate},
	}
	// Without its other methods w takes plain Writes, so that a cut comes behind what was read before it.
	http.ServeContent(struct{ http.ResponseWriter }{w}, q, "", time.Time{}, d)
	r.mu.Lock()
	r.stats.Bytes["GET"] += d.sent
	r.mu.Unlock()
}

// A download is a blob as one client reads it.
type download struct {
	registry *Registry
	file     blob.File
	content  io.ReaderAt
	ctx      context.Context // the request's
	flush    func() error
	pace     pace
	off      int64
	sent     int64
}

// Seek is for http.ServeContent.
func (d *download) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += d.off
	case io.SeekEnd:
		offset += d.file.Size
	}
	if offset < 0 {
		return 0, errors.New("negative offset")
	}
	d.off = offset
	return offset, nil
}

func (d *download) Read(p []byte) (int, error) {
	if d.off >= d.file.Size {
		return 0, io.EOF
	}
	if err := d.ctx.Err(); err != nil {
		return 0, err
	}
	before, f := d.registry.strikes(d.file.Digest, d.off, int(min(int64(len(p)), d.file.Size-d.off)))
	p = p[:before]
	if f != nil && !f.spoil {
		_ = d.flush() // a client that is gone does not matter
		if f.hold {
			<-d.ctx.Done()
		}
		panic(http.ErrAbortHandler) // net/http's own way of closing a connection without the end of the answer
	}
	n, err := d.content.ReadAt(p, d.off)
	if f != nil && n > 0 {
		p[0] ^= 1
	}
	if n == len(p) {
		err = nil
	}
	d.pace.took(d.ctx.Done(), n)
	d.off += int64(n)
	d.sent += int64(n)
	return n, err
}
