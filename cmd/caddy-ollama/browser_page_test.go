package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// What a person does on a page.

// visitor is somebody else, with cookies and a storage of their own.
func (b *browser) visitor() string {
	b.t.Helper()
	var context struct {
		ID string `json:"browserContextId"`
	}
	b.call("", "Target.createBrowserContext", struct{}{}, &context)
	return context.ID
}

// speaks has the browser ask for pages in a language.
func (p *tab) speaks(language string) {
	p.t.Helper()
	p.call(p.session, "Network.enable", struct{}{}, nil)
	p.call(p.session, "Network.setExtraHTTPHeaders", map[string]any{"headers": map[string]string{"Accept-Language": language}}, nil)
}

// key presses one.
func (p *tab) key(name string) {
	p.t.Helper()
	code := map[string]int{"Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "Enter": 13}[name]
	event := map[string]any{"type": "rawKeyDown", "key": name, "code": name, "windowsVirtualKeyCode": code}
	if name == "Enter" { // means something only as a character
		event["type"], event["text"] = "keyDown", "\r"
	}
	p.call(p.session, "Input.dispatchKeyEvent", event, nil)
	delete(event, "text")
	event["type"] = "keyUp"
	p.call(p.session, "Input.dispatchKeyEvent", event, nil)
}

// click does so in the middle of an element, with the mouse.
func (p *tab) click(selector string) {
	p.t.Helper()
	var at struct{ X, Y float64 }
	text, _ := p.eval(fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		e.scrollIntoView({block: "center", behavior: "instant"});
		const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;
		return e.contains(document.elementFromPoint(x, y)) ? JSON.stringify({x, y}) : "";
	})()`, selector)).(string)
	if json.Unmarshal([]byte(text), &at) != nil {
		p.t.Fatalf("%s cannot be clicked", selector)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		p.call(p.session, "Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil)
	}
}

// follow clicks what leads to another page.
func (p *tab) follow(selector string) {
	p.t.Helper()
	p.leave("by "+selector, func() { p.click(selector) })
}

// write has a field contain a text instead of what it has.
func (p *tab) write(selector, text string) {
	p.t.Helper()
	p.eval(fmt.Sprintf("(() => { const e = document.querySelector(%q); e.focus(); e.select(); })()", selector))
	p.call(p.session, "Input.insertText", map[string]any{"text": text}, nil)
}

// choose names files in a field for them.
func (p *tab) choose(selector string, files ...string) {
	p.t.Helper()
	var field struct {
		Result struct {
			ObjectID string `json:"objectId"`
		} `json:"result"`
	}
	p.call(p.session, "Runtime.evaluate", map[string]any{"expression": fmt.Sprintf("document.querySelector(%q)", selector)}, &field)
	p.call(p.session, "DOM.setFileInputFiles", map[string]any{"files": files, "objectId": field.Result.ObjectID}, nil)
}

// says waits until the page shows a text.
func (p *tab) says(text string) {
	p.t.Helper()
	p.until("it says "+text, fmt.Sprintf("document.body.innerText.includes(%q)", text))
}

// forgive takes out complaints that have a text in them, and tells how many there were.
func (p *tab) forgive(text string) (count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var rest []string
	for _, said := range p.said[p.session] {
		if strings.Contains(said, text) {
			count++
		} else {
			rest = append(rest, said)
		}
	}
	p.said[p.session] = rest
	return count
}

// focusable are the elements that a keyboard has to reach, in their order.
const focusable = `[...document.querySelectorAll("a[href], button, input:not([type=hidden]), textarea, select, summary, [tabindex='0']")]
	.filter((e) => !e.disabled && e.checkVisibility())`

// checkTabOrder goes through a page that was just opened by the Tab key: each element that can do something is
// reached in the order of the page, is seen then, and looks so.
func (p *tab) checkTabOrder(what string) {
	p.t.Helper()
	count, _ := p.eval("(window.focusables = " + focusable + ").length").(float64)
	if count < 5 {
		p.t.Errorf("%s: %v elements take the focus", what, count)
	}
	for i := range int(count) {
		p.key("Tab")
		got := p.eval(`(() => {
			const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
			if (focusables.indexOf(e) !== ` + fmt.Sprint(i) + `) return "is at " + e.outerHTML.slice(0, 200);
			if (s.outlineStyle === "none" || parseFloat(s.outlineWidth) < 2) return "does not show the focus at " + e.outerHTML.slice(0, 200);
			if (r.bottom <= 0 || r.top >= innerHeight || r.right <= 0 || r.left >= innerWidth) return "does not scroll to " + e.outerHTML.slice(0, 200);
			return "";
		})()`)
		if got != "" {
			p.t.Errorf("%s: after %d times Tab the page %v, want %v", what, i+1, got, p.eval(fmt.Sprintf("focusables[%d].outerHTML.slice(0, 200)", i)))
			return
		}
	}
}
