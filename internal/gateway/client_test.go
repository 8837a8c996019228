package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func TestClient_DepartureCancelsTheNodesWork(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	stream := func(w http.ResponseWriter, r *http.Request) {
		frames(1, func(http.ResponseWriter) {})(w, r)
		<-r.Context().Done()
	}
	for name, infer := range map[string]http.HandlerFunc{"while it waits": hang, "in its stream": stream} {
		for shape, body := range map[string]string{"streamed": chatBody, "single": singleBody} {
			t.Run(name+"/"+shape, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r, bad, good := faultRig(t, Config{}, infer)
					ctx, cancel := context.WithCancel(t.Context())
					done := make(chan error, 1)
					go func() { // ends when the client leaves
						resp, err := r.post(ctx, "/api/chat", body)
						if err == nil {
							_, err = io.Copy(io.Discard, resp.Body)
							resp.Body.Close()
						}
						done <- err
					}()
					synctest.Wait()
					cancel()
					if err := <-done; !errors.Is(err, context.Canceled) {
						t.Errorf("the client got %v", err)
					}
					time.Sleep(time.Second)
					synctest.Wait()
					if _, gone := bad.count(); gone != 1 {
						t.Errorf("%d requests canceled at the node within a second, want 1", gone)
					}
					if other, _ := good.count(); other != 0 {
						t.Error("a departure was taken for a fault of the node")
					}
					if s := r.engine.fleet.Snapshot().Nodes[0]; s.State != fleet.Up {
						t.Errorf("a departure took the node %s", s.State)
					}
					r.idle()
				})
			})
		}
	}
}

func TestClient_DepartureInTheQueueFreesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := &faulty{Handler: goldenNode(t, 1)}
		r := newRig(t, rigOptions{config: Config{Queue: schedule.Options{MaxLength: 1}}}, node)
		resp, err := r.post(t.Context(), "/api/generate", `{"model":"tinyslow","prompt":"the river"}`)
		if err != nil {
			t.Fatal(err)
		}
		slow := strings.Replace(chatBody, "tiny", "tinyslow", 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { // ends when the client leaves
			_, err := r.post(ctx, "/api/chat", slow)
			done <- err
		}()
		synctest.Wait()
		code, answer, header := r.ask("/api/chat", slow)
		if code != 503 || !strings.Contains(answer, "maximum pending requests exceeded") || header.Get("Retry-After") == "" {
			t.Errorf("with the queue full: %d %s, want 503 in the node's words", code, answer)
		}
		cancel()
		<-done
		synctest.Wait()
		if calls, _ := node.count(); calls != 1 {
			t.Errorf("the node was asked %d times, want once", calls)
		}
		if n := r.engine.queue.Waiting(0); n != 0 {
			t.Errorf("%d still waiting", n)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		synctest.Wait()
		r.idle()
	})
}

func TestStream_EachFrameIsForwardedWhenItArrives(t *testing.T) {
	for path, body := range map[string]string{"/api/chat": chatBody, "/v1/chat/completions": openAIBody} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _, _ := faultRig(t, Config{}, func(w http.ResponseWriter, q *http.Request) {
					for range 3 {
						time.Sleep(time.Second)
						frames(1, func(http.ResponseWriter) {})(w, q)
					}
					<-q.Context().Done()
				})
				began := time.Now()
				resp, err := r.post(t.Context(), path, body)
				if err != nil {
					t.Fatal(err)
				}
				lines := bufio.NewReader(resp.Body)
				for i := 1; i <= 3; i++ {
					line, err := lines.ReadString('\n')
					if err != nil {
						t.Fatal(err)
					}
					if took := time.Since(began); took != time.Duration(i)*time.Second {
						t.Errorf("frame %d came after %v: %s", i, took, line)
					}
					if path != "/api/chat" {
						lines.ReadString('\n') // the blank line of the event
					}
				}
				resp.Body.Close()
			})
		})
	}
}

func TestEngine_SlotsAreNeverExceededAtANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := []*simnode.Node{goldenNode(t, 1), goldenNode(t, 1)}
		r := newRig(t, rigOptions{warm: true}, nodes[0], nodes[1])
		var clients sync.WaitGroup
		for range 20 {
			clients.Go(func() { // ends with its answer
				code, answer, _ := r.ask("/api/chat", chatBody)
				if code != 200 || !strings.Contains(answer, `"done":true`) {
					t.Errorf("%d %s", code, answer)
				}
			})
		}
		clients.Wait()
		for i, n := range nodes {
			s := n.Stats()
			for model, m := range s.Models {
				if m.Peak > 1 {
					t.Errorf("n%d ran %d calls of %s at once on one slot", i, m.Peak, model)
				}
			}
			if s.Requests["/api/chat"] == 0 {
				t.Errorf("n%d had none of 20 calls", i)
			}
		}
		synctest.Wait()
		r.idle()
	})
}

func TestStop_EmptiesTheQueueHonestlyAndLetsStreamsFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{}, goldenNode(t, 1))
		resp, err := r.post(t.Context(), "/api/chat", chatBody)
		if err != nil {
			t.Fatal(err)
		}
		waiting := make(chan string, 1)
		go func() { // ends when the queue is emptied
			code, answer, _ := r.ask("/api/chat", chatBody)
			waiting <- fmt.Sprint(code, answer)
		}()
		synctest.Wait()
		r.engine.Stop()
		if got := <-waiting; !strings.HasPrefix(got, "503") || !strings.Contains(got, "shutting down") {
			t.Errorf("who waited was told %s", got)
		}
		rest, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Contains(rest, []byte(`"done":true`)) {
			t.Errorf("the stream ended %v: %s", err, rest)
		}
	})
}
