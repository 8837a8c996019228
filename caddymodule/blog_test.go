package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/assistant"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// A blogFront is a site of Caddy's with a blog, the API and the metrics.
type blogFront struct {
	testing.TB
	address string
	http    *http.Client
}

// newBlogFront runs it. app are lines of the global options, blogLines those of the directive.
func newBlogFront(t testing.TB, app, blogLines string) *blogFront {
	t.Helper()
	f := &blogFront{t, freeAddress(t), overReloads(tcpClient(t))}
	load(t, f.config(app, blogLines))
	return f
}

func (f *blogFront) config(app, blogLines string) []byte {
	f.Helper()
	return configOf(f, app, "http://"+f.address+" {\nbind 127.0.0.1\nhandle /metrics {\nmetrics\n}\n@api path /api/*\nollama @api\nollama_blog {\n"+blogLines+"\n}\n}\n")
}

// sqlite is the line for a database of this test alone.
func sqliteIn(dir string) string { return "database sqlite " + filepath.Join(dir, "blog.db") }

func (f *blogFront) get(path string) (int, string) {
	f.Helper()
	return get(f, f.http, "http://"+f.address+path)
}

// database waits until there is one that has been migrated.
func (f *blogFront) database() *blogDatabase {
	f.Helper()
	var d *blogDatabase
	eventually(f, "the blog's database is ready", func() bool {
		var ok bool
		d, ok = currentBlogDatabase()
		return ok && d.ready.Load()
	})
	return d
}

