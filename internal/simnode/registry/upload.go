package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/blob"
)

// maxUploads bounds the uploads that have begun; the oldest is forgotten for the next.
const maxUploads = 64

// An upload is a blob that comes in pieces, in their order.
type upload struct {
	number int

	mu     sync.Mutex // held while a piece comes; guards what follows
	digest *blob.Digester
}

// beginUpload starts an upload, or says that there is nothing to upload when the client tells a blob to mount that is
// there.
func (r *Registry) beginUpload(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.files[strings.TrimPrefix(q.URL.Query().Get("mount"), "sha256:")]; ok {
		w.WriteHeader(http.StatusCreated)
		return
	}
	if len(r.uploads) >= maxUploads {
		oldest := ""
		for id, u := range r.uploads {
			if oldest == "" || u.number < r.uploads[oldest].number {
				oldest = id
			}
		}
		delete(r.uploads, oldest)
	}
	r.nextID++
	id := strconv.Itoa(r.nextID)
	r.uploads[id] = &upload{number: r.nextID, digest: new(blob.Digester)}
	w.Header().Set("Location", locationOf(q, id))
	w.WriteHeader(http.StatusAccepted)
}

// locationOf is where the next piece of an upload goes: a full address, as Ollama servers need.
func locationOf(q *http.Request, id string) string {
	scheme := "http"
	if q.TLS != nil {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s/v2/%s/blobs/upload/%s", scheme, q.Host, modelOf(q), id)
}

func (r *Registry) find(w http.ResponseWriter, q *http.Request) *upload {
	r.mu.Lock()
	u := r.uploads[q.PathValue("id")]
	r.mu.Unlock()
	if u == nil {
		sendError(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
	}
	return u
}

// patchUpload takes a piece. One that broke off, or that does not begin where the last one ended, ends the upload.
func (r *Registry) patchUpload(w http.ResponseWriter, q *http.Request) {
	u := r.find(w, q)
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	begin, _, _ := strings.Cut(q.Header.Get("Content-Range"), "-")
	if off, err := strconv.ParseInt(begin, 10, 64); begin != "" && (err != nil || off != u.digest.Size()) {
		r.drop(q.PathValue("id"))
		sendError(w, http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", "the piece does not follow the last one")
		return
	}
	n, err := io.Copy(&arrival{ctx: q.Context(), to: u.digest, pace: pace{rate: r.opts.Rate}}, q.Body)
	r.mu.Lock()
	r.stats.Bytes["PATCH"] += n
	r.mu.Unlock()
	if err != nil {
		r.drop(q.PathValue("id"))
		sendError(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", err.Error())
		return
	}
	w.Header().Set("Location", locationOf(q, q.PathValue("id")))
	w.Header().Set("Range", fmt.Sprintf("0-%d", u.digest.Size()-1))
	w.WriteHeader(http.StatusAccepted)
}

// endUpload keeps the blob when it is what the client says.
func (r *Registry) endUpload(w http.ResponseWriter, q *http.Request) {
	u := r.find(w, q)
	if u == nil {
		return
	}
	r.drop(q.PathValue("id"))
	u.mu.Lock()
	f := u.digest.File()
	u.digest = new(blob.Digester) // a piece that comes at the same time goes nowhere
	u.mu.Unlock()
	if want := q.URL.Query().Get("digest"); want != "sha256:"+f.Digest {
		sendError(w, http.StatusBadRequest, "DIGEST_INVALID", fmt.Sprintf("provided digest %q, content has %q", want, "sha256:"+f.Digest))
		return
	}
	if _, ok := f.Open(); !ok {
		sendError(w, http.StatusRequestEntityTooLarge, "UNSUPPORTED", fmt.Sprintf(
			"the simulated registry keeps files up to %d bytes, and the stand-ins of simulated models", blob.SmallLimit))
		return
	}
	r.mu.Lock()
	err := r.keepLocked(f)
	r.mu.Unlock()
	if err != nil {
		sendError(w, http.StatusInsufficientStorage, "DENIED", err.Error())
		return
	}
	w.Header().Set("Location", "/v2/"+modelOf(q)+"/blobs/sha256:"+f.Digest)
	w.WriteHeader(http.StatusCreated)
}

func (r *Registry) drop(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.uploads, id)
}

// An arrival takes what a client sends at the registry's rate.
type arrival struct {
	ctx  context.Context // the request's
	to   io.Writer
	pace pace
}

func (a *arrival) Write(p []byte) (int, error) {
	a.pace.took(a.ctx.Done(), len(p))
	if err := a.ctx.Err(); err != nil {
		return 0, err
	}
	return a.to.Write(p)
}
