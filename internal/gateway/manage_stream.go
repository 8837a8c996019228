package gateway

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/manage"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// ndjson is the type of a stream of progress.
const ndjson = "application/x-ndjson"

// pull has every node fetch a model.
func (q *request) pull(asked *wire.ManageRequest) error {
	if !q.site.allows(asked.Model.Short()) {
		return errOtherModel
	}
	if err := q.checkRegistry(asked.Model); err != nil {
		return err
	}
	nodes, err := q.targets(takesModels)
	if err != nil {
		return err
	}
	ask := q.ask(asked)
	ask.Key = "pull " + asked.Model.Key()
	return q.follow(ask, nodes, nil)
}

// push has one node that has a model send it to its registry.
func (q *request) push(asked *wire.ManageRequest) error {
	nodes, err := q.holders(asked.Model)
	if err != nil {
		return err
	}
	if err := q.checkRegistry(asked.Model); err != nil {
		return err
	}
	ask := q.ask(asked)
	ask.Key, ask.One = "push "+asked.Model.Key(), true
	return q.follow(ask, nodes, nil)
}

// create has every node that has what the model is made of make it. What a model begins with that no
// node has is pulled by each, as a single node does; so its registry must be an allowed one. It must
// be so in any case: the model might be deleted before the node looks for it. Nodes that lack a file
// have failed; if all do, each says by itself what it lacks.
func (q *request) create(asked *wire.ManageRequest) error {
	if !q.site.allows(asked.Model.Short()) {
		return errOtherModel
	}
	nodes, err := q.targets(takesModels)
	if err != nil {
		return err
	}
	have := nodes
	if asked.From != (wire.ModelName{}) {
		if !q.site.allows(asked.From.Short()) {
			return notFound(q.route, asked.From.Spelling)
		}
		if err := q.checkRegistry(asked.From); err != nil {
			return err
		}
		have = held(q.engine.fleet.Snapshot(), asked.From, nodes)
		if len(have) == 0 {
			have = nodes
		}
	}
	have, lack := q.having(have, asked.Blobs)
	ask := q.ask(asked)
	ask.Key = fmt.Sprintf("create %x", sha256.Sum256(asked.Body))
	return q.follow(ask, have, lack)
}

// follow answers with the progress of a job on the nodes, and with its results after those of nodes
// that have failed before.
func (q *request) follow(ask manage.Ask, nodes []*fleet.Node, failed []manage.Result) error {
	job := q.engine.jobs.Follow(ask, asManaged(nodes), q.engine.options())
	defer job.Close()
	control := http.NewResponseController(q.w)
	for {
		records, over, err := job.Next(q.ctx())
		if err != nil {
			q.managed.nodes = names(nodes)
			return q.clientLeft(err)
		}
		if q.wantsStream && len(records) > 0 {
			if err := q.progress(control, records); err != nil {
				q.managed.nodes = names(nodes)
				return q.clientLeft(err)
			}
		}
		if over {
			break
		}
	}
	results := append(failed, job.Results()...)
	q.managed.did(results)
	return q.ended(control, results, ask.One)
}

// clientLeft ends what nobody reads any more.
func (q *request) clientLeft(err error) error {
	if !q.streams {
		return err // told by refuse, which finds that nobody reads it
	}
	q.record.Outcome = ClientCanceled
	return nil
}

