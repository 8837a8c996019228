package schedule

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// waits keeps what an Observer is told.
type waits struct {
	mu   sync.Mutex // guards said
	said []string
}

func (w *waits) Waited(class call.Class, result string, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, fmt.Sprint(class, " ", result, " ", took))
}

func TestObserver_HearsHowEachWaitEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 1)
		q, _ := newQueue(snapshot(all, []string{"a"}, map[*fleet.Node][]string{all[0]: {"a"}}), Options{MaxLength: 2, MaxWait: 5 * time.Second})
		w := new(waits)
		q.Observe(w)
		ask := func(a Ask, ctx context.Context) {
			if g, err := q.Acquire(ctx, a); err == nil {
				defer g.Release()
				time.Sleep(2 * time.Second)
			}
		}
		heard := func(want string) {
			t.Helper()
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			if got := fmt.Sprint(w.said); got != want {
				t.Errorf("heard %s, want %s", got, want)
			}
			w.said = nil
		}
		var asking sync.WaitGroup
		asking.Go(func() { ask(Ask{Model: "a"}, t.Context()) })
		synctest.Wait()
		heard("[interactive served 0s]")

		asking.Go(func() { ask(Ask{Model: "a", Class: call.Batch}, t.Context()) }) // is next, in two seconds
		synctest.Wait()
		gone, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		asking.Go(func() { ask(Ask{Model: "a", Class: call.Batch}, gone) })
		synctest.Wait()
		ask(Ask{Model: "a"}, t.Context())                 // finds two waiting
		ask(Ask{Model: "a", IdleOnly: true}, t.Context()) // waits for nothing
		ask(Ask{Model: "nobodys"}, t.Context())
		heard("[interactive shed 0s interactive failed 0s]")
		time.Sleep(2 * time.Second)
		heard("[batch canceled 1s batch served 2s]")
		asking.Wait()

		g := acquire(t, q, Ask{Model: "a"})
		ask(Ask{Model: "a"}, t.Context())
		heard("[interactive timeout 5s]")
		asking.Go(func() { ask(Ask{Model: "a"}, t.Context()) })
		time.Sleep(time.Second)
		q.Stop()
		heard("[interactive shed 1s]")
		g.Release()
		asking.Wait()
	})
}
