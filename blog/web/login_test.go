package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLogin_CookieIsBoundToHostAndNewEachTime(t *testing.T) {
	d := newDesk(t)
	b := d.reader()
	b.cookies[sessionCookie] = "planted"
	answer := b.post("/login", "name", " Ann ", "password", deskPassword, "next", "/drafts?after=1-2")
	d.wantRedirect(answer, "/drafts?after=1-2")
	first := b.cookies[sessionCookie]
	cookie := answer.Header.Get("Set-Cookie")
	if want := "__Host-session=" + first + "; Path=/; Max-Age=2592000; HttpOnly; Secure; SameSite=Lax"; cookie != want || len(first) != 43 {
		t.Errorf("the cookie is %q, want %q", cookie, want)
	}
	d.want(b.get("/create"), http.StatusOK, `action="/create"`)

	// A second login ends the first session, so that none is left that nobody can end.
	old := &browser{desk: d, cookies: map[string]string{sessionCookie: first}}
	d.wantRedirect(b.post("/login", "name", "ann", "password", deskPassword), "/")
	if b.cookies[sessionCookie] == first {
		t.Error("the second login has the session of the first")
	}
	d.wantRedirect(old.get("/create"), "/login?next=%2Fcreate")
	if log := d.log.String(); !strings.Contains(log, `msg="an author signed in" author=ann by=password address=192.0.2.1`) ||
		strings.Contains(log, first) || strings.Contains(log, deskPassword) {
		t.Errorf("logged: %s", log)
	}
}

func TestLogin_FailureKeepsNameAndSlowsDown(t *testing.T) {
	d := newDesk(t)
	b := d.reader()
	for range 5 {
		body := d.want(b.post("/login", "name", `ann"<b>`, "password", "wrong wrong", "next", "/drafts"), http.StatusUnauthorized,
			`value="ann&#34;&lt;b&gt;"`, `role="alert"`, "The name or the password is wrong.", `name="next" value="/drafts"`)
		if strings.Contains(body, "wrong wrong") {
			t.Error("the page has the password")
		}
	}
	answer := b.post("/login", "name", "ann", "password", deskPassword)
	d.want(answer, http.StatusTooManyRequests, "Try again in 2s.")
	if got := answer.Header.Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After: %q, want 2", got)
	}
	if len(b.cookies) != 0 {
		t.Errorf("cookies after failed logins: %v", b.cookies)
	}
	if log := d.log.String(); strings.Count(log, `msg="a login failed" address=192.0.2.1`) != 5 || strings.Contains(log, "wrong wrong") || strings.Contains(log, "<b>") {
		t.Errorf("logged: %s", log)
	}
}

func TestLogin_AnswersInChinese(t *testing.T) {
	d := newDesk(t)
	r := httptest.NewRequest("GET", deskHost+"/login", nil)
	r.Header.Set("Accept-Language", "zh-CN")
	d.want(d.reader().send(r), http.StatusOK, "登录", "用户名", "密码")
}

func TestClientAddress_CountsNetworksOfIPv6(t *testing.T) {
	for _, c := range []struct{ remote, given, want string }{
		{remote: "192.0.2.1:1234", want: "192.0.2.1"},
		{remote: "[2001:db8::1]:1234", want: "2001:db8::/64"},
		{remote: "[2001:db8::ffff:1%eth0]:1234", want: "2001:db8::/64"},
		{remote: "[::ffff:192.0.2.1]:1234", want: "192.0.2.1"},
		{remote: "127.0.0.1:1", given: "198.51.100.7", want: "198.51.100.7"},
		{remote: "127.0.0.1:1", given: "2001:db8:1::7", want: "2001:db8:1::/64"},
		{remote: "@", want: ""}, // a unix socket
	} {
		h := &Handler{}
		if c.given != "" {
			h.opts.ClientIP = func(*http.Request) string { return c.given }
		}
		if got := h.clientAddress(&http.Request{RemoteAddr: c.remote}); got != c.want {
			t.Errorf("address of %q, %q: got %q, want %q", c.remote, c.given, got, c.want)
		}
	}
}

func TestLocalPath_LeadsNowhereElse(t *testing.T) {
	for _, next := range []string{
		"", "//evil.example", "/\\evil.example", "\\/evil.example", "\\\\evil.example", "https://evil.example", "https:evil.example",
		"javascript:alert(1)", "/\t/evil.example", "/\n/evil.example", "\t//evil.example", " //evil.example", "/ /evil.example", "///evil.example",
		"/%2f/evil.example\x00", "evil.example", "?x", "/login", "/login?next=/login", "/login/link?token=x", "/%zz", "/" + strings.Repeat("a", 3000),
		"/%2Fevil.example", "/%5Cevil.example\\",
	} {
		if got := localPath(next); got != "/" {
			t.Errorf("localPath(%q) = %q, want /", next, got)
		}
	}
	for _, next := range []string{"/", "/create", "/post/7/edit?saved", "/tag/%E4%B8%AD", "/search?q=//x"} {
		if got := localPath(next); got != next {
			t.Errorf("localPath(%q) = %q", next, got)
		}
	}
	d := newDesk(t)
	d.wantRedirect(d.author().get("/login?next=//evil.example"), "/")
	d.want(d.reader().get("/login?next=https://evil.example"), http.StatusOK, `name="next" value="/"`)
}

