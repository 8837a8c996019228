package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/blog/web"
)

// newAssistant asks a gateway over transport. An empty model is one of those there are.
func newAssistant(transport http.RoundTripper, url, model, key string) (web.Assistant, error) {
	return &assistant{client: &http.Client{Transport: transport}, url: strings.TrimSuffix(url, "/"), model: model, key: key}, nil
}

// An assistant speaks Ollama's API.
type assistant struct {
	client          *http.Client
	url, model, key string
}

// Answer implements web.Assistant.
func (a *assistant) Answer(ctx context.Context, prompt string, piece func(string) error) (cached bool, err error) {
	model := a.model
	if model == "" {
		if model, err = a.anyModel(ctx); err != nil {
			return false, err
		}
	}
	resp, err := a.do(ctx, "/api/generate", map[string]any{"model": model, "prompt": prompt, "options": map[string]any{"temperature": 0}})
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	cached = strings.Contains(resp.Header.Get("Cache-Status"), "; hit")
	for lines := json.NewDecoder(resp.Body); ; {
		var frame struct {
			Response, Error string
			Done            bool
		}
		if err := lines.Decode(&frame); err != nil {
			return cached, fmt.Errorf("read the answer: %w", err)
		}
		if frame.Error != "" {
			return cached, errors.New(frame.Error)
		}
		if frame.Response != "" {
			if err := piece(frame.Response); err != nil {
				return cached, err
			}
		}
		if frame.Done {
			return cached, nil
		}
	}
}

func (a *assistant) anyModel(ctx context.Context) (string, error) {
	resp, err := a.do(ctx, "/api/tags", nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var tags struct{ Models []struct{ Name string } }
	if err := json.NewDecoder(resp.Body).Decode(&tags); err != nil {
		return "", fmt.Errorf("read the list of models: %w", err)
	}
	if len(tags.Models) == 0 {
		return "", errors.New("there is no model")
	}
	return tags.Models[0].Name, nil
}

// do gives an answer with the status 200. A nil body is a GET.
func (a *assistant) do(ctx context.Context, path string, body any) (*http.Response, error) {
	method, sent := http.MethodGet, []byte(nil)
	if body != nil {
		var err error
		if sent, err = json.Marshal(body); err != nil {
			return nil, err
		}
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(sent))
	if err != nil {
		return nil, err
	}
	if a.key != "" {
		r.Header.Set("Authorization", "Bearer "+a.key)
	}
	resp, err := a.client.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", resp.Status, text)
	}
	return resp, nil
}
