// Package suspect finds requests that take nodes down, by what deaths have in common.
//
// A node dies when its connections are closed without a response. What was running there is
// suspected for a while, and a request that is the only one common to two deaths is refused.
// Requests are known by fingerprints, which are keyed anew in each process and tell nothing.
// suspect knows nothing of HTTP, nodes or models.
package suspect

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Memory is how long a death, and what was condemned for it, is remembered.
	Memory = 10 * time.Minute

	// deathsLimit bounds the deaths remembered; the oldest are forgotten first. A fleet of 50
	// nodes that all die leaves room.
	deathsLimit = 64
	// crowdLimit bounds the suspects of one death, far beyond what a node runs at once. Of a
	// larger crowd nothing is remembered: with a part of it only, one who was among two crowds
	// by chance could look like the only one.
	crowdLimit = 1024
)

// A Fingerprint stands for a model and a request body. Equal requests have equal ones, in one
// process; two that differ meet once in 2^64.
type Fingerprint uint64

// Suspects remembers deaths. Make it with New. It is safe for concurrent use; its memory is
// bounded by what runs and by 64 deaths of 1024 suspects.
type Suspects struct {
	seed maphash.Seed

	// quiet says that no death is remembered, which is nearly always so, and spares the lock.
	quiet atomic.Bool

	mu        sync.Mutex // guards what follows
	running   map[string]map[*Run]struct{}
	deaths    []death // oldest first
	condemned map[Fingerprint]time.Time
}

// A death is one of a node.
type death struct {
	at       time.Time
	suspects map[Fingerprint]struct{}
}

// A Run is a request that a node works on. Its Done must be called once.
type Run struct {
	suspects    *Suspects
	node        string
	fingerprint Fingerprint
	dead        bool // guarded by Suspects.mu: it is among the suspects of a death already
}

// New makes an empty memory.
func New() *Suspects {
	s := &Suspects{seed: maphash.MakeSeed(), running: map[string]map[*Run]struct{}{}, condemned: map[Fingerprint]time.Time{}}
	s.quiet.Store(true)
	return s
}

// Fingerprint is that of a request: the model as a node knows it, and the body in pieces. It
// depends on the bytes and not on how they are cut.
func (s *Suspects) Fingerprint(model string, body [][]byte) Fingerprint {
	var h maphash.Hash
	h.SetSeed(s.seed)
	h.WriteString(model)
	h.WriteByte(0) // no model's name has one
	for _, piece := range body {
		h.Write(piece)
	}
	return Fingerprint(h.Sum64())
}

// Running says that a node begins to work on a request.
func (s *Suspects) Running(node string, f Fingerprint) *Run {
	r := &Run{suspects: s, node: node, fingerprint: f}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[node] == nil {
		s.running[node] = map[*Run]struct{}{}
	}
	s.running[node][r] = struct{}{}
	return r
}

// Done says that the node is no longer at it, for whatever reason.
func (r *Run) Done() {
	s := r.suspects
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running[r.node], r)
	if len(s.running[r.node]) == 0 {
		delete(s.running, r.node)
	}
}

// Died says that the connection was closed without a response, before Done. All that ran on
// the node now is suspected. When the other runs tell the same death, it counts once.
func (r *Run) Died() {
	s := r.suspects
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.dead {
		return
	}
	d := death{at: time.Now(), suspects: map[Fingerprint]struct{}{r.fingerprint: {}}}
	r.dead = true
	for other := range s.running[r.node] {
		if !other.dead {
			other.dead = true
			d.suspects[other.fingerprint] = struct{}{}
		}
	}
	if len(d.suspects) > crowdLimit {
		return
	}
	s.forgetLocked(d.at)
	for _, before := range s.deaths {
		if f, one := onlyCommon(before.suspects, d.suspects); one {
			s.condemned[f] = d.at.Add(Memory)
		}
	}
	if len(s.deaths) == deathsLimit {
		s.deaths = append(s.deaths[:0], s.deaths[1:]...)
	}
	s.deaths = append(s.deaths, d)
	s.quiet.Store(false)
}

// onlyCommon gives the one member that two sets have in common.
func onlyCommon(a, b map[Fingerprint]struct{}) (f Fingerprint, one bool) {
	if len(a) > len(b) {
		a, b = b, a
	}
	for member := range a {
		if _, common := b[member]; !common {
			continue
		}
		if one {
			return 0, false
		}
		f, one = member, true
	}
	return f, one
}

// forgetLocked drops what is too old.
func (s *Suspects) forgetLocked(now time.Time) {
	old := 0
	for old < len(s.deaths) && now.Sub(s.deaths[old].at) >= Memory {
		old++
	}
	s.deaths = append(s.deaths[:0], s.deaths[old:]...)
	clear(s.deaths[len(s.deaths):cap(s.deaths)]) // or the sets would live on
	for f, until := range s.condemned {
		if !now.Before(until) {
			delete(s.condemned, f)
		}
	}
	s.quiet.Store(len(s.deaths) == 0 && len(s.condemned) == 0)
}

// Refused tells whether a request is to be refused: in the last ten minutes it was the only
// one running at two deaths.
func (s *Suspects) Refused(f Fingerprint) bool {
	if s.quiet.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(time.Now())
	_, refused := s.condemned[f]
	return refused
}

// Suspect tells whether a request was running at a death in the last ten minutes. It is
// retried at most once, whatever the call's retries are.
func (s *Suspects) Suspect(f Fingerprint) bool {
	if s.quiet.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(time.Now())
	for _, d := range s.deaths {
		if _, running := d.suspects[f]; running {
			return true
		}
	}
	return false
}
