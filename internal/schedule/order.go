package schedule

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// An Order is a model to be loaded on a node by a call of the engine's own, which no client's
// departure cancels (a node gives a load up when the one who asked for it leaves) and all who
// wait for the model share. A node has one at a time.
type Order struct {
	Node      *fleet.Node
	Model     string             // key of its name
	Options   wire.RunnerOptions // effective
	Embedding bool
	// KeepAlive is that of the call that wanted the model first, nil if it said nothing.
	// Negative: for ever.
	KeepAlive *time.Duration
	Evict     []string // keys of idle models that have to be unloaded before
	Reason    string   // a word for logs and metrics: see the Reason constants

	queue *Queue
	key   runnerKey
	began time.Time
	done  bool
	again bool
	bytes int64 // loaded there before, without what is evicted
	count int
}

// Why a model is loaded.
const (
	ReasonFirst   = "first"   // no other node has it
	ReasonWait    = "wait"    // the wait for the nodes that have it is longer than a load
	ReasonSpread  = "spread"  // there is room, and the nodes that have it are half full
	ReasonPreload = "preload" // by configuration
)

// LoadReasons lists them.
var LoadReasons = [...]string{ReasonFirst, ReasonWait, ReasonSpread, ReasonPreload}

// A Loader loads models. It must not block: it has each order's Done called once.
type Loader interface{ Load(*Order) }

// ErrNotLoadable tells that the node does not take the engine's way to load this model: calls
// are sent as they are.
var ErrNotLoadable = errors.New("not to be loaded by itself")

// Later tells that the node has no room for a load now. Err is for those who wait if it goes on
// like that.
type Later struct{ Err error }

func (e *Later) Error() string { return "no load now: " + e.Err.Error() }

const (
	// failedFor is how long a load that failed is remembered for those who waited for it.
	failedFor = time.Hour
	// failedMost is how many nodes may fail to load a model before all who wait are told, however
	// many are left.
	failedMost = 3
	// laterFor is how long a node may have no room for loads before all who wait are told.
	laterFor = 4 * time.Second
	// plainFor is how long calls for what is ErrNotLoadable are sent as they are.
	plainFor = 10 * time.Second
	// loadUnknown is what a load takes while none has been measured.
	loadUnknown = 5 * time.Second
	// serviceUnknown is what an answer takes while none has been measured.
	serviceUnknown = 5 * time.Second
)

func isPlain(err error) bool { return errors.Is(err, ErrNotLoadable) }

// A failure is a load that failed.
type failure struct {
	err       error
	at, until time.Time
	sequence  uint64 // of the last call that had come by then
}

// A place is a node where a model could be loaded now.
type place struct {
	view  *fleet.NodeView
	rank  int
	evict []string
	used  time.Time // when the last of evict was used last
	count int       // models loaded there
	load  float64   // calls per slot
	last  time.Time // when the model was used there: the file may still be in memory
}

// How good a place is.
const (
	placeRoom    = iota // it surely has room
	placeCopy           // what has to go is loaded elsewhere, too
	placeUnknown        // nobody knows whether it has room
	placeLast           // the last copy of an idle model has to go
)

func (p *place) better(o *place) bool {
	return cmp.Or(
		cmp.Compare(p.rank, o.rank),
		p.used.Compare(o.used),
		cmp.Compare(p.count, o.count),
		cmp.Compare(p.load, o.load),
		o.last.Compare(p.last)) < 0
}

// placeOnLocked judges a node as a place for a runner that is not there; ok is false if it cannot
// be loaded there now.
func (q *Queue) placeOnLocked(snap *fleet.Snapshot, v *fleet.NodeView, m *fleet.Model, late bool) (p place, ok bool) {
	b := q.books[v.Node]
	p = place{view: v, rank: placeRoom, last: q.usedLocked(b, m.Key)}
	var bytes int64
	var own *fleet.Runner // the same model with other options: it goes by itself
	for i := range v.Runners {
		r := &v.Runners[i]
		if r.Key == m.Key || slices.Contains(m.Digests, r.Digest) {
			own = r
			continue
		}
		bytes += r.Size
		p.count++
	}
	slots := v.Node.Slots()
	if m.Embedding {
		slots = 1
	}
	if b != nil {
		p.load = float64(b.inFlight) / (float64(slots) * v.Weight(m.Key))
	}
	if own != nil {
		// Its other runner goes, whoever uses that.
		p.used = q.usedLocked(b, m.Key)
		if p.rank = placeLast; q.residentElsewhereLocked(snap, v.Node, own.Key) {
			p.rank = placeCopy
		}
		return p, true
	}
	size := q.sizes[m.Key]
	rm := room{}
	if b != nil {
		rm = b.room
	}
	switch rm.fits(bytes+size, p.count+1) {
	case yes:
		return p, true
	case perhaps:
		if p.count > 0 {
			// To unload a copy costs less than to have the node choose what goes.
			p.rank = placeUnknown
			if victims := q.victimsLocked(snap, v, b, late); len(victims) > 0 && !victims[0].last {
				p.rank, p.used, p.evict = placeCopy, victims[0].used, []string{victims[0].model}
			}
		}
		return p, true
	}
	p.rank = placeCopy
	count := p.count + 1
	bytes += size
	for _, victim := range q.victimsLocked(snap, v, b, late) {
		p.evict = append(p.evict, victim.model)
		if p.used = victim.used; victim.last {
			p.rank = placeLast
		}
		bytes -= victim.bytes
		count--
		if rm.fits(bytes, count) != no {
			return p, true
		}
	}
	return p, false
}

