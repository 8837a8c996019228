package status

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func sample() Report {
	half := 0.5
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	return Report{
		At: at, Since: at.Add(-2 * time.Hour), Ready: true,
		Nodes: []Node{
			{Name: "big", State: "up", Usable: true, Since: at.Add(-time.Hour), Slots: 4, InFlight: 3, Version: "0.24.0", Models: 3, Runners: []Runner{{Model: "llama3", DecodeRate: 61.3, SizeVRAM: 5 << 30}}},
			{Name: "<b>&\x1b[2J", State: "down", Reason: "connection refused", Since: at.Add(-90 * time.Second), Slots: 1, Models: 2},
		},
		Queue:   Queue{Waiting: map[string]int{"interactive": 2, "background": 1, "batch": 0}, Limit: 512},
		Cache:   Cache{On: true, Entries: 1742, Bytes: 60 << 20, Limit: 256 << 20, Redis: "down"},
		Saved:   Saved{Hits: 30, Misses: 70, Coalesced: 5, OutputTokens: 12345, NodeSeconds: 3725},
		Minutes: []Minute{{Answered: 1}, {Answered: 60, FromCache: 20, Overloaded: 3, Rate: 1.4, FirstP50: &half, FirstP95: &half, TokensRate: 88}},
		History: Series{
			Step: 5, End: at, Answered: []int{1, 2}, FromCache: []int{0, 1}, Overloaded: []int{0, 3}, Failed: []int{0, 0}, Clients: []int{0, 0},
			FirstP50: []*float64{nil, &half}, FirstP95: []*float64{nil, &half}, TokensRate: []float64{0, 88}, Waiting: []int{1, 3},
		},
	}
}

func newPage(opts Options) *Page {
	return NewPage(func() (Report, bool) { return sample(), true }, opts)
}

func ask(p *Page, method, path string) *http.Response {
	w := httptest.NewRecorder()
	p.Serve(w, httptest.NewRequest(method, "http://localhost/status"+path, nil), path)
	return w.Result()
}

func textOf(t *testing.T, resp *http.Response) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPage_IsWholeWithoutJavaScript(t *testing.T) {
	resp := ask(newPage(Options{}), http.MethodGet, "/")
	text := textOf(t, resp)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("got %d %v", resp.StatusCode, resp.Header)
	}
	for _, want := range []string{
		"3 requests were refused for want of room", "connection refused", "61.3 tokens/s", "1,742", "12,345", "1 h 2 min",
		"&lt;b&gt;&amp;", "0.24.0", "500 ms", `<caption`, `scope="row"`, "<noscript>", "</html>",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	// The policy would forbid them.
	if found := regexp.MustCompile(`(?i)<script>|\sstyle=|<style|\son[a-z]+=|javascript:`).FindString(text); found != "" {
		t.Errorf("the page has %q", found)
	}
	// It must work under any path.
	if found := regexp.MustCompile(`(?:src|href)="(?:/|https?:)[^"]*"`).FindString(text); found != "" {
		t.Errorf("the page has the absolute address %s", found)
	}
}

func TestPage_EveryAnswerIsGuarded(t *testing.T) {
	p := newPage(Options{})
	for _, path := range []string{"/", "/page.js", "/uplot.LICENSE", "/nothing"} {
		h := ask(p, http.MethodGet, path).Header
		if h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") ||
			!strings.HasPrefix(h.Get("Cache-Control"), "no-") {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestPage_PathsAndMethods(t *testing.T) {
	p := newPage(Options{})
	for _, test := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/", 200},
		{"HEAD", "/", 200},
		{"HEAD", "/events", 200},
		{"GET", "/page.css", 200},
		{"HEAD", "/uplot.js", 200},
		{"GET", "/nothing", 404},
		{"GET", "/assets/page.css", 404},
		{"GET", "/../page.go", 404},
		{"GET", "//", 404},
		{"POST", "/", 405},
		{"DELETE", "/events", 405},
		{"OPTIONS", "/", 405},
	} {
		resp := ask(p, test.method, test.path)
		text := textOf(t, resp)
		if resp.StatusCode != test.want || test.method == "HEAD" && text != "" {
			t.Errorf("%s %s: got %d with %d bytes, want %d", test.method, test.path, resp.StatusCode, len(text), test.want)
		}
		if allow := resp.Header.Get("Allow"); (allow != "") != (test.want == 405) {
			t.Errorf("%s %s: Allow %q", test.method, test.path, allow)
		}
	}
}

func TestPage_FilesAreAskedForAgainButNotSent(t *testing.T) {
	p := newPage(Options{})
	tag := ask(p, http.MethodGet, "/page.js").Header.Get("ETag")
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("If-None-Match", tag)
	p.Serve(w, r, "/page.js")
	if w.Code != http.StatusNotModified || w.Body.Len() > 0 {
		t.Errorf("got %d with %d bytes", w.Code, w.Body.Len())
	}
}

func TestPage_WithoutAGateway(t *testing.T) {
	p := NewPage(func() (Report, bool) { return Report{}, false }, Options{})
	if resp := ask(p, http.MethodGet, "/"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// A sink takes what a stream writes.
type sink struct {
	*httptest.ResponseRecorder
	events chan string
}

func (s sink) Write(b []byte) (int, error) {
	s.events <- string(b)
	return len(b), nil
}

// stream asks for a stream, and tells its end by closing events.
func stream(ctx context.Context, p *Page) chan string {
	events := make(chan string, 10_000)
	go func() { // ends with the stream
		defer close(events)
		p.Serve(sink{httptest.NewRecorder(), events}, httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx), "/events")
	}()
	return events
}

func TestStream_SendsThePageEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		events := stream(ctx, newPage(Options{}))
		time.Sleep(5*time.Second + time.Millisecond)
		leave()
		synctest.Wait()
		var got int
		for event := range events {
			got++
			s := bufio.NewScanner(strings.NewReader(event))
			s.Buffer(nil, 1<<20)
			for s.Scan() {
				data, ok := strings.CutPrefix(s.Text(), "data: ")
				if !ok {
					continue
				}
				var u update
				if err := json.Unmarshal([]byte(data), &u); err != nil || !strings.Contains(u.HTML, `id="live-b"`) || len(u.History.Answered) != 2 {
					t.Errorf("%v in %.80s", err, data)
				}
			}
		}
		if got != 6 {
			t.Errorf("%d events in five seconds, want one at once and one each second", got)
		}
	})
}