// write publishes a post.
func (f *blogFront) write(title, body string) blog.Post {
	f.Helper()
	s := f.database().store
	authors, err := s.Authors(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	if len(authors) == 0 {
		a, err := s.CreateAuthor(context.Background(), blog.Author{Name: "ann", Shown: "Ann", Created: time.Now()})
		if err != nil {
			f.Fatal(err)
		}
		authors = append(authors, a)
	}
	p := blog.Post{Title: title, Body: body, Author: authors[0].ID}
	if err := p.Prepare(time.Now()); err != nil {
		f.Fatal(err)
	}
	if p, err = s.CreatePost(context.Background(), p); err != nil {
		f.Fatal(err)
	}
	return p
}

// scraped adds up samples of a metric.
func (f *blogFront) scraped(name string, labels ...string) float64 {
	f.Helper()
	_, text := f.get("/metrics")
	return total(f, text, name, labels...)
}

func TestBlog_IsASiteBesideTheAPI(t *testing.T) {
	about := filepath.Join(t.TempDir(), "about.md")
	if err := os.WriteFile(about, []byte("Me."), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newBlogFront(t, "ollama {\nnode "+startNode(t, fast("m"))+"\n}", sqliteIn(t.TempDir())+"\ntitle \"Notes of Ann\"\nabout "+about)
	p := f.write("First of all", "Some *words*.")
	pages := f.scraped("blog_requests_total", `page="index"`, `code="2xx"`)
	if status, body := f.get("/"); status != http.StatusOK || !strings.Contains(body, "Notes of Ann") || !strings.Contains(body, p.Path()) {
		t.Errorf("/: %d %s", status, body)
	}
	if status, body := f.get(p.Path()); status != http.StatusOK || !strings.Contains(body, "<em>words</em>") {
		t.Errorf("%s: %d %s", p.Path(), status, body)
	}
	if status, body := f.get("/nothing"); status != http.StatusNotFound || !strings.Contains(body, "<h1>") {
		t.Errorf("/nothing: %d %s", status, body)
	}
	eventually(t, "the API has the model", func() bool { _, body := f.get("/api/tags"); return strings.Contains(body, `"m:latest"`) })
	if n := f.scraped("blog_requests_total", `page="index"`, `code="2xx"`); n != pages+1 {
		t.Errorf("pages counted: %v, want %v", n, pages+1)
	}
	load(t, f.config("", sqliteIn(t.TempDir())))
	if n := f.scraped("blog_requests_total", `page="index"`, `code="2xx"`); n != pages+1 {
		t.Errorf("pages counted after a reload: %v, want %v", n, pages+1)
	}
	stop()
	wantNoBlogLeft(t)
}

// wantNoBlogLeft holds that nothing of a blog runs on.
func wantNoBlogLeft(t testing.TB) {
	t.Helper()
	if d, ok := currentBlogDatabase(); ok {
		t.Errorf("a database is held: %v", d.name)
	}
	if left := ownGoroutines(); len(left) > 0 {
		t.Errorf("%d goroutines are left, as\n%s", len(left), left[0])
	}
}

// A database stays open while a configuration or a request has it.
func TestBlog_DatabaseStaysOpenOverReloads(t *testing.T) {
	line := sqliteIn(t.TempDir())
	f := newBlogFront(t, "", line)
	p := f.write("Kept", "Body.")
	d := f.database()
	same := func(when string) {
		t.Helper()
		if now, ok := currentBlogDatabase(); !ok || now != d {
			t.Fatalf("%s: another database is open", when)
		}
		if status, _ := f.get(p.Path()); status != http.StatusOK {
			t.Errorf("%s: the post is %d", when, status)
		}
	}
	load(t, f.config("", line+"\ntitle \"Other\""))
	same("after a reload")
	for range 3 { // before and after our own Start
		mustStumble(t, f.config("", line), "start")
		same("after a failed start")
	}
	mustStumble(t, f.config("", line), "provision")
	same("after a failed provision")
	if err := caddy.Load(f.config("", line+"\nabout /none"), true); err == nil {
		t.Fatal("a missing file was accepted")
	}
	same("after a failed provision of its own")
	if refs, _ := blogDatabases.References(blogSource{sqliteKind, strings.TrimPrefix(line, "database sqlite ")}.key()); refs != 1 {
		t.Errorf("%d references", refs)
	}

	// A request that began before the blog was taken out goes on.
	if !d.enter() {
		t.Fatal("it is closing")
	}
	load(t, siteless(t, f.address))
	if _, err := d.store.Post(t.Context(), p.ID); err != nil {
		t.Errorf("a request that runs lost its database: %v", err)
	}
	if d.enter() {
		t.Error("a request came in after it was closed")
	}
	d.leave()
	eventually(t, "the database is closed", func() bool { _, err := d.store.Post(context.Background(), p.ID); return err != nil })
	stop()
	wantNoBlogLeft(t)
}

func TestBlog_ValidatingTouchesNothing(t *testing.T) {
	dir := t.TempDir()
	f := &blogFront{t, freeAddress(t), tcpClient(t)}
	mustStumble(t, f.config("", sqliteIn(filepath.Join(dir, "deep"))), "provision")
	if found, err := os.ReadDir(dir); err != nil || len(found) > 0 {
		t.Errorf("a configuration that never started left %v, %v", found, err)
	}
	stop()
	wantNoBlogLeft(t)
}

func TestBlog_RefusesWhatCannotBe(t *testing.T) {
	line := sqliteIn(t.TempDir())
	for name, c := range map[string]struct{ sites, want string }{
		"a model without a gateway":  {"http://127.0.0.1:0 {\nollama_blog {\n" + line + "\nmodel m\n}\n}\n", "the model m needs a gateway; add the global option ollama, or write: gateway"},
		"about missing":              {"http://127.0.0.1:0 {\nollama_blog {\n" + line + "\nabout /none/about.md\n}\n}\n", "about: stat /none/about.md"},
		"a key that is not there":    {"http://127.0.0.1:0 {\nollama_blog {\n" + line + "\ngateway https://x {\nkey {env.NOT_THERE_AT_ALL}\n}\n}\n}\n", "gateway: key:"},
		"a source that is not there": {"http://127.0.0.1:0 {\nollama_blog {\ndatabase postgres {env.NOT_THERE_AT_ALL}\n}\n}\n", "database:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(stop)
			if err := caddy.Load(configOf(t, "", c.sites), true); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	wantNoBlogLeft(t)
}

// blogs are the handlers of the running configuration.
func blogs(t testing.TB) []*BlogHandler {
	t.Helper()
	app, err := caddy.ActiveContext().AppIfConfigured("ollama_blog")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*BlogApp).blogs
}

func TestBlog_AsksAModelWhereThereIsOne(t *testing.T) {
	for name, c := range map[string]struct {
		app, lines string
		site       string // before the blog
		want       bool
	}{
		"nowhere":             {"", "", "", false},
		"the global option":   {"ollama {\nnode http://127.0.0.1:1\n}", "", "", true},
		"another site's word": {"", "", "http://127.0.0.1:0/api/* {\nollama\n}\n", true},
		"off":                 {"ollama {\nnode http://127.0.0.1:1\n}", "model off", "", false},
		"elsewhere":           {"", "gateway https://ai.example.com", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			load(t, configOf(t, c.app, c.site+"http://127.0.0.1:0 {\nollama_blog {\n"+sqliteIn(t.TempDir())+"\n"+c.lines+"\n}\n}\n"))
			a, err := blogs(t)[0].assistant()
			if err != nil || (a != nil) != c.want {
				t.Errorf("got %v, %v", a, err)
			}
			stop()
		})
	}
}

// A blog's question is one call among others: of the tenant blog, cached, and answered by the settings
// that rule when it is asked.
func TestBlog_AsksTheGatewayOfThisProcess(t *testing.T) {
	sim := simnode.New(simnode.Options{Models: []simnode.Model{fast("m")}, Slots: 2})
	t.Cleanup(sim.Close)
	node := &watchedNode{Node: sim}
	logFile := filepath.Join(t.TempDir(), "log")
	app := "log {\noutput file " + logFile + "\n}\nollama {\nnode " + serve(t, node) + "\ncache\n}"
	line := sqliteIn(t.TempDir())
	f := newBlogFront(t, app, line)
	f.ready()
	ask := func(prompt string) (string, bool) {
		t.Helper()
		var answer strings.Builder
		pieces := 0
		cached, err := askBlog(t, prompt, func(piece string) error { pieces++; answer.WriteString(piece); return nil })
		if err != nil || pieces < 2 {
			t.Fatalf("%d pieces, %v", pieces, err)
		}
		return answer.String(), cached
	}
	hits := f.scraped("cache_requests_total", `result="hit"`)
	first, cached := ask(canary)
	if cached {
		t.Error("the first answer came from the cache")
	}
	load(t, f.config(app, line)) // what asked before goes on with the new settings
	again, cached := ask(canary)
	if !cached || again != first {
		t.Errorf("the second answer: cached %v, equal %v", cached, again == first)
	}
	if _, sent := node.asked(); len(sent) != 1 {
		t.Errorf("the node was asked %d times, want once", len(sent))
	}
	if n := f.scraped("cache_requests_total", `result="hit"`); n != hits+1 {
		t.Errorf("hits: %v, want %v", n, hits+1)
	}
	eventually(t, "both are logged as the blog's", func() bool {
		said, err := os.ReadFile(logFile)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(said), canary) {
			t.Fatal("a prompt is in the log")
		}
		return len(regexp.MustCompile(`"a model was asked".*"tenant":"blog"`).FindAll(said, -1)) == 2
	})

	if _, err := askBlog(t, canary+" which is left", func(string) error { return errLeft }); !errors.Is(err, errLeft) {
		t.Errorf("who does not want more got %v", err)
	}
	e, _ := currentEngine()
	eventually(t, "nothing is on its way", func() bool { return e.InFlight() == 0 })

	inside, err := blogGateway()
	if err != nil {
		t.Fatal(err)
	}
	load(t, configOf(t, "", "http://127.0.0.1:0 {\nollama_blog {\n"+line+"\n}\n}\n"))
	if status, body := get(t, &http.Client{Transport: inside}, insideURL+"/api/tags"); status != http.StatusServiceUnavailable {
		t.Errorf("without a gateway: %d %s", status, body)
	}
	stop()
	wantNoBlogLeft(t)
}

// What a model says to a reader goes on over reloads, good and failed ones.
func TestBlog_AnAnswerGoesOnOverReloads(t *testing.T) {
	app, line := "ollama {\nnode "+startNode(t, slow("m"))+"\n}", sqliteIn(t.TempDir())
	f := newBlogFront(t, app, line)
	f.ready()
	pieces := 0
	_, err := askBlog(t, "?", func(string) error {
		switch pieces++; pieces {
		case 2:
			load(t, f.config(app, line+"\ntitle Other"))
		case 4:
			mustStumble(t, f.config(app, line), "start")
		}
		return nil
	})
	if err != nil || pieces < 10 {
		t.Errorf("%d pieces, %v", pieces, err)
	}
	stop()
	wantNoBlogLeft(t)
}

var errLeft = errors.New("left")

// askBlog asks as a page of the first blog does.
func askBlog(t testing.TB, prompt string, piece func(string) error) (cached bool, err error) {
	t.Helper()
	a, err := blogs(t)[0].assistant()
	if err != nil {
		t.Fatal(err)
	}
	reply, err := a.Answer(context.Background(), assistant.Prompt{User: prompt, Tokens: 100}, piece)
	return reply.Cached, err
}

// ready waits until the gateway has a model.
func (f *blogFront) ready() {
	f.Helper()
	eventually(f, "the gateway has the model", func() bool {
		_, body := f.get("/api/tags")
		e, ok := currentEngine()
		return ok && e.Ready() && strings.Contains(body, `"m:latest"`)
	})
	eventually(f, "the model is known", func() bool {
		e, _ := currentEngine()
		m := e.Fleet().Snapshot().Models["registry.ollama.ai/library/m:latest"]
		return m != nil && m.Identity != ""
	})
}

func TestBlog_SecretsAreNotSaved(t *testing.T) {
	const secret = "sesame-open"
	t.Setenv("BLOG_KEY", secret)
	t.Setenv("BLOG_DATABASE_URL", "postgres://blog:"+secret+"@127.0.0.1:1/blog")
	sim := simnode.New(simnode.Options{Models: []simnode.Model{fast("m")}, Slots: 2})
	t.Cleanup(sim.Close)
	var got atomic.Value
	elsewhere := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Get("Authorization"))
		sim.ServeHTTP(w, r)
	}))
	admin, logFile := socket(t), filepath.Join(t.TempDir(), "log")
	text := fmt.Sprintf(`{
		admin unix/%s
		persist_config off
		log {
			output file %s
			level DEBUG
		}
	}
	http://127.0.0.1:0 {
		ollama_blog {
			database postgres {env.BLOG_DATABASE_URL}
			model m
			gateway %s {
				key {env.BLOG_KEY}
			}
		}
	}`, admin, logFile, elsewhere)
	config, err := adapt(text)
	if err != nil {
		t.Fatal(err)
	}
	load(t, config)
	if _, err := askBlog(t, "?", func(string) error { return nil }); err != nil || got.Load() != "Bearer "+secret {
		t.Errorf("the gateway got %q, %v", got.Load(), err)
	}
	eventually(t, "the log tells of the database", func() bool {
		said, err := os.ReadFile(logFile)
		return err == nil && strings.Contains(string(said), "database cannot be used")
	})
	said, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}
	_, served := get(t, client(t, admin, nil), "http://localhost/config/")
	for where, text := range map[string]string{"the log": string(said), "/config/": served} {
		if strings.Contains(text, secret) {
			t.Errorf("the secret is in %s: %s", where, text)
		}
	}
}
