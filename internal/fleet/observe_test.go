package fleet

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// seen keeps what an Observer is told.
type seen struct {
	mu     sync.Mutex // guards what follows
	moves  []string
	checks map[string]int
}

func (s *seen) NodeMoved(node string, to State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moves = append(s.moves, node+" "+to.String())
}

func (s *seen) NodeChecked(_, result string, _ time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checks == nil {
		s.checks = make(map[string]int)
	}
	s.checks[result]++
}

func TestObserver_HearsOfChecksAndOfChangesOfState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, n := New(slog.New(slog.DiscardHandler)), new(seen), newFake(tagsOf())
		defer f.Close()
		f.Observe(s)
		f.Configure([]NodeConfig{config("n1", n)}, Options{})
		pass(time.Minute)
		n.set(func(n *fake) { n.mode = refuse })
		pass(time.Minute)
		n.set(func(n *fake) { n.mode = nil })
		pass(time.Minute)
		s.mu.Lock()
		defer s.mu.Unlock()
		if got := fmt.Sprint(s.moves[:2]); got != "[n1 up n1 down]" || len(s.moves) < 3 {
			t.Errorf("moves: got %v", s.moves)
		}
		if s.checks[CheckOK] == 0 || s.checks[CheckUnreachable] == 0 || len(s.checks) != 2 {
			t.Errorf("checks: got %v", s.checks)
		}
	})
}

// What time alone changes is heard of like the rest.
func TestObserver_HearsOfEachStateOfANodeThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := New(slog.New(slog.DiscardHandler)), new(seen)
		defer f.Close()
		f.Observe(s)
		f.Configure([]NodeConfig{config("n1", newFake(tagsOf())), config("n2", newFake(tagsOf()))}, Options{})
		pass(time.Second)
		faults(f, view(f).Node, 5, Status5xx)
		pass(30 * time.Second)
		f.Report(view(f).Node, Outcome{Kind: OK, Took: time.Millisecond})
		pass(time.Minute)
		var moves []string
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range s.moves {
			if to, ok := strings.CutPrefix(m, "n1 "); ok {
				moves = append(moves, to)
			}
		}
		if got := strings.Join(moves, " "); got != "up ejected half_open probation up" {
			t.Errorf("moves: got %s", got)
		}
	})
}

func TestCheckResult_IsOneOfFewWords(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"answered":        {nil, CheckOK},
		"no answer":       {fmt.Errorf("ask: %w", errTimeout{}), CheckTimeout},
		"another status":  {statusFault(http.StatusBadGateway), CheckStatus},
		"another server":  {errNotOllama, CheckProtocol},
		"an endless one":  {errTooLarge, CheckProtocol},
		"nobody listens":  {errors.New("dial tcp: connection refused"), CheckUnreachable},
		"something else":  {errors.New("what"), CheckUnreachable},
		"no such address": {errors.New("no such host"), CheckUnreachable},
	} {
		if got := checkResult(c.err); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

type errTimeout struct{}

func (errTimeout) Error() string { return "slow" }
func (errTimeout) Timeout() bool { return true }
