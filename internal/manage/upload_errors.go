package manage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// ErrDigestFormat refuses what is no digest, in a node's own words; its status is 400.
var ErrDigestFormat = errors.New("invalid digest format")

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

// A NodesError tells which nodes could not be asked for a blob or do not have it now. The text is for clients:
// names and reasons, no addresses.
type NodesError struct{ Failures []NodeFailure } // in the order of the nodes

// A NodeFailure is why one node failed.
type NodeFailure struct {
	Node   string
	Reason string // of a few words: "no space", "stalled", "connection closed", "status 500", ...
	Err    error  // for logs only: it may have addresses and paths in it
}

func (e *NodesError) Error() string {
	var b strings.Builder
	b.WriteString("blob failed on ")
	for i, f := range e.Failures {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s (%s)", f.Node, f.Reason)
	}
	return b.String()
}

var errTakesNothing = errors.New("the node took nothing for too long")

// A blobRefusal is a node's answer to a blob other than that it has it.
type blobRefusal struct {
	status  int
	message string
}

func (e *blobRefusal) Error() string { return fmt.Sprintf("node answered %d: %s", e.status, e.message) }

func (e *blobRefusal) reason() string {
	switch {
	case e.status == http.StatusInsufficientStorage,
		strings.Contains(e.message, "no space left on device"), strings.Contains(e.message, "disk quota exceeded"):
		return "no space"
	case strings.HasPrefix(e.message, "digest mismatch"):
		return "digest mismatch" // ours was right: it got damaged on its way
	}
	return fmt.Sprintf("status %d", e.status)
}

// maxRefusal is how much of a node's refusal is read.
const maxRefusal = 16 << 10

func refusalOf(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal)) // as far as it comes
	return &blobRefusal{resp.StatusCode, wire.ErrorMessage(body)}
}

// blobReason names a node's fault in one of a few words.
func blobReason(err error) string {
	var (
		refused *blobRefusal
		slow    net.Error
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		host    x509.HostnameError
	)
	switch {
	case errors.As(err, &refused):
		return refused.reason()
	case errors.Is(err, errTakesNothing):
		return "stalled"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, &cert), errors.As(err, &record), errors.As(err, &host):
		return "TLS failed"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection closed"
	case errors.As(err, &dns):
		return "name not resolved"
	case errors.As(err, &slow) && slow.Timeout():
		return "timeout"
	}
	return "unreachable"
}
