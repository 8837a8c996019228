package manage

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/transport"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// simulated starts a node whose behaviour the recordings hold.
func simulated(t *testing.T, name string) Node {
	node := simnode.New(simnode.Options{})
	t.Cleanup(node.Close)
	server := httptest.NewServer(node)
	t.Cleanup(server.Close)
	n := &blobNode{Transport: transport.New(transport.Options{}), name: name}
	t.Cleanup(n.CloseIdleConnections)
	n.url, _ = url.Parse(server.URL)
	return n
}

// What a real server answered to a blob is what many answer as one.
func TestUpload_AnswersAsARealNode(t *testing.T) {
	nodes := []Node{simulated(t, "a"), simulated(t, "b")}
	uploads := NewUploads(UploadOptions{})
	seen := 0
	for _, rec := range golden.Load(t, "models") {
		if rec.Request.Method != http.MethodPost || !strings.HasPrefix(rec.Request.Path, "/api/blobs/") || rec.ID == "blob-post-exists" || rec.ID == "blob-post-bad" {
			continue // that blob is a model's, or the digest is none, which is not judged here
		}
		seen++
		digest := strings.TrimPrefix(rec.Request.Path, "/api/blobs/")
		body := rec.Request.Body
		_, created, err := uploads.Upload(t.Context(), nodes, digest, int64(len(body)), bytes.NewReader(body))
		status, message := http.StatusOK, ""
		var mismatch *DigestMismatch
		switch {
		case errors.As(err, &mismatch):
			status, message = http.StatusBadRequest, err.Error()
		case err != nil:
			t.Errorf("%s: %v", rec.ID, err)
		case created:
			status = http.StatusCreated
		}
		if want := wire.ErrorMessage(rec.Response.Body); status != rec.Response.Status || message != want {
			t.Errorf("%s: got %d %s, want %d %s", rec.ID, status, message, rec.Response.Status, want)
		}
		if status == http.StatusCreated {
			checkFailures(t, HasBlob(t.Context(), nodes, digest, Options{}))
		}
	}
	if seen < 2 {
		t.Errorf("%d recordings, want 2 at least", seen)
	}
}
