package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// axeFile is the checker of what people need who do not see, or do not use a mouse: `make test-caddy` installs it
// with the npm packages of the clients.
var axeFile = filepath.Join("..", "..", "test", "clients", "node_modules", "axe-core", "axe.min.js")

// An inspection looks at pages with axe, and remembers which templates it has seen.
type inspection struct {
	t    *testing.T
	axe  string
	seen map[string]bool
}

func startInspection(t *testing.T) *inspection {
	t.Helper()
	axe, err := os.ReadFile(axeFile)
	if err != nil {
		t.Fatalf("%v; `make test-caddy` installs it", err)
	}
	return &inspection{t, string(axe), make(map[string]bool)}
}

// violations are the rules that the page breaks as it is shown now.
func (i *inspection) violations(p *tab) any {
	i.t.Helper()
	if p.eval("window.axe === undefined") == true {
		p.eval(i.axe + ";1") // by the debugger, for which the page's policy does not hold
	}
	return p.eval(`axe.run(document, {resultTypes: ["violations"]}).then((found) =>
		found.violations.map((v) => v.id + ": " + v.help + "\n" + v.nodes.map((n) => n.html.slice(0, 300) + "\n" + n.failureSummary).join("\n")).join("\n"))`)
}

// inspect fails the test for each rule of axe that what a tab shows breaks, in light and in dark. The templates
// are those that made the page.
func (i *inspection) inspect(p *tab, what string, templates ...string) {
	i.t.Helper()
	for _, name := range templates {
		i.seen[name] = true
	}
	for _, scheme := range []string{"light", "dark"} {
		p.show(look{1280, 900, scheme, false})
		if found := i.violations(p); found != "" {
			i.t.Errorf("%s, in %s, breaks rules of axe:\n%v", what, scheme, found)
		}
	}
}

// checkAll fails the test for a template that was not looked at.
func (i *inspection) checkAll() {
	i.t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "blog", "web", "templates", "*.html"))
	if err != nil || len(files) == 0 {
		i.t.Fatalf("no templates: %v", err)
	}
	var all []string
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".html")
		if name == "base" { // is around each
			continue
		}
		all = append(all, name)
		if !i.seen[name] {
			i.t.Errorf("no page made by the template %s was looked at with axe", name)
		}
	}
	for name := range i.seen {
		if !slices.Contains(all, name) {
			i.t.Errorf("there is no template %s", name)
		}
	}
}

// inspectBlog shows each template in each state that looks different. ann is signed in.
func inspectBlog(t *testing.T, s *blogSite, b *browser, ann *tab) {
	i := startInspection(t)
	reader := b.openFor(b.visitor(), desk)
	at := func(p *tab, path string, templates ...string) {
		t.Helper()
		p.visit(s.url + path)
		p.forgive("status of 404")
		i.inspect(p, path, templates...)
	}
	submit := func(p *tab, form, says string, templates ...string) { // as without the script
		t.Helper()
		p.leave("by "+form, func() {
			p.eval(fmt.Sprintf(`(() => { const f = document.querySelector(%q); f.target = ""; HTMLFormElement.prototype.submit.call(f); })()`, form))
		})
		p.forgive("the server responded with a status of 4") // it is what is looked at
		p.says(says)
		i.inspect(p, says, templates...)
	}

	picture := paint(t)
	s.compose(ann, travelTitle, travelText, travelTags, picture)
	ann.until("the preview is there", `document.querySelector("#preview img") !== null`)
	i.inspect(ann, "the editor with a preview", "edit")
	ann.click("[data-ai-continue]")
	ann.answered()
	i.inspect(ann, "the editor with a suggestion", "_ai")
	ann.follow("button[value=publish]")
	path := ann.eval("location.pathname").(string)
	i.inspect(ann, "a post, for its author", "post")

	at(reader, "/", "index")
	at(reader, path, "post")
	reader.click("form[action=summary] button")
	reader.answered()
	i.inspect(reader, "a post with its summary", "_ai")
	at(reader, "/tags", "tags")
	at(reader, "/tag/travel", "index")
	at(reader, "/search", "search")
	at(reader, "/search?q=train", "search")
	at(reader, "/search?q=absent", "search")
	at(reader, "/about", "about")
	at(reader, "/absent", "error")
	reader.eval(`document.querySelector("main").innerHTML = "<img src=/favicon.svg>"`)
	if found := fmt.Sprint(i.violations(reader)); !strings.Contains(found, "image-alt") || !strings.Contains(found, "page-has-heading-one") {
		t.Errorf("axe does not see what is wrong: %s", found)
	}
	at(reader, "/ai-inference", "ai")
	submit(reader, `form[action="/ai-inference"]`, "Write a question first.", "ai")
	reader.write("#ai-question", "What is a blog?")
	submit(reader, `form[action="/ai-inference"]`, "Written by a model (", "ai")
	at(reader, "/login?next=/create", "login")
	reader.write("#name", "ann")
	submit(reader, `form[action="/login"]`, "The name or the password is wrong.", "login")
	at(reader, "/login/link?token=anything", "link")

	at(ann, "/password", "password")
	ann.write("#password", "one thing")
	submit(ann, `form[action="/password"]`, "The two are not the same.", "password")
	at(ann, "/images", "image")
	ann.choose("#image", picture)
	submit(ann, `form[action="/images"]`, "Copy this into the text", "image")
	ann.visit(s.url + "/images")
	submit(ann, `form[action="/images"]`, "Choose an image first.", "image")
	at(ann, "/create", "edit")
	ann.write("#body", "Once upon a time.")
	submit(ann, "#editor", "A post needs a title.", "edit")
	ann.write("#title", "A draft")
	ann.leave("by saving the draft", func() { ann.click("button[value=draft]") })
	draft := ann.eval("location.pathname").(string)
	at(ann, "/drafts", "drafts")
	ann.visit(s.url + draft)
	ann.eval(`document.querySelector("#editor") === null && (location = document.querySelector('a[href$="/edit"]').href)`)
	ann.until("the draft is in the editor", `document.querySelector("#editor") !== null && document.readyState === "complete"`)
	ann.eval(`document.querySelector("[name=version]").value = "0"`)
	submit(ann, "#editor", "What is stored now", "edit")
	ann.visit(s.url + "/create")
	ann.eval(`(() => { const f = document.querySelector("#editor"); f.action = "/continue"; f.querySelector("#body").value = "Once"; })()`)
	submit(ann, "#editor", "As Markdown, to copy into your text", "ai")
	ann.visit(s.url + path)
	ann.follow(`article a[href$="/edit"]`)
	submit(ann, `form[action$="/delete"]`, "was deleted.", "deleted")
	ann.visit(s.url + "/deleted")
	i.inspect(ann, "deleted posts", "deleted")
	i.checkAll()
}
