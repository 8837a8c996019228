package schedule

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestAcquire_WhoIsPatientWaitsAsLongAsItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 1)
		q, _ := newQueue(snapshot(all, []string{"a"}, nil), Options{MaxWait: time.Minute})
		g := acquire(t, q, Ask{Model: "a"})
		defer g.Release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		_, err := q.Acquire(ctx, Ask{Model: "a", Patient: true})
		if took := time.Since(began); err != context.DeadlineExceeded || took != time.Hour {
			t.Errorf("Acquire = %v after %v, want the context's end after 1h", err, took)
		}
	})
}
