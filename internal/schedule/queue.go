// Package schedule gives grants: the permission to use one slot of one node.
//
// Calls wait here and not at the nodes, because a node would queue without bound and in the
// order of its own choosing; so each choice is made as late as possible, over one snapshot
// of the fleet. A runner never has more calls than slots, a node never two cold loads at
// once, and a call for a busy model blocks nobody behind it. The package does no I/O and
// starts no goroutine.
package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Defaults of Options.
const (
	DefaultMaxLength = 512 // as many as one Ollama node lets wait for a load
	DefaultMaxWait   = 10 * time.Minute
)

var (
	// ErrQueueFull refuses a call at once: as many as may are waiting already.
	ErrQueueFull = errors.New("queue is full")
	// ErrWaitTooLong ends a wait that took MaxWait.
	ErrWaitTooLong = errors.New("waited too long for a free slot")
	// ErrNoNode is returned when no node that is usable and not excluded can serve the call.
	ErrNoNode = errors.New("no node can serve the call")
	// ErrGone is an ErrNoNode: no node has the model any more. It was there when the call was let in.
	ErrGone = fmt.Errorf("%w: the model is gone", ErrNoNode)
	// ErrBusy refuses a call that wanted an idle slot or nothing.
	ErrBusy = errors.New("no idle slot")
	// ErrStopping refuses all calls, waiting ones too, once the process is leaving.
	ErrStopping = errors.New("stopping")
)

// Options bound the queue. The zero value works.
type Options struct {
	MaxLength int           // waiting calls of all classes; further ones are refused at once. Default: 512.
	MaxWait   time.Duration // longest wait for a slot, loads not counted. Default: 10m. Negative: no limit.
	Preloads  []Preload     // models that are kept loaded
}

func (o Options) withDefaults() Options {
	if o.MaxLength == 0 {
		o.MaxLength = DefaultMaxLength
	}
	if o.MaxWait == 0 {
		o.MaxWait = DefaultMaxWait
	}
	return o
}

// A Fleet is what is known of the nodes.
type Fleet interface {
	Snapshot() *fleet.Snapshot
	Subscribe(func()) (cancel func())
}

// An Ask is what a call wants of a node.
type Ask struct {
	Model     string             // key of its name
	Requested wire.RunnerOptions // those that the request itself sets
	Effective wire.RunnerOptions // these over the model's own
	Embedding bool               // the model only embeds: one slot whatever the node's slots are
	Class     call.Class
	KeepAlive *time.Duration // what the request says of it
	Turns     []wire.Turn    // what the model is to read
	Exclude   []string       // names of nodes tried already
	Plain     bool           // the call is for the node to refuse: it is sent without a load
	IdleOnly  bool           // refuse with ErrBusy rather than wait
	Patient   bool           // MaxWait is not for it: only its context ends its wait
}

// runner is the one that the call wants.
func (a *Ask) runner() runnerKey { return runnerKey{model: a.Model, options: a.Requested} }

// A Queue holds the calls that wait for a slot and the books of the slots in use. It is safe
// for concurrent use.
type Queue struct {
	fleet       Fleet
	choose      Choice
	loader      Loader
	unsubscribe func()
	observer    Observer // nil: nobody

	mu                      sync.Mutex // guards what follows
	opts                    Options
	books                   map[*fleet.Node]*book
	lines                   map[lineKey]*line     // of calls that want the same
	held                    map[*fleet.Node]*hold // by calls that wait, since the last dispatch
	survey                  survey                // of the call that is being placed
	orders                  []*Order              // to be handed to the loader with the next unlock
	clocks                  map[runnerKey]*clock
	sizes                   map[string]int64         // bytes of a loaded model, by key
	outputs                 map[string]float64       // usual tokens of an answer, by model
	loadTimes, serviceTimes map[string]time.Duration // usual ones, by model
	waiting                 [len(call.Classes)]int
	sequence                uint64
	stopping                bool
}

