package schedule

import (
	"slices"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A waiter is a call in a line.
type waiter struct {
	ask      Ask
	sequence uint64 // of its arrival
	came     time.Time
	key      runnerKey     // of the runner it wants
	loads    time.Duration // what its clock showed when it came
	result   chan granted  // holds one; written once, after it has left its line
	left     bool          // no longer in a line; guarded by Queue.mu
}

type granted struct {
	grant *Grant
	err   error
}

type delivery struct {
	waiter *waiter
	granted
}

// deliver hands out what dispatchLocked decided, outside the lock.
func deliver(ready []delivery) {
	for _, d := range ready {
		d.waiter.result <- d.granted
	}
}

// A line holds the calls that want the same of a node, in order of arrival inside a class,
// so that only its heads need be looked at however many wait.
type line struct {
	classes [len(call.Classes)][]*waiter
}

func (l *line) length() int {
	n := 0
	for _, in := range l.classes {
		n += len(in)
	}
	return n
}

// A lineKey is what calls of one line have in common.
type lineKey struct {
	runner           runnerKey
	requested        wire.RunnerOptions
	embedding, plain bool
	exclude          string
}

func keyOf(w *waiter) lineKey {
	a := &w.ask
	k := lineKey{runner: w.key, requested: a.Requested, embedding: a.Embedding, plain: a.Plain}
	if len(a.Exclude) > 0 { // rare: a retry
		k.exclude = strings.Join(a.Exclude, " ")
	}
	return k
}

func (q *Queue) pushLocked(w *waiter) *line {
	k := keyOf(w)
	l := q.lines[k]
	if l == nil {
		l = &line{}
		q.lines[k] = l
	}
	l.classes[w.ask.Class] = append(l.classes[w.ask.Class], w)
	q.waiting[w.ask.Class]++
	return l
}

// popLocked takes the first of a class out of its line.
func (q *Queue) popLocked(l *line, class int) *waiter {
	w := l.classes[class][0]
	l.classes[class][0] = nil
	l.classes[class] = l.classes[class][1:]
	q.outLocked(w, l)
	return w
}

func (q *Queue) removeLocked(w *waiter) {
	l := q.lines[keyOf(w)]
	in := l.classes[w.ask.Class]
	if i, ok := slices.BinarySearchFunc(in, w, bySequence); ok {
		l.classes[w.ask.Class] = slices.Delete(in, i, i+1)
	}
	q.outLocked(w, l)
}

func (q *Queue) outLocked(w *waiter, l *line) {
	w.left = true
	q.waiting[w.ask.Class]--
	for _, in := range l.classes {
		if len(in) > 0 {
			return
		}
	}
	delete(q.lines, keyOf(w))
	q.forgetRunnerLocked(w.key)
}
