package gateway

import (
	"errors"
	"net/http"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
)

// A Reason is why a request was refused by the gateway: a word for logs and metrics. Refusals that
// are none of its own have none.
type Reason string

// No room: these are what the outcome overloaded is made of.
const (
	QueueFull   Reason = "queue_full"
	WaitTooLong Reason = "wait_too_long"
	Streams     Reason = "streams"    // as many requests as may are on their way
	Memory      Reason = "memory"     // as many bytes of bodies as may are held
	NodesBusy   Reason = "nodes_busy" // they said so themselves
	NoNode      Reason = "no_node"    // none that can answer is up
	NotReady    Reason = "not_ready"  // none has been heard of yet
	Leaving     Reason = "leaving"    // the process ends
)

// The body was not taken.
const (
	BodyTooLarge Reason = "too_large"
	BodyTooSlow  Reason = "too_slow"
	BodyBroken   Reason = "broken"
)

// Who asks may not: these are what the outcome unauthorized is made of, and KeysMany.
const (
	KeyMissing Reason = "missing"
	KeyUnknown Reason = "unknown"
	KeysMany   Reason = "several"   // keys in one request
	Closed     Reason = "forbidden" // the site does not have what it asks for
	BadOrigin  Reason = "origin"
	BadHost    Reason = "host"
)

// Reasons by what they are about.
var (
	Rejections   = [...]Reason{QueueFull, WaitTooLong, Streams, Memory, NodesBusy, NoNode, NotReady, Leaving}
	BodyFaults   = [...]Reason{BodyTooLarge, BodyTooSlow, BodyBroken}
	AuthFailures = [...]Reason{KeyMissing, KeyUnknown, KeysMany, Closed, BadOrigin, BadHost}
)

// reasons are those of errors that say it by themselves.
var reasons = []struct {
	err    error
	reason Reason
}{
	{errKeyMissing, KeyMissing},
	{errKeyUnknown, KeyUnknown},
	{errKeysMany, KeysMany},
	{errBodyTooLarge, BodyTooLarge},
	{errBodySlow, BodyTooSlow},
	{errBodyBroken, BodyBroken},
	{errMemory, Memory},
	{errStreams, Streams},
	{schedule.ErrQueueFull, QueueFull},
	{schedule.ErrWaitTooLong, WaitTooLong},
	{schedule.ErrStopping, Leaving},
	{errClosing, Leaving},
	{schedule.ErrNoNode, NoNode},
	{errNoneUp, NoNode},
	{errNotReady, NotReady},
}

// reasonOf is why a request is refused, "" if the refusal is not the gateway's own.
func reasonOf(err error) Reason {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	var (
		denied   *forbidden
		refused  *call.StatusError
		unloaded *attempt.LoadError
	)
	switch {
	case errors.As(err, &denied):
		return Closed
	case errors.As(err, &refused) && refused.Code == http.StatusServiceUnavailable,
		errors.As(err, &unloaded) && unloaded.Code == http.StatusServiceUnavailable:
		return NodesBusy
	}
	return ""
}

// A Phase is where a request was when its client left: a word for metrics.
type Phase string

// The phases.
const (
	InBody   Phase = "body"   // it had not been understood yet
	InQueue  Phase = "queue"  // it waited for a slot
	InWait   Phase = "wait"   // it waited for a node, or for what another request asked a node for
	InStream Phase = "stream" // it was being answered
)

// Phases lists them.
var Phases = [...]Phase{InBody, InQueue, InWait, InStream}

// phase is where the request is.
func (q *request) phase() Phase {
	switch c := q.call; {
	case q.record.Status != 0 && q.record.Status != statusLeft:
		return InStream
	case c == nil && q.passes:
		return InWait
	case c == nil:
		return InBody
	case c.Upstream.AtNode():
		return InWait
	case c.Cached != nil && c.Cached.Result().Lead != nil && c.Cached.Result().Lead.AtNode():
		return InWait
	}
	return InQueue
}
