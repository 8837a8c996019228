package simnode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/blob"
)

// pushModel sends a model to the registry in its name: the layers that are missing there, and the manifest.
func (n *Node) pushModel(ctx context.Context, asked string, insecure bool, p *progress) error {
	p.say("retrieving manifest")
	m, err := n.toPush(asked)
	if err != nil {
		p.say("couldn't retrieve manifest")
		return err
	}
	to := n.remoteOf(m.name, insecure)
	for _, l := range m.manifest.all() {
		if err := n.pushLayer(ctx, to, l, p); err != nil {
			return err
		}
	}
	p.say("pushing manifest")
	raw, err := json.Marshal(m.manifest)
	if err != nil {
		return err
	}
	resp, err := to.do(ctx, remoteRequest{
		method: http.MethodPut, url: to.url("manifests/" + m.name.tag), header: map[string]string{"Content-Type": mediaManifest},
		body: bytes.NewReader(raw), length: int64(len(raw)),
	})
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	p.say("success")
	return nil
}

func (n *Node) toPush(asked string) (*installed, error) {
	parsed, err := parseName(asked)
	if err != nil {
		return nil, fmt.Errorf("unqualified name: %s", asked)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.models[parsed.key()]
	if m == nil {
		return nil, &fs.PathError{Op: "open", Path: n.manifestPath(parsed), Err: syscall.ENOENT}
	}
	return m, nil
}

// pushLayer sends a layer unless the registry has it.
func (n *Node) pushLayer(ctx context.Context, to remote, l layer, p *progress) error {
	_, err := to.size(ctx, l.Digest)
	if err == nil {
		p.of("pushing", l.Digest, l.Size, l.Size)
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n.mu.Lock()
	f, err := n.openLocked(l)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	content, ok := f.Open()
	if !ok {
		return fmt.Errorf("the simulated node keeps no file of %d bytes and cannot push it; it has the stand-ins of "+
			"simulated models, and files up to %d bytes", f.Size, blob.SmallLimit)
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &transfer{done: make(chan struct{}), cancel: cancel}
	t.total.Store(f.Size)
	t.known.Store(true)
	go func() { // ends with ctx, for which the deferred function waits
		defer close(t.done)
		t.err = n.upload(ctx, t, to, l.Digest, content)
	}()
	defer func() {
		cancel()
		<-t.done
	}()
	return p.watch(ctx, "pushing", l.Digest, t)
}

// A part of an upload is as long as a real server makes it: a sixteenth within these bounds.
const (
	minPart = 100_000_000
	maxPart = 1_000_000_000
)

// upload sends a file part by part.
func (n *Node) upload(ctx context.Context, t *transfer, to remote, digest string, content io.ReaderAt) error {
	resp, err := to.do(ctx, remoteRequest{method: http.MethodPost, url: to.url("blobs/uploads/")})
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		return nil
	}
	next := locationOf(resp)
	size := t.total.Load()
	part := min(maxPart, max(minPart, size/16))
	for off := int64(0); off < size; off += part {
		if next, err = n.uploadPart(ctx, t, to, next, content, off, min(part, size-off)); err != nil {
			return err
		}
	}
	u, err := url.Parse(next)
	if err != nil {
		return err
	}
	q := u.Query()
	q.Set("digest", digest)
	u.RawQuery = q.Encode()
	return n.again(ctx, func() error {
		resp, err := to.do(ctx, remoteRequest{
			method: http.MethodPut, url: u.String(), header: map[string]string{"Content-Type": "application/octet-stream"},
		})
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	})
}

// uploadPart sends one part and returns where the next one goes.
func (n *Node) uploadPart(ctx context.Context, t *transfer, to remote, where string, content io.ReaderAt, off, size int64) (next string, err error) {
	err = n.again(ctx, func() error {
		t.completed.Store(off)
		resp, err := to.do(ctx, remoteRequest{
			method: http.MethodPatch, url: where,
			header: map[string]string{
				"Content-Type": "application/octet-stream", "X-Redirect-Uploads": "1",
				"Content-Range": fmt.Sprintf("%d-%d", off, off+size-1),
			},
			body: io.TeeReader(io.NewSectionReader(content, off, size), counting{t}), length: size,
		})
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		next = locationOf(resp)
		return nil
	})
	return next, err
}

// counting counts what is sent.
type counting struct{ *transfer }

func (c counting) Write(p []byte) (int, error) {
	c.completed.Add(int64(len(p)))
	return len(p), nil
}

// again tries what may fail as often as a real server does, with its pauses.
func (n *Node) again(ctx context.Context, f func() error) (err error) {
	for try := range maxTries {
		if err = f(); err == nil || ctx.Err() != nil {
			return err
		}
		if err := pass(ctx, n.scaled(ctx, time.Second<<try)); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %w", errMaxRetries, err)
}

// locationOf is where a registry wants the next request of an upload.
func locationOf(resp *http.Response) string {
	if l := resp.Header.Get("Docker-Upload-Location"); l != "" {
		return l
	}
	u, err := resp.Location()
	if err != nil {
		return ""
	}
	return u.String()
}
