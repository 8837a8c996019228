package manage

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Defaults of Options.
const (
	// DefaultStall is four times what a node gives a part of a layer that does not move (ollama
	// 0.24.0, server/download.go). While it downloads it tells of it many times a second, also
	// when nothing moves.
	DefaultStall = 2 * time.Minute
	// DefaultQuiet is for steps that a node is silent in: to check or to convert hundreds of
	// gigabytes on a slow disk.
	DefaultQuiet = 30 * time.Minute
	// DefaultAtOnce is for what only moves names about.
	DefaultAtOnce = time.Minute
)

// Options say how nodes are asked. The zero value works.
type Options struct {
	Stall  time.Duration // longest silence of a node before its first record and within a layer. Default: 2m.
	Quiet  time.Duration // longest silence of a node within any other step. Default: 30m.
	AtOnce time.Duration // longest time of what has no progress. Default: 1m.
	Via    string        // names the gateway in the Via header; "": nothing does
}

func (o Options) withDefaults() Options {
	if o.Stall == 0 {
		o.Stall = DefaultStall
	}
	if o.Quiet == 0 {
		o.Quiet = DefaultQuiet
	}
	if o.AtOnce == 0 {
		o.AtOnce = DefaultAtOnce
	}
	return o
}

// An Ask is what nodes are asked: a request whose body has been judged.
type Ask struct {
	Method, Path string
	Body         []byte
	// Key is what makes two asks on the same nodes one: the operation and what it is about.
	Key string
	// One has the first node that can do it do it, instead of all.
	One bool
}

// errStalled is the cause of a request that ends because the node is silent.
var errStalled = errors.New("nothing was sent for too long")

// refusalLimit is what is read of a node's refusal, in bytes.
const refusalLimit = 64 << 10

// send asks one node. ctx ends it, also while the answer is read.
func (a Ask) send(ctx context.Context, n Node, o Options) (*http.Response, *Failure) {
	return o.exchange(ctx, n, a.Method, a.Path, "application/json", int64(len(a.Body)), bytes.NewReader(a.Body))
}

// exchange sends a request to a node. length is that of body, or -1.
func (o Options) exchange(ctx context.Context, n Node, method, path, kind string, length int64, body io.Reader) (*http.Response, *Failure) {
	var connected atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { connected.Store(false) }, // of the next try
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	req, err := http.NewRequestWithContext(traced, method, target(n.URL(), path).String(), body)
	if err != nil {
		return nil, &Failure{Reason: Failed, Err: err}
	}
	if length != 0 {
		req.Header.Set("Content-Type", kind)
		req.ContentLength = length
	}
	req.Header.Set("Accept-Encoding", "identity")
	// Not sent: it tells the transport that this may be done twice. So an idle connection that the
	// node has just closed, as one that was started again, is no failure of the node.
	req.Header["Idempotency-Key"] = nil
	if o.Via != "" {
		req.Header.Set("Via", "1.1 "+o.Via)
	}
	resp, err := n.RoundTrip(req)
	switch {
	case err != nil && ctx.Err() == nil && !connected.Load():
		return nil, &Failure{Reason: Unreachable, Err: err}
	case err != nil:
		return nil, broken(ctx, err)
	}
	return resp, nil
}

// target is a path at a node, whose URL may have one of its own before it.
func target(base *url.URL, path string) *url.URL {
	if base.Path != "" {
		return base.JoinPath(path)
	}
	u := *base
	u.Path = path
	return &u
}

// broken is an answer that ended before its end.
func broken(ctx context.Context, err error) *Failure {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errStalled), errors.Is(cause, context.DeadlineExceeded):
		return &Failure{Reason: Stalled, Err: err}
	case cause != nil:
		return &Failure{Reason: Canceled, Err: cause}
	}
	return &Failure{Reason: Lost, Err: err}
}

// refusal reads an answer other than 200. The body of a redirect is none of Ollama's.
func refusal(resp *http.Response) *Failure {
	body, err := io.ReadAll(io.LimitReader(resp.Body, refusalLimit))
	words := wire.ErrorMessage(body)
	if resp.StatusCode < 400 || err != nil || words == "" {
		return &Failure{Reason: Refused, Status: resp.StatusCode, Err: fmt.Errorf("status %d", resp.StatusCode)}
	}
	return saidFailure(Refused, resp.StatusCode, words)
}

// follow asks a node for something that it tells the progress of, and gives each record but the
// last to tell. It returns nil once the node says that it has succeeded; a clean end without that
// is a failure.
func (a Ask) follow(ctx context.Context, n Node, o Options, tell func(Record)) *Failure {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(o.Stall, func() { cancel(errStalled) })
	defer silence.Stop()
	resp, failure := a.send(ctx, n, o)
	if failure != nil {
		return failure
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 4<<10), lineLimit)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		record, said, err := parseLine(lines.Bytes())
		switch {
		case err != nil && lines.Err() != nil: // the connection ended within the line
			return broken(ctx, lines.Err())
		case err != nil:
			return &Failure{Reason: Protocol, Err: err}
		case said != "":
			return saidFailure(Failed, 0, said)
		case record.Status == success:
			return nil
		}
		tell(record)
		limit := o.Quiet
		if record.Digest != "" && record.Completed < record.Total {
			limit = o.Stall
		}
		silence.Reset(limit)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return &Failure{Reason: Protocol, Err: err}
	case err != nil:
		return broken(ctx, err)
	}
	return &Failure{Reason: Incomplete, Err: errors.New("no record of success")}
}

// A Result is what became of an ask at one node.
type Result struct {
	Node    Node
	Failure *Failure // nil: it did it
}

// Each asks all nodes at once for something that has no progress, waits for all, and gives their
// results in the order of the nodes. It starts no goroutine that outlives it.
func Each(ctx context.Context, a Ask, nodes []Node, o Options) []Result {
	o = o.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, o.AtOnce)
	defer cancel()
	results := make([]Result, len(nodes))
	var asked sync.WaitGroup
	for i, n := range nodes {
		asked.Go(func() { results[i] = Result{n, a.once(ctx, n, o)} }) // ends with ctx
	}
	asked.Wait()
	return results
}

// once asks one node and reads its answer, of which only the status says something.
func (a Ask) once(ctx context.Context, n Node, o Options) *Failure {
	resp, failure := a.send(ctx, n, o)
	if failure != nil {
		return failure
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, refusalLimit)); err != nil {
		return broken(ctx, err)
	}
	return nil
}
