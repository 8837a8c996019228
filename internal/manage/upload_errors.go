package manage

import "fmt"

// A DigestMismatch refuses a blob that is not what its digest says. No node keeps it. The
// text is a node's own, its status 400.
type DigestMismatch struct{ Expected, Got string }

func (e *DigestMismatch) Error() string {
	return fmt.Sprintf("digest mismatch, expected %q, got %q", e.Expected, e.Got)
}

// A BodyError is the fault of the client that sends a blob: it has left, or its body broke off.
type BodyError struct{ Err error }

func (e *BodyError) Error() string { return "read the blob: " + e.Err.Error() }
func (e *BodyError) Unwrap() error { return e.Err }
