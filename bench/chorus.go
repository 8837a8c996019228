package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

// A chorus is clients that ask the same at about the same time.
type chorus struct {
	clients int
	verses  int           // questions of a turn, one after the other
	after   time.Duration // from the first one's request to those of the others
	spread  time.Duration // within which the others ask
	late    int           // the first records, which were there before some had asked: their ages do not count
	stamped bool          // the ages of records are wanted

	// ask asks question n of the run. Equal answers have equal sums.
	ask func(c *client, n uint64, o *observer) (sum uint64, err error)
}

// A singer is one of them, and what it has heard in a verse.
type singer struct {
	client client
	heard  observer
	took   time.Duration
	sum    uint64
	err    error
}

// play puts one turn on a peer. Nobody's connection is new when it asks.
func (h chorus) play(ctx context.Context, f *fleet, p *peer, nonce *uint64) (*sample, error) {
	singers := make([]*singer, h.clients)
	for i := range singers {
		singers[i] = &singer{client: client{ctx: ctx, addr: p.addrs[i%len(p.addrs)]}}
		defer singers[i].client.close()
		if err := singers[i].client.dial(); err != nil {
			return nil, err
		}
	}
	return f.metered(ctx, p, func(s *sample) {
		for range h.verses {
			*nonce++
			h.sing(ctx, singers, *nonce)
			h.add(s, singers)
		}
	})
}

// sing has all ask one question and returns when the last one has its answer.
func (h chorus) sing(ctx context.Context, singers []*singer, n uint64) {
	begun := time.Now()
	var done sync.WaitGroup
	for i, one := range singers {
		at := begun
		if i > 0 {
			at = begun.Add(h.after + h.spread*time.Duration(i)/time.Duration(h.clients))
		}
		done.Go(func() { // ends with its answer, at the latest when the client's patience does
			one.heard = observer{stamped: h.stamped, ages: one.heard.ages[:0]}
			if one.err = sleepUntil(ctx, at); one.err != nil {
				return
			}
			asked := time.Now()
			one.sum, one.err = h.ask(&one.client, n, &one.heard)
			one.took = time.Since(asked)
		})
	}
	done.Wait()
}

// add adds what was heard in a verse. The first one's time to the first record is not counted: it
// is who the others follow, if anybody is followed.
func (h chorus) add(s *sample, singers []*singer) {
	lead := singers[0]
	for i, one := range singers {
		s.records += one.heard.records
		err := one.err
		if err == nil && lead.err == nil && one.sum != lead.sum {
			err = errors.New("not the answer of the others")
		}
		if err != nil {
			s.fail(err, one.heard.first > 0)
			continue
		}
		s.answers++
		s.calls = append(s.calls, one.took)
		s.ages = append(s.ages, one.heard.ages[min(h.late, len(one.heard.ages)):]...)
		if i == 0 {
			continue
		}
		s.firsts = append(s.firsts, one.heard.first)
	}
	s.gaps = append(s.gaps, h.gaps(singers)...)
}

// gaps are how much later than at the first client that has it a record is at each one. Equal
// records of one stream have one stamp.
func (h chorus) gaps(singers []*singer) (gaps []time.Duration) {
	if !h.stamped {
		return nil
	}
	for k := h.late; ; k++ {
		begun := len(gaps)
		for _, one := range singers {
			if one.err == nil && k < len(one.heard.ages) {
				gaps = append(gaps, one.heard.ages[k])
			}
		}
		if len(gaps) == begun {
			return gaps
		}
		first := slices.Min(gaps[begun:])
		for i := range gaps[begun:] {
			gaps[begun+i] -= first
		}
	}
}

// fail counts an answer that was not right; begun tells that part of it was there.
func (s *sample) fail(err error, begun bool) {
	s.failed++
	if begun {
		s.cut++
	}
	s.fault = cmp.Or(s.fault, err)
}

// metered has do fill a sample, and notes what the peer and the nodes took for it.
func (f *fleet) metered(ctx context.Context, p *peer, do func(*sample)) (*sample, error) {
	runtime.GC() // what the last load has left is not this one's
	s := new(sample)
	err1 := f.count(&s.account, -1)
	err2 := s.meter(p.pids, f.nodes, func() { do(s) })
	err3 := f.count(&s.account, 1)
	return s, cmp.Or(context.Cause(ctx), errors.Join(err1, err2, err3))
}

// An account is what nodes have done, by their own count.
type account struct {
	upstream   int           // chats and requests for vectors that they were asked for
	gpuChats   time.Duration // that models of chats were busy
	gpuVectors time.Duration // that models of vectors were
}

func (a *account) add(o account, sign int) {
	a.upstream += sign * o.upstream
	a.gpuChats += time.Duration(sign) * o.gpuChats
	a.gpuVectors += time.Duration(sign) * o.gpuVectors
}

func (a account) gpu() time.Duration { return a.gpuChats + a.gpuVectors }

// count adds what all nodes have done so far, or takes it off.
func (f *fleet) count(a *account, sign int) error {
	if f.setup.counts == nil {
		return nil
	}
	for _, addr := range f.peers[0].addrs {
		one, err := f.setup.counts(addr)
		if err != nil {
			return fmt.Errorf("what a node has done: %w", err)
		}
		a.add(one, sign)
	}
	return nil
}

// askWords asks the fast nodes for so many records; the client checks each word.
func askWords(words, rate, pause int) func(*client, uint64, *observer) (uint64, error) {
	return func(c *client, n uint64, o *observer) (uint64, error) {
		return 0, c.ask(prompt{words: words, rate: rate, pause: pause, nonce: n, deterministic: true}, true, o)
	}
}

// askStory asks a simulated node for what its model says to a question.
func askStory(c *client, n uint64, o *observer) (uint64, error) {
	a, err := c.askChat(workload.Chat{
		Model:    storyModel,
		Messages: []workload.Message{{Role: "user", Content: fmt.Sprintf("tell me a story of the river, the boat and the number %d", n)}},
		Options:  map[string]any{"temperature": 0},
	})
	o.first = a.first
	return a.sum(), err
}
