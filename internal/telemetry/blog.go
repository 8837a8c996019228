package telemetry

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// pageBuckets are for pages, which a database answers within milliseconds; answers of a model take as
// long as other requests do.
var pageBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// What a blog asks a model for, and how that ends: the words of web.Observer, all of which begin at 0.
var (
	BlogKinds    = [...]string{"ask", "summary", "post", "continue"}
	BlogOutcomes = [...]string{"answered", "cached", "refused", "unavailable", "limited", "truncated", "left"}
)

// A Blog counts what the blogs of the process do. Names of pages, kinds and outcomes are words of the
// blog's code, which bounds them. It is safe for concurrent use and implements web.Observer.
type Blog struct {
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	errors   *prometheus.CounterVec
	asked    *prometheus.CounterVec
	up       *databasesUp
}

// NewBlog makes the collectors of blogs.
func NewBlog() *Blog {
	b := &Blog{
		requests: counter("blog_requests_total", "Requests of a blog, by page and class of the status.", "page", "code"),
		took:     histogram("blog_request_seconds", "Time that a blog took to answer a request.", pageBuckets, "page"),
		errors:   counter("blog_database_errors_total", "Requests of a blog that its database had no answer for.", "page"),
		asked:    counter("blog_asked_total", "Questions of a blog to a model, by what was asked for and how it ended.", "kind", "outcome"),
		up:       &databasesUp{of: make(map[string]bool)},
	}
	for _, kind := range BlogKinds {
		for _, outcome := range BlogOutcomes {
			b.asked.WithLabelValues(kind, outcome)
		}
	}
	return b
}

// Register has the collectors served by a registry, which may have them already.
func (b *Blog) Register(r prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{b.requests, b.took, b.errors, b.asked, b.up} {
		var known prometheus.AlreadyRegisteredError
		if err := r.Register(c); err != nil && !errors.As(err, &known) {
			return err
		}
	}
	return nil
}

// Served counts a request. A status of 0 is a client that left before there was an answer.
func (b *Blog) Served(page string, status int, took time.Duration) {
	code := "none"
	if status > 0 {
		code = fmt.Sprintf("%dxx", status/100)
	}
	b.requests.WithLabelValues(page, code).Inc()
	b.took.WithLabelValues(page).Observe(took.Seconds())
	b.errors.WithLabelValues(page) // so that its first error is a step from 0
}

// DatabaseFailed counts a request that the database had no answer for.
func (b *Blog) DatabaseFailed(page string) { b.errors.WithLabelValues(page).Inc() }

// Asked counts a question to a model.
func (b *Blog) Asked(kind, outcome string) { b.asked.WithLabelValues(kind, outcome).Inc() }

// Database tells whether the database of this name can be used. The name is no label.
func (b *Blog) Database(name string, up bool) {
	b.up.mu.Lock()
	defer b.up.mu.Unlock()
	b.up.of[name] = up
}

// DatabaseGone forgets a database that no blog uses any more.
func (b *Blog) DatabaseGone(name string) {
	b.up.mu.Lock()
	defer b.up.mu.Unlock()
	delete(b.up.of, name)
}

// databasesUp is 1 while every blog's database can be used. Without a blog there is no sample.
type databasesUp struct {
	mu sync.Mutex // guards of
	of map[string]bool
}

var databasesUpDesc = prometheus.NewDesc(prometheus.BuildFQName(namespace, "", "blog_database_up"),
	"Whether the database of each blog can be used.", nil, nil)

// Describe implements prometheus.Collector.
func (*databasesUp) Describe(to chan<- *prometheus.Desc) { to <- databasesUpDesc }

// Collect implements prometheus.Collector.
func (d *databasesUp) Collect(to chan<- prometheus.Metric) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.of) == 0 {
		return
	}
	all := 1.0
	for _, up := range d.of {
		if !up {
			all = 0
		}
	}
	to <- prometheus.MustNewConstMetric(databasesUpDesc, prometheus.GaugeValue, all)
}
