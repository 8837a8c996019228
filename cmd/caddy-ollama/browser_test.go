package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A browser is a headless Chromium, spoken to over a pipe in its own protocol of JSON messages,
// each ended by a zero byte. No driver is needed between the two.
type browser struct {
	t   *testing.T
	out *os.File

	mu      sync.Mutex // guards what follows
	last    int
	waiting map[int]chan message
	said    map[string][]string // what a page complained of, by its session
	ended   bool
}

type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// startBrowser runs one until the test ends. Where there is none the test fails; `make test`
// installs it.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("there is no Chromium; `make need-chromium` installs it")
	}
	theirIn, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: processes of the browser's may write into it for a moment after it was killed.
	home, err := os.MkdirTemp("", "browser")
	if err != nil {
		t.Fatal(err)
	}
	// The sandbox needs rights that a container or root does not have; only our own page is shown.
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
		"--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe", "--user-data-dir="+home, "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home, "TZ=UTC", "LANG=en_GB.UTF-8")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // it reads 3 and writes 4
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	b := &browser{t: t, out: out, waiting: make(map[int]chan message), said: make(map[string][]string)}
	var reading sync.WaitGroup
	reading.Go(func() { b.read(in) }) // ends with the browser
	t.Cleanup(func() {
		out.Close()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // and its children
		cmd.Wait()
		in.Close()
		reading.Wait()
		for began := time.Now(); os.RemoveAll(home) != nil && time.Since(began) < 5*time.Second; {
			time.Sleep(50 * time.Millisecond)
		}
	})
	return b
}

// read hands out what the browser says.
func (b *browser) read(in *os.File) {
	messages := bufio.NewReaderSize(in, 1<<20)
	for {
		text, err := messages.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			b.ended = true
			for id, to := range b.waiting {
				close(to)
				delete(b.waiting, id)
			}
			b.mu.Unlock()
			return
		}
		var m message
		if json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m) != nil {
			continue
		}
		b.mu.Lock()
		if to := b.waiting[m.ID]; m.ID != 0 && to != nil {
			to <- m // there is room for it
			delete(b.waiting, m.ID)
		}
		if complaint(m) {
			b.said[m.Session] = append(b.said[m.Session], m.Method+" "+string(m.Params))
		}
		b.mu.Unlock()
	}
}

// complaint tells whether a page has said something that an operator would find in its console.
func complaint(m message) bool {
	switch m.Method {
	case "Runtime.exceptionThrown":
		return true
	case "Runtime.bindingCalled", "Page.javascriptDialogOpening": // what nobody on our pages does
		return true
	case "Runtime.consoleAPICalled":
		return !bytes.Contains(m.Params, []byte(`"type":"log"`))
	case "Log.entryAdded": // violations of the policy, failed requests
		return !bytes.Contains(m.Params, []byte(`"level":"verbose"`)) && !bytes.Contains(m.Params, []byte(`"level":"info"`))
	}
	return false
}

// call asks the browser, or one of its pages, and reads the result into v.
func (b *browser) call(session, method string, params, v any) {
	b.t.Helper()
	if refused := b.try(session, method, params, v); refused != "" {
		b.t.Fatalf("%s: %s", method, refused)
	}
}

// try is call for what may be refused, and says why it was.
func (b *browser) try(session, method string, params, v any) (refused string) {
	b.t.Helper()
	text, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	reply := make(chan message, 1)
	b.mu.Lock()
	if b.ended {
		b.mu.Unlock()
		b.t.Fatalf("%s: the browser has ended", method)
	}
	b.last++
	b.waiting[b.last] = reply
	m, err := json.Marshal(message{ID: b.last, Session: session, Method: method, Params: text})
	b.mu.Unlock()
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.out.Write(append(m, 0)); err != nil {
		b.t.Fatal(err)
	}
	select {
	case m, ok := <-reply:
		switch {
		case !ok:
			b.t.Fatalf("%s: the browser has ended", method)
		case m.Error != nil:
			return m.Error.Message
		case v != nil:
			if err := json.Unmarshal(m.Result, v); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
		}
	case <-time.After(patience):
		b.t.Fatalf("%s: no answer in %s", method, patience)
	}
	return ""
}

// A tab is a page of a browser.
type tab struct {
	*browser
	session string
}

// look is how a tab shows its page.
type look struct {
	width, height int
	scheme        string // light or dark
	plain         bool   // without JavaScript
}

// open shows a page.
func (b *browser) open(url string, l look) *tab {
	b.t.Helper()
	p := b.openFor("", l)
	p.visit(url)
	return p
}

