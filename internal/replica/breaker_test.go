package replica

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestBreaker_OpensAfterThreeFailuresInARow(t *testing.T) {
	for _, tt := range []struct {
		name, results string // s: success, f: failure, c: closed by a probe
		closed        bool
	}{
		{"nothing happened", "", true},
		{"two", "ff", true},
		{"three", "fff", false},
		{"not in a row", "ffsffsff", true},
		{"in a row at last", "ffsfff", false},
		{"a late success does not close it", "fffs", false},
		{"a probe does", "fffc", true},
		{"and it counts anew", "fffcff", true},
		{"and may open again", "fffcfff", false},
		{"more failures than it takes", "ffffff", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := breaker{opened: make(chan error, 1)}
			for _, r := range tt.results {
				switch r {
				case 's':
					b.succeed()
				case 'f':
					b.fail(errors.New("reset"), false)
				case 'c':
					<-b.opened // as attend does
					b.close()
				}
			}
			if b.closed() != tt.closed {
				t.Errorf("after %q: closed %v, want %v", tt.results, b.closed(), tt.closed)
			}
		})
	}
}

// Of 64 operations at once a stall of one budget fails all, and Redis is well.
func TestBreaker_OneStallIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker{opened: make(chan error, 1), born: time.Now(), spread: 75 * time.Millisecond}
		for range 64 {
			b.fail(context.DeadlineExceeded, true)
		}
		time.Sleep(50 * time.Millisecond)
		b.fail(context.DeadlineExceeded, true)
		if !b.closed() {
			t.Error("it opened after a stall of 50ms")
		}
		b.succeed()
		for range 3 { // one after the other
			b.fail(context.DeadlineExceeded, true)
			time.Sleep(50 * time.Millisecond)
		}
		if b.closed() {
			t.Error("it did not open for a Redis that is slow all the time")
		}
	})
}

func TestBreaker_TellsOnceThatItOpens(t *testing.T) {
	b := breaker{opened: make(chan error, 1)}
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { b.fail(errors.New("reset"), false) }) // a second send would block for ever
	}
	all.Wait()
	if b.closed() || len(b.opened) != 1 {
		t.Errorf("closed %v, told %d times", b.closed(), len(b.opened))
	}
}

func TestBreaker_NeverClosesAfterItsEnd(t *testing.T) {
	b := breaker{opened: make(chan error, 1)}
	b.fail(nil, false)
	b.end()
	b.open(errors.New("reset"))
	b.close()
	if b.closed() || len(b.opened) != 0 {
		t.Errorf("closed %v, told %d times", b.closed(), len(b.opened))
	}
}
