package call

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestUpstream_RetriesAreTheCallsWhoeverTakesThem(t *testing.T) {
	u := NewUpstream(5)
	var mu sync.Mutex
	taken := 0
	var followers sync.WaitGroup
	for range 20 {
		followers.Go(func() { // ends at once
			if u.Retry() {
				mu.Lock()
				taken++
				mu.Unlock()
			}
			u.Queued(time.Second)
		})
	}
	followers.Wait()
	if taken != 5 {
		t.Errorf("%d retries taken of 5", taken)
	}
	if u.QueueTime() != 20*time.Second {
		t.Errorf("queued %v, want 20s", u.QueueTime())
	}
}

func TestUpstream_FailedNodesAreNotAskedAgain(t *testing.T) {
	u := NewUpstream(0)
	u.Tried(Try{Node: "a", Outcome: "reset", Failed: true})
	u.Tried(Try{Node: "b", Outcome: "ok"})
	u.Tried(Try{Node: "c", Outcome: "busy", Failed: true})
	if got := fmt.Sprint(u.FailedNodes()); got != "[a c]" {
		t.Errorf("failed nodes %s, want [a c]", got)
	}
	tries := u.Tries()
	tries[0].Node = "changed"
	if u.Tries()[0].Node != "a" {
		t.Error("the caller's copy is the call's own")
	}
}

func TestParseClass_KnowsItsWords(t *testing.T) {
	for _, want := range Classes {
		if got, err := ParseClass(want.String()); got != want || err != nil {
			t.Errorf("%s: %v, %v", want, got, err)
		}
	}
	if got, err := ParseClass(""); got != Interactive || err != nil {
		t.Errorf("nothing: %v, %v; want interactive", got, err)
	}
	if _, err := ParseClass("urgent"); err == nil {
		t.Error("an unknown class was taken")
	}
}
