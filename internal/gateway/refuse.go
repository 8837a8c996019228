package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/batch"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/coalesce"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Refusals of the gateway's own.
var (
	errClosing  = errors.New("closing")
	errLoop     = errors.New("the request has come back to the gateway that sent it")
	errStreams  = errors.New("too many requests on their way")
	errNotReady = errors.New("no inventory yet")
	errNoneUp   = errors.New("no node is up")
	errPanic    = errors.New("panic")
)

// A refusal is what a client is told instead of an answer.
type refusal struct {
	status  int
	message string
	early   bool // made by the dialect's binder at a node: see wire.ErrorBody
	retry   int  // seconds for Retry-After; 0: none
}

// unknownModel is the refusal of a model that nobody has, in the words of the route.
type unknownModel struct{ message string }

func (e *unknownModel) Error() string { return e.message }

// forbidden refuses what a site does not allow.
type forbidden struct{ message string }

func (e *forbidden) Error() string { return e.message }

// retrySoon is the Retry-After of faults that pass quickly, in seconds: a health check brings
// a node back within a few.
const retrySoon = 2

// statusLeft is what Caddy has in its log for a client that left.
const statusLeft = 499

// refuse tells the client why there is no answer. Nothing has been written yet.
func (q *request) refuse(err error) {
	slow := errors.Is(err, errBodySlow) // its deadline ends the context, too
	if q.r.Context().Err() != nil && !slow {
		// Nobody reads it.
		q.record.Outcome = ClientCanceled
		q.head(statusLeft)
		return
	}
	if q.call != nil {
		q.shared(q.call)
	}
	if value, stack, ok := panicOf(err); ok {
		q.panicked(value, stack)
		err = errPanic
	}
	var unloaded *attempt.LoadError
	missing := errors.As(err, &unloaded) && unloaded.Code == http.StatusNotFound
	if (missing || errors.Is(err, schedule.ErrGone)) && q.call != nil {
		err = notFound(q.route, q.call.Request.Model.Spelling)
	}
	q.record.Reason = reasonOf(err)
	var refused *call.StatusError
	if errors.As(err, &refused) {
		var fault *attempt.Fault
		if !errors.As(err, &fault) && q.passOn(refused) {
			q.record.Outcome = outcomeOf(err, refused.Code)
			return
		}
	}
	ref := meaning(err)
	q.record.Outcome = outcomeOf(err, ref.status)
	if ref.retry > 0 {
		q.w.Header().Set("Retry-After", strconv.Itoa(ref.retry))
	}
	if ref.status == http.StatusUnauthorized {
		q.w.Header().Set("WWW-Authenticate", "Bearer")
	}
	if ref.status == http.StatusRequestEntityTooLarge || ref.status == http.StatusRequestTimeout {
		q.w.Header().Set("Connection", "close") // the rest of the body is not read
	}
	dialect := q.route.Dialect
	var bad *wire.BadRequest
	if errors.As(err, &bad) {
		dialect = bad.Dialect // a node words some refusals natively on every route
	}
	contentType, body := wire.ErrorBody(dialect, ref.status, ref.message, ref.early)
	var managed *managedError
	if errors.As(err, &managed) && managed.bare {
		q.w.Header().Set("Content-Type", "application/json")
		q.head(ref.status)
		if q.wantsStream {
			_ = http.NewResponseController(q.w).Flush() // without a length, as a node
		}
		q.w.Write(body)
		return
	}
	q.answer(ref.status, contentType, body)
}

// panicOf gives a panic of a step that ran on another goroutine.
func panicOf(err error) (value any, stack []byte, ok bool) {
	var flight *coalesce.PanicError
	var gathered *batch.PanicError
	switch {
	case errors.As(err, &flight):
		return flight.Value, flight.Stack, true
	case errors.As(err, &gathered):
		return gathered.Value, gathered.Stack, true
	}
	return nil, nil, false
}

// passOn answers with a node's own refusal. It declines what no client could read, unless it
// means that no node knows the route.
func (q *request) passOn(e *call.StatusError) bool {
	if wire.ErrorMessage(e.Body) == "" {
		if e.Code == http.StatusNotFound {
			q.answer(e.Code, "text/plain", []byte(pageNotFound))
			return true
		}
		return false
	}
	contentType := e.ContentType
	if q.route.Dialect == wire.Ollama && contentType == "application/json" && !q.wantsStream {
		contentType = nativeJSON // a node says so when it was not asked for a stream
	}
	if e.Code == http.StatusServiceUnavailable {
		q.w.Header().Set("Retry-After", strconv.Itoa(retrySoon))
	}
	q.w.Header().Set("Content-Type", contentType)
	q.head(e.Code)
	if e.Chunked && q.wantsStream {
		_ = http.NewResponseController(q.w).Flush() // without a length, as the node
	}
	q.w.Write(e.Body)
	return true
}

