package golden

import (
	"bytes"
	"testing"
)

func TestLoad_EveryFileHasSendableRecords(t *testing.T) {
	total := 0
	for _, file := range all {
		seen := make(map[string]bool)
		for _, rec := range Load(t, file) {
			total++
			if seen[rec.ID] {
				t.Errorf("%s: two records %q", file, rec.ID)
			}
			seen[rec.ID] = true
			if rec.Request.Method == "" || rec.Request.Path == "" {
				t.Errorf("%s/%s: no request line", file, rec.ID)
			}
			if bytes.Contains(rec.Request.Body, []byte("times «")) {
				t.Errorf("%s/%s: the body is only described", file, rec.ID)
			}
			if rec.Response.Status != 0 && rec.Response.Line == "" {
				t.Errorf("%s/%s: no status line", file, rec.ID)
			}
		}
	}
	if total != 619 {
		t.Errorf("%d records, want 619", total)
	}
}

func TestLoad_RestoresLongBodies(t *testing.T) {
	byID := make(map[string]Record)
	for _, file := range []string{"generate", "hostile"} {
		for _, rec := range Load(t, file) {
			byID[file+"/"+rec.ID] = rec
		}
	}
	for _, tt := range []struct {
		id   string
		what string
		n    int
	}{
		{"generate/long-truncated", "the ", 3000},
		{"generate/deep", "[", 10000},
		{"hostile/embed-many", `"x"`, 3000},
		{"hostile/chat-many", `"role"`, 3000},
	} {
		if n := bytes.Count(byID[tt.id].Request.Body, []byte(tt.what)); n != tt.n {
			t.Errorf("%s: %q stands %d times in the request, want %d", tt.id, tt.what, n, tt.n)
		}
	}
	v, err := parseJSON(byID["generate/long-truncated"].Response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(v.get("context").items); n != 3008 {
		t.Errorf("context of %d numbers, want 3008", n)
	}
}

func TestLoad_SendsTheRealRegistry(t *testing.T) {
	for _, rec := range Load(t, "generate") {
		if rec.ID == "full-name" && !bytes.Contains(rec.Request.Body, []byte(realHost)) {
			t.Errorf("body %s names no real registry", rec.Request.Body)
		}
	}
}
