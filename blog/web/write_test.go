package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

func TestWrite_DraftThenPublishedThenUnpublished(t *testing.T) {
	d := newDesk(t)
	b, reader := d.author(), d.reader()
	d.wantRedirect(b.post("/create", "title", "A secret plan", "body", "with *words*", "tags", "go, Web，中文", "do", "draft"), "/post/1/edit?saved")
	d.want(b.get("/post/1/edit?saved"), 200, `value="A secret plan"`, "with *words*", `value="go, web, 中文"`, "Saved.", `action="/post/1/edit"`, "Publish")
	d.want(b.get("/drafts"), 200, "A secret plan", `href="/post/1/edit"`)
	d.want(b.get("/post/1/a-secret-plan"), 200, "with <em>words</em>")

	d.wantRedirect(b.post("/post/1/edit", "title", "A plan", "body", "for all", "version", "1", "do", "publish"), "/post/1/a-plan")
	d.want(reader.get("/post/1/a-plan"), 200, "for all")
	d.want(b.get("/post/1/edit"), 200, "Unpublish")

	d.wantRedirect(b.post("/post/1/edit", "title", "Another plan", "body", "for all", "version", "2"), "/post/1/a-plan") // the address stays
	d.wantRedirect(b.post("/post/1/edit", "title", "Another plan", "body", "for none", "version", "3", "do", "draft"), "/post/1/edit?saved")
	d.want(reader.get("/post/1/a-plan"), http.StatusNotFound)
	if p := d.stored(1); !p.Draft || p.Published.IsZero() || p.Author != d.ann.ID || p.Version != 4 {
		t.Errorf("stored: %+v", p)
	}
	if log := d.log.String(); strings.Count(log, `msg="a post was published" post=1 author=ann`) != 1 || strings.Contains(log, "plan") {
		t.Errorf("logged: %s", log)
	}
}

func TestWrite_AnyAuthorEditsAnyPostAndItStaysItsAuthors(t *testing.T) {
	d := newDesk(t)
	p := d.written("Of Ann", "text", true)
	bob, err := d.people.Create(t.Context(), "bob", "Bob", "", deskNoon)
	if err != nil {
		t.Fatal(err)
	}
	token, err := d.people.Begin(t.Context(), bob.ID, deskNoon)
	if err != nil {
		t.Fatal(err)
	}
	b := d.reader()
	b.cookies[sessionCookie] = token
	d.want(b.get("/drafts"), 200, "Of Ann", "Ann")
	d.want(b.get(p.Path()), 200, "text")
	d.wantRedirect(b.post("/post/1/edit", "title", "Of both", "body", "text", "version", "1", "do", "publish"), "/post/1/of-both")
	if got := d.stored(1); got.AuthorName != "Ann" {
		t.Errorf("it is %q's now", got.AuthorName)
	}
}

// secretPages are what readers may see, in which no draft may be.
var secretPages = []string{
	"/", "/?page=2", "/search?q=xyzzy", "/search?q=unspeakable", "/feed", "/feed.xml", "/atom.xml", "/sitemap.xml", "/tags", "/tag/xyzzy",
	"/post/1", "/post/1/xyzzy", "/post/1/edit", "/drafts", "/deleted", "/about", "/robots.txt",
}

func TestWrite_ReadersSeeNeitherDraftsNorDeletedPosts(t *testing.T) {
	d := newDesk(t)
	b, reader := d.author(), d.reader()
	check := func(when string) {
		t.Helper()
		for _, path := range secretPages {
			answer := reader.get(path)
			if body := d.want(answer, answer.StatusCode); strings.Contains(body, "mumble") || strings.Contains(strings.ReplaceAll(body, path, ""), "Xyzzy") {
				t.Errorf("%s, %s shows it: %s", when, path, body)
			}
		}
	}
	d.wantRedirect(b.post("/create", "title", "Xyzzy", "body", "unspeakable mumble", "tags", "xyzzy", "do", "draft"), "/post/1/edit?saved")
	check("as a draft")
	d.wantRedirect(b.post("/post/1/edit", "title", "Xyzzy", "body", "unspeakable mumble", "version", "1", "do", "publish"), "/post/1/xyzzy")
	d.want(reader.get("/post/1/xyzzy"), 200, "unspeakable mumble")
	d.wantRedirect(b.post("/post/1/delete"), "/deleted?post=1")
	check("deleted")
}

