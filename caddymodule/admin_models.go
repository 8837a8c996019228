package caddymodule

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/manage"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Where the admin API tells of models, and changes which nodes have them.
const (
	modelsPath = "/ollama/models"
	pullPath   = modelsPath + "/pull"
	deletePath = modelsPath + "/delete"
)

// mostOrder bounds the body of an order, in bytes: a name, and those of fifty nodes.
const mostOrder = 64 << 10

// A modelRow is a model in the matrix of models and nodes.
type modelRow struct {
	Model    string      `json:"model"`
	Identity string      `json:"identity,omitempty"` // of what is served; absent while it is not known
	Drift    bool        `json:"drift"`              // some node that is up has something else
	Nodes    []modelCell `json:"nodes"`              // those that have it, in configured order
	Lacking  []string    `json:"lacking"`            // nodes that are up and have nothing under this name
}

// A modelCell is a model on a node.
type modelCell struct {
	Node     string `json:"node"`
	Up       bool   `json:"up"` // else it is what the node had when it was there last
	Digest   string `json:"digest,omitempty"`
	Identity string `json:"identity,omitempty"`
	Drift    bool   `json:"drift"` // it is not what is served under this name
}

// A modelMatrix is which node has which model.
type modelMatrix struct {
	Nodes  []string   `json:"nodes"` // all, in configured order
	Models []modelRow `json:"models"`
}

// serveModels answers GET /ollama/models.
func serveModels(w http.ResponseWriter, r *http.Request) error {
	e, err := engineFor(w, r, http.MethodGet)
	if err != nil {
		return err
	}
	return answerJSON(w, matrixOf(e.Fleet().Snapshot(), e.Fleet().Holdings()))
}

func matrixOf(s *fleet.Snapshot, holdings []fleet.Holding) modelMatrix {
	m := modelMatrix{Nodes: []string{}, Models: []modelRow{}}
	for i := range s.Nodes {
		m.Nodes = append(m.Nodes, s.Nodes[i].Node.Name())
	}
	for len(holdings) > 0 {
		name := holdings[0].Model
		end := slices.IndexFunc(holdings, func(h fleet.Holding) bool { return h.Model != name })
		if end < 0 {
			end = len(holdings)
		}
		m.Models = append(m.Models, rowOf(s, name, holdings[:end]))
		holdings = holdings[end:]
	}
	return m
}

func rowOf(s *fleet.Snapshot, name string, holdings []fleet.Holding) modelRow {
	row := modelRow{Model: name, Lacking: []string{}}
	if parsed, err := wire.ParseModelName(name); err == nil && s.Models[parsed.Key()] != nil {
		row.Identity = s.Models[parsed.Key()].Identity
	}
	for _, h := range holdings {
		row.Drift = row.Drift || h.Drift && h.Alive
		row.Nodes = append(row.Nodes, modelCell{Node: h.Node, Up: h.Alive, Digest: h.Digest, Identity: h.Identity, Drift: h.Drift})
	}
	for i := range s.Nodes {
		v := &s.Nodes[i]
		has := slices.ContainsFunc(holdings, func(h fleet.Holding) bool { return h.Node == v.Node.Name() })
		if v.State.Alive() && !has {
			row.Lacking = append(row.Lacking, v.Node.Name())
		}
	}
	return row
}

// A modelOrder is the body of an order.
type modelOrder struct {
	Model   string   `json:"model"`
	Nodes   []string `json:"nodes,omitempty"`   // none: all that it concerns
	Lacking bool     `json:"lacking,omitempty"` // of a pull: only nodes that do not have what is served
}

// A modelUpdate is a line of the answer to an order: something new of a node. The last one is of no
// node: it is done, or tells the error for which it did not get to the end.
type modelUpdate struct {
	Node      string   `json:"node,omitempty"`
	Status    string   `json:"status,omitempty"`    // "success" is the node's last
	Digest    string   `json:"digest,omitempty"`    // of the layer that the sizes are those of
	Total     int64    `json:"total,omitempty"`     // bytes
	Completed int64    `json:"completed,omitempty"` // bytes
	Error     string   `json:"error,omitempty"`     // the node's last, too
	Reason    string   `json:"reason,omitempty"`    // of the error, in a word
	Done      bool     `json:"done,omitempty"`
	OK        []string `json:"ok,omitzero"` // nodes, in the last line
	Failed    []string `json:"failed,omitzero"`
}

