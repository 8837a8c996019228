package attempt

import (
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A Log is told of each node that was chosen, each try that has ended and each retry. It must be
// quick: it is called while the slot is held.
type Log interface {
	Chosen(reason string)
	Tried(Ended)
	// Retried is told what became of a retry that was made because a try ended as reason says: a
	// word of RetryResults.
	Retried(reason Outcome, result string)
}

// An Ended is a try that has ended.
type Ended struct {
	Node    string // its name
	Model   string // short name
	Outcome Outcome
	Took    time.Duration
	First   time.Duration // until the first frame or the whole object; 0: there was none
	Totals  wire.Totals   // what a complete answer of frames told of itself
	Stalled bool          // it had begun to answer and took too long over the next frame
}

// TokenTime is what a token took after the first one, as it arrived here. ok is false if the answer
// had too few of them, or told no number.
func (e *Ended) TokenTime() (per time.Duration, ok bool) {
	if e.Totals.OutputTokens < 2 || e.First <= 0 || e.Took <= e.First {
		return 0, false
	}
	return (e.Took - e.First) / time.Duration(e.Totals.OutputTokens-1), true
}

// What becomes of a retry.
const (
	RetryOK        = "ok"               // a node has begun to answer, or has refused the request itself
	RetryFailed    = "failed"           // the node failed as well
	RetryExhausted = "budget_exhausted" // it was not made: the budget of all calls has none left
)

// RetryResults lists them.
var RetryResults = [...]string{RetryOK, RetryFailed, RetryExhausted}

// retried tells of a try that made up for one that ended as reason says, "" if it is the first. A
// try that nobody waited for to the end tells nothing.
func (s *Step) retried(reason, outcome Outcome) {
	switch {
	case reason == "" || reason == OK || outcome == Canceled:
	case outcome == "" || outcome == OK || outcome == Refused:
		s.Log.Retried(reason, RetryOK)
	default:
		s.Log.Retried(reason, RetryFailed)
	}
}
