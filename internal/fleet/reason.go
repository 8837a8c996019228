package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
)

// Faults of an answer. Their texts are reasons that people see.
var (
	errNotOllama = errors.New("not an Ollama server")
	errTooLarge  = errors.New("answer too large")
)

// A statusFault is an answer other than 200.
type statusFault int

func (s statusFault) Error() string { return fmt.Sprintf("status %d", int(s)) }

// reasonOf names a fault in one of a few words: no address, no text of the node.
func reasonOf(err error) string {
	var (
		status statusFault
		dns    *net.DNSError
		record tls.RecordHeaderError
		alert  tls.AlertError
		cert   *tls.CertificateVerificationError
		host   x509.HostnameError
		signer x509.UnknownAuthorityError
		slow   interface{ Timeout() bool }
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &status):
		return status.Error()
	case errors.Is(err, errNotOllama):
		return errNotOllama.Error()
	case errors.Is(err, errTooLarge):
		return errTooLarge.Error()
	case isRefused(err):
		return "connection refused"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return "timeout"
	case errors.As(err, &dns):
		return "name not resolved"
	case errors.As(err, &record), errors.As(err, &alert), errors.As(err, &cert), errors.As(err, &host), errors.As(err, &signer):
		return "TLS failed"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection closed"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route"
	}
	return "unreachable"
}

// isRefused tells whether nobody listens there. Dialers other than the system's, such as one
// that speaks through a proxy, say so in words only.
func isRefused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || err != nil && strings.HasSuffix(err.Error(), "connection refused")
}

// answers tells whether a fault of a poll is an answer: somebody is there, but not as wanted.
func answers(err error) bool {
	var status statusFault
	return errors.As(err, &status) || errors.Is(err, errNotOllama) || errors.Is(err, errTooLarge)
}
