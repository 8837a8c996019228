package status

import (
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

const (
	// Step is the grain of the history: short enough to see a burst, long enough that a quiet
	// gateway has a request in most of them.
	Step = 5 * time.Second

	// steps are ten minutes, and the step that is going on.
	steps = 10*perMinute + 1

	perMinute = int(time.Minute / Step)
)

// A class is what the outcome of a request means to who runs the gateway.
type class int

const (
	answered   class = iota // by a node
	fromCache               // without one
	overloaded              // there was no room
	failed                  // by a fault of nodes or of the gateway
	clients                 // the client was wrong, was not let in, or left
	classes
)

func classOf(r *gateway.Record) class {
	switch r.Outcome {
	case gateway.OK:
		if found(r) {
			return fromCache
		}
		return answered
	case gateway.Overloaded:
		return overloaded
	case gateway.ClientError, gateway.Unauthorized, gateway.ClientCanceled:
		return clients
	}
	return failed
}

// found tells whether the answer was a stored one.
func found(r *gateway.Record) bool {
	return r.Cache.Status == call.Hit || r.Cache.Status == call.Stale
}

// A History remembers the last ten minutes in steps, and what was saved since it was made. Its
// size is fixed. It has no goroutine: steps that have begun meanwhile are found when something
// happens or somebody looks. It is safe for concurrent use.
type History struct {
	waiting func() int
	began   time.Time

	mu    sync.Mutex // guards what follows
	ring  [steps]step
	last  int // the step that is going on, counted from began
	depth int // of the queue, when it was looked at last
	saved Saved
}

// A step is what ended in it.
type step struct {
	requests [classes]int
	first    spread  // times to the first byte of streams that nodes generated
	tokens   float64 // generated in it, of answers that have ended meanwhile
	waiting  int     // the longest the queue was seen
}

// NewHistory begins a history. waiting tells how many requests wait for a slot now.
func NewHistory(waiting func() int) *History {
	return &History{waiting: waiting, began: time.Now()}
}

// Began is when the history began.
func (h *History) Began() time.Time { return h.began }

// Chosen is told when a request leaves the queue.
func (h *History) Chosen() { h.look() }

// look takes down the length of the queue.
func (h *History) look() {
	depth := h.waiting() // it has a lock of its own
	h.mu.Lock()
	h.sawLocked(depth)
	h.mu.Unlock()
}

// Ended is told of each request.
func (h *History) Ended(r *gateway.Record) {
	depth := -1
	if !found(r) { // else it was not at the queue
		depth = h.waiting()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if depth >= 0 {
		h.sawLocked(depth)
	}
	s := h.nowLocked()
	s.requests[classOf(r)]++
	if r.Stream && r.FirstByte > 0 && !found(r) {
		s.first.add(r.FirstByte)
	}
	h.generatedLocked(r)
	h.saved.add(r)
}

// generatedLocked spreads the tokens of an answer over the time in which they were generated:
// as if all were generated at its end, one long answer would look like a peak.
func (h *History) generatedLocked(r *gateway.Record) {
	tokens := float64(r.Totals.OutputTokens)
	if tokens <= 0 || found(r) {
		return
	}
	took := r.Totals.Eval
	if took <= 0 {
		took = r.Took - r.FirstByte
	}
	end := time.Since(h.began)
	took = min(max(took, time.Millisecond), end)
	if took <= 0 {
		h.stepLocked(h.last).tokens += tokens
		return
	}
	begin := end - took
	for i := h.last; i >= 0 && i > h.last-steps && time.Duration(i+1)*Step > begin; i-- {
		part := min(end, time.Duration(i+1)*Step) - max(begin, time.Duration(i)*Step)
		h.stepLocked(i).tokens += tokens * float64(part) / float64(took)
	}
}

func (h *History) sawLocked(depth int) {
	s := h.nowLocked()
	s.waiting = max(s.waiting, depth)
	h.depth = depth
}

// nowLocked begins the steps whose time has come. Nobody looked in between, so the queue was as
// it was: its length changes only with a request.
func (h *History) nowLocked() *step {
	now := int(time.Since(h.began) / Step)
	for i := max(h.last+1, now-steps+1); i <= now; i++ {
		*h.stepLocked(i) = step{waiting: h.depth}
	}
	h.last = max(h.last, now)
	return h.stepLocked(h.last)
}

func (h *History) stepLocked(i int) *step { return &h.ring[i%steps] }

// Read tells what is remembered: the ten minutes, the minutes apart, the oldest first, and what
// was saved.
func (h *History) Read() (Series, []Minute, Saved) {
	h.look()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nowLocked()
	return h.seriesLocked(), h.minutesLocked(), h.saved
}

// seriesLocked leaves out the step that is going on: as a rate it would look like a fall.
func (h *History) seriesLocked() Series {
	s := Series{Step: Step.Seconds(), End: h.began.Add(time.Duration(h.last) * Step).Round(0)}
	for i := h.last - steps + 1; i < h.last; i++ {
		var at step // before the history began nothing happened
		if i >= 0 {
			at = *h.stepLocked(i)
		}
		s.Answered = append(s.Answered, at.requests[answered])
		s.FromCache = append(s.FromCache, at.requests[fromCache])
		s.Overloaded = append(s.Overloaded, at.requests[overloaded])
		s.Failed = append(s.Failed, at.requests[failed])
		s.Clients = append(s.Clients, at.requests[clients])
		s.FirstP50 = append(s.FirstP50, at.first.quantile(0.50))
		s.FirstP95 = append(s.FirstP95, at.first.quantile(0.95))
		s.TokensRate = append(s.TokensRate, tenths(at.tokens/Step.Seconds()))
		s.Waiting = append(s.Waiting, at.waiting)
	}
	return s
}

// minutesLocked has minutes that end now, so that the last one is never a young one.
func (h *History) minutesLocked() []Minute {
	into := time.Since(h.began) - time.Duration(h.last)*Step // the step that is going on
	minutes := make([]Minute, 0, (steps-1)/perMinute)
	for first := h.last - steps + 2; first <= h.last; first += perMinute {
		var all step
		took := time.Duration(0)
		for i := first; i < first+perMinute; i++ {
			if i < 0 {
				continue
			}
			at := h.stepLocked(i)
			took += Step
			if i == h.last {
				took += into - Step
			}
			for c, n := range at.requests {
				all.requests[c] += n
			}
			all.first.merge(&at.first)
			all.tokens += at.tokens
			all.waiting = max(all.waiting, at.waiting)
		}
		minutes = append(minutes, minuteOf(&all, took))
	}
	return minutes
}

func minuteOf(s *step, took time.Duration) Minute {
	m := Minute{
		Answered: s.requests[answered], FromCache: s.requests[fromCache], Overloaded: s.requests[overloaded],
		Failed: s.requests[failed], Clients: s.requests[clients],
		FirstP50: s.first.quantile(0.50), FirstP95: s.first.quantile(0.95), Waiting: s.waiting,
	}
	if took >= time.Second { // else it would be a rate over nothing
		m.Rate = tenths(float64(m.Requests()) / took.Seconds())
		m.TokensRate = tenths(s.tokens / took.Seconds())
	}
	return m
}
