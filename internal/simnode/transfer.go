package simnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"time"
)

// A transfer is one layer on its way from or to a registry. Several pulls of the layer share one.
type transfer struct {
	completed, total atomic.Int64
	known            atomic.Bool   // total is
	done             chan struct{} // closed at the end
	err              error         // of a transfer that is done

	refs   int             // who waits for it; the node's mutex guards it
	ctx    context.Context // of the transfer itself
	cancel context.CancelFunc
}

const (
	// maxTries is how often a real server tries to transfer a part of a layer.
	maxTries = 6

	// stalled is how long a real server waits for the next bytes before it asks for them again.
	stalled = 30 * time.Second
)

var (
	errMaxRetries = errors.New("max retries exceeded")
	errStalled    = errors.New("part stalled")
)

// download returns the transfer of a layer, and begins it when there is none. The caller gives it back with
// leaveDownload.
func (n *Node) download(ctx context.Context, from remote, digest string) (*transfer, error) {
	for {
		n.mu.Lock()
		t := n.downloads[digest]
		switch {
		case t == nil:
			t = &transfer{done: make(chan struct{}), refs: 1}
			n.downloads[digest] = t
			n.startLocked(ctx, t, from, digest)
			n.mu.Unlock()
			return t, nil
		case t.refs > 0 && t.ctx.Err() == nil:
			t.refs++
			n.mu.Unlock()
			return t, nil
		}
		n.mu.Unlock()
		select { // everybody left it, or the node died: it ends soon
		case <-t.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// startLocked starts the download. It outlives the request that began it, but not the node's life, nor the last one
// who waits for it.
func (n *Node) startLocked(ctx context.Context, t *transfer, from remote, digest string) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(n.life, cancel)
	t.ctx, t.cancel = ctx, cancel
	n.running.Add(1)
	go func() { // ends with ctx; Close waits for it
		defer n.running.Done()
		defer cancel()
		defer stop()
		t.err = n.fetch(ctx, t, from, digest)
		n.mu.Lock()
		delete(n.downloads, digest)
		n.mu.Unlock()
		close(t.done)
	}()
}

func (n *Node) leaveDownload(t *transfer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t.refs--; t.refs == 0 {
		t.cancel()
	}
}

// fetch loads a layer and stores it. What has come of one that fails stays for the next time.
func (n *Node) fetch(ctx context.Context, t *transfer, from remote, digest string) error {
	hex, ok := splitDigest(digest)
	if !ok {
		return errDigestFormat
	}
	size, err := from.size(ctx, digest)
	if err != nil {
		return err
	}
	n.mu.Lock()
	in := n.partials[digest]
	delete(n.partials, digest)
	n.mu.Unlock()
	if in == nil {
		in = n.newPartial(hex)
	}
	t.completed.Store(in.digest.Size())
	t.total.Store(size)
	t.known.Store(true)
	for try := 0; in.digest.Size() < size; {
		err := n.fetchPart(ctx, t, from, digest, in)
		if err == nil {
			break
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errStalled) && ctx.Err() == nil {
			in.drop() // a real server does not trust what came before such an error, and starts again
			in = n.newPartial(hex)
			t.completed.Store(0)
		}
		switch {
		case ctx.Err() != nil:
			n.mu.Lock()
			n.partials[digest] = in
			n.mu.Unlock()
			return ctx.Err()
		case errors.Is(err, syscall.ENOSPC):
			return err
		case errors.Is(err, errStalled):
			continue // for ever
		}
		if err := pass(ctx, n.scaled(ctx, time.Second<<try)); err != nil {
			continue // the next try finds that ctx is over
		}
		if try++; try == maxTries {
			n.mu.Lock()
			n.partials[digest] = in
			n.mu.Unlock()
			return fmt.Errorf("%w: %w", errMaxRetries, err)
		}
	}
	in.keep(hex)
	return nil
}

func (n *Node) newPartial(hex string) *inflow {
	return &inflow{node: n, path: n.blobPath(hex) + "-partial"}
}

// fetchPart loads what is missing of a layer. It takes a whole number of seconds when that ends well, as on a real
// server, which looks once a second whether it is done.
func (n *Node) fetchPart(ctx context.Context, t *transfer, from remote, digest string, in *inflow) error {
	begun := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(stalled, func() { cancel(errStalled) })
	defer idle.Stop()
	body, err := from.blob(ctx, digest, in.digest.Size(), t.total.Load())
	if err == nil {
		missing := t.total.Load() - in.digest.Size()
		var n int64
		n, err = io.Copy(inflowWriter{ctx, in, func(n int) {
			t.completed.Add(int64(n))
			idle.Reset(stalled)
		}}, io.LimitReader(body, missing))
		_ = body.Close()
		if err == nil && n < missing {
			err = io.ErrUnexpectedEOF
		}
	}
	idle.Stop()
	if err != nil {
		if errors.Is(context.Cause(ctx), errStalled) {
			return errStalled
		}
		return err
	}
	second := n.scaled(ctx, time.Second)
	return pass(ctx, second-time.Since(begun)%max(1, second))
}
