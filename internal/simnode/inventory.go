package simnode

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/blob"
)

// An installed model is a Model under the name it is found by. It is immutable; a copy is another one.
type installed struct {
	Model
	name     name
	manifest manifest

	prompter  *prompter // of the model's own template
	promptErr error
}

func install(m Model, as name, mf manifest) *installed {
	i := &installed{Model: m, name: as, manifest: mf}
	i.prompter, i.promptErr = parsePrompt(m.Template)
	return i
}

// present makes a Model with its defaults one that is installed, as if it had been pulled.
func present(m Model, as name) (*installed, []blob.File) {
	mf, files := m.files()
	orString(&m.Digest, hexSum(jsonLine(mf)))
	return install(m, as, mf), files
}

// bring installs a model that the node has from the start, with its files.
func (n *Node) bring(m Model, as name) *installed {
	orString(&m.ParentModel, n.blobPath(m.Weights))
	i, files := present(m, as)
	for _, f := range files {
		if _, ok := n.files[f.Digest]; !ok {
			n.files[f.Digest] = f
			n.used += f.Size
		}
	}
	return i
}

// find returns the installed model a request names. Names are matched without case and with their defaults; the
// suffix ":local" is taken off. Its errors are statusErrors in the words of most routes.
func (n *Node) find(ctx context.Context, asked string) (*installed, error) {
	local, hosted := splitSource(asked)
	if hosted {
		return nil, &statusError{http.StatusForbidden, "ollama cloud is disabled: remote model is unavailable"}
	}
	parsed, err := parseName(local)
	if err != nil {
		return nil, &statusError{http.StatusBadRequest, err.Error()}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if m := n.models[parsed.key()]; m != nil && !troublesOf(ctx).missing {
		return m, nil
	}
	return nil, &statusError{http.StatusNotFound, "model '" + asked + "' not found"}
}

// newestFirst returns the installed models as /api/tags lists them: by the second of their last change, then by name.
func (n *Node) newestFirst(ctx context.Context) []*installed {
	lie := newLie(troublesOf(ctx).tags)
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]*installed, 0, len(n.models))
	for _, m := range n.models {
		if !lie.hides(m.name) {
			out = append(out, m)
		}
	}
	out = append(out, lie.added...)
	slices.SortFunc(out, func(a, b *installed) int {
		return cmp.Or(cmp.Compare(b.ModifiedAt.Unix(), a.ModifiedAt.Unix()), cmp.Compare(a.name.key(), b.name.key()))
	})
	return out
}

type details struct {
	ParentModel       string   `json:"parent_model"`
	Format            string   `json:"format"`
	Family            string   `json:"family"`
	Families          []string `json:"families"`
	ParameterSize     string   `json:"parameter_size"`
	QuantizationLevel string   `json:"quantization_level"`

	// Only the newest nodes have these, and only in the list of models.
	ContextLength   int `json:"context_length,omitempty"`
	EmbeddingLength int `json:"embedding_length,omitempty"`
}

func (m Model) details(parent string) details {
	return details{
		ParentModel: parent, Format: "gguf", Family: m.Family, Families: []string{m.Family},
		ParameterSize: m.ParameterSize, QuantizationLevel: m.Quantization,
	}
}

func (n *Node) tags(w http.ResponseWriter, r *http.Request) {
	type entry struct {
		Name       string    `json:"name"`
		Model      string    `json:"model"`
		ModifiedAt time.Time `json:"modified_at"`
		Size       int64     `json:"size"`
		Digest     string    `json:"digest"`
		Details    details   `json:"details"`

		Capabilities []string `json:"capabilities,omitempty"` // newest form
	}
	list := []entry{}
	for _, m := range n.newestFirst(r.Context()) {
		e := entry{
			Name: m.name.short(), Model: m.name.short(), ModifiedAt: m.ModifiedAt, Size: m.Size, Digest: m.Digest,
			Details: m.details(""),
		}
		if n.newest {
			e.Details.ContextLength, e.Details.EmbeddingLength, e.Capabilities = m.ContextLength, m.EmbeddingLength, m.Capabilities
		}
		list = append(list, e)
	}
	sendJSON(w, http.StatusOK, map[string]any{"models": list})
}

