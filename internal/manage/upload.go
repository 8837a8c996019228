package manage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Defaults of UploadOptions.
const (
	DefaultUploadStall      = time.Minute
	DefaultUploadAskTimeout = 10 * time.Second
	DefaultUploadLimit      = 16
	DefaultUploadWindow     = 4 << 20
)

// UploadOptions bound uploads. The zero value works.
type UploadOptions struct {
	// Stall is after how long a node is given up that takes nothing although there is something
	// to take, or has all and does not answer. So long may it hold the others up. Default: 1m.
	Stall      time.Duration
	AskTimeout time.Duration // for telling whether a node has a blob. Default: 10s.
	Limit      int           // uploads at once; further ones wait, and their clients' bodies with them. Default: 16.
	Window     int           // bytes of an upload in memory, for all its nodes together. Default: 4 MiB.
}

func (o UploadOptions) withDefaults() UploadOptions {
	if o.Stall <= 0 {
		o.Stall = DefaultUploadStall
	}
	if o.AskTimeout <= 0 {
		o.AskTimeout = DefaultUploadAskTimeout
	}
	if o.Limit <= 0 {
		o.Limit = DefaultUploadLimit
	}
	if o.Window <= 0 {
		o.Window = DefaultUploadWindow
	}
	return o
}

// Uploads sends blobs to many nodes at once. Equal uploads at the same time are one. It is
// safe for concurrent use, and has no goroutine but while Has or Upload runs.
type Uploads struct {
	opts   UploadOptions
	places chan struct{} // as many as uploads may run

	mu      sync.Mutex // guards what follows
	running map[string]*running
}

// running is an upload that equal ones wait for.
type running struct {
	done chan struct{} // closed at its end
	err  error         // valid after done
}

// NewUploads makes one. It starts nothing.
func NewUploads(opts UploadOptions) *Uploads {
	opts = opts.withDefaults()
	return &Uploads{opts: opts, places: make(chan struct{}, opts.Limit), running: make(map[string]*running)}
}

// Has asks all nodes at once whether they have a blob, and returns those that have not, in the
// order of nodes. The error is ErrDigestFormat, ctx's, or a *NodesError of those that could not
// be asked; missing is right for the others.
func (u *Uploads) Has(ctx context.Context, nodes []Node, digest string) (missing []Node, err error) {
	digest, ok := parseDigest(digest)
	if !ok {
		return nil, ErrDigestFormat
	}
	missing, failures := u.lack(ctx, nodes, digest)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case len(failures) > 0:
		return missing, &NodesError{failures}
	}
	return missing, nil
}

// Upload has all nodes keep a blob, sending it once to those that lack it. The length is that of
// body, or -1. created tells that a node lacked it; body is not read if none does, or if an
// equal upload has just been made.
//
// Whoever has failed is named in a *NodesError; the other nodes keep the blob. Further errors are
// ErrDigestFormat, *DigestMismatch, *BodyError and ctx's. After none of them a node has got the
// end of a blob that is not what its digest says.
//
// body is read by the caller's goroutine, and Upload returns no sooner than such a Read: the
// caller bounds how long one may take, and has it end when ctx does.
func (u *Uploads) Upload(ctx context.Context, nodes []Node, digest string, length int64, body io.Reader) (created bool, err error) {
	digest, ok := parseDigest(digest)
	if !ok {
		return false, ErrDigestFormat
	}
	key := uploadKey(nodes, digest)
	for {
		u.mu.Lock()
		first := u.running[key]
		if first == nil {
			first = &running{done: make(chan struct{})}
			u.running[key] = first
			u.mu.Unlock()
			return u.lead(ctx, key, first, func() (bool, error) { return u.upload(ctx, nodes, digest, length, body) })
		}
		u.mu.Unlock()
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-first.done:
			if first.err == nil {
				return false, nil
			}
		}
	}
}

// lead does what equal uploads wait for.
func (u *Uploads) lead(ctx context.Context, key string, r *running, upload func() (bool, error)) (created bool, err error) {
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
		created, r.err = upload()
	case <-ctx.Done():
		r.err = context.Cause(ctx)
	}
	return created, r.err
}

// uploadKey is the same for uploads that do the same.
func uploadKey(nodes []Node, digest string) string {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name()
	}
	slices.Sort(names)
	return digest + " " + strings.Join(names, " ") // names have no blanks
}

// upload sends the blob where it is lacking.
func (u *Uploads) upload(ctx context.Context, nodes []Node, digest string, length int64, body io.Reader) (created bool, err error) {
	missing, failures := u.lack(ctx, nodes, digest)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if len(missing) > 0 {
		var failed []NodeFailure
		created, failed, err = u.spread(ctx, missing, digest, length, body)
		if err != nil {
			return false, err
		}
		failures = inOrder(nodes, append(failures, failed...))
	}
	if len(failures) > 0 {
		return false, &NodesError{failures}
	}
	return created, nil
}

// inOrder sorts failures as the nodes are.
func inOrder(nodes []Node, failures []NodeFailure) []NodeFailure {
	place := func(f NodeFailure) int {
		return slices.IndexFunc(nodes, func(n Node) bool { return n.Name() == f.Node })
	}
	slices.SortFunc(failures, func(a, b NodeFailure) int { return place(a) - place(b) })
	return failures
}

// lack asks all nodes whether they have a blob.
func (u *Uploads) lack(ctx context.Context, nodes []Node, digest string) (missing []Node, failures []NodeFailure) {
	ctx, cancel := context.WithTimeout(ctx, u.opts.AskTimeout)
	defer cancel()
	has, errs := make([]bool, len(nodes)), make([]error, len(nodes))
	var asking sync.WaitGroup
	for i, n := range nodes {
		asking.Go(func() { has[i], errs[i] = askBlob(ctx, n, digest) }) // ends with ctx
	}
	asking.Wait()
	for i, n := range nodes {
		switch {
		case errs[i] != nil:
			failures = append(failures, NodeFailure{n.Name(), blobReason(errs[i]), errs[i]})
		case !has[i]:
			missing = append(missing, n)
		}
	}
	return missing, failures
}

func askBlob(ctx context.Context, n Node, digest string) (has bool, err error) {
	r, err := blobRequest(ctx, http.MethodHead, n, digest)
	if err != nil {
		return false, err
	}
	resp, err := n.RoundTrip(r)
	if err != nil {
		return false, fmt.Errorf("ask for a blob: %w", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	}
	return false, refusalOf(resp)
}

func blobRequest(ctx context.Context, method string, n Node, digest string) (*http.Request, error) {
	target := *n.URL()
	target.Path = "/api/blobs/" + digest
	return http.NewRequestWithContext(ctx, method, target.String(), nil)
}

// parseDigest reads a digest as a node does, but for upper case, which a node takes and then
// finds to be none it has ever. The result has a colon, as nodes write it.
func parseDigest(text string) (digest string, ok bool) {
	const kind, digits = "sha256", 2 * sha256.Size
	if len(text) != len(kind)+1+digits || text[:len(kind)] != kind || text[len(kind)] != ':' && text[len(kind)] != '-' {
		return "", false
	}
	sum := text[len(kind)+1:]
	if _, err := hex.DecodeString(sum); err != nil || sum != strings.ToLower(sum) {
		return "", false
	}
	return kind + ":" + sum, true
}
