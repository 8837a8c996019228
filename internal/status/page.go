package status

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"html/template"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	defaultInterval   = time.Second
	defaultMaxStreams = 16
	defaultStreamTime = 10 * time.Minute

	// writeWait is how long a client may take to accept a few kilobytes.
	writeWait = 10 * time.Second
)

// The policy of the page: only what this server serves, nothing inline, shown in no other page.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Options of a Page.
type Options struct {
	Interval   time.Duration // between two events of a stream. Default: 1s.
	MaxStreams int           // at once; further ones get 503. Default: 16.
	StreamTime time.Duration // longest life of a stream; the page opens another. Default: 10m.
}

func (o Options) withDefaults() Options {
	if o.Interval <= 0 {
		o.Interval = defaultInterval
	}
	if o.MaxStreams <= 0 {
		o.MaxStreams = defaultMaxStreams
	}
	if o.StreamTime <= 0 {
		o.StreamTime = defaultStreamTime
	}
	return o
}

// A Page serves the status page, what it consists of, and its streams. It starts no goroutines and
// is safe for concurrent use.
type Page struct {
	report func() (Report, bool)
	opts   Options
	closed chan struct{}
	close  sync.Once

	mu       sync.Mutex // guards what follows
	streams  int
	event    []byte // rendered last
	rendered time.Time
}

// NewPage makes a page of what report tells; false: there is no gateway now.
func NewPage(report func() (Report, bool), opts Options) *Page {
	return &Page{report: report, opts: opts.withDefaults(), closed: make(chan struct{})}
}

// Close ends the streams; whoever has one opens it anew. Everything else goes on being served.
func (p *Page) Close() { p.close.Do(func() { close(p.closed) }) }

// Serve answers a request for a path below that of the page: "/" is the page itself.
func (p *Page) Serve(w http.ResponseWriter, r *http.Request, path string) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed; use GET", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path, "/")
	switch a, ok := assets[name]; {
	case ok:
		a.serve(w, r)
	case name == "":
		p.servePage(w, r)
	case name == "events":
		p.serveEvents(w, r)
	default:
		http.Error(w, "there is nothing here", http.StatusNotFound)
	}
}

func (p *Page) servePage(w http.ResponseWriter, r *http.Request) {
	report, ok := p.report()
	if !ok {
		http.Error(w, "the running configuration has no ollama in it", http.StatusServiceUnavailable)
		return
	}
	var b bytes.Buffer
	if err := pageTemplate.ExecuteTemplate(&b, "page", view{&report}); err != nil {
		http.Error(w, "the page cannot be rendered", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if r.Method != http.MethodHead {
		w.Write(b.Bytes()) // who asks may have left
	}
}

// serveEvents streams the live part of the page until the client leaves, its time is over, or the
// page is closed.
func (p *Page) serveEvents(w http.ResponseWriter, r *http.Request) {
	// Another site could not read them, but its pages could take all streams there are.
	if from := r.Header.Get("Sec-Fetch-Site"); from != "" && from != "same-origin" && from != "none" {
		http.Error(w, "streams are for this page", http.StatusForbidden)
		return
	}
	if !p.enter() {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many pages are open, or the server is leaving", http.StatusServiceUnavailable)
		return
	}
	defer p.leave()
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no") // some proxies keep a stream back otherwise
	if r.Method == http.MethodHead {
		return
	}
	end := time.NewTimer(p.opts.StreamTime)
	defer end.Stop()
	tick := time.NewTicker(p.opts.Interval)
	defer tick.Stop()
	out := http.NewResponseController(w)
	next := []byte("retry: 1000\n\n")
	for {
		event, ok := p.render()
		if !ok {
			return
		}
		out.SetWriteDeadline(time.Now().Add(writeWait)) // a writer without deadlines is a test's
		if _, err := w.Write(append(next, event...)); err != nil {
			return
		}
		if out.Flush() != nil {
			return
		}
		next = nil
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-end.C:
			return
		case <-p.closed:
			return
		}
	}
}

// enter counts a stream, unless there are enough.
func (p *Page) enter() bool {
	select {
	case <-p.closed:
		return false
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.streams >= p.opts.MaxStreams {
		return false
	}
	p.streams++
	return true
}

func (p *Page) leave() {
	p.mu.Lock()
	p.streams--
	p.mu.Unlock()
}

// An update is what an event carries.
type update struct {
	HTML    string    `json:"html"`
	Since   time.Time `json:"since"`
	History Series    `json:"history"`
}

// render gives an event. All streams share one that is young enough, so that many open pages cost
// no more than one.
func (p *Page) render() ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.event != nil && time.Since(p.rendered) < p.opts.Interval*3/4 {
		return p.event, true
	}
	report, ok := p.report()
	if !ok {
		return nil, false
	}
	var html, event bytes.Buffer
	if err := pageTemplate.ExecuteTemplate(&html, "live", view{&report}); err != nil {
		return nil, false
	}
	body, err := json.Marshal(update{html.String(), report.Since, report.History})
	if err != nil {
		return nil, false
	}
	event.WriteString("data: ") // JSON has no line ends in it
	event.Write(body)
	event.WriteString("\n\n")
	p.event, p.rendered = event.Bytes(), time.Now()
	return p.event, true
}

//go:embed assets
var files embed.FS

//go:embed page.html.tmpl
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(words).Parse(pageText))

// An asset is a file that the page consists of.
type asset struct {
	contentType, tag string
	body             []byte
}

// assets are by their names; uPlot is version 1.6.32, its license is beside it.
var assets = map[string]asset{
	"page.css":      load("page.css", "text/css; charset=utf-8"),
	"page.js":       load("page.js", "text/javascript; charset=utf-8"),
	"icon.svg":      load("icon.svg", "image/svg+xml"),
	"uplot.css":     load("uplot.css", "text/css; charset=utf-8"),
	"uplot.js":      load("uplot.js", "text/javascript; charset=utf-8"),
	"uplot.LICENSE": load("uplot.LICENSE", "text/plain; charset=utf-8"),
}

func load(name, contentType string) asset {
	body, err := files.ReadFile("assets/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	sum := sha256.Sum256(body)
	return asset{contentType, `"` + hex.EncodeToString(sum[:8]) + `"`, body}
}

// serve has the client ask each time: another version may have come in between.
func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", a.contentType)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", a.tag)
	if r.Header.Get("If-None-Match") == a.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if r.Method != http.MethodHead {
		io.Copy(w, bytes.NewReader(a.body)) // who asks may have left
	}
}
