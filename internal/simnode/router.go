package simnode

import (
	"net/http"
	"strings"
)

// A route is one path of the table with its methods.
type route struct {
	path    string // a trailing "/*" stands for exactly one more segment
	allow   string // the Allow header of 405, in a real server's order
	methods map[string]http.HandlerFunc
}

// routes returns the node's entry: net/http's path cleaning, then the table below. Both come before the Host and
// Origin rules, as on a real server: a redirect goes to anybody.
func (n *Node) routes() http.Handler {
	read := func(h http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodGet: h, http.MethodHead: h}
	}
	only := func(method string, h http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{method: h}
	}
	get := func(h http.HandlerFunc) map[string]http.HandlerFunc { return only(http.MethodGet, h) }
	post := func(h http.HandlerFunc) map[string]http.HandlerFunc { return only(http.MethodPost, h) }
	blob := map[string]http.HandlerFunc{http.MethodHead: n.headBlob, http.MethodPost: n.postBlob}

	t := table{node: n, exact: make(map[string]*route), prefix: make(map[string]*route)}
	for _, r := range []route{
		{"/", "HEAD, GET", read(alive)},
		{"/api/version", "HEAD, GET", read(n.version)},
		{"/api/status", "GET", get(status)},
		{"/api/tags", "HEAD, GET", read(n.tags)},
		{"/api/ps", "GET", get(n.ps)},
		{"/api/show", "POST", post(n.show)},
		{"/api/generate", "POST", post(n.generate)},
		{"/api/chat", "POST", post(n.chat)},
		{"/api/embed", "POST", post(n.embed)},
		{"/api/embeddings", "POST", post(n.embeddings)},
		{"/api/copy", "POST", post(n.copyModel)},
		{"/api/delete", "DELETE", only(http.MethodDelete, n.deleteModel)},
		{"/api/create", "POST", post(n.create)},
		{"/api/pull", "POST", post(n.pull)},
		{"/api/push", "POST", post(n.push)},
		{"/api/blobs/*", "HEAD, POST", blob},
		{"/api/me", "POST", post(notSimulated)},
		{"/api/signout", "POST", post(notSimulated)},
		{"/api/user/keys/*", "DELETE", only(http.MethodDelete, notSimulated)},
		{"/api/experimental/web_search", "POST", post(webSearch)},
		{"/api/experimental/web_fetch", "POST", post(notSimulated)},
		{"/api/experimental/model-recommendations", "GET", get(notSimulated)},
		{"/v1/chat/completions", "POST", post(unpacking(n.openaiChat))},
		{"/v1/completions", "POST", post(unpacking(n.completions))},
		{"/v1/embeddings", "POST", post(unpacking(n.openaiEmbeddings))},
		{"/v1/responses", "POST", post(unpacking(n.responses))},
		{"/v1/messages", "POST", post(unpacking(n.messages))},
		{"/v1/models", "GET", get(n.openaiModels)},
		{"/v1/models/*", "GET", get(n.openaiModel)},
		{"/v1/images/generations", "POST", post(unpacking(n.imageGenerations))},
		{"/v1/images/edits", "POST", post(unpacking(n.imageEdits))},
		{"/v1/audio/transcriptions", "POST", post(n.transcriptions)},
		{adminPath, "GET, PUT, POST, DELETE", n.admin()},
	} {
		if n.newest && strings.HasPrefix(r.path, "/v1/images/") || r.path == adminPath && !n.opts.Admin {
			continue
		}
		if prefix, ok := strings.CutSuffix(r.path, "*"); ok {
			t.prefix[prefix] = &r
		} else {
			t.exact[r.path] = &r
		}
	}
	mux := http.NewServeMux() // for its redirects of double slashes and dots; it has one pattern
	mux.Handle("/", t)
	return mux
}

type table struct {
	node   *Node
	exact  map[string]*route
	prefix map[string]*route // by the path up to the last slash
}

func (t table) find(path string) *route {
	if r := t.exact[path]; r != nil {
		return r
	}
	i := strings.LastIndexByte(path, '/')
	if i < 0 || i == len(path)-1 {
		return nil
	}
	return t.prefix[path[:i+1]]
}

func (t table) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found := t.find(r.URL.Path)
	if found == nil && t.redirected(w, r) {
		return
	}
	var h http.HandlerFunc
	if found != nil {
		if h = found.methods[r.Method]; h == nil {
			w.Header().Set("Allow", found.allow) // also on the 403 and 204 of the rules below
		}
	}
	if !t.node.admitted(w, r) {
		return
	}
	switch {
	case h != nil:
		h(w, r)
	case found != nil:
		send(w, http.StatusMethodNotAllowed, typePlain, []byte("405 method not allowed"))
	default:
		send(w, http.StatusNotFound, typePlain, []byte("404 page not found"))
	}
}

// redirected sends a client that wrote a slash too many to the route without it, if that has the method.
func (t table) redirected(w http.ResponseWriter, r *http.Request) bool {
	path, ok := strings.CutSuffix(r.URL.Path, "/")
	if !ok {
		return false
	}
	other := t.find(path)
	if other == nil || other.methods[r.Method] == nil {
		return false
	}
	u := *r.URL
	u.Path, u.RawPath = path, ""
	code := http.StatusTemporaryRedirect
	if r.Method == http.MethodGet {
		code = http.StatusMovedPermanently
	}
	http.Redirect(w, r, u.String(), code)
	return true
}

func alive(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, typePlainUTF8, []byte("Ollama is running"))
}

func (n *Node) version(w http.ResponseWriter, _ *http.Request) {
	sendJSON(w, http.StatusOK, map[string]string{"version": n.opts.Version})
}

// status tells that the hosted service is switched off, which is how the simulated node runs.
func status(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, typeJSON, []byte(`{"cloud":{"disabled":true,"source":"env"}}`))
}

func webSearch(w http.ResponseWriter, _ *http.Request) {
	sendError(w, http.StatusForbidden, "ollama cloud is disabled: web search is unavailable")
}

// notSimulated answers the routes that a real node has and this one does not play.
func notSimulated(w http.ResponseWriter, r *http.Request) {
	sendError(w, http.StatusNotImplemented, "the simulated node does not answer "+r.Method+" "+r.URL.Path)
}
