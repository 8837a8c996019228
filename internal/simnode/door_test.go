package simnode_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func TestPipe_Refuses(t *testing.T) {
	loadedBubble(t, func(t *testing.T, b *bubble) {
		runs := b.start(t.Context(), "/api/generate", streamA)
		b.faults(simnode.Fault{Refuse: true})
		for range 2 {
			if a := b.call(t.Context(), "/", ""); !errors.Is(a.err, syscall.ECONNREFUSED) {
				t.Errorf("%d %v", a.status, a.err)
			}
		}
		if a := runs(); a.err != nil || !a.last(t).Done {
			t.Errorf("what ran ended %v, %s", a.err, a.body)
		}
		synctest.Wait()
		if a := b.call(t.Context(), "/", ""); !errors.Is(a.err, syscall.ECONNREFUSED) {
			t.Errorf("over its idle connection: %d %v", a.status, a.err)
		}
		b.faults()
		if a := b.post("/api/generate", askA); a.status != 200 {
			t.Errorf("healed: %d %s", a.status, a.body)
		}
	})
}

func TestPipe_Flaps(t *testing.T) {
	loadedBubble(t, func(t *testing.T, b *bubble) {
		f, err := simnode.ParseFault("flap=10s,for=3s,after=5s")
		if err != nil {
			t.Fatal(err)
		}
		b.faults(f)
		var got strings.Builder
		time.Sleep(time.Second / 2)
		for range 26 {
			if a := b.call(t.Context(), "/nothing", ""); a.err == nil {
				got.WriteByte('.')
			} else {
				got.WriteByte('x')
			}
			time.Sleep(time.Second)
		}
		if want := ".....xxx.......xxx.......x"; got.String() != want {
			t.Errorf("got  %s\nwant %s", got.String(), want)
		}
	})
}

func TestPipe_HangsAndIsDeaf(t *testing.T) {
	for name, f := range map[string]simnode.Fault{"hang": {HangAccept: true}, "deaf": {Deaf: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
				f.For = time.Minute
				b.faults(f)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				conn, err := b.pipe.Dial(ctx)
				if dialled := err == nil; dialled != f.Deaf {
					t.Errorf("dial: %v", err)
				}
				if err == nil {
					_ = conn.Close()
				}
				if a := b.call(ctx, "/", ""); !errors.Is(a.err, context.DeadlineExceeded) {
					t.Errorf("%d %v", a.status, a.err)
				}
				if a := b.post("/nothing", ""); a.status != 404 || a.first != time.Minute {
					t.Errorf("one that waits: %d after %v", a.status, a.first)
				}
			})
		})
	}
}

func TestPipe_ClosesADeafOne(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.faults(simnode.Fault{Deaf: true})
		wait := b.start(t.Context(), "/", "")
		b.pipe.Close()
		if a := wait(); a.err == nil {
			t.Errorf("got %d", a.status)
		}
	})
}
