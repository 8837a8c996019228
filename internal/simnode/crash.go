package simnode

import (
	"context"
	"errors"
)

// A crash is the death of a runner: its last words, or what the server makes of the silence.
type crash struct{ words string }

func (c *crash) Error() string {
	return "an error was encountered while running the model: " + c.words
}

const (
	brokeOff = "unexpected EOF"
	signal   = "signal arrived during cgo execution"
)

// errStopped is what becomes of a request whose runner died before it had said anything to it.
var errStopped = errors.New("model runner has unexpectedly stopped, this may be due to resource limitations or " +
	"an internal error, check ollama server logs for details")

// Crash ends the runner of a model as a kill of its process does, with the answers it was giving, and reports whether
// the model was loaded. The next request loads it again.
func (n *Node) Crash(model string) bool {
	m, err := n.find(context.Background(), model)
	if err != nil {
		return false
	}
	n.mu.Lock()
	r := n.runners[m.Weights]
	n.mu.Unlock()
	if r == nil {
		return false
	}
	r.crash(brokeOff)
	return true
}

// crash ends the runner. All its requests fail with the same words.
func (r *runner) crash(words string) *crash {
	c := &crash{words}
	n := r.node
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.runners[r.model.Weights] == r {
		delete(n.runners, r.model.Weights)
		r.dropLocked()
		n.stats.Crashes++
		r.end(c)
	}
	return c
}

// within returns a context that ends with ctx, or with a crash as its cause when the runner dies.
func (r *runner) within(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(r.life, func() { cancel(context.Cause(r.life)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// fate is how the error of a request on a runner is told: one that the runner had said nothing to does not hear its
// last words.
func fate(err error, spoken bool) error {
	var c *crash
	if !spoken && errors.As(err, &c) {
		return errStopped
	}
	return err
}

// A doom is when a runner will die of an answer: after so many tokens, or at the end of a shorter answer.
type doom struct {
	sure  bool
	after int
	words string
}

// doomOf finds what a runner will die of: a fault, or the request itself.
func doomOf(ctx context.Context, a ask) doom {
	t := troublesOf(ctx)
	switch {
	case a.format != nil && a.format.deadly:
		return doom{sure: true, words: brokeOff}
	case t.crash:
		return doom{true, t.crashAt, brokeOff}
	case a.opts.RepeatPenalty == 0: // its words are those of a runner that had begun to answer
		return doom{true, 1, signal}
	}
	return doom{}
}

func (d doom) comes(tokens int) bool { return d.sure && tokens >= d.after }

// survives crashes the runner of an answer that ends before its doom.
func (r *runner) survives(d doom) error {
	if d.sure {
		return r.crash(d.words)
	}
	return nil
}
