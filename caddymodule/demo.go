package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

const demoNotice = `
  ------------------------------------------------------------------------------
  A DEMO: three SIMULATED nodes, and clients that ask them all the time. Every two
  minutes one node is away for a while, and now and then more is asked than there
  is room for. What the nodes say is made up.
  ------------------------------------------------------------------------------

`

// Of a demo. Most of the time there is room for all who ask; in a rush there is not.
const (
	demoSlots   = 2
	demoClients = 5  // who ask one thing after the other
	demoRush    = 22 // who do so in a rush
	demoTimeout = time.Minute

	demoRound    = 2 * time.Minute // after which all begins anew
	demoRushFrom = 30 * time.Second
	demoRushTo   = 50 * time.Second
	demoAwayFrom = 75 * time.Second
	demoAwayFor  = 25 * time.Second
)

// demoFault has a node of the demo go away and come back.
func demoFault() simnode.Fault {
	return simnode.Fault{Name: "demo", Refuse: true, After: demoAwayFrom, For: demoAwayFor, Period: demoRound}
}

// A demo is clients that ask a gateway: chats that nobody has asked before, questions that many
// ask, and embeddings of texts some of which are known. There are never more of them than
// demoRush, and each waits for its answer before it asks again.
type demo struct {
	url    string // of the gateway
	client *http.Client
	began  time.Time
}

// run asks until ctx ends, and returns when the last client has ended.
func (d *demo) run(ctx context.Context) {
	d.client = &http.Client{Timeout: demoTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: demoRush}}
	defer d.client.CloseIdleConnections()
	d.began = time.Now()
	var clients sync.WaitGroup
	for i := range demoRush {
		clients.Go(func() {
			for ctx.Err() == nil {
				d.pause(ctx)
				if i < demoClients || d.rush() {
					d.ask(ctx, i)
				}
			}
		})
	}
	clients.Wait()
}

// rush tells whether it is the time of it.
func (d *demo) rush() bool {
	at := time.Since(d.began) % demoRound
	return at >= demoRushFrom && at < demoRushTo
}

// pause is what a client takes to read and think.
func (d *demo) pause(ctx context.Context) {
	wait := time.NewTimer(300*time.Millisecond + rand.N(900*time.Millisecond))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
}

// ask asks one thing and reads the answer to its end. What comes of it is to be seen elsewhere.
func (d *demo) ask(ctx context.Context, client int) {
	path, body := demoQuestion(client)
	text, err := json.Marshal(body)
	if err != nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+path, bytes.NewReader(text))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.client.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
}

// demoQuestion makes up what is asked.
func demoQuestion(client int) (path string, body map[string]any) {
	chat := func(model, text string, options map[string]any) (string, map[string]any) {
		return "/api/chat", map[string]any{
			"model": model, "options": options,
			"messages": []map[string]string{{"role": "user", "content": text}},
		}
	}
	switch n := rand.IntN(10); {
	case n < 4:
		model := "sim-small"
		if client%3 == 0 {
			model = "sim-chat"
		}
		return chat(model, fmt.Sprintf("What comes after %d?", rand.IntN(1<<30)), nil)
	case n < 7: // asked again and again, and at the same time; temperature 0 lets it be cached
		return chat("sim-small", fmt.Sprintf("Question %d of those that all ask", rand.IntN(40)),
			map[string]any{"temperature": 0, "seed": time.Now().Unix() / 60})
	}
	texts := make([]string, 4)
	for i := range texts {
		texts[i] = fmt.Sprintf("text %d", rand.IntN(400))
	}
	return "/api/embed", map[string]any{"model": "sim-embed", "input": texts}
}
