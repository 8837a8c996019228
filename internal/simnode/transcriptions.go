package simnode

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// formLimit is how much of a form is kept in memory; the rest goes to files.
const formLimit = 25 << 20

// transcriptions asks a model to write down speech. The recording becomes an image of a chat, as on a real server,
// where a model without ears reads only its mark.
func (n *Node) transcriptions(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	native, err := fromTranscription(r)
	if r.MultipartForm != nil {
		defer func() { _ = r.MultipartForm.RemoveAll() }() // what net/http would do later
	}
	if err != nil {
		sendOpenAIMistake(w, err)
		return
	}
	n.answerChat(r.Context(), begun, native, &transcriptionWriter{w: w, plain: r.FormValue("response_format") == "text"})
}

func fromTranscription(r *http.Request) (*api.ChatRequest, error) {
	if err := r.ParseMultipartForm(formLimit); err != nil {
		return nil, fmt.Errorf("failed to parse multipart form: %w", err)
	}
	model := r.FormValue("model")
	if model == "" {
		return nil, errNoModel
	}
	file, _, err := r.FormFile("file")
	if err != nil {
		return nil, fmt.Errorf("file is required: %w", err)
	}
	defer func() { _ = file.Close() }()
	audio, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("failed to read audio file: %w", err)
	}
	if len(audio) == 0 {
		return nil, errors.New("audio file is empty")
	}
	return &api.ChatRequest{
		Model: model,
		Messages: []api.Message{
			{Role: "system", Content: strings.TrimSpace("Write down what is said. " + r.FormValue("language") + " " + r.FormValue("prompt"))},
			{Role: "user", Content: "What is said?", Images: []api.ImageData{audio}},
		},
		Options: map[string]any{"temperature": 0},
	}, nil
}

// A transcriptionWriter collects a native stream and writes its text at the end. The headers are those of the native
// stream, and on their way with the first word.
type transcriptionWriter struct {
	w     http.ResponseWriter
	plain bool
	begun bool
	text  strings.Builder
}

func (t *transcriptionWriter) refuse(err error)     { sendOpenAIFailure(t.w, err) }
func (t *transcriptionWriter) whole(rec chatRecord) { t.record(rec) }

func (t *transcriptionWriter) fail(err error) {
	sendOpenAIFailure(t.w, err)
	flush(t.w)
}

func (t *transcriptionWriter) record(rec chatRecord) {
	if !t.begun {
		t.begun = true
		t.w.Header().Set("Content-Type", typeNDJSON)
		flush(t.w)
	}
	t.text.WriteString(rec.Message.Content)
	if !rec.Done {
		return
	}
	text := strings.TrimSpace(t.text.String())
	if !t.plain {
		text = `{"text":` + quote(text) + "}\n"
	}
	_, _ = io.WriteString(t.w, text) // an error here means that the client is gone
}
