package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

// routingPatience bounds what hangs; with everything in one queue an answer takes seconds.
const routingPatience = 30 * time.Second

// A chatAnswer is a whole answer, with the time from the request to its first record and to
// its end.
type chatAnswer struct {
	text        string
	first, took time.Duration
}

// sum is the same for equal texts.
func (a chatAnswer) sum() uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(a.text)) // never fails
	return h.Sum64()
}

// askChat asks one thing, streamed. An answer that is not complete is an error, after which the
// connection is closed.
func (c *client) askChat(body workload.Chat) (a chatAnswer, err error) {
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.request, err = json.Marshal(body); err != nil {
		return a, err
	}
	begun, err := c.send(chatPath, routingPatience)
	if err != nil {
		return a, err
	}
	for {
		line, err := c.body.next()
		if err != nil {
			return a, fmt.Errorf("after %d bytes of text: %w", len(a.text), err)
		}
		if a.first == 0 {
			a.first = time.Since(begun)
		}
		var record struct {
			Message workload.Message
			Done    bool
			Error   string
		}
		if err := json.Unmarshal(line, &record); err != nil || record.Error != "" {
			return a, fmt.Errorf("after %d bytes of text: %.200q", len(a.text), line)
		}
		a.text += record.Message.Content
		if record.Done {
			a.took = time.Since(begun)
			return a, c.readEnd()
		}
	}
}

// asksVersion is a question that makes no node load anything.
func asksVersion(ctx context.Context, addr string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/api/version", nil)
	if err != nil {
		return err
	}
	c := http.Client{Timeout: dialTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/api/version: status %d", resp.StatusCode)
	}
	return nil
}
