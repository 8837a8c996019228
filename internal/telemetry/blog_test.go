package telemetry

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestBlog_TellsWhatItsPagesDo(t *testing.T) {
	b := NewBlog()
	first, second := prometheus.NewPedanticRegistry(), prometheus.NewPedanticRegistry()
	for _, r := range []*prometheus.Registry{first, second, second} { // a reload, and two blogs in one configuration
		if err := b.Register(r); err != nil {
			t.Fatal(err)
		}
	}
	b.Served("index", 200, 3*time.Millisecond)
	b.Served("index", 304, time.Millisecond)
	b.DatabaseFailed("post")
	b.Served("post", 503, 2*time.Second)
	b.Served("ask", 0, time.Second)
	b.Asked("summary", "cached")
	const want = `
# HELP caddy_ollama_blog_database_errors_total Requests of a blog that its database had no answer for.
# TYPE caddy_ollama_blog_database_errors_total counter
caddy_ollama_blog_database_errors_total{page="ask"} 0
caddy_ollama_blog_database_errors_total{page="index"} 0
caddy_ollama_blog_database_errors_total{page="post"} 1
# HELP caddy_ollama_blog_requests_total Requests of a blog, by page and class of the status.
# TYPE caddy_ollama_blog_requests_total counter
caddy_ollama_blog_requests_total{code="2xx",page="index"} 1
caddy_ollama_blog_requests_total{code="3xx",page="index"} 1
caddy_ollama_blog_requests_total{code="5xx",page="post"} 1
caddy_ollama_blog_requests_total{code="none",page="ask"} 1
`
	if err := testutil.GatherAndCompare(second, strings.NewReader(want),
		"caddy_ollama_blog_database_errors_total", "caddy_ollama_blog_requests_total"); err != nil {
		t.Error(err)
	}
	if n := testutil.ToFloat64(b.asked.WithLabelValues("summary", "cached")); n != 1 {
		t.Errorf("questions counted: %v, want 1", n)
	}
	if n, err := testutil.GatherAndCount(second, "caddy_ollama_blog_asked_total"); n != len(BlogKinds)*len(BlogOutcomes) || err != nil {
		t.Errorf("kinds and outcomes: %d series, %v; want all from the start", n, err)
	}
	if n, err := testutil.GatherAndCount(second, "caddy_ollama_blog_request_seconds"); n != 3 || err != nil {
		t.Errorf("times of pages: %d series, %v", n, err)
	}
}

// One database that cannot be used is told, whatever others do; where there is no blog there is nothing to tell.
func TestBlog_TellsOfEachDatabase(t *testing.T) {
	b, r := NewBlog(), prometheus.NewPedanticRegistry()
	if err := b.Register(r); err != nil {
		t.Fatal(err)
	}
	up := func() string {
		t.Helper()
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "caddy_ollama_blog_database_up" {
				return f.GetMetric()[0].GetGauge().String()
			}
		}
		return ""
	}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, ""},
		{func() { b.Database("a", false) }, "value:0"},
		{func() { b.Database("b", true) }, "value:0"},
		{func() { b.Database("a", true) }, "value:1"},
		{func() { b.Database("b", false) }, "value:0"},
		{func() { b.DatabaseGone("b") }, "value:1"},
		{func() { b.DatabaseGone("a") }, ""},
	} {
		step.do()
		if got := up(); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
	}
}
