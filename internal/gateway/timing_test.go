package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
)

// serverTiming is the grammar of the header as far as it is used here.
var serverTiming = regexp.MustCompile(`^[a-z]+(;(dur=\d+\.\d{3}|desc=[a-z]+))?(, [a-z]+;dur=\d+\.\d{3})*$`)

// metrics are the names of a Server-Timing, with what they describe.
func metrics(t *testing.T, line string) (names []string) {
	t.Helper()
	if line != "" && !serverTiming.MatchString(line) {
		t.Errorf("Server-Timing %q is not in order", line)
	}
	for part := range strings.SplitSeq(line, ", ") {
		name, rest, _ := strings.Cut(part, ";")
		if desc, ok := strings.CutPrefix(rest, "desc="); ok {
			name += "=" + desc
		}
		names = append(names, name)
	}
	return names
}

func TestServerTiming_TellsWhereTheTimeWent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCacheRig(t, cache.Options{}, rigOptions{})
		_, _, cold := r.say("/api/chat", coldChat)
		_, _, hit := r.say("/api/chat", coldChat)
		_, _, single := r.say("/api/chat", singleBody)
		_, _, again := r.say("/api/chat", singleBody)
		_, _, wrong := r.say("/api/chat", "{")
		time.Sleep(time.Second)
		for name, c := range map[string]struct {
			header http.Header
			want   []string // without those that may take no time, which in virtual time are none
		}{
			"a stream":        {cold, []string{"node", "ttft"}},
			"a stored stream": {hit, []string{"cache=hit"}},
			"a single answer": {single, []string{"node", "total"}},
			"a stored one":    {again, []string{"cache=hit"}},
			"a wrong request": {wrong, []string{""}},
		} {
			if got := metrics(t, c.header.Get("Server-Timing")); !slices.Equal(got, c.want) {
				t.Errorf("%s: got %q, want %q", name, got, c.want)
			}
		}
	})
}

func TestServerTiming_TellsOfTheWaitForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{warm: true, slots: 1}, goldenNode(t, 1))
		r.direct(0, "/api/generate", `{"model":"tinyslow","keep_alive":-1}`)
		time.Sleep(polled)
		var both sync.WaitGroup
		lines := make([]string, 2)
		for i := range lines {
			both.Go(func() { // ends with its answer
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				_, _, h := r.ask("/api/chat", strings.Replace(singleBody, `"tiny"`, `"tinyslow"`, 1))
				lines[i] = h.Get("Server-Timing")
			})
		}
		both.Wait()
		if got := metrics(t, lines[1]); !slices.Equal(got, []string{"queue", "node", "total"}) {
			t.Errorf("who waited is told %q", lines[1])
		}
		var queue, node, total float64
		fmt.Sscanf(lines[1], "queue;dur=%f, node;dur=%f, total;dur=%f", &queue, &node, &total)
		if queue < 1000 || node <= 0 || total < queue+node {
			t.Errorf("%q: a wait of a second at least, within the whole", lines[1])
		}
	})
}

func TestServerTiming_APassedAnswerKeepsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{site: SiteConfig{Pass: []string{"/api/new-thing"}}}, newer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Server-Timing", "gpu;dur=3")
		}))
		resp, err := r.post(t.Context(), "/api/new-thing", "")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header["Server-Timing"]; !slices.Equal(got, []string{"gpu;dur=3"}) {
			t.Errorf("got %q", got)
		}
	})
}

// BenchmarkServerTiming is what the header costs a request.
func BenchmarkServerTiming(b *testing.B) {
	line := make([]byte, 0, 128)
	b.ReportAllocs()
	for b.Loop() {
		line = appendDuration(line[:0], "queue", 1234567)
		line = appendDuration(line, "node", 213456789)
		line = appendDuration(line, "total", 251234567)
	}
}

// A told node remembers which traces its inference requests were part of.
type toldNode struct {
	http.Handler
	mu   sync.Mutex
	told []http.Header
}

func (n *toldNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if inference(r) {
		n.mu.Lock()
		n.told = append(n.told, r.Header.Clone())
		n.mu.Unlock()
	}
	n.Handler.ServeHTTP(w, r)
}

func (n *toldNode) last(t *testing.T) http.Header {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.told) == 0 {
		t.Fatal("the node was not asked")
	}
	return n.told[len(n.told)-1]
}

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestTrace_AClientsContextGoesOnAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		sent []string
		want string
	}{
		"sound":     {[]string{parent}, parent},
		"not sound": {[]string{parent + "-canary"}, ""},
		"two":       {[]string{parent, parent}, ""},
		"none":      {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, node := &witness{}, &toldNode{Handler: goldenNode(t, 0.01)}
				r := newRig(t, rigOptions{observer: w, warm: true}, node)
				q, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/api/chat", strings.NewReader(singleBody))
				q.Header["Traceparent"] = c.sent
				q.Header["Tracestate"] = []string{"vendor=1"}
				q.Header["Baggage"] = []string{"user=canary"}
				q.Header["B3"] = []string{"canary"}
				resp, err := r.front.RoundTrip(q)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				told, state, id := node.last(t), "", ""
				if c.want != "" {
					state, id = "vendor=1", parent[3:35]
				}
				if told.Get("Traceparent") != c.want || told.Get("Tracestate") != state {
					t.Errorf("the node was told %q and %q, want %q and %q", told.Get("Traceparent"), told.Get("Tracestate"), c.want, state)
				}
				if told.Get("Baggage") != "" || told.Get("B3") != "" {
					t.Errorf("the node was told more: %v", told)
				}
				if got := w.last(t).TraceID; got != id {
					t.Errorf("trace %q in the record, want %q", got, id)
				}
			})
		})
	}
}

