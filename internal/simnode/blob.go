package simnode

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
)

// headBlob tells whether the node has a file: those of its models and those that were sent to it.
func (n *Node) headBlob(w http.ResponseWriter, r *http.Request) {
	digest, ok := splitDigest(r.URL.Path[len("/api/blobs/"):])
	switch {
	case !ok:
		sendError(w, http.StatusBadRequest, "invalid digest format")
	case !n.hasBlob(digest):
		sendError(w, http.StatusNotFound, fmt.Sprintf("blob %q not found", "sha256:"+digest))
	}
}

// postBlob takes a file. One that is there already is not read; of others only the digest is kept, because nothing here
// looks into them.
func (n *Node) postBlob(w http.ResponseWriter, r *http.Request) {
	digest, ok := splitDigest(r.URL.Path[len("/api/blobs/"):])
	if !ok {
		sendError(w, http.StatusBadRequest, "invalid digest format")
		return
	}
	if n.hasBlob(digest) {
		return
	}
	h := sha256.New()
	if _, err := io.Copy(h, r.Body); err != nil {
		sendError(w, http.StatusInternalServerError, err.Error())
		return
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != digest {
		sendError(w, http.StatusBadRequest,
			fmt.Sprintf("digest mismatch, expected %q, got %q", "sha256:"+digest, "sha256:"+sum))
		return
	}
	n.mu.Lock()
	n.blobs[digest] = struct{}{}
	n.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
}

func (n *Node) hasBlob(digest string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.blobs[digest]; ok {
		return true
	}
	for _, m := range n.models {
		if m.Weights == digest {
			return true
		}
	}
	return false
}

// splitDigest returns the 64 hex digits of "sha256:…" or "sha256-…".
func splitDigest(s string) (digest string, ok bool) {
	const kind = "sha256"
	if len(s) != len(kind)+1+64 || s[:len(kind)] != kind || s[len(kind)] != ':' && s[len(kind)] != '-' {
		return "", false
	}
	digest = s[len(kind)+1:]
	for i := range len(digest) {
		if c := digest[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", false
		}
	}
	return digest, true
}