// servePull answers POST /ollama/models/pull.
func servePull(w http.ResponseWriter, r *http.Request) error { return serveOrder(w, r, wire.Pull) }

// serveDelete answers POST /ollama/models/delete.
func serveDelete(w http.ResponseWriter, r *http.Request) error { return serveOrder(w, r, wire.Delete) }

// serveOrder has nodes do something, and tells how it goes on each, a line each time.
func serveOrder(w http.ResponseWriter, r *http.Request, operation wire.Operation) error {
	e, err := engineFor(w, r, http.MethodPost)
	if err != nil {
		return err
	}
	order, err := readOrder(http.MaxBytesReader(w, r.Body, mostOrder))
	if err != nil {
		return err
	}
	control := http.NewResponseController(w)
	// Caddy's admin endpoint gives a request ten seconds to arrive. It has, but the time would end the
	// context of the request, too, and with it what takes longer.
	_ = control.SetReadDeadline(time.Time{})
	out := &orderAnswer{w: w, control: control, done: modelUpdate{OK: []string{}, Failed: []string{}}}
	err = e.Manage(r.Context(), gateway.Order{
		Operation: operation, Model: order.Model, Nodes: order.Nodes, Lacking: order.Lacking, Who: "admin",
	}, out.tell)
	var bad *wire.BadRequest
	switch {
	case out.begun && err != nil:
		out.done.Error = "interrupted"
	case errors.As(err, &bad):
		return refused(http.StatusBadRequest, "%s", bad.Message)
	case errors.Is(err, gateway.ErrOrderNode):
		return refused(http.StatusBadRequest, "nodes has a name that no node has, or one twice; GET %s lists them", modelsPath)
	case errors.Is(err, gateway.ErrClosing):
		return refused(http.StatusServiceUnavailable, "the gateway is shutting down")
	case err != nil:
		return refused(http.StatusServiceUnavailable, "the nodes have not answered yet; try again")
	}
	out.done.Done = err == nil
	return out.line(out.done)
}

// readOrder reads the body of an order. Its errors repeat nothing of it, since Caddy logs them.
func readOrder(body io.Reader) (o modelOrder, err error) {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	err = d.Decode(&o)
	if err == nil {
		_, err = d.Token() // there is to be nothing more
	}
	if err != io.EOF || o.Model == "" {
		return o, refused(http.StatusBadRequest,
			`the body must name a model, and may name nodes, as in {"model": "llama3", "nodes": ["big"]}; of a pull also "lacking": true`)
	}
	return o, nil
}

// An orderAnswer is the answer to an order as it grows.
type orderAnswer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
	done    modelUpdate // the last line
}

// tell writes what is new.
func (a *orderAnswer) tell(updates []manage.Update) error {
	for _, u := range updates {
		line := modelUpdate{Node: u.Node, Status: u.Status, Digest: u.Digest, Total: u.Total, Completed: u.Completed}
		switch {
		case u.Failure != nil:
			line.Error, line.Reason = u.Failure.Text(), string(u.Failure.Reason)
			a.done.Failed = append(a.done.Failed, u.Node)
		case u.Done:
			line.Status = "success"
			a.done.OK = append(a.done.OK, u.Node)
		}
		if err := a.line(line); err != nil {
			return err
		}
	}
	return nil
}

// line writes one, and the head before the first.
func (a *orderAnswer) line(v any) error {
	if !a.begun {
		a.begun = true
		a.w.Header().Set("Content-Type", "application/x-ndjson")
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := a.w.Write(append(text, '\n')); err != nil {
		return err
	}
	return a.control.Flush()
}