// A victim is a loaded model that may go.
type victim struct {
	model string
	bytes int64
	used  time.Time
	last  bool // no other node has it
}

// victimsLocked lists what may go, copies first, then the least used: only what is idle, and not the
// last copy of a model that somebody waits for, unless a call is late.
func (q *Queue) victimsLocked(snap *fleet.Snapshot, v *fleet.NodeView, b *book, late bool) []victim {
	var victims []victim
	for i := range v.Runners {
		r := &v.Runners[i]
		if b.busy(r.Key) || q.preloadedLocked(v.Node, r.Key) {
			continue
		}
		last := !q.residentElsewhereLocked(snap, v.Node, r.Key)
		if last && !late && q.wantedLocked(r.Key) {
			continue
		}
		victims = append(victims, victim{r.Key, r.Size, q.usedLocked(b, r.Key), last})
	}
	slices.SortFunc(victims, func(x, y victim) int {
		return cmp.Or(compareBool(x.last, y.last), x.used.Compare(y.used), cmp.Compare(x.model, y.model))
	})
	return victims
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (q *Queue) usedLocked(b *book, model string) time.Time {
	if b == nil {
		return time.Time{}
	}
	return b.used[model]
}

// residentElsewhereLocked tells whether another usable node has the model loaded.
func (q *Queue) residentElsewhereLocked(snap *fleet.Snapshot, n *fleet.Node, model string) bool {
	for i := range snap.Nodes {
		v := &snap.Nodes[i]
		if v.Node != n && v.Usable() && slices.ContainsFunc(v.Runners, func(r fleet.Runner) bool { return r.Key == model }) {
			return true
		}
	}
	return false
}

// wantedLocked tells whether calls for a model wait or run.
func (q *Queue) wantedLocked(model string) bool {
	for k := range q.lines {
		if k.runner.model == model {
			return true
		}
	}
	for _, b := range q.books {
		if b.busy(model) {
			return true
		}
	}
	return false
}

// orderLocked has a model loaded at a place. The order is handed to the loader by unlock.
func (q *Queue) orderLocked(p *place, m *fleet.Model, key runnerKey, keepAlive *time.Duration, reason string) {
	b := q.bookLocked(p.view.Node)
	o := &Order{
		Node: p.view.Node, Model: key.model, Options: key.options.Over(m.Parameters), Embedding: m.Embedding, KeepAlive: keepAlive,
		Evict: p.evict, Reason: reason, queue: q, key: key, began: time.Now(),
	}
	o.again = o.began.Sub(b.used[key.model]) < againFor
	for i := range p.view.Runners {
		r := &p.view.Runners[i]
		if r.Key != key.model && !slices.Contains(o.Evict, r.Key) {
			o.bytes += r.Size
			o.count++
		}
	}
	b.order = o
	delete(b.known, o.Model)
	q.clockLocked(key).start(o.began)
	q.orders = append(q.orders, o)
}

// Done ends an order: with nil once the fleet knows of the runner, with ErrNotLoadable or
// *Later, or with an error that all who wait are told if no other node can load it. Only the
// first call counts.
func (o *Order) Done(err error) {
	q := o.queue
	q.mu.Lock()
	if o.done {
		q.mu.Unlock()
		return
	}
	o.done = true
	now := time.Now()
	b := q.bookLocked(o.Node)
	b.order = nil
	b.loads = append(b.loads[max(0, len(b.loads)-recordedLoads+1):], LoadRecord{
		Model: o.Model, Reason: o.Reason, Evicted: o.Evict, At: o.began, Took: now.Sub(o.began), Failed: err != nil,
		Again: o.again,
	})
	if o.again && err == nil {
		b.again++
	}
	b.used[o.Model] = now
	if c := q.clocks[o.key]; c != nil {
		c.stop(now)
	}
	snap := q.fleet.Snapshot()
	var later *Later
	if errors.As(err, &later) {
		if b.laterSince.IsZero() {
			b.laterSince = now
		}
		if now.Sub(b.laterSince) >= laterFor {
			err, later, b.laterSince = later.Err, nil, time.Time{}
		}
	} else {
		b.laterSince = time.Time{}
	}
	switch {
	case err == nil:
		delete(b.failed, o.key)
		q.loadTimes[o.Model] = moving(q.loadTimes[o.Model], now.Sub(o.began))
		q.learnRoomLocked(snap, b, o)
		if !o.shows(snap) {
			// The node has something else than it was told to load: told again it would be the same.
			b.fail(o.key, failure{ErrNotLoadable, now, now.Add(time.Second), q.sequence})
		}
	case later != nil:
	default:
		f := failure{err, now, now.Add(failedFor), q.sequence}
		if errors.Is(err, ErrNotLoadable) {
			f.until = now.Add(plainFor)
		}
		b.fail(o.key, f)
	}
	q.forgetLocked(snap)
	ready := q.dispatchLocked(snap)
	q.preloadLocked(snap) // the node may have another one to load
	if err != nil && !q.stopping && q.preloadedLocked(o.Node, o.Model) {
		time.AfterFunc(preloadAgain, q.fleetChanged) // nobody else asks for it
	}
	q.forgetRunnerLocked(o.key)
	q.unlock(ready)
}

// shows tells whether the runner that was ordered is there.
func (o *Order) shows(snap *fleet.Snapshot) bool {
	m, v := snap.Models[o.Model], viewOf(snap, o.Node)
	if m == nil || v == nil {
		return true // it is another story
	}
	r, ok := v.Runner(m)
	return !ok || r.Matches(o.key.options, o.Options.Over(m.Parameters))
}

// fail remembers a load that failed.
func (b *book) fail(key runnerKey, f failure) {
	for k, old := range b.failed { // what is over
		if f.at.After(old.until) {
			delete(b.failed, k)
		}
	}
	if b.failed == nil {
		b.failed = make(map[runnerKey]failure)
	}
	b.failed[key] = f
}

// forgetRunnerLocked drops what is only kept for those who wait for a runner, once nobody does:
// clients name as many as they like.
func (q *Queue) forgetRunnerLocked(key runnerKey) {
	if c := q.clocks[key]; c == nil || c.running > 0 || q.waitingLocked(key) > 0 {
		return
	}
	delete(q.clocks, key)
	for _, b := range q.books {
		if f, ok := b.failed[key]; ok && !isPlain(f.err) && f.until.After(f.at.Add(preloadAgain)) {
			f.until = f.at.Add(preloadAgain)
			b.failed[key] = f
		}
	}
}

// waitingLocked is how many calls wait for a runner.
func (q *Queue) waitingLocked(key runnerKey) int {
	n := 0
	for k, l := range q.lines {
		if k.runner == key {
			n += l.length()
		}
	}
	return n
}

// moving is an average that follows.
func moving(mean, d time.Duration) time.Duration {
	if mean == 0 {
		return d
	}
	return mean + (d-mean)/4
}

// recordedLoads is how many loads of a node are remembered, for people.
const recordedLoads = 5

// againFor is how soon after its last use a model is loaded for the second time if it was not its
// keep_alive that ended: Ollama's own is five minutes.
const againFor = 5 * time.Minute

// A LoadRecord is a load that has ended.
type LoadRecord struct {
	Model, Reason string   // key of its name; a Reason constant
	Evicted       []string // keys of what had to go
	At            time.Time
	Took          time.Duration
	Failed        bool
	Again         bool // it was in use there less than five minutes before: models take turns in too little room
}

// Loads are the last loads of a node, the newest last.
func (q *Queue) Loads(n *fleet.Node) []LoadRecord {
	q.mu.Lock()
	defer q.mu.Unlock()
	if b := q.books[n]; b != nil {
		return slices.Clone(b.loads)
	}
	return nil
}

// Again counts the loads of a node of models that had been in use there a moment before.
func (q *Queue) Again(n *fleet.Node) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if b := q.books[n]; b != nil {
		return b.again
	}
	return 0
}

// A clock is how long a runner has been loading anywhere, so that it does not count as waiting.
type clock struct {
	running int
	since   time.Time
	total   time.Duration
}

func (c *clock) start(now time.Time) {
	if c.running++; c.running == 1 {
		c.since = now
	}
}

func (c *clock) stop(now time.Time) {
	if c.running--; c.running == 0 {
		c.total += now.Sub(c.since)
	}
}

func (c *clock) elapsed(now time.Time) time.Duration {
	if c == nil {
		return 0
	}
	if c.running > 0 {
		return c.total + now.Sub(c.since)
	}
	return c.total
}

func (q *Queue) clockLocked(key runnerKey) *clock {
	c := q.clocks[key]
	if c == nil {
		c = &clock{}
		q.clocks[key] = c
	}
	return c
}