func TestDelete_CanBeUndone(t *testing.T) {
	d := newDesk(t)
	b, reader := d.author(), d.reader()
	p := d.written(`A <b>"title"`, "text", false)
	d.want(b.get("/post/1/edit"), 200, `action="/post/1/delete"`)
	d.wantRedirect(b.post("/post/1/delete"), "/deleted?post=1")
	d.want(reader.get(p.Path()), 404)
	d.want(b.get("/deleted?post=1"), 200, `“A &lt;b&gt;&#34;title&#34;” was deleted.`, `action="/post/1/restore"`, "Undo")
	d.want(b.get("/post/1/edit"), 404)
	d.want(b.post("/post/1/delete"), 404)
	d.wantRedirect(b.post("/post/1/restore"), "/post/1")
	d.want(reader.get(p.Path()), 200, "text")
	d.want(b.post("/post/1/restore"), 404)
	if got := d.stored(1); got.Draft || got.Body != "text" {
		t.Errorf("restored: %+v", got)
	}
	if log := d.log.String(); !strings.Contains(log, `msg="a post was deleted" post=1 author=ann`) || !strings.Contains(log, `msg="a post was restored" post=1 author=ann`) {
		t.Errorf("logged: %s", log)
	}
}

func TestEdit_ConflictKeepsBothTexts(t *testing.T) {
	d := newDesk(t)
	one, two := d.author(), d.author()
	d.written("Title", "the first text", false)
	d.wantRedirect(one.post("/post/1/edit", "title", "Theirs", "body", "text of one", "version", "1", "do", "publish"), "/post/1/title")
	body := d.want(two.post("/post/1/edit", "title", "Mine", "body", "text of two", "tags", "a, b", "version", "1", "do", "publish"), http.StatusConflict,
		"Somebody else changed this post", "text of one", "Theirs", "text of two", `value="Mine"`, `value="a, b"`, `name="version" value="2"`)
	if !strings.Contains(body, `role="alert"`) {
		t.Error("nobody is told")
	}
	if got := d.stored(1).Body; got != "text of one" {
		t.Errorf("stored: %q", got)
	}
	d.wantRedirect(two.post("/post/1/edit", "title", "Both", "body", "text of one and two", "version", "2", "do", "publish"), "/post/1/title")
	d.want(one.post("/post/1/edit", "title", "x", "body", "too late", "version", "1"), http.StatusConflict, "too late", "text of one and two")
}

func TestEdit_DeletedMeanwhileKeepsTheText(t *testing.T) {
	d := newDesk(t)
	b := d.author()
	d.written("Title", "text", false)
	d.wantRedirect(b.post("/post/1/delete"), "/deleted?post=1")
	d.want(b.post("/post/1/edit", "title", "Mine", "body", "what I wrote", "version", "1"), 404, "what I wrote", `value="Mine"`, "not there any more")
}

