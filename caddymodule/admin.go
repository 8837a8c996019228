package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

func init() {
	caddy.RegisterModule(admin{})
}

// nodesPath is where the admin API tells of the nodes.
const nodesPath = "/ollama/nodes"

// admin is the part of Caddy's admin API that tells of the fleet, its models and the cache. It has no
// state: Caddy makes it before the apps, keeps it after a failed reload and never cleans it up.
// So it asks for the engine each time.
type admin struct{}

// CaddyModule returns the Caddy module information.
func (admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.ollama",
		New: func() caddy.Module { return new(admin) },
	}
}

// Routes implements caddy.AdminRouter.
func (admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: nodesPath, Handler: caddy.AdminHandlerFunc(serveNodes)},
		{Pattern: nodesPath + "/", Handler: caddy.AdminHandlerFunc(serveNode)},
		{Pattern: statusPath, Handler: caddy.AdminHandlerFunc(serveReport)},
		{Pattern: cachePath, Handler: caddy.AdminHandlerFunc(serveCache)},
		{Pattern: purgePath, Handler: caddy.AdminHandlerFunc(servePurge)},
		{Pattern: entriesPath, Handler: caddy.AdminHandlerFunc(serveEntry)},
		{Pattern: modelsPath, Handler: caddy.AdminHandlerFunc(serveModels)},
		{Pattern: pullPath, Handler: caddy.AdminHandlerFunc(servePull)},
		{Pattern: deletePath, Handler: caddy.AdminHandlerFunc(serveDelete)},
	}
}

// serveNodes answers GET /ollama/nodes.
func serveNodes(w http.ResponseWriter, r *http.Request) error {
	e, err := engineFor(w, r, http.MethodGet)
	if err != nil {
		return err
	}
	return answerJSON(w, nodeStatuses(e.Fleet().Snapshot(), e.Queue()))
}

// serveNode answers POST /ollama/nodes/{name}/drain and /resume.
func serveNode(w http.ResponseWriter, r *http.Request) error {
	// The escaped path: a name may have a slash in it, as a part of it or not.
	escaped, verb, ok := cutLast(strings.TrimPrefix(r.URL.EscapedPath(), nodesPath+"/"), "/")
	name, err := url.PathUnescape(escaped)
	if !ok || err != nil || verb != "drain" && verb != "resume" {
		return refused(http.StatusNotFound, "no such path; use %s/NAME/drain or %[1]s/NAME/resume", nodesPath)
	}
	e, err := engineFor(w, r, http.MethodPost)
	if err != nil {
		return err
	}
	if verb == "drain" {
		err = e.Fleet().Drain(name)
	} else {
		err = e.Fleet().Resume(name)
	}
	if errors.Is(err, fleet.ErrUnknownNode) {
		return refused(http.StatusNotFound, "no node is called %q", name)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// engineFor gives the engine to a request of the one method that its path takes.
func engineFor(w http.ResponseWriter, r *http.Request, method string) (*engine, error) {
	if r.Method != method {
		w.Header().Set("Allow", method)
		return nil, refused(http.StatusMethodNotAllowed, "method not allowed; use %s", method)
	}
	e, ok := currentEngine()
	if !ok {
		return nil, refused(http.StatusNotFound, "the running configuration has no ollama in it")
	}
	return e, nil
}

// refused is an error that Caddy answers with a status. Caddy logs its text, too.
func refused(status int, format string, args ...any) error {
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf(format, args...)}
}

func answerJSON(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(body, '\n'))
	return err
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// Interface guards
var _ caddy.AdminRouter = admin{}
