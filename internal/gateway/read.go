package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// inventoryWait bounds the wait for the first inventory after the start. A node that hangs
// is known to hang after one poll, so this is only reached when polls are slow themselves.
const inventoryWait = 10 * time.Second

// The types of answers that are no streams.
const (
	nativeJSON = "application/json; charset=utf-8"
	openAIJSON = "application/json"
)

// inventory is what is known of the fleet, once something is.
func (q *request) inventory() (*fleet.Snapshot, error) {
	snap := q.engine.fleet.Snapshot()
	if !snap.Ready {
		ctx, cancel := context.WithTimeout(q.ctx(), inventoryWait)
		defer cancel()
		if q.engine.fleet.Ready(ctx) != nil {
			return nil, errNotReady
		}
		snap = q.engine.fleet.Snapshot()
	}
	if snap.Version == "" {
		snap = q.afterAsking(snap)
	}
	return snap, nil
}

// afterAsking is what is known once all nodes have been asked, for who finds nothing in a snapshot.
func (q *request) afterAsking(snap *fleet.Snapshot) *fleet.Snapshot {
	if snap.Asked {
		return snap
	}
	q.engine.fleet.Asked(q.ctx())
	return q.engine.fleet.Snapshot()
}

// resolve finds the model that a name stands for, with errNoneUp if no node serves it now. A name
// that nobody has listed is asked for once more: it may have been pulled a moment ago.
func (q *request) resolve(name wire.ModelName) (*fleet.Model, error) {
	snap, err := q.inventory()
	if err != nil {
		return nil, err
	}
	if !q.site.allows(name.Short()) {
		return nil, notFound(q.route, name.Spelling)
	}
	m := snap.Models[name.Key()]
	if m == nil || len(m.Nodes) == 0 {
		snap = q.afterAsking(snap)
		m = snap.Models[name.Key()]
	}
	if m == nil {
		q.engine.fleet.Lookup(q.ctx())
		snap = q.engine.fleet.Snapshot()
		m = snap.Models[name.Key()]
	}
	switch {
	case m == nil && snap.Version == "":
		return nil, errNoneUp
	case m == nil:
		return nil, notFound(q.route, name.Spelling)
	case len(m.Nodes) == 0:
		return m, errNoneUp
	}
	return m, nil
}

// read answers what the fleet knows by itself, so that a hanging node hangs nothing.
func (q *request) read() error {
	switch q.route.Operation {
	case wire.Root:
		q.answer(http.StatusOK, "text/plain; charset=utf-8", []byte("Ollama is running"))
		return nil
	case wire.Status:
		q.answer(http.StatusOK, nativeJSON, []byte(`{"cloud":{"disabled":true,"source":"env"}}`))
		return nil
	case wire.Show:
		return q.show()
	}
	snap, err := q.inventory()
	if err != nil {
		return err
	}
	if snap.Version == "" {
		return errNoneUp
	}
	switch q.route.Operation {
	case wire.Version:
		version, err := json.Marshal(map[string]string{"version": snap.Version})
		if err != nil {
			return err
		}
		q.answer(http.StatusOK, nativeJSON, version)
	case wire.Tags:
		q.answer(http.StatusOK, nativeJSON, snap.TagsBody(q.site.allows))
	case wire.Ps:
		q.answer(http.StatusOK, nativeJSON, snap.PsBody(q.site.allows))
	case wire.Models:
		q.answer(http.StatusOK, openAIJSON, snap.ModelsBody(q.site.allows))
	case wire.Model:
		return q.model()
	}
	return nil
}

// model answers OpenAI's details of one model.
func (q *request) model() error {
	name, err := wire.ParseModelName(q.param)
	if err != nil {
		return &wire.BadRequest{Status: http.StatusBadRequest, Message: "invalid model name", Dialect: wire.OpenAI}
	}
	if name.Cloud() {
		return &forbidden{"ollama cloud is disabled: remote model details are unavailable"}
	}
	if _, err := q.resolve(name); err != nil {
		return err
	}
	body, ok := q.engine.fleet.Snapshot().ModelBody(name)
	if !ok {
		return notFound(q.route, name.Spelling)
	}
	q.answer(http.StatusOK, openAIJSON, body)
	return nil
}

// show answers a model's details: from memory, unless a node has to work them out.
func (q *request) show() error {
	body, err := q.engine.readBody(q.w, q.r, q.limits, wire.Expands(q.route))
	defer body.release()
	if err != nil {
		return err
	}
	parsed, err := wire.Parse(q.route, body.bytes)
	if err != nil {
		return err
	}
	m, err := q.resolve(parsed.Model)
	if err != nil {
		return err
	}
	if !parsed.Verbose && !parsed.System {
		if known, ok := q.engine.fleet.Snapshot().ShowBody(parsed.Model); ok {
			q.answer(http.StatusOK, nativeJSON, known)
			return nil
		}
	}
	err = errNoneUp
	for _, node := range m.Nodes {
		var answer *object
		if answer, err = q.direct(node, parsed); err == nil {
			q.answer(http.StatusOK, answer.contentType, answer.body)
			return nil
		}
	}
	return err
}

// An object is a node's whole answer.
type object struct {
	contentType string
	body        []byte
}

// directTimeout bounds a request that makes a node work out nothing.
const directTimeout = 30 * time.Second

// direct asks one node without a slot, for what takes none.
func (q *request) direct(node *fleet.Node, parsed *wire.Request) (*object, error) {
	ctx, cancel := context.WithTimeoutCause(q.ctx(), directTimeout, errors.New("no answer within the limit"))
	defer cancel()
	contentType, body, err := q.tries.Direct(ctx, node, parsed, q.trace)
	if err != nil {
		return nil, err
	}
	return &object{contentType, body}, nil
}
