package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

// A reply is a whole answer with the time from the request to its first record and to its end.
type reply struct {
	text        string
	first, took time.Duration
}

// say asks one thing. An answer that is not complete is an error.
func say(ctx context.Context, way http.RoundTripper, c workload.Chat) (r reply, err error) {
	body, err := json.Marshal(c)
	if err != nil {
		return r, err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/api/chat", bytes.NewReader(body))
	if err != nil {
		return r, err
	}
	begun := time.Now()
	resp, err := way.RoundTrip(q)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	var text []byte
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		var record struct {
			Message workload.Message
			Done    bool
			Error   string
		}
		if err := json.Unmarshal(lines.Bytes(), &record); err != nil || record.Error != "" {
			return r, fmt.Errorf("status %d: %.200q", resp.StatusCode, lines.Bytes())
		}
		if r.first == 0 {
			r.first = time.Since(begun)
		}
		text = append(text, record.Message.Content...)
		if record.Done {
			r.text, r.took = string(text), time.Since(begun)
			return r, nil
		}
	}
	return r, fmt.Errorf("status %d: broken off after %.200q", resp.StatusCode, text)
}

// A tally is what came of a load.
type tally struct {
	mu            sync.Mutex      // guards what follows while the load runs
	firsts, tooks []time.Duration // sorted in the end
	texts         uint64          // a sum over all answers, which are the same by any way
	faults        []error

	loads          int
	prompt, prefix int   // tokens of prompts, and of these in a cache
	requests       []int // of each node
}

// play has all conversations and counts what the nodes did meanwhile.
func play(ctx context.Context, nodes []*simnode.Node, way http.RoundTripper, trace []workload.Conversation) *tally {
	t := new(tally)
	t.count(nodes, -1)
	var done sync.WaitGroup
	for _, c := range trace {
		done.Go(func() { // ends with its last answer
			c.Hold(time.Sleep, func(body workload.Chat) (string, error) {
				r, err := say(ctx, way, body)
				t.add(r, err)
				return r.text, err
			})
		})
	}
	done.Wait()
	t.count(nodes, 1)
	slices.Sort(t.firsts)
	slices.Sort(t.tooks)
	return t
}

// count adds what the nodes have done, or takes it off.
func (t *tally) count(nodes []*simnode.Node, sign int) {
	t.requests = slices.Grow(t.requests, len(nodes))[:len(nodes)]
	for i, n := range nodes {
		s := n.Stats()
		t.loads += sign * s.Loads
		t.prompt += sign * s.PromptTokens
		t.prefix += sign * s.PrefixTokens
		t.requests[i] += sign * s.Requests["/api/chat"]
	}
}

func (t *tally) add(r reply, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.faults = append(t.faults, err)
		return
	}
	t.firsts, t.tooks = append(t.firsts, r.first), append(t.tooks, r.took)
	h := fnv.New64a()
	h.Write([]byte(r.text))
	t.texts += h.Sum64()
}

// prefixShare is how much of the prompts the nodes found in their caches.
func (t *tally) prefixShare() float64 { return float64(t.prefix) / float64(t.prompt) }

// mean and percentile are 0 of nothing, and of times that are sorted.
func mean(times []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range times {
		sum += d
	}
	return sum / time.Duration(max(1, len(times)))
}

func percentile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return times[max(0, int(math.Ceil(q*float64(len(times))))-1)]
}
