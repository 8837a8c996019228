package simnode_test

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func zstdOf(t *testing.T, body string) string {
	t.Helper()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	return string(e.EncodeAll([]byte(body), nil))
}

func TestUnpacking_RoutesThatTheHostedServiceShares(t *testing.T) {
	n := newNode(t, simnode.GoldenModels()...)
	tests := []struct {
		path, body string
		unpacks    bool
	}{
		{"/v1/chat/completions", `{"model":"tiny","messages":[{"role":"user","content":"x"}]}`, true},
		{"/v1/completions", `{"model":"tiny","prompt":"x"}`, true},
		{"/v1/embeddings", `{"model":"tinyembed","input":"x"}`, true},
		{"/v1/responses", `{"model":"tiny","input":"x"}`, true},
		{"/v1/messages", `{"model":"tiny","max_tokens":5,"messages":[{"role":"user","content":"x"}]}`, true},
		{"/v1/images/generations", `{"model":"tiny","prompt":"x"}`, true},
		{"/api/generate", `{"model":"tiny","prompt":"x"}`, false},
		{"/api/embed", `{"model":"tinyembed","input":"x"}`, false},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(http.MethodPost, tt.path, strings.NewReader(zstdOf(t, tt.body)))
		r.Header.Set("Content-Encoding", "zstd")
		w := httptest.NewRecorder()
		if n.ServeHTTP(w, r); (w.Code == 200) != tt.unpacks {
			t.Errorf("%s: %d %s", tt.path, w.Code, w.Body)
		}
	}
}

func TestTranscriptions(t *testing.T) {
	n := newNode(t, simnode.GoldenModels()...)
	form := func(file string, fields ...string) *http.Request {
		var b bytes.Buffer
		m := multipart.NewWriter(&b)
		for i := 0; i < len(fields); i += 2 {
			_ = m.WriteField(fields[i], fields[i+1])
		}
		if file != "" {
			part, err := m.CreateFormFile("file", "speech.wav")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = part.Write([]byte(strings.TrimSpace(file)))
		}
		_ = m.Close()
		r := httptest.NewRequest(http.MethodPost, "/v1/audio/transcriptions", &b)
		r.Header.Set("Content-Type", m.FormDataContentType())
		return r
	}
	tests := map[string]struct {
		request *http.Request
		status  int
		begins  string
	}{
		"json":     {form("RIFF", "model", "tiny"), 200, `{"text":"`},
		"text":     {form("RIFF", "model", "tiny", "response_format", "text"), 200, ""},
		"no model": {form("RIFF"), 400, `{"error":{"message":"model is required"`},
		"no file":  {form("", "model", "tiny"), 400, `{"error":{"message":"file is required: http: no such file"`},
		"empty":    {form(" ", "model", "tiny"), 400, `{"error":{"message":"audio file is empty"`},
		"unknown":  {form("RIFF", "model", "nope"), 404, `{"error":{"message":"model 'nope' not found"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			n.ServeHTTP(w, tt.request)
			if w.Code != tt.status || !strings.HasPrefix(w.Body.String(), tt.begins) || w.Body.Len() < 10 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}
