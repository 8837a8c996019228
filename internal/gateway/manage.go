package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/manage"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Managing are the words for what a management does, in logs and metrics.
var Managing = [...]string{"pull", "push", "create", "copy", "delete", "blob", opBlobHead, opUnload}

const (
	opBlobHead = "blob_head" // asks whether nodes have one, and changes nothing
	opUnload   = "unload"
)

// A management is a request that changes which models nodes have, for the line that tells of it.
type management struct {
	operation string
	model     string   // short name, or digest, which are bounded, other than a spelling; "" while it is not known
	target    string   // of a copy
	nodes     []string // each with what became of it there, as in "a ok"
	outcome   Outcome  // of who has no Record
	began     time.Time
}

// did notes what became of nodes.
func (m *management) did(results []manage.Result) {
	for _, r := range results {
		word := "ok"
		if r.Failure != nil {
			word = string(r.Failure.Reason)
		}
		m.nodes = append(m.nodes, r.Node.Name()+" "+word)
	}
}

// audit writes the one line that tells of a request to change models, whatever became of it.
func (e *Engine) audit(ctx context.Context, m *management, who, requestID string) {
	e.observer.Managed(m.operation, m.outcome)
	fields := []slog.Attr{
		slog.String("operation", m.operation), slog.String("model", m.model),
		slog.String("who", who), slog.Any("nodes", m.nodes), slog.String("outcome", string(m.outcome)), slog.Duration("took", time.Since(m.began)),
	}
	if requestID != "" {
		fields = append(fields, slog.String("request_id", requestID))
	}
	if m.target != "" {
		fields = append(fields, slog.String("target", m.target))
	}
	e.log.LogAttrs(ctx, slog.LevelInfo, "a model was managed", fields...)
}

// who asks: the name of a key, else the user that Caddy knows, else nobody known. What nobody has
// verified is not a name.
func (q *request) who() string {
	switch {
	case q.tenant != "":
		return "key " + q.tenant
	case q.user != "":
		return "user " + q.user
	}
	return "anonymous"
}

// manage changes models, or says what nodes have of one, where the site allows it.
func (q *request) manage() error {
	if !q.site.manage {
		return q.forbidden()
	}
	if !q.engine.streams.take(1, int64(q.limits.Streams)) {
		return errStreams
	}
	defer q.engine.streams.give(1)
	if q.route.Operation == wire.Blob {
		return q.blob()
	}
	body, err := q.engine.readBody(q.w, q.r, q.limits, false)
	defer body.release()
	if err != nil {
		return err
	}
	asked, err := wire.ParseManage(q.route, body.bytes)
	if err != nil {
		return err
	}
	q.managed.model, q.managed.target = asked.Model.Short(), asked.Target.Short()
	q.wantsStream = asked.Stream
	switch q.route.Operation {
	case wire.Pull:
		return q.pull(asked)
	case wire.Push:
		return q.push(asked)
	case wire.Create:
		return q.create(asked)
	case wire.Copy:
		return q.copy(asked)
	case wire.Delete:
		return q.delete(asked)
	}
	return q.forbidden()
}

// ask is what nodes are asked for a request.
func (q *request) ask(asked *wire.ManageRequest) manage.Ask {
	return manage.Ask{Method: q.r.Method, Path: q.route.Path, Body: asked.Body}
}

// options are how nodes are asked for what changes models.
func (e *Engine) options() manage.Options { return manage.Options{Via: e.via} }

// delete takes a model from every node that has something under its name.
func (q *request) delete(asked *wire.ManageRequest) error {
	nodes, err := q.holders(asked.Model)
	if err != nil {
		return err
	}
	err = q.atOnce(asked, nodes, notFound(q.route, asked.Model.Spelling), func(n *fleet.Node) {
		q.engine.fleet.ModelMissing(n, asked.Model.Key()) // no view shows it from now on
	})
	if err == nil {
		q.answer(http.StatusOK, "", nil)
	}
	return err
}

// copy gives a model a second name on every node that has it.
func (q *request) copy(asked *wire.ManageRequest) error {
	if !q.site.allows(asked.Target.Short()) {
		return errOtherModel
	}
	none := &unknownModel{`model "` + asked.Model.Spelling + `" not found`}
	nodes, err := q.holders(asked.Model)
	var missing *unknownModel
	if errors.As(err, &missing) {
		return none
	}
	if err != nil {
		return err
	}
	if err = q.atOnce(asked, nodes, none, nil); err == nil {
		q.answer(http.StatusOK, "", nil)
	}
	return err
}

