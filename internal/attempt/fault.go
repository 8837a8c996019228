package attempt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// An Outcome is how a try ended: a word for logs and metrics.
type Outcome string

// The outcomes. What is not OK, Refused or Canceled is a node's fault or load.
const (
	OK           Outcome = "ok"
	Refused      Outcome = "refused"       // the node refused the request itself: the client's affair
	Canceled     Outcome = "canceled"      // nobody waited any more
	ConnectError Outcome = "connect_error" // no connection: certainly no work
	TLSError     Outcome = "tls_error"     // no trust or no TLS: certainly no work
	Busy         Outcome = "busy"          // 503: the node's queue for loads is full; no work
	ModelMissing Outcome = "model_missing" // 404: it does not have what it listed; no work
	RouteMissing Outcome = "route_missing" // 404 too, of a server that does not know the route; no work
	NoMemory     Outcome = "no_memory"     // the model does not fit there now; no work
	Forbidden    Outcome = "forbidden"     // 401 or 403: the node does not let the gateway in; no work
	Redirected   Outcome = "redirected"    // 3xx, never followed; no work
	Failed       Outcome = "status_5xx"
	Reset        Outcome = "reset"     // the connection ended before the answer did
	Timeout      Outcome = "timeout"   // the first byte, a frame or the end took too long
	Protocol     Outcome = "protocol"  // not an answer of Ollama's
	Truncated    Outcome = "truncated" // an orderly end before the answer's own
)

// Outcomes lists all of them.
var Outcomes = [...]Outcome{
	OK, Refused, Canceled, ConnectError, TLSError, Busy, ModelMissing, RouteMissing, NoMemory, Forbidden, Redirected,
	Failed, Reset, Timeout, Protocol, Truncated,
}

// kinds are what the outcomes say of a node's health.
var kinds = map[Outcome]fleet.Kind{
	OK: fleet.OK, Refused: fleet.Refused, Canceled: fleet.Canceled,
	ConnectError: fleet.Connect, TLSError: fleet.TLS, Busy: fleet.Busy, ModelMissing: fleet.Missing,
	RouteMissing: fleet.Refused, NoMemory: fleet.Refused,
	Forbidden: fleet.Protocol, Redirected: fleet.Protocol, // to all that ask: it is no node of ours
	Failed: fleet.Status5xx, Reset: fleet.Reset, Timeout: fleet.Timeout, Protocol: fleet.Protocol, Truncated: fleet.Truncated,
}

// blameless outcomes say nothing against the node: the call may go there again.
func blameless(o Outcome) bool { return o == OK || o == Refused || o == Canceled || o == Busy }

// A Fault is a failure of a node, before or after the first frame.
type Fault struct {
	Outcome Outcome
	Err     error  // with details of the node; for logs, not for clients
	Message string // the node's own words to the client, if it said any
}

func (f *Fault) Error() string { return fmt.Sprintf("%s: %v", f.Outcome, f.Err) }
func (f *Fault) Unwrap() error { return f.Err }

// Limits that a try ran into.
var (
	ErrFirstByteTimeout = errors.New("no first byte within the limit")
	ErrStallTimeout     = errors.New("no further frame within the limit")
	ErrTotalTimeout     = errors.New("answer not complete within the limit")
)

// ErrDeadly refuses a request that has taken nodes down, as far as can be told.
var ErrDeadly = errors.New("the only request common to two deaths of nodes")

// errTruncated is a clean end of the body before the dialect's own end.
var errTruncated = errors.New("answer ended without its final record")

// errProtocol marks what no Ollama server would answer.
var errProtocol = errors.New("not an answer of an Ollama server")

// nodeError is an error that a node tells in its stream.
type nodeError string

func (e nodeError) Error() string { return "node reports: " + string(e) }

// classify tells whose affair a status is, and whether another node may do better
// (ollama-api 13.10).
func classify(e *call.StatusError) Outcome {
	switch {
	case e.Code >= 300 && e.Code < 400:
		return Redirected
	case e.Code == http.StatusUnauthorized || e.Code == http.StatusForbidden:
		return Forbidden
	case e.Code == http.StatusNotFound && wire.ErrorMessage(e.Body) == "":
		return RouteMissing
	case e.Code == http.StatusNotFound:
		return ModelMissing
	case e.Code == http.StatusServiceUnavailable:
		return Busy
	case e.Code >= 500:
		switch message := wire.ErrorMessage(e.Body); {
		case strings.HasPrefix(message, "model requires more "): // system memory, or that of its GPUs
			return NoMemory
		case !clientsFault(message):
			return Failed
		}
	}
	return Refused
}

// IsClients tells whether a node's refusal is the client's affair, whatever its status.
func IsClients(e *call.StatusError) bool { return classify(e) == Refused }

// clientsFault recognises the 500s of a node that say the request is wrong: bad options,
// formats, templates, and too long a prompt for the old embeddings route. Another node would
// say the same.
func clientsFault(message string) bool {
	for _, prefix := range []string{
		`option "`, "invalid format: ", "invalid JSON schema in format", "template: ",
		"the input length exceeds the context length",
	} {
		if strings.HasPrefix(message, prefix) {
			return true
		}
	}
	return false
}

// faultOf names the failure of a try. Without a connection it certainly did no work.
func faultOf(err error, connected bool) *Fault {
	f := &Fault{Outcome: Reset, Err: err}
	var said nodeError
	switch {
	case !connected && isTLS(err):
		f.Outcome = TLSError
	case !connected:
		f.Outcome = ConnectError
	case errors.Is(err, ErrFirstByteTimeout), errors.Is(err, ErrStallTimeout), errors.Is(err, ErrTotalTimeout):
		f.Outcome = Timeout
	case errors.Is(err, errTruncated):
		f.Outcome = Truncated
	case errors.As(err, &said):
		f.Outcome, f.Message = Failed, string(said)
	case errors.Is(err, errProtocol), errors.Is(err, wire.ErrFrameTooLong):
		f.Outcome = Protocol
	}
	return f
}

func isTLS(err error) bool {
	var (
		verify   *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		alert    tls.AlertError
		hostname x509.HostnameError
		unknown  x509.UnknownAuthorityError
	)
	return errors.As(err, &verify) || errors.As(err, &record) || errors.As(err, &alert) ||
		errors.As(err, &hostname) || errors.As(err, &unknown)
}
