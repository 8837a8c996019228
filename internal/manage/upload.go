package manage

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Defaults of UploadOptions.
const (
	DefaultUploadStall  = time.Minute
	DefaultUploadLimit  = 16
	DefaultUploadWindow = 4 << 20
)

// UploadOptions bound uploads. The zero value works.
type UploadOptions struct {
	// Options say how nodes are asked. Stall is after how long a node is given up that takes nothing
	// although there is something to take, or has all and does not answer: so long may it hold the
	// others up. Default: 1m.
	Options
	Limit  int // uploads at once; further ones wait, and their clients' bodies with them. Default: 16.
	Window int // bytes of an upload in memory, for all its nodes together. Default: 4 MiB.
}

func (o UploadOptions) withDefaults() UploadOptions {
	if o.Stall == 0 {
		o.Stall = DefaultUploadStall
	}
	o.Options = o.Options.withDefaults()
	if o.Limit <= 0 {
		o.Limit = DefaultUploadLimit
	}
	if o.Window <= 0 {
		o.Window = DefaultUploadWindow
	}
	return o
}

// Uploads sends blobs to many nodes at once. Equal uploads at the same time are one. It is
// safe for concurrent use, and has no goroutine but while Upload runs.
type Uploads struct {
	opts   UploadOptions
	places chan struct{} // as many as uploads may run

	mu      sync.Mutex // guards what follows
	running map[string]*running
}

// running is an upload that equal ones wait for.
type running struct {
	done chan struct{} // closed at its end

	// Valid after done.
	results []Result
	err     error
}

// good tells whether all nodes have the blob.
func (r *running) good() bool {
	return r.err == nil && !slices.ContainsFunc(r.results, func(r Result) bool { return r.Failure != nil })
}

// NewUploads makes one. It starts nothing.
func NewUploads(opts UploadOptions) *Uploads {
	opts = opts.withDefaults()
	return &Uploads{opts: opts, places: make(chan struct{}, opts.Limit), running: make(map[string]*running)}
}

// blobPath is where a node takes the blob of a digest.
func blobPath(digest string) string { return "/api/blobs/" + digest }

// HasBlob asks all nodes at once whether they have the blob of a digest, which is sha256:<64 hex>. A
// node that lacks it has failed with the status 404.
func HasBlob(ctx context.Context, nodes []Node, digest string, o Options) []Result {
	return Each(ctx, Ask{Method: http.MethodHead, Path: blobPath(digest)}, nodes, o)
}

// Upload has all nodes keep the blob of a digest, which is sha256:<64 hex>, sending it once to those
// that lack it. The length is that of body, or -1. The results are those of the nodes, in their
// order: one that fails does not keep the others from having the blob. created tells that a node
// lacked it; body is not read if none does, or if an equal upload has just been made.
//
// The error is a *DigestMismatch, a *BodyError, or ctx's; then no node has got the end of the blob.
//
// body is read by the caller's goroutine, and Upload returns no sooner than such a Read: the
// caller bounds how long one may take, and has it end when ctx does.
func (u *Uploads) Upload(ctx context.Context, nodes []Node, digest string, length int64, body io.Reader) (results []Result, created bool, err error) {
	key := keyOf(Ask{Key: digest}, nodes)
	for {
		u.mu.Lock()
		first := u.running[key]
		if first == nil {
			first = &running{done: make(chan struct{})}
			u.running[key] = first
			u.mu.Unlock()
			created = u.lead(ctx, key, first, func() ([]Result, bool, error) { return u.upload(ctx, nodes, digest, length, body) })
			return first.results, created, first.err
		}
		u.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case <-first.done:
			if first.good() {
				return first.results, false, nil
			}
		}
	}
}

// lead does what equal uploads wait for.
func (u *Uploads) lead(ctx context.Context, key string, r *running, upload func() ([]Result, bool, error)) (created bool) {
	r.err = errors.New("upload ended in a panic") // unless it is said otherwise below
	defer func() {
		u.mu.Lock()
		delete(u.running, key)
		u.mu.Unlock()
		close(r.done)
	}()
	select {
	case u.places <- struct{}{}:
		defer func() { <-u.places }()
		r.results, created, r.err = upload()
	case <-ctx.Done():
		r.err = context.Cause(ctx)
	}
	return created
}

// upload sends the blob where it is lacking.
func (u *Uploads) upload(ctx context.Context, nodes []Node, digest string, length int64, body io.Reader) (results []Result, created bool, err error) {
	results = HasBlob(ctx, nodes, digest, u.opts.Options)
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	var lacking []*Result
	for i := range results {
		if f := results[i].Failure; f != nil && f.Status == http.StatusNotFound {
			lacking = append(lacking, &results[i])
		}
	}
	if len(lacking) == 0 {
		return results, false, nil
	}
	created, err = u.spread(ctx, lacking, digest, length, body)
	return results, created, err
}
