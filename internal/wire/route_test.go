package wire

import (
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

// headerOf gives the values of a recorded header, joined.
func headerOf(r golden.Response, name string) string {
	var values []string
	for _, h := range r.Headers {
		if strings.EqualFold(h[0], name) {
			values = append(values, h[1])
		}
	}
	return strings.Join(values, "|")
}

// requestHeader gives a recorded request header.
func requestHeader(r golden.Request, name string) string {
	for _, h := range r.Headers {
		if strings.EqualFold(h[0], name) {
			return h[1]
		}
	}
	return ""
}

func TestFind_AnswersAsRecorded(t *testing.T) {
	files := []string{
		"general", "generate", "chat", "embed", "embeddings", "anthropic", "models", "pull",
		"openai-chat", "openai-completions", "openai-embeddings", "openai-other", "openai-responses",
	}
	for _, file := range files {
		for _, rec := range golden.Load(t, file) {
			u, err := url.Parse(rec.Request.Path)
			if err != nil {
				// A path with two slashes in front is no URL by itself.
				u = &url.URL{Path: rec.Request.Path}
			}
			if strings.HasPrefix(rec.Request.Path, "//") {
				u = &url.URL{Path: rec.Request.Path}
			}
			recorded := rec.Response.Status
			if recorded == 403 && len(rec.Response.Body) == 0 || rec.Request.Method == "OPTIONS" || rec.ID == "host-missing" {
				continue // decided before any route
			}
			if strings.HasPrefix(u.Path, "/v1/images/") || strings.HasPrefix(u.Path, "/v1/audio/") {
				continue // routes that the table leaves out
			}
			got := Find(rec.Request.Method, u.Path)

			want := Match{Status: 200}
			page := headerOf(rec.Response, "Content-Type") == "text/plain"
			switch {
			case recorded == 405, recorded == 404 && page:
				want = Match{Status: recorded, Allow: headerOf(rec.Response, "Allow")}
			case recorded == 301, recorded == 307:
				want = Match{Status: recorded, Redirect: headerOf(rec.Response, "Location")}
			}
			if got.Status != want.Status || got.Allow != want.Allow || got.Redirect != want.Redirect {
				t.Errorf("%s/%s: Find(%s, %s)\ngot  %+v\nwant %+v", file, rec.ID, rec.Request.Method, u.Path, got, want)
			}
			if (got.Route != nil) != (got.Status == 200) {
				t.Errorf("%s/%s: Find(%s, %s) has route %v with status %d", file, rec.ID, rec.Request.Method, u.Path, got.Route, got.Status)
			}
		}
	}
}

func TestFind_AllowOfOptionsIsThatOfTheRecordedPreflight(t *testing.T) {
	for _, rec := range golden.Load(t, "general") {
		if rec.Request.Method != "OPTIONS" {
			continue
		}
		got, want := Find("OPTIONS", rec.Request.Path).Allow, headerOf(rec.Response, "Allow")
		if got != want {
			t.Errorf("%s: Find(OPTIONS, %s).Allow\ngot  %q\nwant %q", rec.ID, rec.Request.Path, got, want)
		}
	}
}

func TestFind(t *testing.T) {
	tests := []struct {
		name, method, path string
		want               Match // Route left out
		route              string
	}{
		{"a parameter is one segment", "GET", "/v1/models/a b:latest", Match{Param: "a b:latest", Status: 200}, "/v1/models/:name"},
		{"a parameter is not two segments", "GET", "/v1/models/a/b", Match{Status: 404}, ""},
		{"a parameter is not empty", "POST", "/api/blobs/", Match{Status: 404}, ""},
		{"a slash behind a parameter is redirected", "GET", "/v1/models/a/", Match{Redirect: "/v1/models/a", Status: 301}, ""},
		{"the list and the entry are apart", "GET", "/v1/models/", Match{Redirect: "/v1/models", Status: 301}, ""},
		{"HEAD is redirected as POST is", "HEAD", "/api/tags/", Match{Redirect: "/api/tags", Status: 307}, ""},
		{"no redirect to another method's path", "GET", "/api/chat/", Match{Status: 404}, ""},
		{"cleaning comes before all else", "POST", "/nope//x/", Match{Redirect: "/nope/x/", Status: 307}, ""},
		{"an empty path is the root", "GET", "", Match{Redirect: "/", Status: 307}, ""},
		{"dots climb no further than the root", "GET", "/../../etc/passwd", Match{Redirect: "/etc/passwd", Status: 307}, ""},
		{"a blob has two methods", "GET", "/api/blobs/sha256:0", Match{Allow: "HEAD, POST", Status: 405}, ""},
		{"methods have their case", "get", "/api/tags", Match{Allow: "HEAD, GET", Status: 405}, ""},
		{"CONNECT is not cleaned", "CONNECT", "//api/tags", Match{Status: 404}, ""},
	}
	for _, tt := range tests {
		got := Find(tt.method, tt.path)
		route := ""
		if got.Route != nil {
			route = got.Route.Path
		}
		got.Route = nil
		if got != tt.want || route != tt.route {
			t.Errorf("%s: Find(%s, %q)\ngot  %+v %q\nwant %+v %q", tt.name, tt.method, tt.path, got, route, tt.want, tt.route)
		}
	}
}

func TestFind_EachRowIsFoundByItsMethodsOnly(t *testing.T) {
	for i, r := range Routes() {
		path, param := r.Path, ""
		if strings.HasSuffix(path, "/:name") {
			param = "x"
			path = strings.TrimSuffix(path, ":name") + param
		}
		for _, method := range []string{"HEAD", "GET", "POST", "DELETE", "PUT", "OPTIONS"} {
			got := Find(method, path)
			if slices.Contains(r.Methods, method) {
				if got.Route != &Routes()[i] || got.Param != param || got.Status != 200 {
					t.Errorf("Find(%s, %s) = %+v, want its row", method, path, got)
				}
			} else if got.Status != 405 || got.Allow != strings.Join(r.Methods, ", ") {
				t.Errorf("Find(%s, %s) = %+v, want 405 with Allow %v", method, path, got, r.Methods)
			}
		}
	}
}

func TestRoutes_WhatChangesANodeOrLeavesTheBuildingIsNoInference(t *testing.T) {
	for _, r := range Routes() {
		want := Infer
		switch r.Operation {
		case Root, Version, Status, Tags, Ps, Show, Models, Model:
			want = Read
		case Copy, Delete, Create, Pull, Push, Blob:
			want = Manage
		case Account, Web:
			want = Cloud
		}
		if r.Access != want {
			t.Errorf("%s: operation %v has access %v, want %v", r.Path, r.Operation, r.Access, want)
		}
	}
}

func TestRedirectBody_IsAsRecorded(t *testing.T) {
	n := 0
	for _, rec := range golden.Load(t, "general") {
		if rec.Response.Status/100 != 3 {
			continue
		}
		n++
		location := headerOf(rec.Response, "Location")
		gotType, got := RedirectBody(rec.Request.Method, location, rec.Response.Status)
		if want := headerOf(rec.Response, "Content-Type"); gotType != want {
			t.Errorf("%s: content type of a redirect to %s\ngot  %q\nwant %q", rec.ID, location, gotType, want)
		}
		if string(got) != string(rec.Response.Body) {
			t.Errorf("%s: body of a redirect to %s\ngot  %q\nwant %q", rec.ID, location, got, rec.Response.Body)
		}
	}
	if n < 4 {
		t.Errorf("%d redirects recorded, want some", n)
	}
}

func TestRedirectBody_EscapesTheLocation(t *testing.T) {
	_, got := RedirectBody("GET", `/a?b="<'&`, 307)
	want := `<a href="/a?b=&#34;&lt;&#39;&amp;">Temporary Redirect</a>.` + "\n\n"
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if contentType, body := RedirectBody("HEAD", "/a", 307); contentType != "text/html; charset=utf-8" || body != nil {
		t.Errorf("HEAD: got %q %q, want HTML's type and no body", contentType, body)
	}
}

func FuzzFind(f *testing.F) {
	for _, r := range Routes() {
		f.Add(r.Methods[0], r.Path)
		f.Add("GET", r.Path+"/")
	}
	for _, p := range []string{"", "//api/tags", "/api/./tags", "/v1/models/..", "/v1/models/\x00\xff", "/api/x/../tags/", "*"} {
		f.Add("POST", p)
	}
	f.Fuzz(func(t *testing.T, method, p string) {
		m := Find(method, p)
		if m != Find(method, p) {
			t.Fatalf("Find(%q, %q) differs from call to call", method, p)
		}
		switch m.Status {
		case 200:
			if m.Route == nil || !slices.Contains(m.Route.Methods, method) || path.Clean(p) != p || strings.Contains(m.Param, "/") {
				t.Errorf("Find(%q, %q) = %+v", method, p, m)
			}
			if strings.Replace(m.Route.Path, ":name", m.Param, 1) != p {
				t.Errorf("Find(%q, %q) = %s with %q", method, p, m.Route.Path, m.Param)
			}
		case 301, 307:
			if m.Route != nil || m.Redirect == "" || m.Redirect == p || m.Redirect[0] != '/' || strings.HasPrefix(m.Redirect, "//") {
				t.Errorf("Find(%q, %q) = %+v", method, p, m)
			}
			// A second redirect takes the slash off at most, a third never comes.
			second := Find(method, m.Redirect)
			if second.Redirect != "" && Find(method, second.Redirect).Redirect != "" {
				t.Errorf("Find(%q, %q) redirects for ever", method, p)
			}
		case 404, 405:
			if m.Route != nil || m.Redirect != "" || (m.Allow != "") != (m.Status == 405) {
				t.Errorf("Find(%q, %q) = %+v", method, p, m)
			}
		default:
			t.Errorf("Find(%q, %q) has status %d", method, p, m.Status)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	for _, path := range []string{"/api/chat", "/v1/models/tiny:latest", "/nope"} {
		b.Run("path="+strings.ReplaceAll(path[1:], "/", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Find("POST", path)
			}
		})
	}
}