// meaning is the one table from what went wrong to what the client is told.
func meaning(err error) refusal {
	var (
		bad      *wire.BadRequest
		unknown  *unknownModel
		denied   *forbidden
		fault    *attempt.Fault
		refused  *call.StatusError
		unloaded *attempt.LoadError
		managed  *managedError
	)
	if ref, ok := keyRefusal(err); ok {
		return ref
	}
	switch {
	case errors.As(err, &bad):
		return refusal{status: bad.Status, message: bad.Message, early: bad.Early}
	case errors.As(err, &unknown):
		return refusal{status: http.StatusNotFound, message: unknown.message}
	case errors.As(err, &denied):
		return refusal{status: http.StatusForbidden, message: denied.message}
	case errors.As(err, &managed):
		return refusal{status: managed.status, message: managed.message, retry: managed.retry()}

	case errors.Is(err, attempt.ErrDeadly):
		return refusal{status: http.StatusBadRequest, message: "this request is refused for ten minutes: two Ollama nodes went down while it was the only one that ran on both"}

	case errors.Is(err, errBodyTooLarge):
		return refusal{status: http.StatusRequestEntityTooLarge, message: "http: request body too large", early: true}
	case errors.Is(err, errBodySlow):
		return refusal{status: http.StatusRequestTimeout, message: "the request body did not arrive in time; send it again", early: true}
	case errors.Is(err, errBodyBroken):
		return refusal{status: http.StatusBadRequest, message: "unexpected EOF", early: true}
	case errors.Is(err, errMemory), errors.Is(err, errStreams):
		return refusal{status: http.StatusServiceUnavailable, message: "server busy, please try again", retry: retrySoon}

	case errors.Is(err, call.ErrNotCached):
		return refusal{status: http.StatusGatewayTimeout, message: "there is no stored answer, and the request says only-if-cached"}

	case errors.Is(err, schedule.ErrQueueFull):
		return refusal{
			status:  http.StatusServiceUnavailable, // the words of a node whose queue is full
			message: "server busy, please try again.  maximum pending requests exceeded", retry: retrySoon,
		}
	case errors.Is(err, schedule.ErrWaitTooLong):
		return refusal{status: http.StatusServiceUnavailable, message: "server busy: no slot became free in time, please try again", retry: retrySoon}
	case errors.Is(err, schedule.ErrStopping), errors.Is(err, errClosing):
		return refusal{status: http.StatusServiceUnavailable, message: "the gateway is shutting down, please try again", retry: retrySoon}
	case errors.Is(err, schedule.ErrNoNode), errors.Is(err, errNoneUp):
		return refusal{status: http.StatusServiceUnavailable, message: "no Ollama node that can answer this is reachable, please try again", retry: retrySoon}
	case errors.Is(err, errNotReady):
		return refusal{status: http.StatusServiceUnavailable, message: "the Ollama nodes have not answered yet, please try again", retry: retrySoon}
	case errors.Is(err, errLoop):
		return refusal{status: http.StatusLoopDetected, message: "this request was sent by this gateway to itself: one of its nodes is its own address"}

	case errors.As(err, &unloaded) && unloaded.Message != "":
		return refusal{status: unloaded.Code, message: unloaded.Message, retry: loadRetry(unloaded)}
	case errors.As(err, &unloaded):
		return refusal{status: http.StatusBadGateway, message: "the Ollama node answered with status " + strconv.Itoa(unloaded.Code)}
	case errors.As(err, &fault):
		return refusal{status: faultStatus(fault), message: faultMessage(fault), retry: faultRetry(fault)}
	case errors.As(err, &refused):
		return refusal{status: http.StatusBadGateway, message: "the Ollama node answered with status " + strconv.Itoa(refused.Code)}
	case errors.Is(err, wire.ErrFrame):
		return refusal{status: http.StatusBadGateway, message: notAsOllama}
	}
	return refusal{status: http.StatusInternalServerError, message: "internal error of the gateway"}
}

func faultStatus(f *attempt.Fault) int {
	switch f.Outcome {
	case attempt.ConnectError:
		return http.StatusServiceUnavailable
	case attempt.Timeout:
		return http.StatusGatewayTimeout
	case attempt.Failed:
		return http.StatusInternalServerError
	}
	return http.StatusBadGateway
}

func faultRetry(f *attempt.Fault) int {
	if f.Outcome == attempt.ConnectError {
		return retrySoon
	}
	return 0
}

func loadRetry(e *attempt.LoadError) int {
	if e.Code == http.StatusServiceUnavailable {
		return retrySoon
	}
	return 0
}

// faultMessage says what a client may know of a node's fault: the node's own words, if it
// said any to the client, never its address.
func faultMessage(f *attempt.Fault) string {
	if f.Message != "" {
		return f.Message
	}
	switch f.Outcome {
	case attempt.ConnectError:
		return "no Ollama node that can answer this is reachable, please try again"
	case attempt.TLSError:
		return "the Ollama node could not be trusted: its TLS failed"
	case attempt.Timeout:
		return "the Ollama node took too long"
	case attempt.Reset, attempt.Truncated:
		return "the connection to the Ollama node was lost"
	}
	return notAsOllama
}

const notAsOllama = "the Ollama node did not answer as an Ollama server does"

// brokenOff is the message of the error record that ends a stream which broke off.
func brokenOff(err error) string {
	var fault *attempt.Fault
	if !errors.As(err, &fault) {
		return "the answer is incomplete: the gateway is shutting down"
	}
	if fault.Message != "" {
		return fault.Message
	}
	return "the answer is incomplete: " + faultMessage(fault)
}

// notFound words the refusal of an unknown model as the route's handler does at a node.
func notFound(route wire.Route, spelling string) error {
	if route.Operation == wire.Embed {
		return &unknownModel{`model "` + spelling + `" not found, try pulling it first`}
	}
	return &unknownModel{"model '" + spelling + "' not found"}
}

// forbidden words the refusal of routes that change a node or leave the building.
func (q *request) forbidden() error {
	switch {
	case strings.HasSuffix(q.route.Path, "/web_search"):
		return &forbidden{"ollama cloud is disabled: web search is unavailable"}
	case strings.HasSuffix(q.route.Path, "/web_fetch"):
		return &forbidden{"ollama cloud is disabled: web fetch is unavailable"}
	case q.route.Access == wire.Cloud:
		return &forbidden{"ollama cloud is disabled: this route is unavailable"}
	}
	return &forbidden{"managing models is not allowed here; ask the operator of this gateway"}
}