// NewQueue makes a queue over a fleet. choose picks among the nodes that have a free slot;
// nil is LeastLoaded with a random tie. Without a loader a call for a model that is not loaded
// is sent as it is, and loads it.
func NewQueue(f Fleet, choose Choice, loader Loader) *Queue {
	if choose == nil {
		choose = LeastLoaded(rand.IntN)
	}
	q := &Queue{
		fleet: f, choose: choose, loader: loader, opts: Options{}.withDefaults(),
		books: make(map[*fleet.Node]*book), lines: make(map[lineKey]*line), held: make(map[*fleet.Node]*hold), clocks: make(map[runnerKey]*clock),
		sizes: make(map[string]int64), outputs: make(map[string]float64), loadTimes: make(map[string]time.Duration), serviceTimes: make(map[string]time.Duration),
	}
	q.unsubscribe = f.Subscribe(q.fleetChanged)
	return q
}

// Configure sets the bounds for calls that come from now on; nobody who waits is sent away.
func (q *Queue) Configure(opts Options) {
	q.mu.Lock()
	q.opts = opts.withDefaults()
	q.preloadLocked(q.fleet.Snapshot())
	q.unlock(nil)
}

// Stop refuses all that wait and all that come with ErrStopping. Grants stay valid.
func (q *Queue) Stop() {
	q.unsubscribe()
	q.mu.Lock()
	q.stopping = true
	var gone []*waiter
	for _, l := range q.lines {
		for class := range l.classes {
			for len(l.classes[class]) > 0 {
				gone = append(gone, q.popLocked(l, class))
			}
		}
	}
	q.mu.Unlock()
	for _, w := range gone {
		w.result <- granted{err: ErrStopping}
	}
}

func (q *Queue) acquire(ctx context.Context, ask Ask) (*Grant, error) {
	if g, err := q.acquireNow(&ask); g != nil || err != nil {
		return g, err
	}
	w, maxWait, err := q.enter(ask)
	if err != nil {
		return nil, err
	}
	select {
	case g := <-w.result: // granted at once: no need to measure a wait
		return g.grant, g.err
	default:
	}
	var (
		tooLong <-chan time.Time
		timer   *time.Timer
	)
	if maxWait > 0 && !ask.Patient {
		timer = time.NewTimer(maxWait)
		defer timer.Stop()
		tooLong = timer.C
	}
	for {
		select {
		case g := <-w.result:
			return g.grant, g.err
		case <-ctx.Done():
			return nil, q.leave(w, context.Cause(ctx))
		case <-tooLong:
			left := q.waitLeft(w, maxWait)
			if left <= 0 {
				return nil, q.leave(w, ErrWaitTooLong)
			}
			timer.Reset(left)
		}
	}
}

// waitLeft is how much longer a call may wait, loads of its model not counted.
func (q *Queue) waitLeft(w *waiter, maxWait time.Duration) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	c := q.clocks[w.key]
	left := maxWait - now.Sub(w.came) + c.elapsed(now) - w.loads
	if c != nil && c.running > 0 {
		return max(left, time.Second) // it does not get less now
	}
	return left
}

// unlock releases the queue and hands out what was decided under the lock.
func (q *Queue) unlock(ready []delivery) {
	orders := q.orders
	q.orders = nil
	q.mu.Unlock()
	deliver(ready)
	for _, o := range orders {
		q.loader.Load(o)
	}
}

// acquireNow is the short way of a call that meets an empty queue: nobody is before it, so
// that it needs no place in a line. Without a grant or an error it has to take the long way.
func (q *Queue) acquireNow(ask *Ask) (*Grant, error) {
	q.mu.Lock()
	defer q.unlock(nil)
	if q.stopping || q.lengthLocked() > 0 {
		return nil, nil
	}
	return q.placeLocked(q.fleet.Snapshot(), ask, nil, nil)
}