// A traced rig has a span in the context of each request, as Caddy's tracing has.
type traced struct {
	*rig
	spans  *tracetest.SpanRecorder
	tracer trace.Tracer
	site   *Site
}

func newTraced(t *testing.T, r *rig) *traced {
	t.Helper()
	site, err := NewSite(SiteConfig{})
	if err != nil {
		t.Fatal(err)
	}
	spans := tracetest.NewSpanRecorder()
	return &traced{r, spans, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test"), site}
}

// ask has a span of that name around a request, and gives the answer's headers.
func (r *traced) ask(name, body string) http.Header {
	ctx, span := r.tracer.Start(r.Context(), name)
	defer span.End()
	w := httptest.NewRecorder()
	q := httptest.NewRequestWithContext(ctx, http.MethodPost, "/api/chat", strings.NewReader(body))
	r.settings.Serve(w, q, Entry{Site: r.site})
	return w.Header()
}

// tree lists the spans as "parent > name", with what of their attributes is the same in each run.
func (r *traced) tree() (lines []string) {
	names := make(map[trace.SpanID]string)
	for _, s := range r.spans.Ended() {
		names[s.SpanContext().SpanID()] = s.Name()
	}
	for _, s := range r.spans.Ended() {
		line := names[s.Parent().SpanID()] + " > " + s.Name()
		for _, a := range s.Attributes() {
			if key := string(a.Key); !strings.Contains(key, "tokens") && key != "caddy_ollama.route" {
				line += fmt.Sprintf(" %s=%s", key, a.Value.String())
			}
		}
		for _, l := range s.Links() {
			line += " -> " + names[l.SpanContext.SpanID()]
		}
		lines = append(lines, line)
	}
	return lines
}

const (
	queued  = " gen_ai.request.model=tiny:latest caddy_ollama.class=interactive server.address="
	wanted  = " gen_ai.operation.name=chat gen_ai.provider.name=ollama gen_ai.request.model=tiny:latest server.address="
	replied = " gen_ai.response.model=tiny:latest"
)

func TestTrace_SpansTellOfTriesAndReplays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCacheRig(t, cache.Options{}, rigOptions{})
		r := newTraced(t, c.rig)
		r.ask("first", coldChat)
		r.ask("second", coldChat)
		synctest.Wait()
		want := []string{
			"first > queue" + queued + "n0",
			"first > attempt" + wanted + "n0" + replied,
			" > first",
			"second > replay gen_ai.request.model=tiny:latest caddy_ollama.cache=hit caddy_ollama.cache.backend=memory",
			" > second",
		}
		if diff := cmp.Diff(want, r.tree()); diff != "" {
			t.Error(diff)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		bad := &faulty{Handler: goldenNode(t, 0.01)}
		told := &toldNode{Handler: goldenNode(t, 0.01)}
		rig := newRig(t, rigOptions{warm: true}, bad, told)
		bad.mu.Lock()
		bad.infer = status(500, `{"error":"llama runner process has terminated: exit status 2"}`)
		bad.mu.Unlock()
		r := newTraced(t, rig)
		r.ask("retried", chatBody)
		synctest.Wait()
		want := []string{
			"retried > queue" + queued + "n0",
			"retried > attempt" + wanted + "n0 error.type=status_5xx",
			"retried > queue" + queued + "n1",
			"retried > attempt" + wanted + "n1" + replied,
			" > retried",
		}
		if diff := cmp.Diff(want, r.tree()); diff != "" {
			t.Error(diff)
		}
		spans := r.spans.Ended()
		last := spans[3].SpanContext()
		if got, want := told.last(t).Get("Traceparent"), "00-"+last.TraceID().String()+"-"+last.SpanID().String()+"-01"; got != want {
			t.Errorf("the node was told %s, want its try's %s", got, want)
		}
	})
}

func TestTrace_AFollowerIsLinkedToWhatItHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFlightRig(t, nil, Coalesce{})
		r := newTraced(t, c.rig)
		var both sync.WaitGroup
		both.Go(func() { r.ask("leader", slowChat) }) // ends with its answer
		both.Go(func() {
			time.Sleep(50 * time.Millisecond)
			if h := r.ask("follower", slowChat); !strings.HasPrefix(h.Get("Server-Timing"), "coalesced") {
				t.Errorf("Server-Timing %q", h.Get("Server-Timing"))
			}
		})
		both.Wait()
		synctest.Wait()
		got := r.tree()
		if !slices.Contains(got, "follower > follow gen_ai.request.model=tinyslow:latest -> attempt") || len(got) != 5 {
			t.Errorf("got\n%s", strings.Join(got, "\n"))
		}
	})
}
