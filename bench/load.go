package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A load is what clients ask of one peer, and for how long.
type load struct {
	clients int
	stream  bool
	words   int
	rate    int           // words a second, 0 for all at once
	spread  time.Duration // within which clients begin: what begins together stays together
	stamped bool          // the ages of records are wanted
	known   int           // prompts that are asked again and again; 0: each once
	answers int           // for each client; or, if 0,
	lasting time.Duration // until when new requests are begun

	// In how many turns a round divides the load among the peers: what else the machine does
	// changes within seconds, and shall meet all of them. 0 is 1.
	turns int

	deterministic bool // a cache may keep the answers
}

// turn is the part of the load that is put on a peer at a time.
func (l load) turn() load {
	if l.turns > 1 {
		l.answers = (l.answers + l.turns - 1) / l.turns
		l.lasting /= time.Duration(l.turns)
	}
	return l
}

// warmTime is how long clients ask before anything counts: connections are open then, and
// pools and heaps have about the size that they keep.
const warmTime = 200 * time.Millisecond

// A sample is what one load on one peer has shown.
type sample struct {
	answers int // right ones
	records int // of streams
	bytes   int // of the bodies of right answers
	failed  int // answers that were not right, cut ones included, warm-up included
	cut     int // streams that ended before their final record
	fault   error

	lasted time.Duration
	calls  []time.Duration            // sorted: from a request to the end of its answer
	firsts []time.Duration            // sorted: from a request to its first record
	ages   []time.Duration            // sorted: from a record's stamp to its arrival
	gaps   []time.Duration            // sorted: from a record's arrival at the first client that has it to that at each one
	embeds []time.Duration            // sorted: from a request for vectors to its answer
	pages  map[string][]time.Duration // sorted: from a request for a page to its end, by the page's name

	account // what the nodes did for it

	cpu, nodes, others time.Duration // CPU time of the peer, of the nodes, and of none of us
	rssBefore, rssMax  int64         // bytes, of the peer
}

// othersShare is what was taken of all cores by none of us.
func (s *sample) othersShare() float64 {
	return s.others.Seconds() / s.lasted.Seconds() / float64(runtime.NumCPU())
}

// merge adds a later turn of the same round.
func (s *sample) merge(o *sample) {
	if s.lasted == 0 {
		s.rssBefore = o.rssBefore
	}
	s.add(o)
	s.lasted += o.lasted
	s.cpu += o.cpu
	s.nodes += o.nodes
	s.others += o.others
	s.rssMax = max(s.rssMax, o.rssMax)
	s.account.add(o.account, 1)
}

// settle sorts what was added in any order.
func (s *sample) settle() {
	slices.Sort(s.calls)
	slices.Sort(s.firsts)
	slices.Sort(s.ages)
	slices.Sort(s.gaps)
	slices.Sort(s.embeds)
	for _, took := range s.pages {
		slices.Sort(took)
	}
}

func (s *sample) add(o *sample) {
	s.answers += o.answers
	s.records += o.records
	s.bytes += o.bytes
	s.failed += o.failed
	s.cut += o.cut
	if s.fault == nil {
		s.fault = o.fault
	}
	s.calls = append(s.calls, o.calls...)
	s.firsts = append(s.firsts, o.firsts...)
	s.ages = append(s.ages, o.ages...)
	s.gaps = append(s.gaps, o.gaps...)
	s.embeds = append(s.embeds, o.embeds...)
	for name, took := range o.pages {
		s.tookFor(name, took...)
	}
}

// run puts one turn of the load on a peer. Prompts are numbered from *nonce on.
func (l load) run(ctx context.Context, p *peer, nodes []int, nonce *uint64) (*sample, error) {
	l = l.turn()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	runtime.GC() // what the last load has left is not this one's
	var made []byte
	if l.known > 0 && p.stores {
		made = new(clock).appendStamp(nil, time.Now())
	}
	if p.fixed {
		l.known = 1
	}

	workers := make([]*worker, l.clients)
	var warm, done sync.WaitGroup
	start := make(chan struct{})
	warmUntil := time.Now().Add(warmTime)
	for i := range workers {
		w := &worker{load: l, client: client{ctx: ctx, addr: p.addrs[i%len(p.addrs)], made: made}, nonce: *nonce + uint64(i)<<32, pages: p.pages}
		workers[i] = w
		warm.Add(1)
		done.Go(func() { // ends with its answers, or with ctx
			defer w.client.close()
			w.warmUp(ctx, warmUntil)
			warm.Done()
			<-start
			time.Sleep(l.spread * time.Duration(i) / time.Duration(l.clients))
			w.measure(ctx)
		})
	}
	*nonce += uint64(l.clients) << 32
	warm.Wait()

	s := new(sample)
	err := s.meter(p.pids, nodes, func() {
		close(start)
		done.Wait()
	})
	if err = cmp.Or(context.Cause(ctx), err); err != nil {
		return nil, err
	}
	for _, w := range workers {
		s.add(&w.sample)
	}
	return s, nil
}

