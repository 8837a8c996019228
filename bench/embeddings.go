package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"time"
)

// errVectors says that an answer has not the vectors that were asked for.
var errVectors = errors.New("not the vectors of the texts")

// askVectors asks for the vectors of texts and gives a sum of each, which is the same for equal
// ones. After an error the connection is closed.
func (c *client) askVectors(texts []string) (sums []uint64, err error) {
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.request, err = json.Marshal(map[string]any{"model": vectorModel, "input": texts}); err != nil {
		return nil, err
	}
	if _, err = c.send(embedPath, answerTimeout); err != nil {
		return nil, err
	}
	line, err := c.body.next()
	if err != nil {
		return nil, err
	}
	var answer struct{ Embeddings []json.RawMessage }
	if err := json.Unmarshal(line, &answer); err != nil {
		return nil, fmt.Errorf("%w: %.200q", err, line)
	}
	if len(answer.Embeddings) != len(texts) {
		return nil, fmt.Errorf("%w: %d of %d", errVectors, len(answer.Embeddings), len(texts))
	}
	for _, v := range answer.Embeddings {
		h := fnv.New64a()
		_, _ = h.Write(v) // never fails
		sums = append(sums, h.Sum64())
	}
	return sums, c.readEnd()
}

// An embedding is clients that each want the vector of a text that nobody has asked for, all at
// the same moment.
type embedding struct {
	clients int
	verses  int // texts of each client in a turn: all have their answers before the next ones are asked
}

// textWords are one token each to a simulated node.
var textWords = strings.Fields("river boat bridge garden kitchen letter morning window road hill forest market lamp table teacher child")

const (
	wordsOfText  = 10 // of which there are 16 each: no two texts of a run are equal, but by the rarest chance
	tokensOfText = wordsOfText + 2
)

// textOf is text n of the run. All are equally long to a node.
func textOf(n uint64) string {
	words, x := make([]string, wordsOfText), scatter(n)
	for i := range words {
		words[i] = textWords[x&15]
		x >>= 4
	}
	return strings.Join(words, " ")
}

// play puts one turn on a peer, and compares the vectors of its first texts with what a node says of
// them: in a call with others each could have got another's.
func (e embedding) play(ctx context.Context, f *fleet, p *peer, nonce *uint64) (*sample, error) {
	clients := make([]*client, e.clients)
	for i := range clients {
		clients[i] = &client{ctx: ctx, addr: p.addrs[i%len(p.addrs)]}
		defer clients[i].close()
		if err := clients[i].dial(); err != nil {
			return nil, err
		}
	}
	var texts []string
	var got []uint64 // sums; 0: none
	s, err := f.metered(ctx, p, func(s *sample) {
		for verse := range e.verses {
			first := *nonce + 1
			*nonce += uint64(e.clients)
			sums := e.ask(s, clients, first)
			if verse == 0 {
				got = sums
				for i := range sums {
					texts = append(texts, textOf(first+uint64(i)))
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	node := &client{ctx: ctx, addr: f.peers[0].addrs[0]}
	defer node.close()
	want, err := node.askVectors(texts)
	if err != nil {
		return nil, err
	}
	for i := range want {
		if got[i] != 0 && got[i] != want[i] {
			s.answers--
			s.fail(fmt.Errorf("%w: %q has another one at the node", errVectors, texts[i]), false)
		}
	}
	return s, nil
}

// ask has all clients ask for a vector.
func (e embedding) ask(s *sample, clients []*client, first uint64) (sums []uint64) {
	tooks, errs := make([]time.Duration, len(clients)), make([]error, len(clients))
	sums = make([]uint64, len(clients))
	var done sync.WaitGroup
	start := make(chan struct{})
	for i, c := range clients {
		done.Go(func() { // ends with its answer, at the latest when the client's patience does
			<-start
			begun := time.Now()
			var got []uint64
			if got, errs[i] = c.askVectors([]string{textOf(first + uint64(i))}); errs[i] == nil {
				tooks[i], sums[i] = time.Since(begun), got[0]
			}
		})
	}
	close(start)
	done.Wait()
	for i, err := range errs {
		if err != nil {
			s.fail(err, false)
			continue
		}
		s.answers++
		s.calls = append(s.calls, tooks[i])
	}
	return sums
}
