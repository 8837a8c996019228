package gateway

import (
	"crypto/rand"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// An Outcome is how a request ended: a word for logs and metrics.
type Outcome string

// The outcomes. A request has exactly one.
const (
	OK             Outcome = "ok"
	ClientError    Outcome = "client_error"    // the request was wrong, as a node would say too
	Unauthorized   Outcome = "unauthorized"    // the site does not let it
	Overloaded     Outcome = "overloaded"      // no room: queue, streams, bodies, or leaving
	UpstreamError  Outcome = "upstream_error"  // nodes failed before the first byte
	Timeout        Outcome = "timeout"         // nodes took too long before the first byte
	Truncated      Outcome = "truncated"       // a stream that ended with an error record
	ClientCanceled Outcome = "client_canceled" // the client left
	InternalError  Outcome = "internal_error"  // a fault of the gateway itself
)

// Outcomes lists all of them.
var Outcomes = [...]Outcome{OK, ClientError, Unauthorized, Overloaded, UpstreamError, Timeout, Truncated, ClientCanceled, InternalError}

// A Record is what became of one request. It holds no text of prompts or answers, no key and
// no path, so that it may be logged and counted as it is.
type Record struct {
	RequestID string // the client's own, if it sent a sound one, else made here
	TraceID   string // 32 hexadecimal digits, "" if the request is part of no trace
	Endpoint  string // one of Endpoints
	Operation string // what its route asks, whatever the dialect; "" if it is no route
	Dialect   string // of its route
	Tenant    string // the name of the key that was verified, "" on a site without keys
	Model     string // short name, "" if the fleet knows none of that name
	Stream    bool
	Outcome   Outcome
	Status    int
	Tries     []call.Try
	Reason    Reason        // why it was refused, "" if it was not, or not by the gateway
	Phase     Phase         // where it was when its client left, "" if that did not leave
	Stalled   bool          // its client did not read
	Route     string        // why the last node was chosen, "" if none was
	Upload    time.Duration // until the body was read
	Queue     time.Duration // waiting for slots, loads of models among it
	Nodes     time.Duration // waiting for nodes: see Overhead
	FirstByte time.Duration // from the request's arrival to the first byte of an answer; 0: none
	Took      time.Duration
	Totals    wire.Totals // what the answer told of itself

	Cache     call.CacheResult // what the cache did
	Coalesced bool             // the answer was that of another call, heard as it was generated

	Items, ItemsFailed int // of a batch of prompts: those that were answered, and those of them with an error

	key     call.Key
	keyName func(call.Key) string // nil: it was not to be cached
}

// Overhead is what the gateway itself added to the time until the first byte: all but the body's
// arrival, the wait for slots and the wait for nodes. Of a stream, a node is waited for until its
// first frame; of a single answer, until its end. ok is false where nothing was answered, and where
// the wait was for what other requests asked nodes for.
func (r *Record) Overhead() (d time.Duration, ok bool) {
	if r.FirstByte <= 0 || r.Model == "" || r.Coalesced || r.Cache.Texts.Joined+r.Cache.Texts.Sent > 0 {
		return 0, false
	}
	return max(0, r.FirstByte-r.Upload-r.Queue-r.Nodes), true
}

// CacheKey is the name of the answer's key, "" if it was not to be cached. To find it costs as much
// as the rest of a hit, and only logs want it.
func (r *Record) CacheKey() string {
	if r.keyName == nil {
		return ""
	}
	return r.keyName(r.key)
}

// An Observer is told of each request. It is called on the request's own goroutine.
type Observer interface {
	Began(endpoint string)
	Streams(endpoint string) // one that has begun wants a stream: its Record will say so, too
	Ended(*Record)           // once for each Began
	Panicked()
	attempt.Log                                             // the tries of requests at nodes
	Loaded(node, reason, result string, took time.Duration) // a load of a model by the engine has ended

	// Gathered is told of each call to a node that has texts of embeddings, how many, and how long
	// the first of them waited for others and for a slot.
	Gathered(model string, texts int, waited time.Duration)

	// Managed is told of each request that changes models, also of those that may not.
	Managed(operation string, outcome Outcome)

	cache.Watcher
	schedule.Observer
	fleet.Observer
}

// unobserved is nobody.
type unobserved struct{}

func (unobserved) Began(string)   {}
func (unobserved) Streams(string) {}
func (unobserved) Ended(*Record)  {}
func (unobserved) Panicked()      {}

func (unobserved) Chosen(string)                                {}
func (unobserved) Tried(attempt.Ended)                          {}
func (unobserved) Retried(attempt.Outcome, string)              {}
func (unobserved) Loaded(string, string, string, time.Duration) {}

func (unobserved) Gathered(string, int, time.Duration) {}

func (unobserved) Managed(string, Outcome) {}

func (unobserved) CacheOperated(string, string, time.Duration) {}
func (unobserved) CacheEvicted(string, string)                 {}
func (unobserved) CacheCorrupt(string)                         {}
func (unobserved) CacheStored(string, time.Duration)           {}
func (unobserved) CacheRefreshed(string)                       {}

func (unobserved) Waited(call.Class, string, time.Duration)  {}
func (unobserved) NodeMoved(string, fleet.State)             {}
func (unobserved) NodeChecked(string, string, time.Duration) {}

// Endpoints are the words for routes in logs and metrics.
var Endpoints = append([]string{"other", "pass"}, slices.Sorted(maps.Values(endpoints))...)

// Answering are those of Endpoints that models answer, by whether they ask for embeddings.
var Answering = func() map[string]bool {
	embeds := make(map[string]bool)
	for _, r := range wire.Routes() {
		if r.Access == wire.Infer {
			embeds[endpoint(r)] = r.Operation == wire.Embed
		}
	}
	return embeds
}()

// endpoints are the words by the paths of routes: chat, v1_chat_completions, v1_messages.
var endpoints = func() map[string]string {
	words := make(map[string]string)
	for _, r := range append(slices.Clone(wire.Routes()), promptsRoute) {
		path, _ := strings.CutPrefix(r.Path, "/api/")
		word := strings.NewReplacer("/", "_", ":", "").Replace(strings.Trim(path, "/"))
		if word == "" {
			word = "root"
		}
		words[r.Path] = word
	}
	return words
}()

// endpoint is the word for a route; "other" for none.
func endpoint(r wire.Route) string {
	if word, ok := endpoints[r.Path]; ok {
		return word
	}
	return "other"
}

// requestIDLength bounds a request id of a client's: that of a UUID with a prefix, doubled.
const requestIDLength = 128

// requestID takes over the client's id if it is safe to write anywhere.
func requestID(h http.Header) string {
	if ids := h["X-Request-Id"]; len(ids) == 1 && isToken(ids[0]) {
		return ids[0]
	}
	return rand.Text()
}

func isToken(s string) bool {
	if s == "" || len(s) > requestIDLength {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("-_.:", r)
	}) < 0
}

