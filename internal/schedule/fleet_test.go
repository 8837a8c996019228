package schedule

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// An actor is a node that answers its checks, if it is there, and whose calls a test decides.
type actor struct {
	mu   sync.Mutex // guards what follows
	gone bool
}

func (a *actor) leave(gone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone = gone
}

func (a *actor) isGone() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.gone
}

func (a *actor) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.isGone() {
		return nil, fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	}
	body := map[string]string{
		"/api/version": `{"version":"0.24.0"}`,
		"/api/tags":    `{"models":[{"name":"a:latest","model":"a:latest","modified_at":"2026-11-24T12:00:00Z","size":1,"digest":"d"}]}`,
		"/api/ps":      `{"models":[{"name":"a:latest","model":"a:latest","size":1,"digest":"d","size_vram":1,"context_length":4096,"expires_at":"2036-11-24T12:00:00Z"}]}`,
	}[r.URL.Path]
	status := http.StatusOK
	if body == "" {
		status = http.StatusNotFound
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}, nil
}

// play sends ten calls a second through a queue over a real fleet of three actors, for ten
// minutes. try says how a call on a node ends; a call that fails is tried on the others. It
// gives the tries of each node and the calls that failed for good.
func play(t *testing.T, each func(second int, first *actor), try func(node int, first *actor) fleet.Outcome) (tries [3]int, failed int) {
	synctest.Test(t, func(t *testing.T) {
		f := fleet.New(slog.New(slog.DiscardHandler))
		defer f.Close()
		r := rand.New(rand.NewPCG(1, 2))
		q := NewQueue(f, LeastLoaded(r.IntN), nil)
		var configs []fleet.NodeConfig
		index := map[string]int{}
		first := &actor{}
		for i, a := range []*actor{first, {}, {}} {
			name := fmt.Sprint("n", i)
			index[name] = i
			configs = append(configs, fleet.NodeConfig{Name: name, URL: &url.URL{Scheme: "http", Host: name}, Transport: a, Slots: 4})
		}
		f.Configure(configs, fleet.Options{})
		if err := f.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var model string
		for key := range f.Snapshot().Models {
			model = key
		}
		for tenth := range 6000 {
			if tenth%10 == 0 {
				each(tenth/10, first)
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			ask, ok := Ask{Model: model}, false
			for !ok {
				g, err := q.Acquire(t.Context(), ask)
				if err != nil {
					break
				}
				i := index[g.Node.Name()]
				tries[i]++
				out := try(i, first)
				out.Model, out.Resident = model, g.Residency == Resident
				f.Report(g.Node, out)
				g.Release()
				ok = out.Kind == fleet.OK
				ask.Exclude = append(ask.Exclude, g.Node.Name())
			}
			if !ok {
				failed++
			}
		}
	})
	return tries, failed
}

var fine = fleet.Outcome{Kind: fleet.OK, FirstFrame: 100 * time.Millisecond, Frames: 10, Took: time.Second}

// Row 19.
func TestFleet_NodeThatOnlyPassesItsChecksGetsHardlyAnyCalls(t *testing.T) {
	tries, failed := play(t, func(int, *actor) {}, func(node int, _ *actor) fleet.Outcome {
		if node == 0 {
			return fleet.Outcome{Kind: fleet.Status5xx}
		}
		return fine
	})
	if failed > 0 || tries[0] < 6 || tries[0] > 25 {
		t.Errorf("%v tries, %d calls failed; want 5 and then one an ejection at the first", tries, failed)
	}
}

// Row 20.
func TestFleet_FlappingNodeHarmsNobody(t *testing.T) {
	tries, failed := play(t, func(second int, first *actor) { first.leave(second%2 == 0) }, func(node int, first *actor) fleet.Outcome {
		if node == 0 && first.isGone() {
			return fleet.Outcome{Kind: fleet.Connect, Err: syscall.ECONNREFUSED}
		}
		return fine
	})
	if failed > 0 || tries[0] > 100 {
		t.Errorf("%v tries, %d calls failed", tries, failed)
	}
}

// A node that was away for a while has its part again soon after.
func TestFleet_NodeThatCameBackGetsItsPart(t *testing.T) {
	at := 0
	var late int
	_, failed := play(t, func(second int, first *actor) {
		at = second
		first.leave(second > 100 && second < 200)
	}, func(node int, first *actor) fleet.Outcome {
		if node == 0 && first.isGone() {
			return fleet.Outcome{Kind: fleet.Connect, Err: syscall.ECONNREFUSED}
		}
		if node == 0 && at >= 240 {
			late++
		}
		return fine
	})
	if want := 3600 / 3; failed > 0 || late < want*9/10 || late > want*11/10 {
		t.Errorf("%d calls of its last six minutes, want about %d; %d failed", late, want, failed)
	}
}
