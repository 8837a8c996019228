package assistant

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

var (
	// ErrNoModel says that the fleet has no model that can answer.
	ErrNoModel = errors.New("the fleet has no model that can answer")
	// ErrUnavailable says that there was no answer: the gateway is gone, busy, or too slow, or does not
	// let us in. The same may succeed later.
	ErrUnavailable = errors.New("the model is not available")
	// ErrRefused says that this prompt gets no answer, and that asking again is of no use.
	ErrRefused = errors.New("the model gave no answer to this")
	// ErrTruncated says that the answer broke off; what had come is not the whole.
	ErrTruncated = errors.New("the answer broke off")
)

// An Error is one of the above with what is known about it. No text of a prompt or answer is in it.
type Error struct {
	Kind       error
	RetryAfter time.Duration // when the gateway says that it is worth asking again; 0: it does not
	cause      error
}

func (e *Error) Error() string {
	if e.cause == nil {
		return e.Kind.Error()
	}
	return fmt.Sprintf("%v: %v", e.Kind, e.cause)
}

func (e *Error) Unwrap() []error { return []error{e.Kind, e.cause} }

// statusError is what an answer other than 200 means. Its body is not looked at: whose words are in
// it is not known.
func statusError(response *http.Response) error {
	e := &Error{Kind: ErrRefused, cause: fmt.Errorf("the gateway answered %d", response.StatusCode)}
	switch code := response.StatusCode; {
	case code == http.StatusNotFound:
		e.Kind = ErrNoModel
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout,
		code == http.StatusUnauthorized, code == http.StatusForbidden:
		e.Kind = ErrUnavailable
		e.RetryAfter = retryAfter(response.Header)
	}
	return e
}

// retryAfter reads the seconds that a gateway says, an hour at most.
func retryAfter(head http.Header) time.Duration {
	seconds, err := strconv.Atoi(head.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}
