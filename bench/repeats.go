package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

// A repetition is a trace in which much is asked more than once. What was heard of a question is
// kept, because each peer must say the same.
type repetition struct {
	requests []workload.Request

	mu    sync.Mutex        // guards what follows
	heard map[string]uint64 // sum of the answer, by question or text
}

func newRepetition() *repetition {
	return &repetition{requests: workload.Repeats().Requests(1), heard: make(map[string]uint64)}
}

// play plays the trace once, whether the earlier requests are answered or not.
func (r *repetition) play(ctx context.Context, f *fleet, p *peer, _ *uint64) (*sample, error) {
	idle := &idleClients{ctx: ctx, addr: p.addrs[0]}
	defer idle.close()
	return f.metered(ctx, p, func(s *sample) {
		begun := time.Now()
		var mu sync.Mutex // guards s
		var done sync.WaitGroup
		for i := range r.requests {
			q := &r.requests[i]
			done.Go(func() { // ends with its answer, at the latest when the client's patience does
				if sleepUntil(ctx, begun.Add(q.At)) != nil {
					return
				}
				c := idle.take()
				defer idle.put(c)
				first, took, err := r.ask(c, q)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					s.fail(err, first > 0)
				case q.Chat != nil:
					s.answers++
					s.firsts = append(s.firsts, first)
				default:
					s.answers++
					s.embeds = append(s.embeds, took)
				}
			})
		}
		done.Wait()
	})
}

// ask asks one request and compares the answer with what was heard before.
func (r *repetition) ask(c *client, q *workload.Request) (first, took time.Duration, err error) {
	if q.Chat != nil {
		a, err := c.askChat(*q.Chat)
		if err != nil {
			return a.first, 0, err
		}
		return a.first, a.took, r.same(q.Chat.Messages[0].Content, a.sum())
	}
	begun := time.Now()
	sums, err := c.askVectors(q.Inputs)
	took = time.Since(begun)
	for i := range sums {
		if err == nil {
			err = r.same(q.Inputs[i], sums[i])
		}
	}
	return 0, took, err
}

// same tells whether an answer is what it was each time before.
func (r *repetition) same(question string, sum uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, ok := r.heard[question]
	if ok && before != sum {
		return fmt.Errorf("another answer than before to %.100q", question)
	}
	r.heard[question] = sum
	return nil
}