// ps lists the loaded models, the one that stays longest first. A model that is being loaded is not among them, and
// one that was deleted or copied meanwhile keeps the name it was loaded under.
func (n *Node) ps(w http.ResponseWriter, q *http.Request) {
	type entry struct {
		Name          string    `json:"name"`
		Model         string    `json:"model"`
		Size          int64     `json:"size"`
		Digest        string    `json:"digest"`
		Details       details   `json:"details"`
		ExpiresAt     time.Time `json:"expires_at"`
		SizeVRAM      int64     `json:"size_vram"`
		ContextLength int       `json:"context_length"`
	}
	list := []entry{}
	lie := newLie(troublesOf(q.Context()).ps)
	n.mu.Lock()
	for _, m := range lie.added {
		list = append(list, entry{
			Name: m.name.short(), Model: m.name.short(), Size: m.Memory, Digest: m.Digest, Details: m.details(""),
			ExpiresAt: now().Add(n.opts.KeepAlive), ContextLength: m.ContextLength,
		})
	}
	for _, r := range n.runners {
		if lie.hides(r.name) {
			continue
		}
		e := entry{
			Name: r.name.short(), Model: r.name.short(), Size: r.memory, Digest: r.model.Digest,
			Details: r.model.details(""), ExpiresAt: r.expiresAt, SizeVRAM: r.vram, ContextLength: r.context,
		}
		if e.ExpiresAt.IsZero() { // it has not been idle yet
			e.ExpiresAt = now().Add(r.keepAlive)
		}
		list = append(list, e)
	}
	n.mu.Unlock()
	slices.SortFunc(list, func(a, b entry) int {
		return cmp.Or(b.ExpiresAt.Compare(a.ExpiresAt), cmp.Compare(a.Name, b.Name))
	})
	sendJSON(w, http.StatusOK, map[string]any{"models": list})
}

func (n *Node) copyModel(w http.ResponseWriter, r *http.Request) {
	var req api.CopyRequest
	if !bind(w, r, &req) {
		return
	}
	source, err := parseName(req.Source)
	if err != nil {
		sendError(w, http.StatusBadRequest, fmt.Sprintf("source %q is invalid", req.Source))
		return
	}
	destination, err := parseName(req.Destination)
	if err != nil {
		sendError(w, http.StatusBadRequest, fmt.Sprintf("destination %q is invalid", req.Destination))
		return
	}
	n.mu.Lock()
	m := n.models[source.key()]
	if m != nil && source.key() != destination.key() {
		c := *m
		c.name, c.Name, c.ModifiedAt = destination, req.Destination, now()
		n.models[destination.key()] = &c
	}
	n.mu.Unlock()
	if m == nil {
		sendError(w, http.StatusNotFound, fmt.Sprintf("model %q not found", req.Source))
	}
}

// deleteModel forgets a model and the files that no other one needs. A runner of it stays loaded, as on a real node.
func (n *Node) deleteModel(w http.ResponseWriter, r *http.Request) {
	var req api.DeleteRequest
	if !bind(w, r, &req) {
		return
	}
	asked := cmp.Or(req.Model, req.Name)
	if asked == "" {
		sendError(w, http.StatusBadRequest, "model is required")
		return
	}
	parsed, err := parseName(asked)
	if err != nil {
		sendError(w, http.StatusBadRequest, fmt.Sprintf("name %q is invalid", asked))
		return
	}
	n.mu.Lock()
	m := n.models[parsed.key()]
	if m != nil {
		delete(n.models, parsed.key())
		n.pruneLocked(m.manifest.all())
	}
	n.mu.Unlock()
	if m == nil {
		sendError(w, http.StatusNotFound, "model '"+asked+"' not found")
	}
}