// meter notes how long do took, and what a peer and the nodes took meanwhile. It calls do in any
// case: somebody may wait for that.
func (s *sample) meter(peer, nodes []int, do func()) error {
	err1 := resetTop(peer)
	before, err2 := takeReadings(peer, nodes)
	begun := time.Now()
	do()
	s.lasted = time.Since(begun)
	after, err3 := takeReadings(peer, nodes)
	s.rssBefore, s.rssMax = before.peer.rss, after.peer.top
	s.cpu, s.nodes = after.peer.cpu-before.peer.cpu, after.nodes-before.nodes
	s.others = after.busy - before.busy - (after.self - before.self) - s.cpu - s.nodes
	return errors.Join(err1, err2, err3)
}

// readings are what the clocks of everybody show at one moment.
type readings struct {
	peer              usage
	nodes, self, busy time.Duration
}

func takeReadings(peer, nodes []int) (readings, error) {
	p, err1 := usageOf(peer)
	n, err2 := usageOf(nodes)
	self, err3 := usageOf([]int{os.Getpid()})
	busy, err4 := busyTime()
	return readings{peer: p, nodes: n.cpu, self: self.cpu, busy: busy}, errors.Join(err1, err2, err3, err4)
}

// A worker is one client of a load.
type worker struct {
	load   load
	client client
	nonce  uint64
	pages  []page // that it asks for instead, in turn
	visits int
	sample sample
}

// warmUp asks at least once.
func (w *worker) warmUp(ctx context.Context, until time.Time) {
	for {
		var o observer
		w.ask(ctx, 0, &o)
		if ctx.Err() != nil || !time.Now().Before(until) {
			break
		}
	}
	w.sample.answers, w.sample.records, w.sample.bytes = 0, 0, 0
	w.sample.calls, w.sample.firsts = w.sample.calls[:0], w.sample.firsts[:0]
	clear(w.sample.pages)
}

func (w *worker) measure(ctx context.Context) {
	o := observer{stamped: w.load.stamped}
	begun := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		if w.load.answers > 0 {
			if n == w.load.answers {
				break
			}
		} else if time.Since(begun) >= w.load.lasting {
			break
		}
		w.ask(ctx, w.load.rate, &o)
	}
	w.sample.ages = o.ages
}

// next is what is asked next.
func (w *worker) next(rate int) prompt {
	w.nonce++
	p := prompt{words: w.load.words, rate: rate, nonce: w.nonce, deterministic: w.load.deterministic}
	if w.load.known > 0 {
		p.nonce = firstKnown + w.nonce%uint64(w.load.known)
	}
	return p
}

// failurePause keeps a peer that refuses everything from being asked in a busy loop.
const failurePause = 5 * time.Millisecond

func (w *worker) ask(ctx context.Context, rate int, o *observer) {
	if w.pages != nil {
		w.visit(ctx)
		return
	}
	p := w.next(rate)
	o.records, o.bytes = 0, 0
	begun := time.Now()
	err := w.client.ask(p, w.load.stream, o)
	took := time.Since(begun)
	if ctx.Err() != nil {
		return
	}
	s := &w.sample
	s.records += o.records
	if err != nil {
		s.failed++
		if errors.Is(err, errCut) {
			s.cut++
		}
		if s.fault == nil {
			s.fault = err
		}
		time.Sleep(failurePause)
		return
	}
	s.answers++
	s.bytes += o.bytes
	s.calls = append(s.calls, took)
	if w.load.stream {
		s.firsts = append(s.firsts, o.first)
	}
}
