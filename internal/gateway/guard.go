package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// guard refuses a request that is known to kill a node, before any node is asked. The error is
// a *wire.BadRequest.
func (q *request) guard(parsed *wire.Request) error {
	if q.site.unguarded || parsed.Hazard == nil {
		return nil
	}
	return guarded(parsed.Hazard)
}

// guardContext refuses a native context that is not known to be one of the model's own: a
// number that is no token of it ends the whole server.
func (q *request) guardContext(parsed *wire.Request, m *fleet.Model) error {
	if q.site.unguarded || !parsed.Context.Set {
		return nil
	}
	body, err := q.shown(parsed.Model, m)
	if err != nil {
		return err
	}
	size := vocabulary(body)
	if parsed.Context.Within(size) {
		return nil
	}
	message := fmt.Sprintf("the field \"context\" holds a number that is no token of the model, which has %d; send what an answer of this model gave", size)
	if size == 0 {
		message = "the field \"context\" is not taken for this model, which does not tell the size of its vocabulary; send the conversation to /api/chat"
	}
	return guarded(&wire.BadRequest{
		Status: http.StatusBadRequest, Reason: wire.ReasonDeadlyContext, Dialect: parsed.Route.Dialect, Message: message,
	})
}

// shown is what /api/show tells of a model. Shortly after the start a node has to be asked.
func (q *request) shown(name wire.ModelName, m *fleet.Model) ([]byte, error) {
	if body, ok := q.engine.fleet.Snapshot().ShowBody(name); ok {
		return body, nil
	}
	ask, err := json.Marshal(map[string]string{"model": name.Key()})
	if err != nil {
		return nil, err
	}
	parsed, err := wire.Parse(*wire.Find(http.MethodPost, "/api/show").Route, ask)
	if err != nil {
		return nil, err
	}
	err = errNoneUp
	for _, node := range m.Nodes {
		var answer *object
		if answer, err = q.direct(node, parsed); err == nil {
			return answer.body, nil
		}
	}
	return nil, err
}

// guarded adds who can change it to a refusal.
func guarded(bad *wire.BadRequest) *wire.BadRequest {
	said := *bad
	said.Message += " (the operator of this gateway can set: guard off)"
	return &said
}

// vocabulary is the number of tokens of the model that an answer of /api/show describes, 0
// where it does not tell. A node tells the tokens themselves only if it is asked to be verbose;
// many models have their number, too.
func vocabulary(body []byte) int {
	var shown struct {
		Info map[string]json.RawMessage `json:"model_info"`
	}
	if json.Unmarshal(body, &shown) != nil {
		return 0
	}
	var architecture string
	if json.Unmarshal(shown.Info["general.architecture"], &architecture) != nil {
		return 0
	}
	var size int
	var tokens []json.RawMessage
	if json.Unmarshal(shown.Info[architecture+".vocab_size"], &size) != nil {
		size = 0
	}
	// The tokens count where both are told: those beyond them have no text.
	if json.Unmarshal(shown.Info["tokenizer.ggml.tokens"], &tokens) == nil && len(tokens) > 0 {
		return len(tokens)
	}
	return max(size, 0)
}
