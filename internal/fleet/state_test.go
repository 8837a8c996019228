package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestState_HangingNodeHangsNothingAndIsDownAfterFails(t *testing.T) {
	row := tagRow("a:latest", "d1", day)
	ill, well := newFake(tagsOf(row)), newFake(tagsOf(row))
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		ill.set(func(n *fake) { n.mode = hang })
		before := well.count("/api/ps")
		begun := time.Now()
		for f.Snapshot().Nodes[0].State == Up {
			pass(100 * time.Millisecond)
			if time.Since(begun) > time.Minute {
				t.Fatal("still up after a minute")
			}
		}
		// At most a ps interval until the first, three Timeouts, two pauses of a second.
		if took := time.Since(begun); took < 8*time.Second || took > 11*time.Second {
			t.Errorf("down after %v", took)
		}
		if asked := well.count("/api/ps") - before; asked < 3 {
			t.Errorf("the other node was asked for its runners %d times meanwhile", asked)
		}
		s := f.Snapshot()
		if s.Nodes[0].Reason != "timeout" || nodeNames(s.Models[key("a")].Nodes) != "n2" {
			t.Errorf("%q, served by %q", s.Nodes[0].Reason, nodeNames(s.Models[key("a")].Nodes))
		}
	}, ill, well)
}

func TestState_RefusedNodeIsDownAtOnceAndUpAfterPasses(t *testing.T) {
	n := newFake(tagsOf(tagRow("a:latest", "d1", day)))
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		n.set(func(n *fake) { n.mode = refuse })
		at := time.Now()
		f.Unreachable(view(f).Node, fmt.Errorf("dial: %w", syscall.ECONNREFUSED))
		v := view(f)
		if v.State != Down || v.Reason != "connection refused" || !v.Since.Equal(at) {
			t.Fatalf("refused: %v %q %v", v.State, v.Reason, v.Since)
		}
		if m := f.Snapshot().Models[key("a")]; m == nil || len(m.Nodes) != 0 {
			t.Errorf("its model: %+v", m)
		}
		pass(time.Minute)
		n.set(func(n *fake) { n.mode = nil; n.tags = tagsOf(tagRow("b:latest", "d2", day)) })
		checks, back := n.count("/api/version"), time.Now()
		for view(f).State == Down && time.Since(back) < time.Minute {
			pass(10 * time.Millisecond)
		}
		if took := time.Since(back); took > 2*time.Second {
			t.Errorf("used again after %v, want less than 2s", took)
		}
		if v, got := view(f), n.count("/api/version")-checks; !v.Usable() || got != 2 {
			t.Errorf("%v after %d checks, want usable after 2", v.State, got)
		}
		s := f.Snapshot()
		if s.Models[key("a")] != nil || nodeNames(s.Models[key("b")].Nodes) != "n1" {
			t.Error("it came up with the inventory it had before")
		}
	}, n)
}

func TestState_PollThatIsRefusedTakesDownAtOnce(t *testing.T) {
	n := newFake(tagsOf())
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		n.set(func(n *fake) { n.mode = refuse })
		pass(2300 * time.Millisecond) // the next ps
		if v := view(f); v.State != Down {
			t.Errorf("state %v", v.State)
		}
	}, n)
}

func TestState_FewFailuresAreForgotten(t *testing.T) {
	n := newFake(tagsOf())
	inBubble(t, Options{Fails: 3}, func(t *testing.T, f *Fleet) {
		node := view(f).Node
		for range 10 {
			f.Unreachable(node, errLost)
			f.Unreachable(node, errLost)
			pass(6 * time.Second) // a check is passed
		}
		if view(f).State != Up {
			t.Error("failures that were not in a row took it down")
		}
		f.Unreachable(node, context.Canceled)
		f.Unreachable(node, errLost)
		f.Unreachable(node, errLost)
		if view(f).State != Up {
			t.Error("a dial that was given up counted")
		}
		f.Unreachable(node, errLost)
		if v := view(f); v.State != Down || v.Reason != "unreachable" {
			t.Errorf("after three in a row: %v %q", v.State, v.Reason)
		}
	}, n)
}

func TestState_UnreachableIsCheckedWithinASecond(t *testing.T) {
	n := newFake(tagsOf())
	inBubble(t, Options{Interval: time.Hour}, func(t *testing.T, f *Fleet) {
		pass(10 * time.Second)
		before := n.count("/api/version")
		for range 100 {
			f.Unreachable(view(f).Node, errLost)
		}
		pass(time.Second)
		if got := n.count("/api/version") - before; got < 1 || got > 3 {
			t.Errorf("%d checks within a second of 100 failures", got)
		}
	}, n)
}

func TestState_AnswersOfCallsAreProofOfLife(t *testing.T) {
	n := newFake(tagsOf())
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		n.set(func(n *fake) { n.mode = hang })
		for range 60 {
			pass(time.Second)
			f.Answered(view(f).Node)
		}
		if view(f).State != Up {
			t.Error("down though it was answering calls all the while")
		}
		pass(20 * time.Second)
		if view(f).State != Down {
			t.Error("up though it answers nothing any more")
		}
	}, n)
}

