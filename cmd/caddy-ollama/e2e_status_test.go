package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The pictures of docs/ want some minutes in their plots, the test itself does not.
var (
	pictures    = flag.String("pictures", "", "write the pictures of the documentation into this directory")
	pictureTime = flag.Duration("status.time", 3*time.Minute, "how long each state lasts that there is a picture of")
)

// looking is a gateway whose queue is short and that has a status page.
const looking = `{
	admin unix/%s
	persist_config off
	ollama {
		node %s {
			name attic
			slots 2
		}
		node %s {
			name cellar
			slots 2
		}
		node %s {
			name study
			slots 2
		}
		queue {
			max_length 12
		}
		health {
			interval 1s
		}
		cache
		coalesce
		batch embed
	}
}

http://127.0.0.1:%s {
	bind 127.0.0.1
	ollama_status /status
	ollama
}
`

// A shown is a running gateway with that Caddyfile.
type shown struct {
	*process
	env   []string
	admin string
	url   string
}

func startShown(t *testing.T, nodes []string) *shown {
	t.Helper()
	home := t.TempDir()
	file := filepath.Join(home, "Caddyfile")
	for range 3 { // somebody else may take a port that was free
		port := freePort(t)
		s := &shown{env: []string{"HOME=" + home}, admin: filepath.Join(home, "admin.sock"), url: base("http", "127.0.0.1", port)}
		if err := os.WriteFile(file, fmt.Appendf(nil, looking, s.admin, nodes[0], nodes[1], nodes[2], port), 0o600); err != nil {
			t.Fatal(err)
		}
		s.process = start(t, s.env, "run", "--config", file)
		if s.waitFor("serving initial configuration") {
			return s
		}
		if !strings.Contains(s.output(), "address already in use") {
			break
		}
	}
	t.Fatal("run ended")
	return nil
}

const statusCanary = "canary-question-5e1d"

// load has clients ask until the end is called: chats of two models, questions that many ask, and
// embeddings.
func (s *shown) load(clients int, pause time.Duration) (end func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: patience}
	var all sync.WaitGroup
	var asked atomic.Int64
	for range clients {
		all.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				n := asked.Add(1)
				path, body := "/api/chat", chatBody("sim-small", fmt.Sprint(statusCanary, n), "")
				switch n % 6 {
				case 1:
					body = chatBody("sim-chat", fmt.Sprint(statusCanary, n), `,"options":{"num_predict":60}`)
				case 2, 4:
					body = chatBody("sim-small", fmt.Sprint(statusCanary, n%18), `,"options":{"temperature":0}`)
				case 3:
					path, body = "/api/embed", fmt.Sprintf(`{"model":"sim-embed","input":["%s %d","%d"]}`, statusCanary, n%12, n)
				}
				askStream(ctx, client, s.url+path, body, nil)
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
		client.CloseIdleConnections()
	}
}

