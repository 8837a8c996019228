package simnode

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/blob"
)

const blobsPath = "/api/blobs/" // before a digest

// headBlob tells whether the node has a file: those of its models and those that were sent to it.
func (n *Node) headBlob(w http.ResponseWriter, r *http.Request) {
	digest, ok := splitDigest(r.URL.Path[len(blobsPath):])
	switch {
	case !ok:
		sendError(w, http.StatusBadRequest, errDigestFormat.Error())
	case !n.hasBlob(digest):
		sendError(w, http.StatusNotFound, fmt.Sprintf("blob %q not found", "sha256:"+digest))
	}
}

// postBlob takes a file. One that is there already is not read; of others no more is kept than package blob says.
func (n *Node) postBlob(w http.ResponseWriter, r *http.Request) {
	digest, ok := splitDigest(r.URL.Path[len(blobsPath):])
	if !ok {
		sendError(w, http.StatusBadRequest, errDigestFormat.Error())
		return
	}
	if n.hasBlob(digest) {
		return
	}
	in := &inflow{node: n, path: n.temporary()}
	kept := false
	defer func() { // also when a fault ends the request
		if !kept {
			in.drop()
		}
	}()
	if _, err := io.Copy(inflowWriter{r.Context(), in, nil}, r.Body); err != nil {
		if !n.left(err) {
			sendError(w, http.StatusInternalServerError, err.Error())
		}
		return
	}
	kept = true
	// A real server, too, keeps a file that is not what was promised, as what it is.
	if f := in.keep(""); f.Digest != digest {
		sendError(w, http.StatusBadRequest,
			fmt.Sprintf("digest mismatch, expected %q, got %q", "sha256:"+digest, "sha256:"+f.Digest))
		return
	}
	w.WriteHeader(http.StatusCreated)
}

func (n *Node) hasBlob(digest string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.files[digest]
	return ok
}

var errDigestFormat = errors.New("invalid digest format")

// splitDigest returns the 64 hex digits of "sha256:…" or "sha256-…".
func splitDigest(s string) (digest string, ok bool) {
	const kind = "sha256"
	if len(s) != len(kind)+1+64 || s[:len(kind)] != kind || s[len(kind)] != ':' && s[len(kind)] != '-' {
		return "", false
	}
	digest = s[len(kind)+1:]
	return digest, blob.IsHex(digest)
}