// openFor opens an empty tab for a visitor, who shares no cookies with others; "" is the first one.
func (b *browser) openFor(visitor string, l look) *tab {
	b.t.Helper()
	var target struct {
		TargetID string `json:"targetId"`
	}
	of := map[string]any{"url": "about:blank"}
	if visitor != "" {
		of["browserContextId"] = visitor
	}
	b.call("", "Target.createTarget", of, &target)
	var attached struct {
		SessionID string `json:"sessionId"`
	}
	b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	p := &tab{b, attached.SessionID}
	for _, domain := range []string{"Page", "Runtime", "Log", "Security"} {
		p.call(p.session, domain+".enable", struct{}{}, nil)
	}
	// Of an authority that no browser knows: a test of its own checks the certificate.
	p.call(p.session, "Security.setIgnoreCertificateErrors", map[string]any{"ignore": true}, nil)
	p.show(l)
	p.call(p.session, "Emulation.setScriptExecutionDisabled", map[string]any{"value": l.plain}, nil)
	return p
}

// visit shows another page in the tab.
func (p *tab) visit(url string) {
	p.t.Helper()
	p.leave("for "+url, func() { p.call(p.session, "Page.navigate", map[string]any{"url": url}, nil) })
}

// leave does what leads to another page, and waits until that is there.
func (p *tab) leave(why string, do func()) {
	p.t.Helper()
	p.eval("window.isLeft = true")
	do()
	p.until("it is left "+why, `!window.isLeft && document.readyState === "complete" && location.href !== "about:blank"`)
}

// show changes how the page is shown.
func (p *tab) show(l look) {
	p.t.Helper()
	phone, dense := l.width < 600, 1.0
	if phone {
		dense = 1.5
	}
	p.call(p.session, "Emulation.setDeviceMetricsOverride", map[string]any{
		"width": l.width, "height": l.height, "deviceScaleFactor": dense, "mobile": phone,
	}, nil)
	p.call(p.session, "Emulation.setEmulatedMedia", map[string]any{
		// Without motion a colour is there at once.
		"features": []map[string]string{{"name": "prefers-color-scheme", "value": l.scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}},
	}, nil)
}

// eval is the value of an expression on the page.
func (p *tab) eval(expression string) any {
	p.t.Helper()
	v, refused := p.tryEval(expression)
	if refused != "" {
		p.t.Fatalf("%s: %s", expression, refused)
	}
	return v
}

// tryEval is eval for a page that may be left at this moment.
func (p *tab) tryEval(expression string) (value any, refused string) {
	p.t.Helper()
	var v struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		Exception json.RawMessage `json:"exceptionDetails"`
	}
	refused = p.try(p.session, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &v)
	return v.Result.Value, refused + string(v.Exception)
}

// until waits until an expression is true.
func (p *tab) until(what, expression string) {
	p.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		v, refused := p.tryEval(expression)
		if v == true {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("the page did not come to the point that %s; %s it says\n%s\n%s", what, refused, p.eval("document.body.innerText"), p.complaints())
		}
	}
}

// picture is what is seen of an element and a little around it, or of the whole page if none is said, as a PNG.
func (p *tab) picture(of string) []byte {
	p.t.Helper()
	clip := p.eval(fmt.Sprintf(`(() => {
		const d = document.documentElement, r = document.querySelector(%q)?.getBoundingClientRect();
		if (!r) return {x: 0, y: 0, scale: 1, width: d.clientWidth, height: d.scrollHeight};
		const left = Math.max(0, r.x - 24);
		return {x: left, y: r.y + scrollY - Math.min(r.y + scrollY, 8), scale: 1, width: Math.min(d.clientWidth, r.right + 24) - left, height: r.height + 24};
	})()`, cmp.Or(of, "none")))
	var shot struct {
		Data string `json:"data"`
	}
	p.call(p.session, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true, "clip": clip}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil || !bytes.HasPrefix(png, []byte("\x89PNG")) {
		p.t.Fatalf("no picture: %v", err)
	}
	return png
}

// complaints is what the page has said in its console.
func (p *tab) complaints() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.said[p.session], "\n")
}

// wellBehaved fails the test if the page has complained of anything, or is wider than its window.
func (p *tab) wellBehaved(when string) {
	p.t.Helper()
	if said := p.complaints(); said != "" {
		p.t.Errorf("%s: in the console is\n%s", when, said)
	}
	// Less is a gutter that is kept for a scrollbar.
	if wide := p.eval("Math.max(0, document.documentElement.scrollWidth - document.documentElement.clientWidth)"); wide != 0.0 {
		p.t.Errorf("%s: the page is %v pixels wider than its window: %v", when, wide, p.eval(`[...document.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).slice(0, 5).map((e) => e.outerHTML.slice(0, 120)).join("\n")`))
	}
}
