package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/blob"
)

// maxManifest is how long a manifest may be that is put; those of models have some hundred bytes a layer.
const maxManifest = 1 << 20

const manifestType = "application/vnd.docker.distribution.manifest.v2+json"

func (r *Registry) getManifest(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	manifest, ok := r.manifests[key(modelOf(q), q.PathValue("ref"))]
	r.mu.Unlock()
	if !ok {
		sendError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	sum := sha256.Sum256(manifest)
	h := w.Header()
	h.Set("Content-Type", manifestType)
	h.Set("Docker-Content-Digest", "sha256:"+hex.EncodeToString(sum[:]))
	h.Set("Content-Length", strconv.Itoa(len(manifest)))
	_, _ = w.Write(manifest) // an error here means that the client is gone
}

func (r *Registry) putManifest(w http.ResponseWriter, q *http.Request) {
	manifest, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxManifest))
	if err != nil {
		sendError(w, http.StatusRequestEntityTooLarge, "SIZE_INVALID", err.Error())
		return
	}
	type layer struct{ Digest string }
	var m struct {
		Config layer
		Layers []layer
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		sendError(w, http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range append(m.Layers, m.Config) {
		if _, ok := r.files[strings.TrimPrefix(l.Digest, "sha256:")]; !ok {
			sendError(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry: "+strconv.Quote(l.Digest))
			return
		}
	}
	if err := r.putLocked(modelOf(q), q.PathValue("ref"), manifest); err != nil {
		sendError(w, http.StatusInsufficientStorage, "DENIED", err.Error())
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// file finds the file that a request asks for, or answers the request.
func (r *Registry) file(w http.ResponseWriter, q *http.Request) (f blob.File, ok bool) {
	digest := strings.TrimPrefix(q.PathValue("digest"), "sha256:")
	if !blob.IsHex(digest) {
		sendError(w, http.StatusBadRequest, "DIGEST_INVALID", "invalid digest")
		return f, false
	}
	r.mu.Lock()
	f, ok = r.files[digest]
	r.mu.Unlock()
	if !ok {
		sendError(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
	}
	return f, ok
}