// progress writes records, and the head before the first.
func (q *request) progress(control *http.ResponseController, records []manage.Record) error {
	if !q.streams {
		q.streams = true
		q.w.Header().Set("Content-Type", ndjson)
		q.answers()
		q.head(http.StatusOK)
	}
	var lines []byte
	for _, r := range records {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	if _, err := q.w.Write(lines); err != nil {
		return err
	}
	return control.Flush()
}

// ended tells the end of a job: first of the nodes that failed, then that it has succeeded, or why
// not.
func (q *request) ended(control *http.ResponseController, results []manage.Result, one bool) error {
	err := q.unlessAll(results, q.site.management.requireAll && !one)
	switch {
	case err != nil && q.streams:
		q.record.Outcome = Truncated
		q.w.Write(wire.ErrorRecord(q.route, meaning(err).message))
		return nil
	case err != nil:
		return err
	case !q.wantsStream:
		q.answers()
		q.answer(http.StatusOK, "application/json", []byte(`{"status":"success"}`))
		return nil
	}
	var last []manage.Record
	for _, r := range results {
		if r.Failure != nil && !one {
			last = append(last, manage.Record{Status: "failed on " + q.label(r.Node.Name()) + ": " + r.Failure.Text()})
		}
	}
	if err := q.progress(control, append(last, manage.Record{Status: "success"})); err != nil {
		return q.clientLeft(err)
	}
	return nil
}

// A managedError tells a client on which nodes something was not done, and why.
type managedError struct {
	status  int
	message string
	bare    bool // its type has no charset, as that of a node's own for what has progress
}

func (e *managedError) Error() string { return e.message }

// retry is the Retry-After in seconds where no node could be reached; else 0: there is none.
func (e *managedError) retry() int {
	if e.status == http.StatusServiceUnavailable {
		return retrySoon
	}
	return 0
}

// jobs are what has progress.
var jobs = map[wire.Operation]bool{wire.Pull: true, wire.Push: true, wire.Create: true}

// messageLimit bounds what is told of all nodes together, in bytes.
const messageLimit = 2000

// unlessAll gives the error of nodes that did not do it: if none did, or if all have to.
func (q *request) unlessAll(results []manage.Result, all bool) error {
	var failed []manage.Result
	var done []string
	for _, r := range results {
		if r.Failure != nil {
			failed = append(failed, r)
		} else {
			done = append(done, q.label(r.Node.Name()))
		}
	}
	if len(failed) == 0 || len(done) > 0 && !all {
		return nil
	}
	e := &managedError{status: http.StatusInternalServerError, bare: jobs[q.route.Operation]}
	if len(done) == 0 {
		e.status = commonStatus(failed)
		if e.message = commonText(failed); e.message != "" {
			return e
		}
	}
	var told []string
	for _, r := range failed {
		told = append(told, "failed on "+q.label(r.Node.Name())+": "+r.Failure.Text())
	}
	if len(done) > 0 {
		told = append(told, "done on "+strings.Join(done, ", "))
	}
	e.message = strings.Join(told, "; ")
	if len(e.message) > messageLimit {
		e.message = strings.ToValidUTF8(e.message[:messageLimit], "") + "..."
	}
	return e
}

// commonStatus is the status for what no node did: a refusal that all agree on is the client's
// affair.
func commonStatus(failed []manage.Result) int {
	first := failed[0].Failure
	for _, r := range failed {
		if r.Failure.Status != first.Status || r.Failure.Reason != first.Reason {
			return http.StatusInternalServerError
		}
	}
	switch {
	case first.Reason == manage.Unreachable:
		return http.StatusServiceUnavailable
	case first.Status >= 400 && first.Status < 500 && first.Status != http.StatusUnauthorized && first.Status != http.StatusForbidden:
		return first.Status
	case first.Reason == manage.Refused && first.Status < 400, first.Reason == manage.Protocol:
		return http.StatusBadGateway
	case first.Reason == manage.Stalled:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// commonText is what all nodes say, "" if they say different things. What the gateway says of nodes
// has their names before it.
func commonText(failed []manage.Result) string {
	first := failed[0].Failure
	for _, r := range failed {
		if r.Failure.Text() != first.Text() || !r.Failure.Said() {
			return ""
		}
	}
	return first.Text()
}

func names(nodes []*fleet.Node) []string {
	all := make([]string, len(nodes))
	for i, n := range nodes {
		all[i] = n.Name()
	}
	return all
}
