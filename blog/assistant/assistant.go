// Package assistant asks a model for the blog, through a gateway that speaks Ollama's native API.
//
// It reaches the gateway by an http.RoundTripper: in the same process, or a remote one by its URL.
// Equal prompts are requests of equal bytes at temperature 0, whoever asks, so that the gateway
// caches, coalesces, queues and counts them. What comes back is a model's and not to be trusted. The
// package stores nothing, logs no text, and knows nothing of posts or pages.
package assistant

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Options say where the gateway is and how it is asked.
type Options struct {
	// URL is the base of the gateway, such as "https://ollama.example.com". With a Transport that
	// stays in the process any name will do.
	URL       string
	Transport http.RoundTripper // default: http.DefaultTransport
	APIKey    string            // sent as a bearer token; empty: none
	// Model is the one to ask. Where the fleet has it not, or it is empty, the first model that the
	// fleet lists and that can chat is asked.
	Model   string
	Timeout time.Duration // of one answer, with queue and load. Default: 2m.
	Log     *slog.Logger  // told when another model is chosen than before. Default: nobody.
}

// An Assistant asks a gateway. Safe for concurrent use; it has no goroutines of its own.
type Assistant struct {
	opts   Options
	base   *url.URL
	turn   chan struct{} // has one element while somebody asks which models there are
	chosen atomic.Pointer[choice]
}

// New checks the options. It asks nothing yet.
func New(opts Options) (*Assistant, error) {
	base, err := url.Parse(opts.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the gateway's URL: %w", err)
	case base.Scheme != "http" && base.Scheme != "https" || base.Host == "":
		return nil, fmt.Errorf("the gateway's URL %q must be like https://ollama.example.com", opts.URL)
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, fmt.Errorf("the gateway's URL must have no user, query or fragment: give a key as the API key")
	}
	if opts.Transport == nil {
		opts.Transport = http.DefaultTransport
	}
	if opts.Timeout <= 0 {
		opts.Timeout = 2 * time.Minute
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Assistant{opts: opts, base: base, turn: make(chan struct{}, 1)}, nil
}

// A Prompt is what a model is asked.
type Prompt struct {
	System string // what the blog wants of the model
	User   string // what it is about
	Tokens int    // the most it may generate
}

// A Reply says how an answer came about.
type Reply struct {
	Model  string // empty if none was found
	Cached bool   // given from the gateway's cache, which had it before
	Cut    bool   // ended by Prompt.Tokens, not by the model
}

// Answer hands on the answer piece by piece as it comes, 256 KiB at most. An error is one of this
// package's, that of piece, or ctx's; what had come before it is a part of an answer. When ctx
// ends, the gateway is told, so that no node works on for nobody.
func (a *Assistant) Answer(ctx context.Context, p Prompt, piece func(string) error) (Reply, error) {
	limited, cancel := context.WithTimeout(ctx, a.opts.Timeout)
	defer cancel()
	var reply Reply
	var err error
	if reply.Model, err = a.Model(limited); err != nil {
		return reply, judge(ctx, err)
	}
	response, err := a.chat(limited, reply.Model, p)
	if err != nil {
		return reply, judge(ctx, err)
	}
	defer response.Body.Close()
	reply.Cached = hit(response.Header)
	f := follower{piece: piece}
	if err = f.follow(response.Body); err != nil {
		return reply, judge(ctx, err)
	}
	reply.Cut = f.cut
	// The end of the body is read too, else the gateway would see a client that leaves.
	defer time.AfterFunc(time.Second, cancel).Stop()
	_, _ = io.CopyN(io.Discard, response.Body, 4<<10)
	return reply, nil
}

// judge lets the end of the caller's context explain whatever came of it.
func judge(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// chat sends the prompt, and returns the answer once it begins with success.
func (a *Assistant) chat(ctx context.Context, model string, p Prompt) (*http.Response, error) {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	var ask struct {
		Model    string    `json:"model"`
		Messages []message `json:"messages"`
		Stream   bool      `json:"stream"`
		Think    bool      `json:"think"` // thoughts are not shown, so they are not waited for
		Options  struct {
			Temperature float64 `json:"temperature"`
			NumPredict  int     `json:"num_predict"`
		} `json:"options"` // no num_ctx: it would have the model loaded anew
	}
	ask.Model, ask.Stream, ask.Options.NumPredict = model, true, p.Tokens
	ask.Messages = []message{{"system", p.System}, {"user", p.User}}
	response, err := a.send(ctx, http.MethodPost, "api/chat", ask)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		if response.StatusCode == http.StatusNotFound {
			a.chosen.Store(nil) // the list has changed
		}
		return nil, statusError(response)
	}
	return response, nil
}

// send makes one request. There are no redirects: a prompt goes nowhere else.
func (a *Assistant) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, a.base.JoinPath(path).String(), bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "caddy-ollama-blog")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if a.opts.APIKey != "" {
		r.Header.Set("Authorization", "Bearer "+a.opts.APIKey)
	}
	response, err := a.opts.Transport.RoundTrip(r)
	if err != nil {
		return nil, &Error{Kind: ErrUnavailable, cause: err}
	}
	return response, nil
}

// hit reads Cache-Status (RFC 9211): whether our gateway had the answer.
func hit(head http.Header) bool {
	for _, line := range head.Values("Cache-Status") {
		for member := range strings.SplitSeq(line, ",") {
			name, parameters, _ := strings.Cut(member, ";")
			if strings.TrimSpace(name) != "caddy-ollama" {
				continue
			}
			for parameter := range strings.SplitSeq(parameters, ";") {
				if strings.TrimSpace(parameter) == "hit" {
					return true
				}
			}
		}
	}
	return false
}
