package gateway

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
)

// hears fails the test unless something was told so often.
func (s *stand) hears(what string, times int) {
	s.Helper()
	synctest.Wait()
	if got := s.heard(what); got != times {
		s.Errorf("heard %q %d times, want %d; all: %v", what, got, times, s.said)
	}
}

func TestObserver_HearsOfWaitsAndWhyThereWasNoRoom(t *testing.T) {
	onStand(t, standSetup{nodes: 1, slots: 1, config: Config{Queue: schedule.Options{MaxLength: 1, MaxWait: 3 * time.Second}}}, func(s *stand) {
		s.fail(0, "gap=1h")
		ctx, leave := context.WithCancel(s.Context())
		holds, err := s.post(ctx, forms[0].path, forms[0].body)
		if err != nil {
			s.Fatal(err)
		}
		defer holds.Body.Close()
		s.hears("interactive call waited: served", 1)

		waits := make(chan int, 1)
		go func() { // ends with its answer
			code, _, _ := s.rig.ask(forms[0].path, forms[0].body)
			waits <- code
		}()
		synctest.Wait()
		if code, _, _ := s.rig.ask(forms[0].path, forms[0].body); code != 503 || s.last(s.T).Reason != QueueFull {
			s.Errorf("%d for reason %q, want queue_full", code, s.last(s.T).Reason)
		}
		s.hears("interactive call waited: shed", 1)
		if code := <-waits; code != 503 || s.last(s.T).Reason != WaitTooLong {
			s.Errorf("%d for reason %q, want wait_too_long", code, s.last(s.T).Reason)
		}
		s.hears("interactive call waited: timeout", 1)

		short, cancel := context.WithTimeout(s.Context(), time.Second)
		defer cancel()
		if _, err := s.post(short, forms[0].path, forms[0].body); err == nil {
			s.Error("it was answered")
		}
		if got := s.last(s.T); got.Outcome != ClientCanceled || got.Phase != InQueue {
			s.Errorf("outcome %s in phase %q, want queue", got.Outcome, got.Phase)
		}
		s.hears("interactive call waited: canceled", 1)
		leave()
	})
}

func TestObserver_HearsWhereAClientWas(t *testing.T) {
	for name, c := range map[string]struct {
		fault string
		after time.Duration
		want  Phase
	}{
		"before the first frame": {"never", time.Second, InWait},
		"in the stream":          {"gap=1h", time.Second, InStream},
	} {
		t.Run(name, func(t *testing.T) {
			onStand(t, standSetup{nodes: 1}, func(s *stand) {
				s.fail(0, c.fault)
				ctx, cancel := context.WithTimeout(s.Context(), c.after)
				defer cancel()
				resp, err := s.post(ctx, forms[0].path, forms[0].body)
				if err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Second)
				if got := s.last(s.T); got.Outcome != ClientCanceled || got.Phase != c.want {
					s.Errorf("outcome %s in phase %q, want %s", got.Outcome, got.Phase, c.want)
				}
			})
		})
	}
}

func TestObserver_HearsOfRetriesAndOfNodes(t *testing.T) {
	onStand(t, standSetup{nodes: 2}, func(s *stand) {
		s.hears("n0 is up", 1)
		s.hears("n1 is up", 1)
		s.fail(0, "status=500")
		if code, answer, _ := s.rig.ask(forms[0].path, forms[0].body); code != 200 {
			s.Errorf("%d %s", code, answer)
		}
		s.hears("retry for status_5xx: ok", 1)
		s.fail(1, "status=500")
		if code, _, _ := s.rig.ask(forms[0].path, forms[0].body); code == 200 {
			s.Error("it was answered")
		}
		s.hears("retry for status_5xx: failed", 1)
		s.fail(0, "refuse")
		s.fail(1)
		time.Sleep(time.Minute)
		s.hears("n0 is "+fleet.Down.String(), 1)
		if s.heard("n0 checked: unreachable") == 0 || s.heard("n1 checked: ok") == 0 || s.heard("n1 checked: unreachable") != 0 {
			s.Errorf("checks: %v", s.said)
		}
		if models := s.engine.State().Nodes; len(models[0].Models) != 0 || len(models[1].Models) == 0 || len(s.engine.State().Models) == 0 {
			s.Errorf("models of nodes: %+v", models)
		}
	})
}

func TestObserver_HearsOfAStalledNode(t *testing.T) {
	onStand(t, standSetup{nodes: 1}, func(s *stand) {
		s.fail(0, "gap=2m")
		code, _, _ := s.rig.ask(forms[0].path, forms[0].body)
		if got := s.last(s.T); code != 200 || got.Outcome != Truncated {
			s.Errorf("%d, %s", code, got.Outcome)
		}
		s.hears("n0 stalled: true", 1)
	})
}

// Pipes and computation take no time here: all that a request takes is waited for.
func TestRecord_OverheadIsWhatNobodyWaitedFor(t *testing.T) {
	for _, f := range forms[:2] {
		t.Run(f.name, func(t *testing.T) {
			onStand(t, standSetup{nodes: 1, slots: 1, scale: 1}, func(s *stand) {
				done := make(chan struct{})
				go func() { // ends with its answer
					defer close(done)
					s.rig.ask(f.path, f.body)
				}()
				synctest.Wait()
				s.rig.ask(f.path, f.body) // waits for the other one
				<-done
				got := s.last(s.T)
				added, ok := got.Overhead()
				if !ok || added != 0 || got.Queue == 0 || got.Nodes == 0 || got.FirstByte != got.Queue+got.Nodes {
					s.Errorf("overhead %v, %t; queue %v, nodes %v, first byte %v", added, ok, got.Queue, got.Nodes, got.FirstByte)
				}
			})
		})
	}
}

func TestRecord_SaysWhyItWasRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{}
		known, key := keyFor(t)
		r := newRig(t, rigOptions{
			observer: w, host: true, site: SiteConfig{Keys: known}, config: Config{Limits: Limits{Body: 1000}},
		}, goldenNode(t, 0.01))
		for name, c := range map[string]struct {
			path, body string
			header     http.Header
			want       Reason
		}{
			"answered":       {"/api/chat", chatBody, nil, ""},
			"wrong":          {"/api/chat", "{", nil, ""},
			"unknown model":  {"/api/chat", `{"model":"nope"}`, nil, ""},
			"closed":         {"/api/pull", "{}", nil, Closed},
			"large body":     {"/api/chat", strings.Repeat("x", 1001), nil, BodyTooLarge},
			"no key":         {"/api/chat", chatBody, http.Header{"Authorization": {""}}, KeyMissing},
			"unknown key":    {"/api/chat", chatBody, http.Header{"Authorization": {"Bearer nobodys"}}, KeyUnknown},
			"two keys":       {"/api/chat", chatBody, http.Header{"X-Api-Key": {"another"}}, KeysMany},
			"foreign origin": {"/api/chat", chatBody, http.Header{"Origin": {"https://evil.example"}}, BadOrigin},
			"foreign host":   {"/api/chat", chatBody, http.Header{"Host": {"evil.example"}}, BadHost},
		} {
			q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost"+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("Authorization", "Bearer "+key)
			for name, values := range c.header {
				q.Header[name] = values
			}
			q.Host = c.header.Get("Host")
			resp, err := r.front.RoundTrip(q)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if got := w.last(t).Reason; got != c.want {
				t.Errorf("%s: status %d for reason %q, want %q", name, resp.StatusCode, got, c.want)
			}
		}
	})
}