// errOtherModel refuses to make a model that the site does not show.
var errOtherModel = &forbidden{"this model is not among those of this site; ask the operator of this gateway"}

// atOnce has all nodes do what has no progress, and gives the error that tells of those that did
// not. none is the answer where no node has the model any more.
func (q *request) atOnce(asked *wire.ManageRequest, nodes []*fleet.Node, none error, did func(*fleet.Node)) error {
	results := q.engine.atOnce(q.managed, q.ask(asked), nodes, did)
	// A node that has lost it meanwhile has nothing left to do.
	left := slices.DeleteFunc(results, func(r manage.Result) bool {
		return r.Failure != nil && r.Failure.Status == http.StatusNotFound
	})
	if len(left) == 0 {
		return none
	}
	return q.unlessAll(left, true)
}

// managed is told of a node that has ended a pull, a push or a create well.
func (e *Engine) managed(n manage.Node, a manage.Ask) {
	if node, ok := n.(*fleet.Node); ok && !a.One { // a push changes nothing on a node
		e.fleet.LookAtModels(e.ctx, node)
	}
}

// asManaged is how manage sees nodes.
func asManaged(nodes []*fleet.Node) []manage.Node {
	all := make([]manage.Node, len(nodes))
	for i, n := range nodes {
		all[i] = n
	}
	return all
}

// blob answers whether the nodes have a blob, or has them keep one.
func (q *request) blob() error {
	digest, err := wire.ParseDigest(q.param)
	if err != nil {
		return err
	}
	q.managed.model = digest
	nodes, err := q.targets(takesModels)
	if err != nil {
		return err
	}
	if q.r.Method == http.MethodPost {
		return q.upload(digest, nodes)
	}
	results := manage.HasBlob(q.ctx(), asManaged(nodes), digest, q.engine.options())
	if slices.ContainsFunc(results, func(r manage.Result) bool { return r.Failure != nil }) {
		return &unknownModel{`blob "` + q.param + `" not found`}
	}
	q.answer(http.StatusOK, "", nil)
	return nil
}

// upload has the nodes keep the body of the request as the blob of that digest.
func (q *request) upload(digest string, nodes []*fleet.Node) error {
	body, done := manage.ClientBody(q.ctx(), q.w, q.r, manage.DefaultUploadStall)
	defer done()
	results, created, err := q.engine.uploads.Upload(q.ctx(), asManaged(nodes), digest, q.r.ContentLength, body)
	var (
		mismatch *manage.DigestMismatch
		broken   *manage.BodyError
	)
	if err != nil {
		q.managed.nodes = names(nodes)
	}
	switch {
	case errors.As(err, &mismatch):
		return &wire.BadRequest{Status: http.StatusBadRequest, Message: mismatch.Error(), Reason: wire.ReasonOutOfRange}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errBodySlow
	case errors.As(err, &broken):
		return errBodyBroken
	case err != nil:
		return err
	}
	q.managed.did(results)
	if err := q.unlessAll(results, q.site.management.requireAll); err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	q.answer(status, "", nil)
	return nil
}

// having are those of the nodes that have all blobs, or all of them if none does; lack are the others.
func (q *request) having(nodes []*fleet.Node, digests []string) (have []*fleet.Node, lack []manage.Result) {
	have = nodes
	for _, digest := range digests {
		var left []*fleet.Node
		for i, r := range manage.HasBlob(q.ctx(), asManaged(have), digest, q.engine.options()) {
			if r.Failure == nil {
				left = append(left, have[i])
			} else {
				lack = append(lack, manage.Result{Node: r.Node, Failure: &manage.Failure{Reason: manage.NoBlob, Err: r.Failure}})
			}
		}
		have = left
	}
	if len(have) == 0 {
		return nodes, nil
	}
	return have, lack
}

// registryAllowed tells whether nodes may be sent to the registry of a model.
func (s *Site) registryAllowed(m wire.ModelName) bool {
	return slices.Contains(s.management.registries, m.Host())
}

// checkRegistry refuses models of other registries than those of the site.
func (q *request) checkRegistry(m wire.ModelName) error {
	if q.site.registryAllowed(m) {
		return nil
	}
	return &forbidden{"the registry " + m.Host() + " is not allowed here; allowed: " + strings.Join(q.site.management.registries, ", ")}
}