// A real browser shows the page while a fleet is healthy, loses a node and has more to do than it
// can; what it shows comes of itself.
func TestStatus_InABrowser(t *testing.T) {
	b := startBrowser(t)
	_, nodes := startSimulate(t, 3, "--faults-admin", "--slots", "2")
	s := startShown(t, nodes)
	light, phone := look{1280, 900, "light", false}, look{390, 844, "light", false}
	page := b.open(s.url+"/status", light) // without its slash
	if at := page.eval("location.pathname"); at != "/status/" {
		t.Fatalf("the page is at %v", at)
	}

	end := s.load(5, 400*time.Millisecond)
	says := func(text string) string { return fmt.Sprintf("document.body.innerText.includes(%q)", text) }
	page.until("it is live and well", says("All is well: 3 nodes are up.")+` && document.getElementById("live-state").dataset.is === "live"`)
	page.until("plots are drawn", `document.querySelectorAll(".plot canvas").length === 4`)
	page.until("requests are counted", `document.querySelectorAll(".minutes tbody td")[0].innerText !== "0" && document.querySelectorAll(".tiles dd")[1].innerText[0] !== "0"`)
	page.until("models are loaded and measured", says("sim-small")+" && "+says("tokens/s"))
	keep(t, page, "status-healthy")
	checkKeyboard(t, page)

	t.Run("phone and dark", func(t *testing.T) {
		for _, width := range []int{390, 320} {
			small := b.open(s.url+"/status/", look{width, 844, "dark", false})
			small.until("it is live", `document.getElementById("live-state").dataset.is === "live" && document.querySelectorAll(".plot canvas").length === 4`)
			small.wellBehaved(fmt.Sprintf("on a phone of %d pixels", width))
		}
		ground := func() any { return page.eval("getComputedStyle(document.body).backgroundColor") }
		before := ground()
		dark := light
		dark.scheme = "dark"
		page.show(dark)
		page.until("it is dark", fmt.Sprintf("getComputedStyle(document.body).backgroundColor !== %q", before))
		save(t, page, "status-dark", "")
		page.show(phone)
		page.until("plots have followed the width", `[...document.querySelectorAll(".uplot")].every((e) => e.clientWidth <= innerWidth)`)
		save(t, page, "status-phone", "")
		page.wellBehaved("after the window has changed")
		page.show(light)
	})

	t.Run("without JavaScript", func(t *testing.T) {
		plain := b.open(s.url+"/status/", look{1280, 900, "light", true})
		for _, want := range []string{"All is well", "attic", "sim-small", "interactive", "Minute by minute", "renewed every 5 s"} {
			plain.until("it says "+want, says(want))
		}
		if plain.eval(`document.getElementById("plots").hidden`) != true {
			t.Error("there is room for plots that nobody draws")
		}
		plain.wellBehaved("without JavaScript")
	})

	page.eval(`window.kept = document.querySelector("tr[data-key=study]"); getSelection().selectAllChildren(kept.querySelector(".name")); 1`)
	away := 15 * time.Second
	if *pictures != "" {
		away += *pictureTime
	}
	setFaults(t, nodes[2], fmt.Sprintf(`["refuse,for=%s"]`, away))
	page.until("the lost node is told", says("study is down"))
	if page.eval(`kept.isConnected && getSelection().toString() === "study"`) != true {
		t.Error("what was selected is gone when the page changes")
	}
	page.eval("getSelection().removeAllRanges()")
	keep(t, page, "status-node-down")
	page.until("the node is back", "!"+says("study is down"))

	end()
	end = s.load(40, 300*time.Millisecond)
	page.until("it tells of requests refused", says("refused for want of room"))
	keep(t, page, "status-overload")
	end()
	page.wellBehaved("in the end")

	if text := fmt.Sprint(page.eval("document.documentElement.outerHTML")); strings.Contains(text, statusCanary) || strings.Contains(text, nodes[0]) {
		t.Error("a prompt or an address of a node is on the page")
	}

	t.Run("top", func(t *testing.T) {
		text := mustAsk(t, s.env, "top", "--address", "unix/"+s.admin)
		for _, want := range []string{"study", "requests/s", "answers from the cache"} {
			if !strings.Contains(text, want) {
				t.Errorf("top does not say %q:\n%s", want, text)
			}
		}
		if strings.Contains(text, "\x1b") || strings.Contains(text, statusCanary) {
			t.Errorf("top says what it should not:\n%q", text)
		}
		json := mustAsk(t, s.env, "ollama", "top", "--json", "--address", "unix/"+s.admin)
		if !strings.HasPrefix(json, `{"at":`) || strings.Contains(json, statusCanary) {
			t.Errorf("top --json says %.200s", json)
		}
	})
	t.Run("leaving", func(t *testing.T) {
		began := time.Now()
		s.end(os.Interrupt)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("an open page holds the process for %v", took)
		}
		page.until("the page tells that the server is gone", `document.getElementById("live-state").dataset.is === "lost"`)
	})
}

// One command gives a newcomer something to look at.
func TestUp_DemoMoves(t *testing.T) {
	t.Parallel()
	g := startUp(t, nil, "--demo")
	if !g.waitFor("http://localhost:"+g.httpPort+"/status/") || !strings.Contains(g.output(), "SIMULATED") {
		t.Errorf("it does not say where to look and that nothing is real:\n%s", g.output())
	}
	var text string
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		text = mustAsk(t, g.env, "top", "--once")
		if strings.Contains(text, "█") && strings.Contains(text, "sim-small ") { // a plot, and a speed
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nothing has moved:\n%s", text)
		}
	}
	resp, page := get(t, g.client("HTTP/2.0"), base("https", "localhost", g.tlsPort)+"/status/", "")
	if resp.StatusCode != http.StatusOK || !strings.Contains(page, "sim-small") {
		t.Errorf("the page over HTTPS: %d %.300s", resp.StatusCode, page)
	}
	if resp, _ := get(t, g.client("HTTP/1.1"), base("http", "127.0.0.1", g.httpPort)+"/status/", "evil.example.com"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign Host sees the page: %d", resp.StatusCode)
	}
	if _, stderr, ok := ask(t, g.env, "up", "--demo", "--node", "http://10.0.0.1:11434"); ok || !strings.Contains(stderr, "leave out --node") {
		t.Errorf("--demo takes --node: %s", stderr)
	}
}

// checkKeyboard reads a value of a plot with the arrow keys.
func checkKeyboard(t *testing.T, page *tab) {
	t.Helper()
	page.eval(`document.querySelector("#plot-requests .plot").focus(); 1`)
	page.key("ArrowLeft")
	page.until("a value is told", `/^\d\d:\d\d:\d\d: .* by nodes/.test(document.querySelector("#plot-requests output").innerText)`)
	page.key("Tab")
	if id := page.eval(`document.activeElement.closest("figure").id`); id != "plot-first" {
		t.Errorf("behind the first plot the keyboard comes to %v", id)
	}
	page.eval("document.activeElement.blur(); 1")
}

// keep lets a state last and writes a picture of it, if there are to be some.
func keep(t *testing.T, page *tab, name string) {
	t.Helper()
	if *pictures != "" {
		time.Sleep(*pictureTime)
	}
	save(t, page, name, "")
}

// save writes a picture of an element, or of the whole page, if there are to be some.
func save(t *testing.T, page *tab, name, of string) {
	t.Helper()
	png := page.picture(of)
	if *pictures == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*pictures, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}
