package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// leaving is a gateway that has half a second between its leaving and the end of its listener.
const leaving = `{
	admin off
	persist_config off
	shutdown_delay 500ms
	grace_period %s
	ollama {
		node %s {
			slots 2
		}
	}
}

http://127.0.0.1:%s {
	bind 127.0.0.1
	ollama_health /ready ready
	metrics /metrics
	ollama
}
`

// runLeaving starts it and gives its base URL.
func runLeaving(t *testing.T, grace, node string) (*process, string) {
	t.Helper()
	home := t.TempDir()
	file := filepath.Join(home, "Caddyfile")
	for range 3 { // somebody else may take a port that was free
		port := freePort(t)
		if err := os.WriteFile(file, fmt.Appendf(nil, leaving, grace, node, port), 0o600); err != nil {
			t.Fatal(err)
		}
		p := start(t, []string{"HOME=" + home}, "run", "--config", file)
		if p.waitFor("serving initial configuration") {
			return p, base("http", "127.0.0.1", port)
		}
		if !strings.Contains(p.output(), "address already in use") {
			break
		}
	}
	t.Fatal("run ended")
	return nil, ""
}

// A probe is one look at /ready from a connection of its own; 0: there was none.
type probe struct {
	status int
	at     time.Time
}

func lookAt(url string) probe {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get(url)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return probe{0, time.Now()}
		}
		return probe{-1, time.Now()} // cut when the listener went: neither
	}
	resp.Body.Close()
	return probe{resp.StatusCode, time.Now()}
}

// Two streams run and three requests wait when the process is told to leave.
func TestMatrix_ToldToLeaveItEmptiesTheQueueAndFinishesStreams(t *testing.T) {
	t.Parallel()
	_, nodes := startSimulate(t, 1, "--slots", "2", "--models", "sim-small", "--scale", "2.5")
	p, url := runLeaving(t, "30s", nodes[0])
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	untilReady := time.Now().Add(patience)
	for lookAt(url+"/ready").status != http.StatusOK {
		if time.Now().After(untilReady) {
			t.Fatal("it does not become ready")
		}
	}

	var clients, began sync.WaitGroup
	streams, waiting := make([]*stream, 2), make([]*stream, 3)
	ask := func(into **stream, prompt string, first func()) {
		clients.Go(func() { // ends with its answer
			*into = askStream(t.Context(), client, url+"/api/chat", chatBody("sim-small", prompt, `,"options":{"num_predict":60}`), first)
		})
	}
	for i := range streams {
		began.Add(1)
		ask(&streams[i], fmt.Sprint("stream ", i), began.Done)
	}
	began.Wait()
	for i := range waiting {
		ask(&waiting[i], fmt.Sprint("waiting ", i), nil)
	}
	depth := func() (text string) {
		_, text = get(t, client, url+"/metrics", "")
		return text
	}
	for deadline := time.Now().Add(patience); !strings.Contains(depth(), `caddy_ollama_queue_depth{class="interactive"} 3`); {
		if time.Now().After(deadline) {
			t.Fatalf("three do not wait:\n%s", depth())
		}
	}

	told := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var probes []probe
	late := "" // what a request is told that comes while the listener is still open
	for {
		probes = append(probes, lookAt(url+"/ready"))
		last := probes[len(probes)-1]
		if last.status == 0 || time.Since(told) > patience {
			break
		}
		if last.status == http.StatusServiceUnavailable && late == "" {
			late = askOnce(url + "/api/chat")
		}
	}
	code := p.ended()
	clients.Wait()

	i := slices.IndexFunc(probes, func(s probe) bool { return s.status == http.StatusServiceUnavailable })
	closed := probes[len(probes)-1]
	if i < 0 || slices.ContainsFunc(probes[i:], func(s probe) bool { return s.status == http.StatusOK }) {
		t.Errorf("the probe said %v, want 200, then 503, then no connection", probes)
	} else if ahead := closed.at.Sub(probes[i].at); ahead < 300*time.Millisecond {
		t.Errorf("the probe was false for only %v before connections were refused", ahead)
	}
	if !strings.HasPrefix(late, "503 ") || !strings.Contains(late, "shutting down") {
		t.Errorf("who came late was told %q, want an honest 503", late)
	}
	for i, s := range waiting {
		if s.err != nil || s.status != http.StatusServiceUnavailable || !strings.Contains(s.last(), "the gateway is shutting down") {
			t.Errorf("who waited (%d) got %d %q %v, want an honest 503", i, s.status, s.last(), s.err)
		} else if took := s.frames[0].at.Sub(told); took > time.Second {
			t.Errorf("who waited (%d) was told after %v", i, took)
		}
	}
	for i, s := range streams {
		if endOf(s) != "done" || len(s.frames) < 20 {
			t.Errorf("stream %d: %d with %d frames, %v, last %s", i, s.status, len(s.frames), s.err, s.last())
		} else if !s.frames[len(s.frames)-1].at.After(closed.at) {
			t.Errorf("stream %d was over before the listener was: nothing was tested", i)
		}
	}
	if code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// askOnce gives status and answer of one request on a connection of its own.
func askOnce(url string) string {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Post(url, "application/json", strings.NewReader(chatBody("sim-small", "too late", "")))
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s %s", resp.StatusCode, resp.Header.Get("Retry-After"), text)
}
