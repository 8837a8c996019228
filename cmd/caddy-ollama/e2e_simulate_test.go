package main

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
)

func TestSimulate_ServesWhatItsFlagsSay(t *testing.T) {
	t.Parallel()
	p, urls := startSimulate(t, 2, "--version", "9.8.7", "--models", "tiny,sim-embed")
	for _, url := range urls {
		if resp, body := get(t, http.DefaultClient, url+"/api/version", ""); resp.StatusCode != http.StatusOK || !strings.Contains(body, "9.8.7") {
			t.Errorf("%s: version: got %d %s", url, resp.StatusCode, body)
		}
		if _, body := get(t, http.DefaultClient, url+"/api/tags", ""); !strings.Contains(body, `"tiny:latest"`) || !strings.Contains(body, `"sim-embed:latest"`) || strings.Contains(body, "sim-chat") {
			t.Errorf("%s: models: got %s", url, body)
		}
		if resp, _ := get(t, http.DefaultClient, url+"/api/tags", "evil.example.com"); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: a foreign Host: got %d, want 403 as on a loopback address", url, resp.StatusCode)
		}
	}
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit code %d", code)
	}
}
