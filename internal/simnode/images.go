package simnode

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/openai"
)

var (
	errNoPrompt = errors.New("prompt is required")
	errNoModel  = errors.New("model is required")
)

// imageGenerations asks for a picture. No simulated model paints; see imageWriter.
func (n *Node) imageGenerations(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	var req openai.ImageGenerationRequest
	err := decodeBody(r, &req)
	switch {
	case err != nil:
	case req.Prompt == "":
		err = errNoPrompt
	case req.Model == "":
		err = errNoModel
	}
	if err != nil {
		sendOpenAIMistake(w, err)
		return
	}
	n.answerGenerate(r.Context(), begun, &api.GenerateRequest{Model: req.Model, Prompt: req.Prompt}, &imageWriter{w: w})
}

// imageEdits asks for a picture to be changed.
func (n *Node) imageEdits(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	var req openai.ImageEditRequest
	err := decodeBody(r, &req)
	switch {
	case err != nil:
	case req.Prompt == "":
		err = errNoPrompt
	case req.Model == "":
		err = errNoModel
	case req.Image == "":
		err = errors.New("image is required")
	}
	native := &api.GenerateRequest{Model: req.Model, Prompt: req.Prompt}
	if err == nil {
		var image api.ImageData
		if image, err = decodeImage(req.Image); err != nil {
			err = fmt.Errorf("invalid image: %w", err)
		}
		native.Images = []api.ImageData{image}
	}
	if err != nil {
		sendOpenAIMistake(w, err)
		return
	}
	n.answerGenerate(r.Context(), begun, native, &imageWriter{w: w})
}

// An imageWriter waits for a picture among the records of a native stream. A model that only speaks gives none, and
// its whole answer is the headers of that stream.
type imageWriter struct {
	w     http.ResponseWriter
	begun bool
}

func (i *imageWriter) refuse(err error)     { sendOpenAIFailure(i.w, err) }
func (i *imageWriter) whole(generateRecord) {} // a request without a prompt does not come here

func (i *imageWriter) fail(err error) {
	sendOpenAIFailure(i.w, err)
	flush(i.w)
}

func (i *imageWriter) record(generateRecord) {
	if !i.begun {
		i.begun = true
		i.w.Header().Set("Content-Type", typeNDJSON)
		flush(i.w)
	}
}
