package simnode

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"strings"
)

// endOfAnswer ends a handler from within a Write: as much of the answer as shall be is written.
type endOfAnswer struct{}

// answer answers a request with the faults that strike it.
func (n *Node) answer(w http.ResponseWriter, r *http.Request, faults []*Fault) {
	if len(faults) == 0 {
		n.entry.ServeHTTP(w, r)
		return
	}
	defer func() {
		if p := recover(); p != nil && p != any(endOfAnswer{}) {
			panic(p)
		}
	}()
	r = r.WithContext(withTroubles(r.Context(), faults))
	h := n.entry
	for i := len(faults) - 1; i >= 0; i-- {
		h = n.behind(faults[i], h)
	}
	h.ServeHTTP(w, r)
}

// behind returns the handler behind one fault.
func (n *Node) behind(f *Fault, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &faultWriter{ResponseWriter: w, node: n, fault: f, ctx: r.Context()}
		atOnce := f.Frames == 0 && f.Bytes == 0 && f.BadLine == "" && f.GiantLine == 0
		switch {
		case f.Upload > 0:
			r.Body = &faultBody{ReadCloser: r.Body, out: out, left: f.Upload}
			next.ServeHTTP(out, r)
		case f.Never:
			drain(r)
			<-r.Context().Done()
			n.left(context.Cause(r.Context()))
			return
		case atOnce && (f.Die != "" || f.End == "reset" || f.End == "close"):
			drain(r)
			out.wait(f.FirstByte)
			out.strike(nil)
			out.cut(nil, nil)
		case f.Status != 0 || f.Redirect != "":
			drain(r)
			f.makeUp(out, r.URL.Path)
		default:
			next.ServeHTTP(out, r)
		}
		out.finish()
	})
}

// A faultBody lets a fault come when so much of a request has been read.
type faultBody struct {
	io.ReadCloser
	out  *faultWriter
	left int64
}

func (b *faultBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.strike()
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// strike does not return.
func (b *faultBody) strike() {
	if b.out.fault.Never { // a client that leaves is not noticed where nothing is read
		<-b.out.ctx.Done()
		b.out.node.left(context.Cause(b.out.ctx))
		panic(http.ErrAbortHandler)
	}
	b.out.strike(nil)
	b.out.cut(nil, nil)
}

// drain reads the rest of the body: net/http notices that a client leaves only when it has been read.
func drain(r *http.Request) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body) // what comes is of no interest, nor whether it came
	}
}

// makeUp answers in the node's place.
func (f *Fault) makeUp(w http.ResponseWriter, path string) {
	status := cmp.Or(f.Status, http.StatusTemporaryRedirect)
	if f.Redirect != "" {
		w.Header().Set("Location", f.Redirect)
	}
	if f.Body == "" && status >= http.StatusBadRequest {
		sendFailureOf(w, path, &statusError{status, strings.ToLower(http.StatusText(status))})
		return
	}
	w.Header().Set("Content-Type", typeOf(f.Body))
	w.WriteHeader(status)
	if f.Body != "" {
		_, _ = io.WriteString(w, f.Body) // an error here means that the client is gone
	}
}

// sendFailureOf writes an error in the dialect of a route.
func sendFailureOf(w http.ResponseWriter, path string, err error) {
	switch {
	case path == "/v1/messages":
		sendAnthropicFailure(w, err)
	case strings.HasPrefix(path, "/v1/"):
		sendOpenAIFailure(w, err)
	default:
		sendFailure(w, err)
	}
}

func typeOf(body string) string {
	switch body = strings.TrimSpace(body); {
	case strings.HasPrefix(body, "{"), strings.HasPrefix(body, "["):
		return typeJSON
	case strings.HasPrefix(body, "<"):
		return "text/html; charset=utf-8"
	}
	return typePlainUTF8
}
