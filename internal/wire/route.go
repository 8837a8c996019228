package wire

import (
	"path"
	"slices"
	"strings"
)

// A Route is a row of the table: one path, the methods it has and what it asks.
type Route struct {
	Methods   []string // in the order of the Allow header: HEAD, GET, POST, DELETE
	Path      string   // exact, or ending in "/:name" for one further segment
	Dialect   Dialect
	Operation Operation
	Access    Access
}

// The methods of a row, in the order in which a node lists them under Allow.
var (
	onlyGet    = []string{"GET"}
	onlyPost   = []string{"POST"}
	onlyDelete = []string{"DELETE"}
	headOrGet  = []string{"HEAD", "GET"}
	headOrPost = []string{"HEAD", "POST"}
)

// routes are the routes of Ollama 0.24.0, but for its profiler under /debug/pprof, which no
// client of the API asks for, and for images and transcriptions: newer versions have no
// images any more, and a transcription is no JSON that could be judged.
var routes = [...]Route{
	{headOrGet, "/", Ollama, Root, Read},
	{headOrGet, "/api/version", Ollama, Version, Read},
	{onlyGet, "/api/status", Ollama, Status, Read},
	{headOrGet, "/api/tags", Ollama, Tags, Read},
	{onlyGet, "/api/ps", Ollama, Ps, Read},
	{onlyPost, "/api/show", Ollama, Show, Read},

	{onlyPost, "/api/generate", Ollama, Generate, Infer},
	{onlyPost, "/api/chat", Ollama, Chat, Infer},
	{onlyPost, "/api/embed", Ollama, Embed, Infer},
	{onlyPost, "/api/embeddings", Ollama, Embed, Infer},

	{onlyPost, "/v1/chat/completions", OpenAI, Chat, Infer},
	{onlyPost, "/v1/completions", OpenAI, Generate, Infer},
	{onlyPost, "/v1/embeddings", OpenAI, Embed, Infer},
	{onlyPost, "/v1/responses", OpenAI, Responses, Infer},
	{onlyGet, "/v1/models", OpenAI, Models, Read},
	{onlyGet, "/v1/models/:name", OpenAI, Model, Read},
	{onlyPost, "/v1/messages", Anthropic, Chat, Infer},

	{onlyPost, "/api/pull", Ollama, Pull, Manage},
	{onlyPost, "/api/push", Ollama, Push, Manage},
	{onlyPost, "/api/create", Ollama, Create, Manage},
	{onlyPost, "/api/copy", Ollama, Copy, Manage},
	{onlyDelete, "/api/delete", Ollama, Delete, Manage},
	{headOrPost, "/api/blobs/:name", Ollama, Blob, Manage},

	{onlyPost, "/api/me", Ollama, Account, Cloud},
	{onlyPost, "/api/signout", Ollama, Account, Cloud},
	{onlyDelete, "/api/user/keys/:name", Ollama, Account, Cloud},
	{onlyPost, "/api/experimental/web_search", Ollama, Web, Cloud},
	{onlyPost, "/api/experimental/web_fetch", Ollama, Web, Cloud},
	{onlyGet, "/api/experimental/model-recommendations", Ollama, Web, Cloud},
}

// Routes gives the rows of the table in their order. The caller must not change them.
func Routes() []Route { return routes[:] }

// A Match is what a node makes of a method and a path before any handler runs.
type Match struct {
	Route    *Route // nil: not a route for that method
	Param    string // what stood in the place of :name
	Allow    string // of a 405, the value of its Allow header
	Redirect string // of a 301 or 307, the path to go to; the query stays as it was
	Status   int    // 200, 301, 307, 404 or 405
}

// Find looks a request up as a node does. path is the decoded path of the URL.
//
// A path that is not clean (double slashes, dots) is redirected with 307 whatever the method
// and whether or not the target exists. A clean one with a slash too many is redirected only
// if the same method has the path without it: 301 for GET, 307 for the others. Case matters.
//
// A node tells an escaped slash (%2F) from a plain one when it cleans a path; decoded, both
// are slashes, so such a path may be redirected here where a node says 404.
func Find(method, path string) Match {
	if clean := cleanPath(path); clean != path && method != "CONNECT" {
		return Match{Redirect: clean, Status: 307}
	}
	if r, param := lookup(path); r != nil {
		if slices.Contains(r.Methods, method) {
			return Match{Route: r, Param: param, Status: 200}
		}
		return Match{Allow: strings.Join(r.Methods, ", "), Status: 405}
	}
	if short, ok := strings.CutSuffix(path, "/"); ok {
		if r, _ := lookup(short); r != nil && slices.Contains(r.Methods, method) {
			if method == "GET" {
				return Match{Redirect: short, Status: 301}
			}
			return Match{Redirect: short, Status: 307}
		}
	}
	return Match{Status: 404}
}

// lookup finds the row of a clean path and what stands in the place of its :name.
func lookup(path string) (r *Route, param string) {
	for i := range routes {
		r := &routes[i]
		stem, open := strings.CutSuffix(r.Path, ":name")
		if !open {
			if r.Path == path {
				return r, ""
			}
			continue
		}
		param, ok := strings.CutPrefix(path, stem)
		if ok && param != "" && !strings.Contains(param, "/") {
			return r, param
		}
	}
	return nil, ""
}

// cleanPath is the form of a path that Go's ServeMux serves: rooted, without empty or dotted
// segments, a slash at the end kept.
func cleanPath(p string) string {
	if p == "" || p[0] != '/' {
		p = "/" + p
	}
	clean := path.Clean(p)
	if clean != "/" && strings.HasSuffix(p, "/") {
		clean += "/"
	}
	return clean
}

// htmlEscaper writes the characters as Go's http.Redirect does.
var htmlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;")

// RedirectBody gives what a node sends with a redirect to location, which is the value of the
// Location header. GET has a line of HTML, HEAD its content type, other methods nothing.
func RedirectBody(method, location string, status int) (contentType string, body []byte) {
	const html = "text/html; charset=utf-8"
	switch method {
	case "HEAD":
		return html, nil
	case "GET":
		reason := "Temporary Redirect"
		if status == 301 {
			reason = "Moved Permanently"
		}
		return html, []byte(`<a href="` + htmlEscaper.Replace(location) + `">` + reason + "</a>.\n\n")
	}
	return "", nil
}
