package web

import (
	linked "container/list"
	"sync"
	"time"
)

// visitorLimits bound what visitors may ask of a model.
type visitorLimits struct {
	every    time.Duration // a visitor may ask again so often
	burst    int           // questions that may come at once before that
	atOnce   int           // answers that one visitor waits for
	together int           // answers that all wait for
	known    int           // visitors that are told apart; who was not seen longest is forgotten
}

// A page asks once or twice for a reader. A crowd of readers behind one address shares these.
var usualLimits = visitorLimits{every: 6 * time.Second, burst: 5, atOnce: 2, together: 16, known: 10_000}

// visitors counts what each has asked lately. Safe for concurrent use.
type visitors struct {
	limits visitorLimits

	mu      sync.Mutex // guards what follows
	byKey   map[string]*linked.Element
	order   *linked.List // of *visitor, the one seen last in front
	running int
}

// A visitor is known by address alone.
type visitor struct {
	key     string
	left    float64 // questions that may come at once
	seen    time.Time
	running int
}

// A tooMuch says how long a visitor has to wait, and whether for others.
type tooMuch struct {
	wait   time.Duration
	others bool
}

func newVisitors(limits visitorLimits) *visitors {
	return &visitors{limits: limits, byKey: map[string]*linked.Element{}, order: linked.New()}
}

// admit lets a visitor ask, or says why not. leave must be called once when the answer has ended.
func (vs *visitors) admit(key string, now time.Time) (leave func(), no *tooMuch) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	v := vs.findLocked(key, now)
	switch {
	case v.running >= vs.limits.atOnce:
		return nil, &tooMuch{wait: vs.limits.every}
	case v.left < 1:
		return nil, &tooMuch{wait: time.Duration((1 - v.left) * float64(vs.limits.every))}
	case vs.running >= vs.limits.together:
		return nil, &tooMuch{wait: vs.limits.every, others: true}
	}
	v.left--
	v.running++
	vs.running++
	return func() {
		vs.mu.Lock()
		defer vs.mu.Unlock()
		v.running-- // also of one who has been forgotten meanwhile
		vs.running--
	}, nil
}

func (vs *visitors) findLocked(key string, now time.Time) *visitor {
	e := vs.byKey[key]
	if e == nil {
		e = vs.order.PushFront(&visitor{key: key, left: float64(vs.limits.burst), seen: now})
		vs.byKey[key] = e
		if vs.order.Len() > vs.limits.known {
			delete(vs.byKey, vs.order.Remove(vs.order.Back()).(*visitor).key)
		}
		return e.Value.(*visitor)
	}
	vs.order.MoveToFront(e)
	v := e.Value.(*visitor)
	if past := now.Sub(v.seen); past > 0 {
		v.left = min(float64(vs.limits.burst), v.left+float64(past)/float64(vs.limits.every))
	}
	v.seen = now
	return v
}
