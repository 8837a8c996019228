package simnode

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

func (n *Node) embed(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	var req api.EmbedRequest
	if !bind(w, r, &req) {
		return
	}
	answer, err := n.answerEmbed(r.Context(), begun, &req)
	switch {
	case n.left(err):
	case err != nil:
		sendFailure(w, err)
	default:
		sendJSON(w, http.StatusOK, answer)
	}
}

type embedAnswer struct {
	Model      string      `json:"model"`
	Embeddings [][]float32 `json:"embeddings"`
	metrics
}

// answerEmbed embeds the inputs of a request in any dialect, already translated.
func (n *Node) answerEmbed(ctx context.Context, begun time.Time, req *api.EmbedRequest) (embedAnswer, error) {
	out := embedAnswer{Model: req.Model, Embeddings: [][]float32{}}
	inputs, ok := embedInputs(req.Input)
	if !ok {
		return out, &statusError{http.StatusBadRequest, "invalid input type"}
	}
	if req.Model == "" {
		return out, &statusError{http.StatusNotFound, "model '' not found"}
	}
	l, err := n.embedder(ctx, begun, req.Model, req.Options, req.KeepAlive)
	if err != nil {
		return out, err
	}
	defer l.release()
	if len(inputs) == 0 {
		return out, nil
	}
	tokens, err := l.embedTokens(inputs, req.Truncate == nil || *req.Truncate)
	if err != nil {
		return out, err
	}
	for i, t := range tokens {
		extra := l.model.EmbedCall
		if i > 0 {
			extra = 0
		}
		v, err := n.vector(ctx, l.runner, t, extra)
		if err != nil {
			return out, err
		}
		if 0 < req.Dimensions && req.Dimensions < len(v) {
			v = unit(v[:req.Dimensions])
		}
		out.Embeddings = append(out.Embeddings, v)
		out.PromptEvalCount += len(t)
	}
	out.TotalDuration, out.LoadDuration = max(1, time.Since(begun)), l.load
	return out, nil
}

// embedInputs reads a string or a list of strings; an empty string is no input, but an empty string in a list is one.
func embedInputs(input any) (list []string, ok bool) {
	switch in := input.(type) {
	case nil:
	case string:
		if in != "" {
			list = append(list, in)
		}
	case []any:
		for _, e := range in {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			list = append(list, s)
		}
	default:
		return nil, false
	}
	return list, true
}

// embedder finds the model and books a runner; any model will do.
func (n *Node) embedder(ctx context.Context, begun time.Time, asked string, options map[string]any, keepAlive *api.Duration) (*lease, error) {
	m, err := n.find(ctx, asked)
	if err != nil {
		if status, _ := failure(err); status == http.StatusNotFound { // these routes have words of their own
			err = &statusError{status, fmt.Sprintf("model %q not found, try pulling it first", asked)}
		}
		return nil, err
	}
	return n.lease(ctx, begun, m, nil, options, keepAlive)
}

// embedTokens spells the inputs, cut to the context. Without truncate, one that is too long fails them all.
func (l *lease) embedTokens(inputs []string, truncate bool) ([][]int, error) {
	limit := min(l.opts.NumCtx, l.model.ContextLength)
	out := make([][]int, len(inputs))
	for i, in := range inputs {
		t := l.model.embedTokens(in)
		if len(t) > limit {
			if !truncate {
				return nil, errInputTooLong
			}
			if limit <= l.model.frame() {
				return nil, &statusError{http.StatusBadRequest, "input after truncation exceeds maximum context length"}
			}
			t = append(t[:limit-1:limit-1], t[len(t)-1])
		}
		out[i] = t
	}
	return out, nil
}

// frame is how many tokens stand around an input: one before, and for an embedding model one behind.
func (m Model) frame() int {
	if m.embedsOnly() {
		return 2
	}
	return 1
}

func (m Model) embedTokens(input string) []int {
	t := append([]int{tokenBOS}, vocab().encode(input)...)
	if m.embedsOnly() {
		t = append(t, tokenEnd)
	}
	return t
}

// vector waits for a slot and embeds one input, which takes extra beyond its tokens.
func (n *Node) vector(ctx context.Context, r *runner, tokens []int, extra time.Duration) ([]float32, error) {
	ctx, done := r.within(ctx)
	defer done()
	s, _, err := r.slot(ctx, tokens)
	if err != nil {
		return nil, fate(err, false)
	}
	defer func() { r.giveBack(s, nil) }() // embedding leaves nothing behind that a later prompt could use
	if troublesOf(ctx).crash {
		return nil, fate(r.crash(brokeOff), false)
	}
	if err := pass(ctx, n.scaled(ctx, extra+perToken(r.model.PromptRate, len(tokens), r.slowdown()))); err != nil {
		n.cancelled(r, err)
		return nil, fate(err, false)
	}
	return meaning(r.model.Weights, tokens, r.model.EmbeddingLength), nil
}

// meaning is a vector of length 1, the same for the same weights and tokens. Each token adds a direction of its own,
// so texts that share words are closer than others.
func meaning(weights string, tokens []int, dimensions int) []float32 {
	sum := make([]float64, dimensions)
	h := fnv.New64a()
	_, _ = h.Write([]byte(weights)) // a hash never fails
	seed := h.Sum64()
	for i, t := range tokens {
		direction := rand.New(rand.NewPCG(seed, uint64(t))) // vectors, not secrets
		weight := 1 + 1/float64(i+2)                        // so that the order of the words matters a little
		for d := range sum {
			sum[d] += weight * direction.NormFloat64()
		}
	}
	v := make([]float32, dimensions)
	for d, x := range sum {
		v[d] = float32(x)
	}
	return unit(v)
}

// unit returns v with length 1.
func unit(v []float32) []float32 {
	var square float64
	for _, x := range v {
		square += float64(x) * float64(x)
	}
	length := math.Sqrt(square)
	if length == 0 {
		return v
	}
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(float64(x) / length)
	}
	return out
}

// embeddings is the older route: one prompt, one vector in float64 digits, nothing cut.
func (n *Node) embeddings(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	var req api.EmbeddingRequest
	if !bind(w, r, &req) {
		return
	}
	if req.Model == "" {
		sendError(w, http.StatusBadRequest, "model is required")
		return
	}
	l, err := n.embedder(r.Context(), begun, req.Model, req.Options, req.KeepAlive)
	switch {
	case n.left(err):
		return
	case err != nil:
		sendFailure(w, err)
		return
	}
	defer l.release()
	out := struct {
		Embedding []float64 `json:"embedding"`
	}{[]float64{}}
	if req.Prompt == "" {
		sendJSON(w, http.StatusOK, out)
		return
	}
	tokens := l.model.embedTokens(req.Prompt)
	if len(tokens) > l.runner.context {
		sendError(w, http.StatusInternalServerError, errInputTooLong.text)
		return
	}
	v, err := n.vector(r.Context(), l.runner, tokens, l.model.EmbedCall)
	if n.left(err) {
		return
	}
	if err != nil {
		sendFailure(w, err)
		return
	}
	for _, x := range v {
		out.Embedding = append(out.Embedding, float64(x))
	}
	sendJSON(w, http.StatusOK, out)
}