// enter puts a call into its line and grants what can be granted there: for all others nothing has
// changed.
func (q *Queue) enter(ask Ask) (*waiter, time.Duration, error) {
	q.mu.Lock()
	if q.stopping {
		q.mu.Unlock()
		return nil, 0, ErrStopping
	}
	q.sequence++
	snap := q.fleet.Snapshot()
	w := &waiter{ask: ask, sequence: q.sequence, result: make(chan granted, 1), came: time.Now(), key: ask.runner()}
	w.loads = q.clocks[w.key].elapsed(w.came)
	l := q.pushLocked(w)
	ready := q.advanceLocked(snap, l)
	maxWait := q.opts.MaxWait
	if !w.left { // neither granted nor refused: it has to wait, if it may
		var err error
		switch {
		case ask.IdleOnly:
			err = ErrBusy
		case q.lengthLocked() > q.opts.MaxLength:
			err = ErrQueueFull
		}
		if err != nil {
			q.removeLocked(w)
			q.unlock(ready)
			return nil, 0, err
		}
	}
	q.unlock(ready)
	return w, maxWait, nil
}

// leave takes a call out of its line. A grant that came at the same moment is given back.
func (q *Queue) leave(w *waiter, why error) error {
	q.mu.Lock()
	if !w.left {
		q.removeLocked(w)
		// Its leaving may unblock a node that was held for it.
		q.unlock(q.dispatchLocked(q.fleet.Snapshot()))
		return why
	}
	q.mu.Unlock()
	if g := <-w.result; g.grant != nil {
		g.grant.Release()
	}
	return why
}

func (q *Queue) fleetChanged() {
	q.mu.Lock()
	snap := q.fleet.Snapshot()
	q.forgetLocked(snap)
	q.observeLocked(snap)
	q.preloadLocked(snap)
	q.unlock(q.dispatchLocked(snap))
}

// dispatchLocked grants all that can be granted now: class by class, in each the call that
// came first among the heads of the lines. Who waits behind the head of a line wants the
// same as the head, so it cannot be served if the head cannot.
func (q *Queue) dispatchLocked(snap *fleet.Snapshot) []delivery {
	clear(q.held)
	if q.lengthLocked() == 0 {
		return nil
	}
	var ready []delivery
	for class := range call.Classes {
		if q.waiting[class] == 0 {
			continue
		}
		heads := q.headsLocked(class)
		for len(heads) > 0 {
			w := heads[0]
			l := q.lines[keyOf(w)]
			g, err := q.placeLocked(snap, &w.ask, w, q.held)
			if g == nil && err == nil { // it waits, and with it its line
				heads = heads[1:]
				continue
			}
			q.popLocked(l, class)
			ready = append(ready, delivery{w, granted{g, err}})
			heads = heads[1:]
			if next := l.classes[class]; len(next) > 0 {
				i, _ := slices.BinarySearchFunc(heads, next[0], bySequence)
				heads = slices.Insert(heads, i, next[0])
			}
		}
	}
	return ready
}

// advanceLocked serves a line as far as it can be served.
func (q *Queue) advanceLocked(snap *fleet.Snapshot, l *line) (ready []delivery) {
	for class := range l.classes {
		for len(l.classes[class]) > 0 {
			w := l.classes[class][0]
			g, err := q.placeLocked(snap, &w.ask, w, q.held)
			if g == nil && err == nil {
				return ready
			}
			q.popLocked(l, class)
			ready = append(ready, delivery{w, granted{g, err}})
		}
	}
	return ready
}

// headsLocked lists the first of each line, who came first in front.
func (q *Queue) headsLocked(class int) []*waiter {
	heads := make([]*waiter, 0, len(q.lines))
	for _, l := range q.lines {
		if len(l.classes[class]) > 0 {
			heads = append(heads, l.classes[class][0])
		}
	}
	slices.SortFunc(heads, bySequence)
	return heads
}

func bySequence(a, b *waiter) int { return cmp.Compare(a.sequence, b.sequence) }

// Waiting is the number of calls of a class that wait.
func (q *Queue) Waiting(class call.Class) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting[class]
}

// Limit is how many calls may wait.
func (q *Queue) Limit() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.opts.MaxLength
}

func (q *Queue) lengthLocked() int {
	n := 0
	for _, w := range q.waiting {
		n += w
	}
	return n
}