// outcomeOf classifies a refusal.
func outcomeOf(err error, status int) Outcome {
	if err == nil && status < 400 {
		return OK
	}
	var (
		fault    *attempt.Fault
		refused  *call.StatusError
		unloaded *attempt.LoadError
	)
	var managed *managedError
	switch {
	case errors.As(err, &managed) && status == http.StatusInternalServerError:
		return UpstreamError
	case errors.As(err, &managed) && status == http.StatusGatewayTimeout:
		return Timeout
	case errors.As(err, &managed) && status == http.StatusServiceUnavailable:
		return UpstreamError
	case errors.Is(err, call.ErrNotCached):
		return ClientError // it asked for that
	case errors.As(err, &unloaded) && unloaded.Code != http.StatusNotFound && unloaded.Code != http.StatusServiceUnavailable:
		return UpstreamError
	case errors.As(err, &fault) && fault.Outcome == attempt.Timeout:
		return Timeout
	case errors.As(err, &fault):
		return UpstreamError
	case errors.As(err, &refused) && refused.Code == http.StatusServiceUnavailable:
		return Overloaded
	case errors.As(err, &refused) && refused.Code >= 500 && attempt.IsClients(refused):
		return ClientError // a node says 500 to some of them
	}
	switch {
	case status < 400:
		return OK
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return Unauthorized
	case status == http.StatusServiceUnavailable:
		return Overloaded
	case status == http.StatusBadGateway, status == http.StatusGatewayTimeout, errors.As(err, &refused) && status >= 500:
		return UpstreamError
	case status == http.StatusInternalServerError, status == http.StatusLoopDetected:
		return InternalError
	}
	return ClientError
}
