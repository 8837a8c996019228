package gateway

import (
	"net/http"
	"sync"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// unload frees a model on every node that holds its runner. A node that does not hold it
// answers the same, so one is asked in any case: its words are the answer.
func (q *request) unload(c *call.Call) error {
	q.managed = &management{operation: opUnload, model: c.Request.Model.Short(), began: q.began}
	if !q.site.manage {
		return &forbidden{"unloading a model is not allowed here; ask the operator of this gateway"}
	}
	snap := q.engine.fleet.Snapshot()
	m := snap.Models[c.Request.Model.Key()]
	if m == nil {
		return notFound(q.route, c.Request.Model.Spelling)
	}
	var nodes []*fleet.Node
	for i := range snap.Nodes {
		if v := &snap.Nodes[i]; v.State.Alive() {
			if _, holds := v.Runner(m); holds {
				nodes = append(nodes, v.Node)
			}
		}
	}
	if len(nodes) == 0 {
		nodes = m.Nodes[:min(1, len(m.Nodes))]
	}
	answers := make([]*object, len(nodes))
	errs := make([]error, len(nodes))
	var asked sync.WaitGroup
	for i, n := range nodes {
		asked.Go(func() { // ends with direct's limit
			if answers[i], errs[i] = q.direct(n, c.Request); errs[i] == nil {
				q.engine.fleet.Unloaded(n, m.Key)
			}
		})
	}
	asked.Wait()
	for i, n := range nodes {
		word := " ok"
		if errs[i] != nil {
			word = " failed"
		}
		q.managed.nodes = append(q.managed.nodes, n.Name()+word)
	}
	// One node that could not be asked still holds the model: that is the answer then.
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	if len(answers) == 0 {
		return errNoneUp
	}
	q.answer(http.StatusOK, answers[0].contentType, answers[0].body)
	return nil
}
