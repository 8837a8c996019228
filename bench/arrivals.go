package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
)

// patience is how long a client waits for the first record, and tokenPatience for all that
// follows: a node that is 20 times slower needs some six seconds.
const (
	patience      = 10 * time.Second
	tokenPatience = 15 * time.Second
)

// A question is a streamed chat that a simulated node answers in so many tokens.
type question struct {
	tokens int
	nonce  uint64 // never twice in a run
}

func (q question) appendRequest(b []byte) []byte {
	b = append(b, `{"model":"`+drillModel+`","messages":[{"role":"user","content":"Question `...)
	b = strconv.AppendUint(b, q.nonce, 10)
	b = append(b, `"}],"options":{"num_predict":`...)
	b = strconv.AppendInt(b, int64(q.tokens), 10)
	return append(b, `},"stream":true}`...)
}

// An ending is how the answer to a question ended.
type ending int

const (
	answered ending = iota // all tokens are there, and the final record
	refused                // no record with text came
	told                   // it broke off with an error record
	cut                    // it broke off without a word
)

// askQuestion asks, and checks that the answer is complete. After an error the connection is
// closed.
func (c *client) askQuestion(q question) (first time.Duration, end ending, err error) {
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	c.request = q.appendRequest(c.request[:0])
	begun, err := c.send(chatPath, patience)
	if err != nil {
		return 0, refused, err
	}
	end = refused
	for i := 0; ; i++ {
		record, err := c.body.next()
		if err != nil {
			return first, end, fmt.Errorf("after record %d of %d: %w", i, q.tokens, err)
		}
		if bytes.HasPrefix(record, []byte(`{"error"`)) {
			if end == cut {
				end = told
			}
			return first, end, fmt.Errorf("after record %d of %d: %.200q", i, q.tokens, record)
		}
		if i == 0 {
			first, end = time.Since(begun), cut
			if err := c.conn.SetDeadline(time.Now().Add(tokenPatience)); err != nil {
				return first, end, err
			}
		}
		if !bytes.Contains(record, []byte(`"done":true`)) {
			continue
		}
		if i != q.tokens {
			return first, end, fmt.Errorf("final record behind %d of %d tokens", i, q.tokens)
		}
		if err := c.readEnd(); err != nil {
			return first, end, err
		}
		return first, answered, nil
	}
}

// An arrival is a question that was asked, and what came of it.
type arrival struct {
	at    time.Duration // since the load began
	first time.Duration // until the first record; 0 without one
	took  time.Duration
	end   ending
	err   error
}

// arrivals asks a peer as clients that know nothing of each other do: question i within the
// i-th of equal spans of time, at random but the same for each peer, whether the earlier ones
// are answered or not. It returns when all have ended.
func arrivals(ctx context.Context, p *peer, perSecond float64, lasting time.Duration, nonce *uint64) []arrival {
	random := rand.New(rand.NewPCG(1, 2)) // the same load in each run
	all := make([]arrival, int(perSecond*lasting.Seconds()))
	idle := &idleClients{ctx: ctx, addr: p.addrs[0]}
	defer idle.close()
	span := float64(time.Second) / perSecond
	begun := time.Now()
	var done sync.WaitGroup
	for i := range all {
		at := time.Duration((float64(i) + random.Float64()) * span)
		*nonce++
		q := question{tokens: leastTokens + random.IntN(mostTokens-leastTokens+1), nonce: *nonce}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(begun.Add(at))):
		}
		done.Go(func() { // ends with its answer, at the latest when its patience does
			c := idle.take()
			a := arrival{at: time.Since(begun)}
			a.first, a.end, a.err = c.askQuestion(q)
			a.took = time.Since(begun) - a.at
			idle.put(c)
			all[i] = a
		})
	}
	done.Wait()
	return all
}

// idleClients are connections that clients share one after the other.
type idleClients struct {
	ctx  context.Context
	addr string

	mu   sync.Mutex // guards what follows
	free []*client
}

func (i *idleClients) take() *client {
	i.mu.Lock()
	defer i.mu.Unlock()
	if n := len(i.free); n > 0 {
		c := i.free[n-1]
		i.free = i.free[:n-1]
		return c
	}
	return &client{ctx: i.ctx, addr: i.addr}
}

func (i *idleClients) put(c *client) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.free = append(i.free, c)
}

func (i *idleClients) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, c := range i.free {
		c.close()
	}
}