func ends(events chan string) bool {
	for {
		select {
		case _, more := <-events:
			if !more {
				return true
			}
		default:
			return false
		}
	}
}

func TestStream_EndsWithThePageAndItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPage(Options{})
		old := stream(t.Context(), p)
		time.Sleep(9 * time.Minute)
		young := stream(t.Context(), p)
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if !ends(old) {
			t.Error("a stream of ten minutes goes on")
		}
		if ends(young) {
			t.Error("a younger one has ended with it")
		}
		p.Close()
		p.Close()
		synctest.Wait()
		if !ends(young) {
			t.Error("a stream goes on after Close")
		}
		if resp := ask(p, http.MethodGet, "/events"); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a stream begins after Close: %d", resp.StatusCode)
		}
		if resp := ask(p, http.MethodGet, "/"); resp.StatusCode != http.StatusOK {
			t.Errorf("the page is not served after Close: %d", resp.StatusCode)
		}
	})
}

func TestStream_ThereAreSoMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPage(Options{MaxStreams: 2})
		first, stopFirst := context.WithCancel(t.Context())
		stream(first, p)
		stream(t.Context(), p)
		synctest.Wait()
		resp := ask(p, http.MethodGet, "/events")
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("a third one: %d", resp.StatusCode)
		}
		stopFirst()
		synctest.Wait()
		if third := stream(t.Context(), p); len(third) > 0 || ends(third) {
			t.Error("nobody takes the place of who left")
		}
		p.Close()
		synctest.Wait()
	})
}

func TestStream_IsNotForOtherSites(t *testing.T) {
	for from, want := range map[string]int{"": 200, "same-origin": 200, "none": 200, "cross-site": 403, "same-site": 403} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodHead, "/", nil)
		if from != "" {
			r.Header.Set("Sec-Fetch-Site", from)
		}
		newPage(Options{}).Serve(w, r, "/events")
		if w.Code != want {
			t.Errorf("from %q: got %d, want %d", from, w.Code, want)
		}
	}
}

func TestStream_AllShareOneRendering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rendered := 0
		p := NewPage(func() (Report, bool) { rendered++; return sample(), true }, Options{})
		for range 10 {
			stream(t.Context(), p)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		p.Close()
		synctest.Wait()
		if rendered > 12 {
			t.Errorf("ten streams in ten seconds render %d times", rendered)
		}
	})
}

func TestNotices(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Report)
		want   []string
	}{
		{"down, waiting and refusing", func(*Report) {}, []string{
			"bad: 3 requests were refused for want of room in the last minute.", "warn: <b>&\x1b[2J is down (connection refused).", "warn: 3 requests wait for a slot.",
		}},
		{"well", func(r *Report) {
			r.Nodes, r.Queue, r.Minutes = r.Nodes[:1], Queue{}, nil
		}, []string{"ok: All is well: 1 node is up."}},
		{"nothing is up", func(r *Report) {
			r.Ready, r.Nodes, r.Minutes = false, nil, []Minute{{Failed: 1}}
		}, []string{"bad: No node can be used. Requests are refused.", "bad: 1 request failed in the last minute."}},
		{"who waits a moment is no news", func(r *Report) {
			r.Nodes, r.Minutes, r.History.Waiting = r.Nodes[:1], nil, []int{0, 3}
		}, []string{"ok: All is well: 1 node is up."}},
		{"many are down", func(r *Report) {
			r.Queue, r.Minutes, r.Nodes = Queue{}, nil, nil
			for _, name := range []string{"a", "b", "c", "d", "e"} {
				r.Nodes = append(r.Nodes, Node{Name: name, State: "half_open"})
			}
		}, []string{"warn: a is half open, b is half open, c is half open, 2 more are not up."}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := sample()
			test.change(&r)
			var got []string
			for _, n := range r.Notices() {
				got = append(got, n.Level+": "+n.Text)
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("got\n%q\nwant\n%q", got, test.want)
			}
		})
	}
}

func TestLines_FitTheTerminalAndDoNothingToIt(t *testing.T) {
	r := sample()
	for _, width := range []int{0, 40, 60, 80, 120, 300} {
		var all strings.Builder
		for _, line := range r.Lines(width) {
			if n := len([]rune(line.Text)); n > max(width, 40) {
				t.Errorf("width %d: a line has %d columns: %s", width, n, line.Text)
			}
			all.WriteString(line.Text + "\n")
		}
		if strings.ContainsAny(all.String(), "\x1b\x00\x7f") {
			t.Errorf("width %d: a control character is in\n%s", width, all.String())
		}
		if width >= 120 {
			for _, want := range []string{"slots held 3 of 4", "waiting 3 of 512", "down: connection refused (1 min)", "llama3 61", "12,345 tokens not generated", "redis is down"} {
				if !strings.Contains(all.String(), want) {
					t.Errorf("%q is not in\n%s", want, all.String())
				}
			}
		}
	}
	empty := new(Report)
	if len(empty.Lines(80)) == 0 {
		t.Error("an empty report has no lines")
	}
}
