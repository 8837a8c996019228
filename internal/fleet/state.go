package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"time"
)

// A State is what the scheduler may do with a node.
type State uint8

const (
	Down State = iota // gets no calls
	Up                // gets calls
)

// String is the word used in logs, metrics and the admin API.
func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Down:
		return "down"
	}
	return "unknown"
}

// passed counts a version check that was passed. It tells whether the node is down and has
// now passed often enough: it then comes up with its inventory, through rise.
func (n *Node) passed(passes int) (rising bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fails[check] = 0
	now := n.facts.Load()
	if now.state == Up {
		n.settleLocked()
		return false
	}
	n.passes++
	return n.passes >= passes || !now.checked
}

// rise brings a node up with what its polls have shown. It tells whether that was a change.
func (f *Fleet) rise(n *Node) {
	n.mu.Lock()
	if n.facts.Load().state == Up {
		n.mu.Unlock()
		return
	}
	n.passes, n.fails = 0, [polls]int{}
	n.setLocked(func(x *facts) { x.state, x.reason, x.since, x.checked = Up, "", time.Now(), true })
	n.settleLocked()
	n.mu.Unlock()
	f.logState(n, slog.LevelInfo)
}

// failed counts a poll that failed and began at begun. A refused connection, the first round
// of a new node and the last of too many failures take the node down. It tells whether the
// facts have changed.
func (f *Fleet) failed(n *Node, kind poll, err error, begun time.Duration) (changed bool) {
	refused := isRefused(err)
	n.mu.Lock()
	now := n.facts.Load()
	reason := reasonOf(err)
	switch {
	case now.state != Up:
		n.passes = 0
		changed = now.reason != reason || !now.checked
		if changed {
			n.setLocked(func(x *facts) { x.reason, x.checked = reason, true })
		}
		n.mu.Unlock()
		if !now.checked {
			f.logState(n, slog.LevelWarn)
		}
		return changed
	case !refused && n.alive.Load() >= int64(begun):
		// It was answering calls all the while: busy, not ill.
		n.mu.Unlock()
		return false
	}
	n.fails[kind]++
	if !refused && n.fails[kind] < f.opts.Load().Fails {
		n.settleLocked()
		n.mu.Unlock()
		return false
	}
	n.passes = 0
	clear(n.loaded) // what it had in memory is no longer known
	n.setLocked(func(x *facts) { x.state, x.reason, x.since, x.runners = Down, reason, time.Now(), nil })
	n.settleLocked()
	n.mu.Unlock()
	f.logState(n, slog.LevelWarn)
	return true
}

// settleLocked keeps the flag that Answered reads without the lock.
func (n *Node) settleLocked() {
	n.healthy.Store(n.facts.Load().state == Up && n.fails == [polls]int{})
}

func (f *Fleet) logState(n *Node, level slog.Level) {
	x := n.facts.Load()
	f.log.LogAttrs(context.Background(), level, "node state changed",
		slog.String("node", n.Name()), slog.String("state", x.state.String()), slog.String("reason", x.reason))
}

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
