package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

func init() {
	caddy.RegisterModule(admin{})
}

// nodesPath is where the admin API tells of the nodes.
const nodesPath = "/ollama/nodes"

// admin is the part of Caddy's admin API that tells of the fleet. It has no state: Caddy
// makes it before the apps, keeps it after a failed reload and never cleans it up. So it asks
// for the engine each time.
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
	}
}

// A nodeStatus is one element of what GET /ollama/nodes answers: a list in the order of the
// configuration. Its JSON is what other programs read; fields are added, never changed.
type nodeStatus struct {
	Name     string         `json:"name"`
	URL      string         `json:"url"`               // scheme, host and port
	State    string         `json:"state"`             // up, probation, ejected, half_open, draining or down
	Reason   string         `json:"reason,omitempty"`  // why it is not up, in a few words
	Since    time.Time      `json:"since"`             // when the state began
	Until    *time.Time     `json:"until,omitempty"`   // when an ejected node is tried again
	Usable   bool           `json:"usable"`            // it may be given requests
	Version  string         `json:"version,omitempty"` // Ollama's, absent until the node has told it
	Slots    int            `json:"slots"`             // answers at once for one model
	InFlight int            `json:"in_flight"`         // requests of this gateway that hold a slot
	Models   int            `json:"models"`            // on its disk
	Runners  []runnerStatus `json:"runners"`           // loaded models, none while it is down
}

// A runnerStatus is a model in a node's memory. What the node has not told yet is absent.
type runnerStatus struct {
	Model         string     `json:"model"`
	ContextLength int        `json:"context_length,omitempty"` // tokens per slot
	ExpiresAt     *time.Time `json:"expires_at,omitempty"`     // when it goes if nobody calls
	Size          int64      `json:"size,omitempty"`           // bytes in memory
	SizeVRAM      int64      `json:"size_vram,omitempty"`      // of these on GPUs
}

// serveNodes answers GET /ollama/nodes.
func serveNodes(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method not allowed; use GET")}
	}
	e, ok := currentEngine()
	if !ok {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("the running configuration has no ollama in it")}
	}
	body, err := json.Marshal(nodeStatuses(e.Fleet().Snapshot(), e.Queue().InFlight))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(body, '\n'))
	return err
}

// serveNode answers POST /ollama/nodes/{name}/drain and /resume.
func serveNode(w http.ResponseWriter, r *http.Request) error {
	refused := func(status int, format string, args ...any) error {
		return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf(format, args...)}
	}
	// The escaped path: a name may have a slash in it, as a part of it or not.
	escaped, verb, ok := cutLast(strings.TrimPrefix(r.URL.EscapedPath(), nodesPath+"/"), "/")
	name, err := url.PathUnescape(escaped)
	if !ok || err != nil || verb != "drain" && verb != "resume" {
		return refused(http.StatusNotFound, "no such path; use %s/NAME/drain or %[1]s/NAME/resume", nodesPath)
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return refused(http.StatusMethodNotAllowed, "method not allowed; use POST")
	}
	e, ok := currentEngine()
	if !ok {
		return refused(http.StatusNotFound, "the running configuration has no ollama in it")
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

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// nodeStatuses words what is known of the fleet.
func nodeStatuses(snap *fleet.Snapshot, inFlight func(*fleet.Node) int) []nodeStatus {
	statuses := make([]nodeStatus, 0, len(snap.Nodes))
	for i := range snap.Nodes {
		v := &snap.Nodes[i]
		s := nodeStatus{
			Name: v.Node.Name(), URL: v.Node.URL().String(),
			State: v.State.String(), Reason: v.Reason, Since: v.Since, Version: v.Version, Usable: v.Usable(),
			Slots: v.Node.Slots(), InFlight: inFlight(v.Node), Models: v.Models,
			Runners: make([]runnerStatus, 0, len(v.Runners)),
		}
		if v.State == fleet.Ejected {
			s.Until = &v.Until
		}
		for _, r := range v.Runners {
			status := runnerStatus{Model: r.Key, ContextLength: r.ContextLength, Size: r.Size, SizeVRAM: r.VRAM}
			if m := snap.Models[r.Key]; m != nil {
				status.Model = m.Short
			}
			if !r.ExpiresAt.IsZero() {
				status.ExpiresAt = &r.ExpiresAt
			}
			s.Runners = append(s.Runners, status)
		}
		statuses = append(statuses, s)
	}
	return statuses
}

// Interface guards
var _ caddy.AdminRouter = admin{}
