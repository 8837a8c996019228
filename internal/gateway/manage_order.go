package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/manage"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// An Order is what an operator wants done on nodes, past all sites: any registry is allowed.
type Order struct {
	Operation wire.Operation // Pull or Delete
	Model     string         // as in llama3 or team/llama3:8b
	Nodes     []string       // names. Default: of a pull all nodes that are up, of a delete all that have it
	// Lacking leaves the nodes out of a pull that have what is served under the name already.
	Lacking bool
	Who     string // for the audit
}

// Faults of an Order.
var (
	ErrOrderNode  = errors.New("a node is not known, or is named twice")
	ErrNoOrder    = errors.New("neither a pull nor a delete")
	ErrClosing    = errors.New("the gateway is shutting down")
	errNotToBeHad = errors.New("the node is not up")
)

// routesOfOrders are how nodes are asked for them.
var routesOfOrders = map[wire.Operation]wire.Route{
	wire.Pull:   {Path: "/api/pull", Operation: wire.Pull},
	wire.Delete: {Path: "/api/delete", Operation: wire.Delete},
}

// Manage does an order and tells of each node as it goes; tell's error ends it. Named nodes that
// are not up have failed. It returns nil when it has told the end of each node, else a
// *wire.BadRequest, one of the faults above, or the error of ctx or tell.
func (e *Engine) Manage(ctx context.Context, o Order, tell func([]manage.Update) error) error {
	route, ok := routesOfOrders[o.Operation]
	if !ok {
		return ErrNoOrder
	}
	body, err := wire.MarshalModel(o.Model)
	if err != nil {
		return err
	}
	asked, err := wire.ParseManage(route, body)
	if err != nil {
		return err
	}
	if !e.enter() {
		return ErrClosing
	}
	defer e.leave()
	wait, cancel := context.WithTimeout(ctx, inventoryWait)
	defer cancel()
	if err := e.fleet.Ready(wait); err != nil {
		return err
	}
	e.fleet.Asked(ctx) // or a node that a reload has just brought would be passed over
	snap := e.fleet.Snapshot()
	nodes, absent, err := o.nodes(snap, asked.Model)
	if err != nil {
		return err
	}
	m := &management{operation: o.Operation.String(), model: asked.Model.Short(), began: time.Now()}
	m.did(absent)
	ask := manage.Ask{Method: http.MethodPost, Path: route.Path, Body: asked.Body, Key: "pull " + asked.Model.Key()}
	if len(absent) > 0 {
		err = tell(updatesOf(absent))
	}
	switch {
	case err != nil || len(nodes) == 0:
	case o.Operation == wire.Delete:
		ask.Method = http.MethodDelete
		err = tell(updatesOf(e.remove(m, ask, nodes, asked.Model)))
	default:
		err = e.pull(ctx, m, ask, nodes, tell)
	}
	m.outcome = m.sum(err)
	e.audit(ctx, m, o.Who, "")
	return err
}

// sum is the outcome of an order.
func (m *management) sum(err error) Outcome {
	failed := slices.ContainsFunc(m.nodes, func(n string) bool { return !strings.HasSuffix(n, " ok") })
	switch {
	case err != nil:
		return ClientCanceled
	case failed:
		return UpstreamError
	}
	return OK
}

// nodes are those that an order is for, and those that it is for and cannot be asked.
func (o Order) nodes(snap *fleet.Snapshot, m wire.ModelName) (nodes []*fleet.Node, absent []manage.Result, err error) {
	holders := snap.Holders(m.Key())
	var serve []*fleet.Node
	if known := snap.Models[m.Key()]; known != nil {
		serve = known.Nodes
	}
	found := 0
	for i := range snap.Nodes {
		v := &snap.Nodes[i]
		named := slices.Contains(o.Nodes, v.Node.Name())
		if named {
			found++
		}
		fit := v.Usable()
		if o.Operation == wire.Delete {
			fit = v.State.Alive() && slices.Contains(holders, v.Node)
		}
		switch {
		case len(o.Nodes) > 0 && !named:
		case o.Lacking && slices.Contains(serve, v.Node):
		case fit:
			nodes = append(nodes, v.Node)
		case named && o.Operation == wire.Delete && v.State.Alive(): // there is nothing to delete
		case named:
			absent = append(absent, manage.Result{Node: v.Node, Failure: &manage.Failure{Reason: manage.Unreachable, Err: errNotToBeHad}})
		}
	}
	if found != len(o.Nodes) {
		return nil, nil, ErrOrderNode
	}
	return nodes, absent, nil
}

// pull follows a pull node by node.
func (e *Engine) pull(ctx context.Context, m *management, ask manage.Ask, nodes []*fleet.Node, tell func([]manage.Update) error) error {
	job := e.jobs.Follow(ask, asManaged(nodes), e.options())
	defer job.Close()
	for {
		updates, over, err := job.NextByNode(ctx)
		if err == nil && len(updates) > 0 {
			err = tell(updates)
		}
		if err != nil {
			m.nodes = append(m.nodes, names(nodes)...)
			return err
		}
		if over {
			m.did(job.Results())
			return nil
		}
	}
}

// remove deletes a model on nodes, and has the views follow before it returns.
func (e *Engine) remove(m *management, ask manage.Ask, nodes []*fleet.Node, model wire.ModelName) []manage.Result {
	results := e.atOnce(m, ask, nodes, func(n *fleet.Node) { e.fleet.ModelMissing(n, model.Key()) })
	for i := range results {
		if f := results[i].Failure; f != nil && f.Status == http.StatusNotFound {
			results[i].Failure = nil // there is nothing left to do
		}
	}
	return results
}

// atOnce has all nodes do what has no progress, to its end whether or not anybody waits: on some
// nodes only would be half a change. did is told of those that did it; what they have is looked at
// before it returns.
func (e *Engine) atOnce(m *management, ask manage.Ask, nodes []*fleet.Node, did func(*fleet.Node)) []manage.Result {
	results := manage.Each(e.ctx, ask, asManaged(nodes), e.options())
	m.did(results)
	var looks sync.WaitGroup
	for i, r := range results {
		if r.Failure == nil && did != nil {
			did(nodes[i])
		}
		if r.Failure == nil || r.Failure.Status == http.StatusNotFound {
			looks.Go(func() { e.fleet.LookAtModels(e.ctx, nodes[i]) }) // ends by itself
		}
	}
	looks.Wait()
	return results
}

// updatesOf are the ends of nodes.
func updatesOf(results []manage.Result) []manage.Update {
	updates := make([]manage.Update, len(results))
	for i, r := range results {
		updates[i] = manage.Update{Node: r.Node.Name(), Failure: r.Failure, Done: r.Failure == nil}
	}
	return updates
}