func TestState_PollThatFailsWhileACallIsAnsweredDoesNotCount(t *testing.T) {
	n := newFake(tagsOf())
	inBubble(t, Options{Fails: 1}, func(t *testing.T, f *Fleet) {
		n.set(func(n *fake) { n.mode = hang })
		for range 100 {
			pass(400 * time.Millisecond)
			f.Answered(view(f).Node)
		}
		if view(f).State != Up {
			t.Error("busy was taken for ill")
		}
		n.set(func(n *fake) { n.mode = refuse })
		pass(4 * time.Second)
		if view(f).State != Down {
			t.Error("a refused connection is no matter of being busy")
		}
	}, n)
}

func TestState_TagsThatFailTakeDownThoughChecksPass(t *testing.T) {
	n := newFake(tagsOf(tagRow("a:latest", "d1", day)))
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		n.set(func(n *fake) { n.mode = only("/api/tags", status(500)) })
		pass(40 * time.Second)
		if v := view(f); v.State != Down || v.Reason != "status 500" {
			t.Fatalf("%v %q", v.State, v.Reason)
		}
		pass(time.Minute)
		if view(f).State != Down {
			t.Error("up without an inventory")
		}
		n.set(func(n *fake) { n.mode = nil })
		pass(20 * time.Second)
		if v := view(f); !v.Usable() {
			t.Error("not up again")
		}
	}, n)
}

func TestState_WhatIsNoOllamaServerIsDown(t *testing.T) {
	for _, c := range []struct {
		name, want string
		mode       func(*http.Request) (*http.Response, error)
	}{
		{"redirect", "status 307", status(307)},
		{"forbidden", "status 403", status(403)},
		{"html", "not an Ollama server", func(*http.Request) (*http.Response, error) { return respond(200, "<html>"), nil }},
		{"no version", "not an Ollama server", func(*http.Request) (*http.Response, error) { return respond(200, `{}`), nil }},
		{"no models", "not an Ollama server", only("/api/tags", func(*http.Request) (*http.Response, error) { return respond(200, `{"error":"x"}`), nil })},
		{"junk runners", "not an Ollama server", only("/api/ps", func(*http.Request) (*http.Response, error) { return respond(200, `{"models":{}}`), nil })},
		{"endless version", "answer too large", func(*http.Request) (*http.Response, error) { return endless(), nil }},
		{"endless tags", "answer too large", only("/api/tags", func(*http.Request) (*http.Response, error) { return endless(), nil })},
		{"endless ps", "answer too large", only("/api/ps", func(*http.Request) (*http.Response, error) { return endless(), nil })},
		{"cut", "connection closed", func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newFake(tagsOf())
			n.mode = c.mode
			inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
				if v := view(f); v.State != Down || v.Reason != c.want {
					t.Errorf("%v %q, want down %q", v.State, v.Reason, c.want)
				}
			}, n)
		})
	}
}

// endless is an answer without end.
func endless() *http.Response {
	resp := respond(200, "")
	resp.Body = io.NopCloser(spaces{})
	return resp
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestState_ChangesAreLoggedOnceAndWithoutSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFake(tagsOf())
		var out logged
		f := New(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})))
		defer f.Close()
		f.Configure([]NodeConfig{config("n1", n)}, Options{})
		pass(time.Minute)
		n.set(func(n *fake) { n.mode = status(500) })
		pass(time.Minute)
		n.set(func(n *fake) { n.mode = refuse })
		pass(time.Minute)
		n.set(func(n *fake) { n.mode = nil })
		pass(time.Minute)
		want := []string{
			`level=INFO msg="node state changed" node=n1 state=up reason=""`,
			`level=WARN msg="node state changed" node=n1 state=down reason="status 500"`,
			`level=INFO msg="node state changed" node=n1 state=probation reason="was down: connection refused"`,
		}
		if got := out.lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestReasonOf_IsBoundedAndNamesNoAddress(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "secret.internal"}}, "name not resolved"},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "connection refused"},
		{errors.New("connect: connection refused"), "connection refused"},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), "timeout"},
		{fmt.Errorf("x: %w", syscall.ECONNRESET), "connection closed"},
		{syscall.EHOSTUNREACH, "no route"},
		{tls.RecordHeaderError{Msg: "10.0.0.1"}, "TLS failed"},
		{errors.New("http://user:password@10.0.0.1"), "unreachable"},
	} {
		if got := reasonOf(c.err); got != c.want {
			t.Errorf("%v: got %q, want %q", c.err, got, c.want)
		}
	}
}

// The share of a node grows by time alone, however rarely it is asked.
func TestState_ShareGrowsFromTheProofOn(t *testing.T) {
	n := newFake(tagsOf(tagRow("a:latest", "d1", day)))
	opts := Options{Interval: time.Hour, PsInterval: time.Hour, TagsInterval: time.Hour}
	inBubble(t, opts, func(t *testing.T, f *Fleet) {
		node := view(f).Node
		n.set(func(n *fake) { n.mode = refuse })
		f.Unreachable(node, syscall.ECONNREFUSED)
		n.set(func(n *fake) { n.mode = nil })
		until(t, f, Probation)
		pass(time.Second)
		f.Report(node, Outcome{Kind: OK, Model: key("a"), Resident: true, FirstFrame: time.Millisecond, Frames: 1, Took: time.Millisecond})
		if v := view(f); v.State != Probation {
			t.Fatalf("%v, want probation", v.State)
		}
		pass(31 * time.Second)
		if v := view(f); v.State != Up {
			t.Errorf("%v with a share of %v after 31s, want up", v.State, v.Share)
		}
	}, n)
}
