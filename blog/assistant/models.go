package assistant

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	modelsFor     = 30 * time.Second // a list of models is believed: as long as the gateway takes to see a change
	failureFor    = 5 * time.Second  // that there is none: visitors do not wait for a dead gateway one after another
	modelsTimeout = 5 * time.Second
	modelsLimit   = 4 << 20 // bytes of a list, or of what is said of one model
	triedLimit    = 50      // models that are asked what they can
)

// A choice is which model is asked, and until when that is believed.
type choice struct {
	name   string
	digest string
	err    error
	until  time.Time
}

// Model is the name of the model that Answer would ask now. It is remembered for a while; callers
// that come meanwhile wait for one look at the list.
func (a *Assistant) Model(ctx context.Context) (string, error) {
	if c := a.chosen.Load(); c.fresh() {
		return c.name, c.err
	}
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return "", &Error{Kind: ErrUnavailable, cause: ctx.Err()}
	}
	defer func() { <-a.turn }()
	before := a.chosen.Load()
	if before.fresh() {
		return before.name, before.err
	}
	limited, cancel := context.WithTimeout(ctx, modelsTimeout)
	defer cancel()
	c, err := a.choose(limited, before)
	switch {
	case err == nil:
		c.until = time.Now().Add(modelsFor)
	case ctx.Err() != nil:
		return "", err // that says nothing about the gateway
	case before != nil && before.err == nil && !errors.Is(err, ErrNoModel):
		// The list cannot be had: whether the model can is found out by asking it.
		c = &choice{name: before.name, digest: before.digest, until: time.Now().Add(failureFor)}
	default:
		c = &choice{err: err, until: time.Now().Add(failureFor)}
	}
	if c.err == nil && (before == nil || before.name != c.name) {
		a.opts.Log.Info("the blog asks this model", "model", c.name, "configured", a.opts.Model)
	}
	a.chosen.Store(c)
	return c.name, c.err
}

func (c *choice) fresh() bool { return c != nil && time.Now().Before(c.until) }

// A listed model is one that the fleet has.
type listed struct {
	Name         string   `json:"name"`
	Digest       string   `json:"digest"`
	Capabilities []string `json:"capabilities"` // since 0.30; before, each model has to be asked
}

// choose looks at the fleet's list: the configured model, else the one chosen before, else the first
// that can chat.
func (a *Assistant) choose(ctx context.Context, before *choice) (*choice, error) {
	var tags struct {
		Models []listed `json:"models"`
	}
	if err := a.ask(ctx, http.MethodGet, "api/tags", nil, &tags); err != nil {
		if errors.Is(err, ErrNoModel) { // a 404 of the list itself
			err = &Error{Kind: ErrUnavailable, cause: err}
		}
		return nil, err
	}
	if a.opts.Model != "" {
		for _, m := range tags.Models {
			if sameModel(m.Name, a.opts.Model) {
				return &choice{name: a.opts.Model, digest: m.Digest}, nil
			}
		}
	}
	if before != nil && before.err == nil && slices.ContainsFunc(tags.Models, func(m listed) bool {
		return m.Name == before.name && m.Digest == before.digest
	}) {
		return &choice{name: before.name, digest: before.digest}, nil
	}
	for i, m := range tags.Models {
		if i == triedLimit {
			break
		}
		// What ends in "cloud" is sent on to a hosted service: nobody has chosen that.
		if m.Name != "" && !strings.HasSuffix(m.Name, "cloud") && a.canChat(ctx, m) {
			return &choice{name: m.Name, digest: m.Digest}, nil
		}
	}
	if ctx.Err() != nil {
		return nil, &Error{Kind: ErrUnavailable, cause: ctx.Err()}
	}
	return nil, &Error{Kind: ErrNoModel}
}

// canChat asks what a model can, unless the list says so.
func (a *Assistant) canChat(ctx context.Context, m listed) bool {
	can := m.Capabilities
	if can == nil {
		var show struct {
			Capabilities []string `json:"capabilities"`
		}
		if a.ask(ctx, http.MethodPost, "api/show", map[string]string{"model": m.Name}, &show) != nil {
			return false
		}
		can = show.Capabilities
	}
	return slices.Contains(can, "completion")
}

// ask has a small question answered as one JSON object.
func (a *Assistant) ask(ctx context.Context, method, path string, body, into any) error {
	response, err := a.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return statusError(response)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, modelsLimit))
	if err != nil {
		return &Error{Kind: ErrUnavailable, cause: err}
	}
	if json.Unmarshal(content, into) != nil {
		return &Error{Kind: ErrUnavailable, cause: errors.New("the gateway's answer to " + path + " is no JSON")}
	}
	return nil
}

// sameModel compares names as Ollama does: without case, with its defaults filled in.
func sameModel(a, b string) bool { return wholeName(a) == wholeName(b) }

func wholeName(name string) string {
	name = strings.ToLower(name)
	name = strings.TrimPrefix(strings.TrimPrefix(name, "registry.ollama.ai/"), "library/")
	if !strings.Contains(name[strings.LastIndex(name, "/")+1:], ":") {
		name += ":latest"
	}
	return name
}