func TestWrite_RefusedFormsComeBackWhole(t *testing.T) {
	d := newDesk(t)
	b := d.author()
	long := strings.Repeat("x", blog.BodyLimit+1)
	for _, c := range []struct{ name, title, body, tags, field, problem string }{
		{name: "no title", title: " ", body: "a\n\ntext", tags: "t1", field: "title", problem: "A post needs a title."},
		{name: "long title", title: strings.Repeat("题", 101), body: "text", tags: "t1", field: "title", problem: "more than 100 characters"},
		{name: "long body", title: "A", body: long, tags: "t1", field: "body", problem: "more than 1048576 bytes"},
		{name: "nested body", title: "A", body: strings.Repeat(">", 101), tags: "t1", field: "body", problem: "more than 100 quotes and lists"},
		{name: "links without an end", title: "A", body: strings.Repeat("[x](", 251), tags: "t1", field: "body", problem: "more than 250 links"},
		{name: "many tags", title: "A", body: "text", tags: strings.Join(numbers(21), ", "), field: "tags", problem: "more than 20 tags"},
		{name: "a long tag", title: "A", body: "text", tags: strings.Repeat("t", 41), field: "tags", problem: "more than 40 characters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := d.want(b.post("/create", "title", c.title, "body", c.body, "tags", c.tags, "do", "publish"), http.StatusUnprocessableEntity, c.problem)
			for what, text := range map[string]string{"title": `value="` + c.title + `"`, "tags": `value="` + c.tags + `"`} {
				if !strings.Contains(body, text) {
					t.Errorf("the %s is lost", what)
				}
			}
			if !strings.Contains(body, "\n"+strings.ReplaceAll(c.body, ">", "&gt;")+"</textarea>") {
				t.Error("the text is lost")
			}
			at := strings.Index(body, `aria-invalid="true" aria-describedby="problem"`)
			if at < 0 || !strings.Contains(body[max(0, at-30-len(c.title)-len(c.tags)-40):at], `id="`+c.field+`"`) || !strings.Contains(body, `id="problem"`) {
				t.Errorf("the problem is not linked to the %s", c.field)
			}
		})
	}
	if page, err := d.store.Posts(t.Context(), blog.Query{Show: blog.Drafts}); err != nil || len(page.Posts) != 0 {
		t.Errorf("stored: %v, %v", page.Posts, err)
	}
}

func numbers(n int) (texts []string) {
	for i := range n {
		texts = append(texts, "t"+strconv.Itoa(i))
	}
	return texts
}

func TestWrite_LargestTextIsStored(t *testing.T) {
	d := newDesk(t)
	text := strings.TrimSpace(strings.Repeat("字词 ", blog.BodyLimit/7)) // each byte takes three in the form
	d.wantRedirect(d.author().post("/create", "title", "Large", "body", text, "do", "publish"), "/post/1/large")
	if got := d.stored(1).Body; got != text {
		t.Errorf("%d bytes are stored, want %d", len(got), len(text))
	}
}

func TestWrite_TooLargeIsRefusedWithAPage(t *testing.T) {
	d := newDesk(t)
	d.want(d.author().post("/create", "title", "A", "body", strings.Repeat("x", formLimit)), http.StatusRequestEntityTooLarge, "That is too large")
	d.want(d.reader().post("/login", "name", strings.Repeat("x", smallForm)), http.StatusRequestEntityTooLarge, "That is too large")
	d.want(d.reader().post("/nowhere", "body", strings.Repeat("x", formLimit)), 404)
}

func TestWrite_BusyDatabaseKeepsTheForm(t *testing.T) {
	d := newDesk(t)
	b := d.author()
	d.written("Title", "text", false)
	d.store.busy = true
	for _, path := range []string{"/create", "/post/1/edit"} {
		answer := b.post(path, "title", "Mine", "body", "what <I> wrote", "tags", "x, y", "version", "7", "published", "true", "do", "publish")
		d.want(answer, http.StatusServiceUnavailable, "database is not available", `value="Mine"`, "what &lt;I&gt; wrote", `value="x, y"`,
			`action="`+path+`"`, `name="version" value="7"`)
		if answer.Header.Get("Retry-After") != "5" || answer.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("head: %v", answer.Header)
		}
	}
}

func TestWrite_ExpiredSessionKeepsTheText(t *testing.T) {
	d := newDesk(t)
	d.want(d.reader().post("/create", "title", "Mine", "body", "what <I> wrote"), http.StatusForbidden, "Sign in first", "what &lt;I&gt; wrote")
}

func TestPreview_IsWhatWillBeShown(t *testing.T) {
	d := newDesk(t)
	b := d.author()
	const text = "a *text* <script>alert(1)</script>"
	body := d.want(b.post("/preview", "id", "7", "version", "3", "published", "true", "title", "T", "body", text, "tags", "x"), 200,
		"a <em>text</em>", `action="/post/7/edit"`, `name="version" value="3"`, `value="T"`, `value="x"`, "a *text* &lt;script&gt;", "Unpublish")
	if strings.Contains(body, "<script>") {
		t.Error("it has a script")
	}
	answer := b.post("/preview", "body", text, "alone", "1")
	if got := d.want(answer, 200); got != "<p>a <em>text</em> alert(1)</p>\n" {
		t.Errorf("alone: %q", got)
	}
	answer = b.post("/preview", "body", strings.Repeat(">", 101), "alone", "1")
	if got := d.want(answer, 422); got != "The text has more than 100 quotes and lists in each other.\n" {
		t.Errorf("alone: %q", got)
	}
	d.want(b.post("/preview", "body", strings.Repeat(">", 101)), 422, `aria-describedby="problem"`)
}