func TestLink_IsUsedByTheButtonOnly(t *testing.T) {
	d := newDesk(t)
	token, err := d.people.NewLink(t.Context(), d.ann.ID, deskNoon)
	if err != nil {
		t.Fatal(err)
	}
	b := d.reader()
	for range 3 { // a program that looks into mail, and one that looks again
		answer := b.get("/login/link?token=" + token)
		d.want(answer, http.StatusOK, `action="/login/link"`, token)
		if got := answer.Header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("Cache-Control: %q", got)
		}
	}
	if len(b.cookies) != 0 {
		t.Fatalf("the page alone has set %v", b.cookies)
	}
	d.wantRedirect(b.post("/login/link", "token", token), "/password?signed-in")
	d.want(b.get("/password?signed-in"), http.StatusOK, "You are signed in.", `autocomplete="new-password"`)
	d.want(d.reader().post("/login/link", "token", token), http.StatusGone, "This link does not work any more")
	d.want(d.reader().post("/login/link"), http.StatusGone)
	if strings.Contains(d.log.String(), token) {
		t.Error("the log has the token")
	}
}

// What the page loads is in logs with the address that it was loaded from.
func TestLink_TokenIsNotInReferer(t *testing.T) {
	d := newDesk(t)
	for path, want := range map[string]string{"/login/link?token=secret": "strict-origin", "/": "same-origin"} {
		if got := d.reader().get(path).Header["Referrer-Policy"]; len(got) != 1 || got[0] != want {
			t.Errorf("%s: Referrer-Policy is %q, want %q", path, got, want)
		}
	}
}

func TestLogout_EndsTheSession(t *testing.T) {
	d := newDesk(t)
	b := d.author()
	stolen := &browser{desk: d, cookies: map[string]string{sessionCookie: b.cookies[sessionCookie]}}
	answer := b.post("/logout")
	d.wantRedirect(answer, "/")
	if got := answer.Header.Get("Set-Cookie"); got != "__Host-session=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax" {
		t.Errorf("Set-Cookie: %q", got)
	}
	d.wantRedirect(stolen.get("/create"), "/login?next=%2Fcreate")
	d.wantRedirect(d.reader().post("/logout"), "/")
	d.want(d.author().get("/logout"), http.StatusMethodNotAllowed) // not by an image on some page
}

func TestPassword_EndsOtherSessionsAndKeepsThisOne(t *testing.T) {
	d := newDesk(t)
	b, other := d.author(), d.author()
	before := b.cookies[sessionCookie]
	d.want(b.post("/password", "password", "too short", "again", "too short"), http.StatusUnprocessableEntity, "10 to 200 characters", `aria-invalid="true"`)
	d.want(b.post("/password", "password", "a new password", "again", "a new passwort"), http.StatusUnprocessableEntity, "not the same")
	d.want(other.get("/create"), http.StatusOK)

	d.wantRedirect(b.post("/password", "password", "a new password", "again", "a new password"), "/password?changed")
	if b.cookies[sessionCookie] == before {
		t.Error("the session has the token of before")
	}
	d.want(b.get("/password?changed"), http.StatusOK, "Everywhere else you are signed out.")
	d.wantRedirect(other.get("/create"), "/login?next=%2Fcreate")
	d.want(d.reader().post("/login", "name", "ann", "password", deskPassword), http.StatusUnauthorized)
	d.wantRedirect(d.reader().post("/login", "name", "ann", "password", "a new password"), "/")
	if log := d.log.String(); !strings.Contains(log, `msg="a password was changed" author=ann`) || strings.Contains(log, "a new password") {
		t.Errorf("logged: %s", log)
	}
}

func TestCrossOrigin_IsRefusedWithAPage(t *testing.T) {
	d := newDesk(t)
	p := d.written("A title", "text", false)
	for _, c := range []struct {
		name, site, origin string
		status             int
	}{
		{name: "another site", site: "cross-site", status: 403},
		{name: "a subdomain or port", site: "same-site", status: 403},
		{name: "another site, no fetch metadata", origin: "https://evil.example", status: 403},
		{name: "a sandboxed page", origin: "null", status: 403},
		{name: "the blog", site: "same-origin", status: 303},
		{name: "the blog, no fetch metadata", origin: deskHost, status: 303},
		{name: "the address line", site: "none", status: 303},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", deskHost+postPath(p.ID, "delete"), nil)
			if c.site != "" {
				r.Header.Set("Sec-Fetch-Site", c.site)
			}
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			answer := d.author().send(r)
			if answer.StatusCode != c.status {
				t.Errorf("got status %d, want %d", answer.StatusCode, c.status)
			}
			if deleted := !d.stored(p.ID).Deleted.IsZero(); deleted != (c.status == 303) {
				t.Errorf("deleted: %v", deleted)
			}
			if c.status == 403 {
				d.want(answer, 403, "This was sent by another site")
			} else if err := d.store.RestorePost(t.Context(), p.ID); err != nil {
				t.Error(err)
			}
		})
	}
	// A login form on another site would sign the visitor in as somebody else.
	r := httptest.NewRequest("POST", deskHost+"/login", strings.NewReader("name=ann&password=correct+horse"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	b := d.reader()
	d.want(b.send(r), 403)
	if len(b.cookies) != 0 {
		t.Errorf("cookies: %v", b.cookies)
	}
}
