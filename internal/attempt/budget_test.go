package attempt

import (
	"testing"
	"testing/synctest"
	"time"
)

// taken counts how many retries of n asked for are granted.
func taken(b *Budget, n int, node string, lost bool, inFlight int) (granted int) {
	for range n {
		if b.Take(node, lost, inFlight) {
			granted++
		}
	}
	return granted
}

func TestBudget_RetriesAreATenthOfTheCallsAndAFewASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Budget
		if got := taken(&b, 1000, "n", false, 0); got != 30 {
			t.Errorf("%d retries at once without calls, want 30", got)
		}
		time.Sleep(2 * time.Second)
		if got := taken(&b, 1000, "n", false, 0); got != 6 {
			t.Errorf("%d retries after 2s, want 6", got)
		}
		for range 500 {
			b.Earn()
		}
		if got := taken(&b, 1000, "n", false, 0); got != 49 && got != 50 { // tenths add up inexactly
			t.Errorf("%d retries for 500 calls, want 50", got)
		}
		for range 100_000 {
			b.Earn()
		}
		if got := taken(&b, 1000, "n", false, 0); got != budgetEarned {
			t.Errorf("%d retries after a long time without faults, want %d", got, budgetEarned)
		}
	})
}

func TestBudget_CallsOfALostNodeAreFreeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Budget
		taken(&b, 1000, "n", false, 0) // nothing left
		if got := taken(&b, 1000, "a", true, 50); got != 50 {
			t.Errorf("%d of the 50 calls on a lost node are made again", got)
		}
		if got := taken(&b, 1000, "b", true, 7); got != 7 {
			t.Errorf("%d of the 7 calls on another lost node are made again", got)
		}
		time.Sleep(lossWindow / 20)
		if got := taken(&b, 1000, "a", true, 50); got != 0 {
			t.Errorf("%d more retries on a node that is lost again and again", got)
		}
		time.Sleep(lossPause)
		taken(&b, 1000, "n", false, 0)
		if got := taken(&b, 1000, "a", true, 5); got != 5 {
			t.Errorf("%d of 5 at the next loss", got)
		}
	})
}