func TestWrite_BrowserIsToldWhichTextWasStored(t *testing.T) {
	const key = "01234567-89ab-cdef-0123-456789abcdef"
	d := newDesk(t)
	b := d.author()
	answer := b.post("/create", "title", "A", "body", "x", "key", key)
	if got, want := answer.Header.Get("Set-Cookie"), "stored="+key+"; Path=/; Max-Age=86400; Secure; SameSite=Strict"; got != want {
		t.Errorf("Set-Cookie: %q, want %q", got, want)
	}
	d.want(b.post("/create", "title", "", "body", "x", "key", key), 422, `name="key" value="`+key+`"`)
	for _, key := range []string{"", "x; Domain=evil.example", strings.Repeat("f", 37)} {
		if got := b.post("/create", "title", "A", "body", "x", "key", key).Header.Get("Set-Cookie"); got != "" {
			t.Errorf("key %q: Set-Cookie: %q", key, got)
		}
	}
}

func TestDrafts_ArePaged(t *testing.T) {
	d := newDesk(t)
	for i := range 51 {
		p := blog.Post{Title: fmt.Sprintf("Draft %02d", i), Draft: true, Author: d.ann.ID}
		if err := p.Prepare(deskNoon.Add(time.Duration(i) * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.store.CreatePost(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	b := d.author()
	body := d.want(b.get("/drafts"), 200, "Draft 50", "Draft 01")
	_, rest, ok := strings.Cut(body, `href="/drafts?after=`)
	if !ok || strings.Contains(body, "Draft 00") {
		t.Fatalf("no second page: %s", body)
	}
	place, _, _ := strings.Cut(rest, `"`)
	if body := d.want(b.get("/drafts?after="+place), 200, "Draft 00"); strings.Contains(body, "Draft 01") || strings.Contains(body, "?after=") {
		t.Errorf("second page: %s", body)
	}
	d.want(b.get("/drafts?after=-5-x"), http.StatusBadRequest, "The address is not right")
}

func TestAuthorPages_AreClosedToReaders(t *testing.T) {
	d := newDesk(t)
	p := d.written("Title", "text", false)
	gone := d.written("Gone", "text", false)
	if err := d.store.DeletePost(t.Context(), gone.ID, deskNoon); err != nil {
		t.Fatal(err)
	}
	d.store.Store = readOnlyStore{d.store.Store, t}
	stale := d.reader()
	stale.cookies[sessionCookie] = strings.Repeat("x", 43)
	for _, b := range []*browser{d.reader(), stale} {
		for _, path := range []string{"/password", "/create", "/post/1/edit", "/drafts", "/deleted", "/images"} {
			d.wantRedirect(b.get(path), signInPath(path))
			d.want(b.send(httptest.NewRequest("HEAD", deskHost+path, nil)), http.StatusSeeOther)
		}
		for _, path := range []string{"/password", "/create", "/post/1/edit", "/preview", "/post/1/delete", "/post/2/restore", "/images"} {
			answer := b.post(path, "title", "x", "body", "x", "version", "1", "do", "publish", "password", "a new password", "again", "a new password")
			d.want(answer, http.StatusForbidden, "Sign in first")
		}
	}
	if got := d.stored(p.ID); got.Version != 1 || !got.Deleted.IsZero() {
		t.Errorf("changed: %+v", got)
	}
}

func TestAuthorPages_AreKeptByNobody(t *testing.T) {
	d := newDesk(t)
	b := d.author()
	d.written("Title", "text", true)
	for _, path := range []string{"/password", "/create", "/post/1/edit", "/drafts", "/deleted", "/images", "/post/1/title", "/"} {
		answer := b.get(path)
		d.want(answer, 200)
		if got := answer.Header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s has Cache-Control %q", path, got)
		}
	}
}
