package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// A writer is an author who has signed in.
type writer struct {
	http    *http.Client
	base    string
	session string // cookie
}

var loginToken = regexp.MustCompile(`/login/link\?token=(\S+)`)

// signIn uses the link that the gateway tells of.
func (g *gateway) signIn() *writer {
	g.t.Helper()
	if !g.waitFor("/login/link?token=") {
		g.t.Fatal("it does not say how to sign in")
	}
	g.fetch("GET", "", "/", html) // waits for the certificate
	w := &writer{http: g.client("HTTP/2.0"), base: base("https", "localhost", g.tlsPort)}
	w.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	token, err := url.QueryUnescape(loginToken.FindStringSubmatch(g.output())[1])
	if err != nil {
		g.t.Fatal(err)
	}
	resp, text, err := w.send(g.t.Context(), "/login/link", url.Values{"token": {token}})
	if err != nil || resp.StatusCode != http.StatusSeeOther || len(resp.Cookies()) == 0 {
		g.t.Fatalf("signing in: %v\n%s", err, text)
	}
	w.session = resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
	return w
}

// send sends a form as a browser does.
func (w *writer) send(ctx context.Context, path string, form url.Values) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if w.session != "" {
		r.Header.Set("Cookie", w.session)
	}
	resp, err := w.http.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

func (w *writer) publish(ctx context.Context, title, body string) (*http.Response, string, error) {
	return w.send(ctx, "/create", url.Values{"do": {"publish"}, "title": {title}, "body": {body}})
}

// limitFiles lets the gateway's files grow up to so many bytes only, which is to it as a full disk.
func (g *gateway) limitFiles(most string) {
	g.t.Helper()
	out, err := exec.CommandContext(g.t.Context(), "prlimit", "--pid", fmt.Sprint(g.cmd.Process.Pid), "--fsize="+most+":").CombinedOutput()
	if err != nil {
		g.t.Fatalf("prlimit: %v\n%s", err, out)
	}
}

// 32, while somebody publishes: what was typed comes back, and goes in when there is room again.
func TestMatrix_AFullDiskIsAClearPageForWhoPublishes(t *testing.T) {
	t.Parallel()
	_, urls := startSimulate(t, 1)
	g := startUp(t, []string{"OLLAMA_NODES=" + urls[0]})
	w := g.signIn()
	g.limitFiles("2097152")
	body := strings.Repeat("word ", 50_000)
	stored := 0
	var refused *http.Response
	var page string
	for refused == nil && stored < 20 {
		resp, text, err := w.publish(t.Context(), fmt.Sprint("Before ", stored), body)
		switch {
		case err != nil:
			t.Fatal(err)
		case resp.StatusCode == http.StatusSeeOther:
			stored++
		default:
			refused, page = resp, text
		}
	}
	if refused == nil {
		t.Fatal("20 posts of 250 kB were stored in 2 MB")
	}
	if refused.StatusCode != http.StatusServiceUnavailable || refused.Header.Get("Retry-After") == "" ||
		!strings.Contains(page, body) || !strings.Contains(page, fmt.Sprint("Before ", stored)) {
		t.Errorf("a full disk: %d %v %.2000s, want 503, Retry-After and what was typed", refused.StatusCode, refused.Header, page)
	}
	g.answers("with a full disk")
	if resp, _ := g.fetch("GET", "", "/", html); resp.StatusCode != http.StatusOK {
		t.Errorf("the blog: %d", resp.StatusCode)
	}
	g.limitFiles("unlimited")
	resp, text, err := w.publish(t.Context(), "There is room", body)
	if err != nil || resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("with room again: %v %.2000s", err, text)
	}
	if n := g.exported(); n != stored+2 { // the first one was there
		t.Errorf("%d posts, want %d: those that were answered with 303, and the first", n, stored+2)
	}
}

// 36, while some publish: what was answered with 303 is there afterwards.
func TestMatrix_AKilledGatewayLosesNoPublishedPost(t *testing.T) {
	t.Parallel()
	_, urls := startSimulate(t, 1)
	g := startUp(t, []string{"OLLAMA_NODES=" + urls[0]})
	author := g.signIn()
	shown := map[string]string{} // titles, by path
	for round := range 3 {
		var mu sync.Mutex // guards shown and now
		var now int
		enough := make(chan struct{})
		var writers sync.WaitGroup
		for i := range 4 {
			w := &writer{http: g.client("HTTP/2.0"), base: author.base, session: author.session}
			w.http.CheckRedirect = author.http.CheckRedirect
			writers.Go(func() { // ends with the gateway
				for n := 0; ; n++ {
					title := fmt.Sprintf("Post %d of %d in round %d", n, i, round)
					resp, text, err := w.publish(t.Context(), title, strings.Repeat("word ", 1000))
					if err != nil {
						return
					}
					if resp.StatusCode != http.StatusSeeOther {
						t.Errorf("%s: %d %.500s", title, resp.StatusCode, text)
						return
					}
					mu.Lock()
					shown[resp.Header.Get("Location")] = title
					if now++; now == 15 {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		all := make(chan struct{})
		go func() { writers.Wait(); close(all) }() // ends with them
		select {
		case <-enough:
		case <-all:
			t.Fatal("no writer goes on")
		}
		g.end(os.Kill)
		<-all
		g.process = start(t, g.env, "up", "--listen", "localhost:"+g.httpPort, "--https", g.tlsPort)
		if !g.waitFor("READY") {
			t.Fatal("it does not start again")
		}
		for path, title := range shown {
			if resp, text := g.fetch("GET", "", path, html); resp.StatusCode != http.StatusOK || !strings.Contains(text, title) {
				t.Errorf("%s, which was answered with 303 as %q: %d", path, title, resp.StatusCode)
			}
		}
	}
	if resp, _, err := author.publish(t.Context(), "After all", "Body."); err != nil || resp.StatusCode != http.StatusSeeOther {
		t.Errorf("after all: %v", err)
	}
	g.answers("after all")
}
