package simnode

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/openai"
)

type openaiEmbedding struct {
	Object    string `json:"object"`
	Embedding any    `json:"embedding"` // a list of numbers, or a string in base64
	Index     int    `json:"index"`
}

// openaiEmbeddings translates a request to /api/embed and the native answer back.
func (n *Node) openaiEmbeddings(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	var req openai.EmbedRequest
	err := decodeBody(r, &req)
	var native *api.EmbedRequest
	if err == nil {
		native, err = fromOpenAIEmbed(&req)
	}
	if err != nil {
		sendOpenAIMistake(w, err)
		return
	}
	answer, err := n.answerEmbed(r.Context(), begun, native)
	switch {
	case n.left(err):
		return
	case err != nil:
		sendOpenAIFailure(w, err)
		return
	}
	var out struct {
		Object string            `json:"object"`
		Data   []openaiEmbedding `json:"data"`
		Model  string            `json:"model"`
		Usage  struct {
			PromptTokens int `json:"prompt_tokens"`
			TotalTokens  int `json:"total_tokens"`
		} `json:"usage"`
	}
	out.Object, out.Model = "list", answer.Model
	out.Usage.PromptTokens, out.Usage.TotalTokens = answer.PromptEvalCount, answer.PromptEvalCount
	for i, v := range answer.Embeddings {
		e := openaiEmbedding{Object: "embedding", Embedding: v, Index: i}
		if strings.EqualFold(req.EncodingFormat, "base64") {
			e.Embedding = packed(v)
		}
		out.Data = append(out.Data, e)
	}
	sendTranslated(w, http.StatusOK, out)
}

// fromOpenAIEmbed translates the request. An empty string is an input here, unlike on the native route.
func fromOpenAIEmbed(req *openai.EmbedRequest) (*api.EmbedRequest, error) {
	if f := req.EncodingFormat; f != "" && !strings.EqualFold(f, "float") && !strings.EqualFold(f, "base64") {
		//lint:ignore ST1005 the real server's text
		return nil, fmt.Errorf("Invalid value for 'encoding_format' = %s. Supported values: ['float', 'base64'].", f)
	}
	out := &api.EmbedRequest{Model: req.Model, Input: req.Input, Dimensions: req.Dimensions}
	if req.Input == "" {
		out.Input = []any{""}
	}
	if list, isList := out.Input.([]any); out.Input == nil || isList && len(list) == 0 {
		return nil, errors.New("invalid input")
	}
	return out, nil
}

// packed is a vector as little-endian float32 in base64.
func packed(v []float32) string {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(b)
}
