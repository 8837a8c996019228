// Package registry is a small registry of models, as Ollama servers pull from and push to one: manifests by name and
// tag, blobs by digest, uploads in pieces. It lives in memory and keeps no large file, see package blob: of weights it
// serves stand-ins, and a blob that is neither small nor a stand-in it refuses when it comes.
//
// It can be slow, and break blobs off or spoil them, for those who test what then happens. It asks nobody who he is.
package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/blob"
)

// Options of a Registry. The zero value works.
type Options struct {
	// Rate is how many bytes a second each download and each upload of a blob goes. Default: as fast as it can.
	Rate int64

	// MaxBytes bounds what the registry holds in memory: manifests and small blobs. Default: 64 MiB.
	MaxBytes int64
}

// A Registry is an http.Handler. It starts no goroutine and is safe for concurrent use.
type Registry struct {
	opts Options
	mux  *http.ServeMux

	mu        sync.Mutex // guards what follows
	held      int64
	manifests map[string][]byte // by "namespace/model:tag"
	files     map[string]blob.File
	uploads   map[string]*upload
	nextID    int
	faults    map[string]*fault // by digest
	stats     Stats
}

// Stats are counts of what a Registry did since New.
type Stats struct {
	Requests map[string]int // by method and kind, such as "GET blobs"
	Bytes    map[string]int64
}

// New returns an empty registry.
func New(opts Options) *Registry {
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = 64 << 20
	}
	r := &Registry{
		opts: opts, mux: http.NewServeMux(), manifests: make(map[string][]byte), files: make(map[string]blob.File),
		uploads: make(map[string]*upload), faults: make(map[string]*fault),
		stats: Stats{Requests: make(map[string]int), Bytes: make(map[string]int64)},
	}
	const repo = "/v2/{namespace}/{model}/"
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /v2/{$}":                         func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, http.StatusOK, struct{}{}) },
		"GET " + repo + "manifests/{ref}":     r.getManifest, // HEAD as well
		"PUT " + repo + "manifests/{ref}":     r.putManifest,
		"GET " + repo + "blobs/{digest}":      r.getBlob,
		"POST " + repo + "blobs/uploads/{$}":  r.beginUpload,
		"PATCH " + repo + "blobs/upload/{id}": r.patchUpload,
		"PUT " + repo + "blobs/upload/{id}":   r.endUpload,
	} {
		r.mux.HandleFunc(pattern, h)
	}
	return r
}

// Put stores a manifest under a name such as "library/tiny" and a tag, and the files it names. It fails when there is
// no room.
func (r *Registry) Put(model, tag string, manifest []byte, files ...blob.File) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range files {
		if err := r.keepLocked(f); err != nil {
			return err
		}
	}
	return r.putLocked(model, tag, manifest)
}

// Manifest returns the manifest of a model, or nil.
func (r *Registry) Manifest(model, tag string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.manifests[key(model, tag)]
}

// Stats returns a copy of the counts.
func (r *Registry) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{Requests: make(map[string]int), Bytes: make(map[string]int64)}
	for k, v := range r.stats.Requests {
		s.Requests[k] = v
	}
	for k, v := range r.stats.Bytes {
		s.Bytes[k] = v
	}
	return s
}

func key(model, tag string) string { return strings.ToLower(model + ":" + tag) }

var errFull = fmt.Errorf("the simulated registry is full")

func (r *Registry) putLocked(model, tag string, manifest []byte) error {
	grows := int64(len(manifest)) - int64(len(r.manifests[key(model, tag)]))
	if r.held+grows > r.opts.MaxBytes {
		return errFull
	}
	r.held += grows
	r.manifests[key(model, tag)] = manifest
	return nil
}

// perFile is what a file costs besides its bytes, so that there cannot be any number of them.
const perFile = 1 << 10

func (r *Registry) keepLocked(f blob.File) error {
	if _, ok := r.files[f.Digest]; ok {
		return nil
	}
	size := int64(len(f.Head)+len(f.Meta())) + perFile
	if r.held+size > r.opts.MaxBytes {
		return errFull
	}
	r.held += size
	r.files[f.Digest] = f
	return nil
}

// ServeHTTP answers one request.
func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	kind := "other"
	for _, k := range []string{"manifests", "blobs", "uploads", "upload"} {
		if strings.Contains(q.URL.Path, "/"+k+"/") {
			kind = k
		}
	}
	r.mu.Lock()
	r.stats.Requests[q.Method+" "+kind]++
	r.mu.Unlock()
	r.mux.ServeHTTP(w, q)
}

func modelOf(q *http.Request) string { return q.PathValue("namespace") + "/" + q.PathValue("model") }

// sendError writes an error in the form of the registry API.
func sendError(w http.ResponseWriter, status int, code, message string) {
	type one struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	sendJSON(w, status, map[string][]one{"errors": {{code, message}}})
}

func sendJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // what is sent here always marshals
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // an error here means that the client is gone
}

// pace is what keeps a transfer to a rate. The zero value, and a rate of 0, does nothing.
type pace struct {
	rate int64
	debt time.Duration
}

// took waits as long as n bytes take, in steps that a timer can tell apart.
func (p *pace) took(done <-chan struct{}, n int) {
	if p.rate <= 0 {
		return
	}
	p.debt += time.Duration(float64(n) / float64(p.rate) * float64(time.Second))
	if p.debt < 5*time.Millisecond {
		return
	}
	t := time.NewTimer(p.debt)
	defer t.Stop()
	p.debt = 0
	select {
	case <-t.C:
	case <-done:
	}
}
