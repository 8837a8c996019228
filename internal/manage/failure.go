package manage

import (
	"fmt"
	"strings"
)

// A Reason is why a node did not do what it was asked: a word for logs and metrics.
type Reason string

// The reasons.
const (
	Unreachable Reason = "unreachable" // no connection: the node has seen nothing
	Lost        Reason = "lost"        // the connection ended before the answer did
	Stalled     Reason = "stalled"     // it sent nothing for too long
	Incomplete  Reason = "incomplete"  // it ended in order and did not say that it succeeded
	Refused     Reason = "refused"     // it answered with a status of its own
	NoSpace     Reason = "no_space"    // its disk is full
	NoBlob      Reason = "no_blob"     // it lacks a file that a model is made of, and was not asked
	Failed      Reason = "failed"      // it said so
	Protocol    Reason = "protocol"    // it did not answer as an Ollama server does
	Canceled    Reason = "canceled"    // nobody waited any more
)

// Reasons lists all of them.
var Reasons = [...]Reason{Unreachable, Lost, Stalled, Incomplete, Refused, NoSpace, NoBlob, Failed, Protocol, Canceled}

// texts are what clients are told where the node said nothing.
var texts = map[Reason]string{
	Unreachable: "it could not be reached",
	Lost:        "the connection was lost",
	Stalled:     "it sent nothing for too long",
	Incomplete:  "it ended without saying that it succeeded",
	Refused:     "it refused",
	NoSpace:     "no space left on its disk",
	NoBlob:      "it lacks a file that the model is made of",
	Failed:      "it failed",
	Protocol:    "it did not answer as an Ollama server does",
	Canceled:    "canceled",
}

// A Failure is what became of a request at one node that did not do it.
type Failure struct {
	Reason Reason
	Status int   // the node's, if it was not 200; 0: none, or 200
	Err    error // what happened, for logs: it may hold addresses and paths

	said string // the node's own words, scrubbed; "" if there were none
}

// Error is for logs.
func (f *Failure) Error() string { return fmt.Sprintf("%s: %v", f.Reason, f.Err) }
func (f *Failure) Unwrap() error { return f.Err }

// Text is for clients: the node's own words without paths and addresses, or what happened.
func (f *Failure) Text() string {
	if f.Said() {
		return f.said
	}
	return texts[f.Reason]
}

// Said tells whether Text is in the node's own words.
func (f *Failure) Said() bool { return f.said != "" && f.Reason != NoSpace }

// saidFailure is a failure in a node's own words.
func saidFailure(reason Reason, status int, words string) *Failure {
	if strings.Contains(words, "no space left on device") || strings.Contains(words, "disk quota exceeded") {
		reason = NoSpace
	}
	return &Failure{Reason: reason, Status: status, Err: fmt.Errorf("node says: %s", clip(words, textLimit)), said: Scrub(words)}
}
