package gateway

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

const passBuffer = 32 << 10 // bytes between two flushes at most

// pass sends a request of a route that the gateway does not know to one node, the least busy
// one, and its answer back as it comes. Nothing is judged: not the model, not the shape.
func (q *request) pass() error {
	if !q.engine.streams.take(1, int64(q.limits.Streams)) {
		return errStreams
	}
	defer q.engine.streams.give(1)
	body, err := q.engine.readBody(q.w, q.r, q.limits, false)
	defer body.release()
	if err != nil {
		return err
	}
	nodes, err := q.leastBusy()
	if err != nil {
		return err
	}
	err = errNoneUp
	for _, node := range nodes {
		var resp *http.Response
		if resp, err = q.tries.Pass(q.ctx(), node, q.r, body.bytes); err == nil {
			q.passBack(resp)
			return nil
		}
		var fault *attempt.Fault
		if errors.As(err, &fault) && fault.Outcome != attempt.ConnectError && fault.Outcome != attempt.TLSError {
			return err // the node may have done it
		}
	}
	return err
}

// leastBusy lists the nodes that are up, the one with the fewest running calls first.
func (q *request) leastBusy() ([]*fleet.Node, error) {
	snap, err := q.inventory()
	if err != nil {
		return nil, err
	}
	type busyNode struct {
		node  *fleet.Node
		calls int
	}
	var busy []busyNode
	for i := range snap.Nodes {
		v := &snap.Nodes[i]
		if v.Usable() {
			busy = append(busy, busyNode{v.Node, q.engine.queue.InFlight(v.Node)})
		}
	}
	slices.SortStableFunc(busy, func(a, b busyNode) int { return cmp.Compare(a.calls, b.calls) })
	nodes := make([]*fleet.Node, len(busy))
	for i, b := range busy {
		nodes[i] = b.node
	}
	return nodes, nil
}

// passBack writes a node's answer as it arrives.
func (q *request) passBack(resp *http.Response) {
	defer resp.Body.Close()
	h := q.w.Header()
	for name, values := range resp.Header {
		h[name] = values
	}
	q.head(resp.StatusCode)
	control := http.NewResponseController(q.w)
	buffer := make([]byte, passBuffer)
	for {
		n, err := resp.Body.Read(buffer)
		if _, failed := q.w.Write(buffer[:n]); failed != nil {
			q.record.Outcome = ClientCanceled
			return
		}
		switch {
		case err == io.EOF:
			return
		case err != nil && q.ctx().Err() != nil:
			q.record.Outcome = ClientCanceled
			return
		case err != nil:
			// How this route would say it is not known; a cut is what the node itself does.
			panic(http.ErrAbortHandler)
		}
		if control.Flush() != nil {
			return
		}
	}
}
