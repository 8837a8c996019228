package simnode

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"syscall"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/blob"
)

func (n *Node) blobPath(digest string) string { return blobIn(n.opts.Dir, digest) }

func blobIn(dir, digest string) string { return dir + "/blobs/sha256-" + digest }

func (n *Node) manifestPath(m name) string {
	return n.opts.Dir + "/manifests/" + m.host + "/" + m.namespace + "/" + m.model + "/" + m.tag
}

func noSpace(path string) error { return &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC} }

// An inflow is a file that comes in: a layer that is pulled, or what a client sends. It takes up space from the first
// byte on, and time after Options.WriteRate. Keep or drop ends it.
type inflow struct {
	node   *Node
	path   string
	digest blob.Digester
	debt   time.Duration // that its bytes have taken and nobody has waited for yet
}

// temporary is the path of a file whose digest is not known yet.
func (n *Node) temporary() string { return n.blobPath(strconv.Itoa(int(rand.Uint32()))) }

// take takes bytes in. It fails when there is no space for them, in the words of a real server, or when ctx ends.
func (f *inflow) take(ctx context.Context, p []byte) error {
	n := f.node
	n.mu.Lock()
	full := troublesOf(ctx).noSpace || n.opts.Disk > 0 && n.used+int64(len(p)) > n.opts.Disk
	if !full {
		n.used += int64(len(p))
	}
	n.mu.Unlock()
	if full {
		return noSpace(f.path)
	}
	_, _ = f.digest.Write(p) // never fails
	if n.opts.WriteRate <= 0 {
		return context.Cause(ctx)
	}
	f.debt += time.Duration(float64(len(p)) / float64(n.opts.WriteRate) * float64(time.Second))
	if f.debt < 5*time.Millisecond { // timers are coarse
		return context.Cause(ctx)
	}
	wait := f.debt
	f.debt = 0
	return pass(ctx, n.scaled(ctx, wait))
}

// An inflowWriter is an inflow for io.Copy.
type inflowWriter struct {
	ctx context.Context
	*inflow
	taken func(n int) // is told of every piece; may be nil
}

func (w inflowWriter) Write(p []byte) (int, error) {
	if err := w.take(w.ctx, p); err != nil {
		return 0, err
	}
	if w.taken != nil {
		w.taken(len(p))
	}
	return len(p), nil
}

// drop gives the space back.
func (f *inflow) drop() {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	f.node.used -= f.digest.Size()
}

// keep stores the file under a digest that the caller takes it for, or under its own when that is "". It returns the
// file as it is.
func (f *inflow) keep(digest string) blob.File {
	size, file := f.digest.Size(), f.digest.File()
	if digest == "" {
		digest = file.Digest
	}
	n := f.node
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.files[digest]; ok {
		n.used -= size
	} else {
		n.files[digest] = file
	}
	return file
}

// addLocked stores a file that the node makes itself, or has from the start. It tells whether the file is new, and fails
// when there is no space for it.
func (n *Node) addLocked(f blob.File) (isNew bool, err error) {
	if _, ok := n.files[f.Digest]; ok {
		return false, nil
	}
	if n.opts.Disk > 0 && n.used+f.Size > n.opts.Disk {
		return false, noSpace(n.temporary())
	}
	n.files[f.Digest] = f
	n.used += f.Size
	return true, nil
}

// removeFileLocked forgets a file.
func (n *Node) removeFileLocked(digest string) {
	if f, ok := n.files[digest]; ok {
		n.used -= f.Size
		delete(n.files, digest)
	}
}

// pruneLocked removes those files of layers that no model needs any more, and tells whether there were any.
func (n *Node) pruneLocked(layers []layer) (pruned bool) {
	needed := make(map[string]bool)
	for _, m := range n.models {
		for _, l := range m.manifest.all() {
			needed[l.hex()] = true
		}
	}
	for _, l := range layers {
		if !needed[l.hex()] {
			n.removeFileLocked(l.hex())
			pruned = true
		}
	}
	return pruned
}
