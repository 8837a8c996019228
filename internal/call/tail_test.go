package call

import (
	"slices"
	"testing"
)

func TestTail_DoesItsWorkInOrderOnce(t *testing.T) {
	var tail Tail
	var done []int
	work := func(n int) func() { return func() { done = append(done, n) } }
	if tail.Waits() {
		t.Error("there is work before any was added")
	}
	tail.Add(work(1))
	tail.Add(work(2))
	if !tail.Waits() || len(done) > 0 {
		t.Errorf("before the end: waits %t, done %v", tail.Waits(), done)
	}
	tail.End()
	tail.Add(work(3)) // as that of an answer whose client has left
	tail.End()
	if tail.Waits() || !slices.Equal(done, []int{1, 2, 3}) {
		t.Errorf("after the end: waits %t, done %v", tail.Waits(), done)
	}
}
