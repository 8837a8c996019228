package gateway

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func TestPoison_ARequestTakesDownAtMostTwoNodesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var nodes []*simnode.Node
		var handlers []http.Handler
		for range 4 {
			n := goldenNode(t, 0.01)
			if err := n.SetFaults(simnode.Fault{Die: "kill", Contains: "boom", Restart: 3 * time.Second}); err != nil {
				t.Fatal(err)
			}
			nodes, handlers = append(nodes, n), append(handlers, n)
		}
		r := newRig(t, rigOptions{slots: 4, config: Config{Health: fleet.Options{Interval: 500 * time.Millisecond}}}, handlers...)

		stop := make(chan struct{})
		var others sync.WaitGroup
		for range 8 {
			others.Go(func() { // ends with stop
				for {
					select {
					case <-stop:
						return
					case <-time.After(300 * time.Millisecond):
					}
					if code, answer, _ := r.ask("/api/chat", singleBody); code != 200 || !strings.Contains(answer, `"done":true`) {
						t.Errorf("another one's request: %d %s", code, answer)
					}
				}
			})
		}
		var codes []int
		for range 10 {
			code, _, _ := r.ask("/api/chat", `{"model":"tiny","messages":[{"role":"user","content":"boom"}]}`)
			codes = append(codes, code)
			time.Sleep(5 * time.Second) // the dead come back
		}
		close(stop)
		others.Wait()
		deaths := 0
		for _, n := range nodes {
			deaths += n.Stats().Deaths
		}
		if deaths > 2 {
			t.Errorf("%d deaths of ten equal requests, which were answered %v", deaths, codes)
		}
		if codes[9] != 400 {
			t.Errorf("answered %v, want 400 in the end", codes)
		}
		synctest.Wait()
		r.idle()
	})
}
