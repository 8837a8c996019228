package simnode

import (
	"encoding/json"
	"net/http"
)

type openaiError struct {
	Error struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   any     `json:"param"`
		Code    *string `json:"code"`
	} `json:"error"`
}

func newOpenAIError(status int, text string) openaiError {
	var e openaiError
	e.Error.Message = text
	switch status {
	case http.StatusBadRequest:
		e.Error.Type = "invalid_request_error"
	case http.StatusNotFound:
		e.Error.Type = "not_found_error"
	default:
		e.Error.Type = "api_error"
	}
	return e
}

// sendTranslated writes a whole answer that a translator made of a native one: no charset, and a newline at the end.
func sendTranslated(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, errorBody(err.Error())
	}
	send(w, status, typeBareJSON, append(b, '\n'))
}

// sendOpenAIMistake writes an error that the translator found itself: with a charset, and no newline at the end.
func sendOpenAIMistake(w http.ResponseWriter, err error) {
	sendJSON(w, http.StatusBadRequest, newOpenAIError(http.StatusBadRequest, err.Error()))
}

// sendOpenAIFailure writes an error that a native handler found. That the hosted service is off stays in native form.
func sendOpenAIFailure(w http.ResponseWriter, err error) {
	status, text := failure(err)
	if status == http.StatusForbidden {
		sendError(w, status, text)
		return
	}
	sendTranslated(w, status, newOpenAIError(status, text))
}

type openaiUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

func usageOf(m metrics) *openaiUsage {
	return &openaiUsage{m.PromptEvalCount, m.EvalCount, m.PromptEvalCount + m.EvalCount}
}

type openaiModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func (n *Node) openaiModels(w http.ResponseWriter, r *http.Request) {
	var out struct {
		Object string        `json:"object"`
		Data   []openaiModel `json:"data"` // null when nothing is installed
	}
	out.Object = "list"
	for _, m := range n.newestFirst(r.Context()) {
		out.Data = append(out.Data, openaiModel{m.name.short(), "model", m.ModifiedAt.Unix(), m.name.namespace})
	}
	sendTranslated(w, http.StatusOK, out)
}

func (n *Node) openaiModel(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Path[len("/v1/models/"):]
	m, err := n.find(r.Context(), asked)
	if err != nil {
		sendOpenAIFailure(w, err)
		return
	}
	sendTranslated(w, http.StatusOK, openaiModel{asked, "model", m.ModifiedAt.Unix(), m.name.namespace})
}
