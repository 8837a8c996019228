package simnode

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/openai"
)

type completionChoice struct {
	Text         string  `json:"text"`
	Index        int     `json:"index"`
	FinishReason *string `json:"finish_reason"`
}

type completion struct {
	ID                string             `json:"id"`
	Object            string             `json:"object"`
	Created           int64              `json:"created"`
	Model             string             `json:"model"`
	SystemFingerprint string             `json:"system_fingerprint"`
	Choices           []completionChoice `json:"choices"`
	Usage             *openaiUsage       `json:"usage"`
}

// completionChunk has the keys of a completion in another order.
type completionChunk struct {
	ID                string             `json:"id"`
	Object            string             `json:"object"`
	Created           int64              `json:"created"`
	Choices           []completionChoice `json:"choices"`
	Model             string             `json:"model"`
	SystemFingerprint string             `json:"system_fingerprint"`
	Usage             *openaiUsage       `json:"usage,omitempty"`
}

// completions translates a request to /api/generate and the native answer back. What the model thinks is lost.
func (n *Node) completions(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	var req openai.CompletionRequest
	err := decodeBody(r, &req)
	var native *api.GenerateRequest
	if err == nil {
		native, err = fromCompletion(&req)
	}
	if err != nil {
		sendOpenAIMistake(w, err)
		return
	}
	n.answerGenerate(r.Context(), begun, native, &completionWriter{
		events: events{w: w}, streaming: req.Stream,
		usage: req.StreamOptions != nil && req.StreamOptions.IncludeUsage,
		id:    fmt.Sprintf("cmpl-%d", rand.IntN(999)), // not unique on a real node either
	})
}

func fromCompletion(req *openai.CompletionRequest) (*api.GenerateRequest, error) {
	out := &api.GenerateRequest{
		Model: req.Model, Prompt: req.Prompt, Suffix: req.Suffix, Stream: &req.Stream,
		Options: map[string]any{
			"temperature": 1.0, "top_p": 1.0,
			"frequency_penalty": float64(req.FrequencyPenalty), "presence_penalty": float64(req.PresencePenalty),
		},
	}
	switch stop := req.Stop.(type) {
	case string:
		out.Options["stop"] = []string{stop}
	case []any:
		stops := make([]string, len(stop))
		for i, s := range stop {
			var ok bool
			if stops[i], ok = s.(string); !ok {
				return nil, fmt.Errorf("invalid type for 'stop' field: %T", s)
			}
		}
		out.Options["stop"] = stops
	}
	if req.MaxTokens != nil {
		out.Options["num_predict"] = *req.MaxTokens
	}
	if req.Seed != nil {
		out.Options["seed"] = *req.Seed
	}
	if req.Temperature != nil {
		out.Options["temperature"] = float64(*req.Temperature)
	}
	if req.TopP != 0 {
		out.Options["top_p"] = float64(req.TopP)
	}
	if req.Logprobs != nil && *req.Logprobs > 0 { // they are computed, and then lost
		out.Logprobs, out.TopLogprobs = true, *req.Logprobs
	}
	return out, nil
}

// A completionWriter writes one answer of /v1/completions.
type completionWriter struct {
	events
	streaming bool
	usage     bool
	id        string
}

func (c *completionWriter) refuse(err error) { sendOpenAIFailure(c.w, err) }

// fail ends a stream that has begun like that of a chat.
func (c *completionWriter) fail(err error) {
	if c.begun {
		c.record(generateRecord{CreatedAt: now()})
		return
	}
	sendOpenAIFailure(c.w, err)
	if c.streaming {
		flush(c.w) // an error of the model on a stream is chunked
	}
}

func completionChoices(rec generateRecord) []completionChoice {
	choice := completionChoice{Text: rec.Response}
	if rec.DoneReason != "" {
		choice.FinishReason = &rec.DoneReason
	}
	return []completionChoice{choice}
}

func (c *completionWriter) whole(rec generateRecord) {
	if c.streaming { // a load, which is not pushed and so has a length
		c.chunks(rec)
		return
	}
	sendTranslated(c.w, http.StatusOK, completion{
		ID: c.id, Object: "text_completion", Created: rec.CreatedAt.Unix(), Model: rec.Model,
		SystemFingerprint: "fp_ollama", Choices: completionChoices(rec), Usage: usageOf(rec.metrics),
	})
}

func (c *completionWriter) record(rec generateRecord) {
	c.chunks(rec)
	flush(c.w)
}

// chunks writes the events of a record. Where counts were asked for, all have some, and only those of the last are real.
func (c *completionWriter) chunks(rec generateRecord) {
	out := completionChunk{
		ID: c.id, Object: "text_completion", Created: rec.CreatedAt.Unix(), Choices: completionChoices(rec),
		Model: rec.Model, SystemFingerprint: "fp_ollama",
	}
	if c.usage {
		out.Usage = new(openaiUsage)
	}
	c.send("", out)
	if !rec.Done {
		return
	}
	if c.usage {
		out.Choices, out.Usage = []completionChoice{}, usageOf(rec.metrics)
		c.send("", out)
	}
	c.done()
}
