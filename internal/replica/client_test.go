package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/caddy-ollama/caddy-ollama/internal/redistest"
)

// authorities is a directory for the certificate that this process trusts.
var authorities string

func TestMain(m *testing.M) {
	var err error
	if authorities, err = os.MkdirTemp("", "authorities"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(authorities)
		os.Exit(code)
	}))
}

// patient is a budget for tests that are not about time: a machine that runs others beside them
// may take longer than 50 ms for a reply.
const patient = 5 * time.Second

// A journal is what a client told: log lines and states, in their order.
type journal struct {
	mu     sync.Mutex
	lines  bytes.Buffer
	states []bool
	ops    map[string]int
	failed map[string]int
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lines.Write(p)
}

func (j *journal) Up(up bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.states = append(j.states, up)
}

func (j *journal) Operated(op string, _ time.Duration, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ops[op]++
	if err != nil {
		j.failed[op]++
	}
}

func (j *journal) told() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return fmt.Sprint(j.states)
}

func (j *journal) count(op string) (all, failed int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ops[op], j.failed[op]
}

func (j *journal) log() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lines.String()
}

func connect(t testing.TB, url string, budget time.Duration) (*Client, *journal) {
	t.Helper()
	j := &journal{ops: map[string]int{}, failed: map[string]int{}}
	c, err := Open(Options{URL: url, Budget: budget}, slog.New(slog.NewTextHandler(j, nil)), j)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, j
}

// connected waits until the client knows that Redis is there. What the journal tells begins then:
// on a busy machine the first probe may take longer than a small budget.
func connected(t testing.TB, url string, budget time.Duration) (*Client, *journal) {
	t.Helper()
	c, j := connect(t, url, budget)
	redistest.Until(t, "a probe that succeeds", func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		n := len(j.states)
		if n == 0 || !j.states[n-1] {
			return false
		}
		j.states = j.states[n-1:]
		return true
	})
	return c, j
}

func TestClient_KeepsFindsAndForgets(t *testing.T) {
	c, j := connected(t, redistest.Start(t).URL(), patient)
	ctx := t.Context()
	if _, err := c.Get(ctx, "k"); err != ErrMissing {
		t.Errorf("get of nothing: %v, want ErrMissing", err)
	}
	value := []byte("a\x00b\r\n")
	if err := c.Set(ctx, "k", value, time.Hour); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(ctx, "k"); err != nil || !bytes.Equal(got, value) {
		t.Errorf("got %q, %v; want %q", got, err, value)
	}
	if err := c.Delete(ctx, "k", "never was"); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(ctx, "k"); err != ErrMissing {
		t.Errorf("get after delete: %v, want ErrMissing", err)
	}
	if err := c.Delete(ctx); err != nil {
		t.Errorf("delete of no key: %v", err)
	}
	if all, failed := j.count("get"); all != 3 || failed != 0 {
		t.Errorf("%d gets, %d of them failed; want 3, and a missing key is no failure", all, failed)
	}
}

func TestClient_KeepsAsLongAsItIsTold(t *testing.T) {
	s := redistest.Start(t)
	c, _ := connected(t, s.URL(), patient)
	for _, tt := range []struct {
		name     string
		ttl      time.Duration
		min, max int64 // ms, of PTTL
	}{
		{"an hour", time.Hour, 3_590_000, 3_600_000},
		{"no whole second", 90_500 * time.Millisecond, 80_000, 90_500},
		{"for ever", 0, -1, -1},
		{"negative", -time.Second, -1, -1},
		{"less than Redis can", time.Microsecond, -2, 1}, // it may be gone already
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := c.Set(t.Context(), "k", []byte("v"), tt.ttl); err != nil {
				t.Fatal(err)
			}
			if got := s.Command("PTTL", "k").(int64); got < tt.min || got > tt.max {
				t.Errorf("PTTL %d, want %d to %d", got, tt.min, tt.max)
			}
		})
	}
}

func TestClient_DownAtStartIsNoErrorAndCostsNoTime(t *testing.T) {
	s := redistest.Start(t)
	s.Stop()
	c, j := connect(t, s.URL(), DefaultBudget)
	redistest.Until(t, "the first probe", func() bool { return !c.Up() })
	mustCostNothing(t, c)
	s.Start()
	redistest.Until(t, "up again", c.Up)
	if err := c.Set(t.Context(), "k", nil, 0); err != nil {
		t.Errorf("set after it came: %v", err)
	}
	redistest.Until(t, "told", func() bool { return j.told() == "[false true]" })
	if log := j.log(); strings.Count(log, "\n") != 2 || !strings.Contains(log, "level=WARN msg=\"redis is down\"") ||
		!strings.Contains(log, "level=INFO msg=\"redis is up\"") {
		t.Errorf("want one line down and one up, got:\n%s", log)
	}
}

func TestClient_DyingInTheMiddleCostsThreeErrors(t *testing.T) {
	s := redistest.Start(t)
	c, j := connected(t, s.URL(), DefaultBudget)
	s.Stop()
	for i := range failureLimit {
		if _, err := c.Get(t.Context(), "k"); err == nil || err == ErrDown || err == ErrMissing {
			t.Errorf("get %d of a dead Redis: %v", i, err)
		}
	}
	mustCostNothing(t, c)
	s.Start()
	redistest.Until(t, "up again", c.Up)
	if _, err := c.Get(t.Context(), "k"); err != ErrMissing {
		t.Errorf("get after it came back: %v, want ErrMissing", err)
	}
	redistest.Until(t, "told", func() bool { return j.told() == "[true false true]" })
}

func TestClient_SlowRedisCostsThreeBudgetsAndThenNothing(t *testing.T) {
	p := redistest.Start(t).Proxy()
	c, _ := connected(t, p.URL(), DefaultBudget)
	p.Delay(time.Second)
	for i := range failureLimit {
		start := time.Now()
		_, err := c.Get(t.Context(), "k")
		// The rest is for a machine that does other things beside.
		if took := time.Since(start); err == nil || err == ErrMissing || took > DefaultBudget+100*time.Millisecond {
			t.Errorf("get %d took %v: %v", i, took, err)
		} else {
			t.Logf("get %d took %v: %v", i, took, err)
		}
	}
	mustCostNothing(t, c)
	p.Delay(0)
	redistest.Until(t, "up again", c.Up)
}

// A cut without a word leaves connections that look well. Each of them would cost a budget.
func TestClient_ConnectionsThatWentDeadAreNotUsedAgain(t *testing.T) {
	p := redistest.Start(t).Proxy()
	c, _ := connected(t, p.URL(), DefaultBudget)
	var all sync.WaitGroup
	var together sync.WaitGroup
	together.Add(20)
	for range 20 {
		all.Go(func() {
			_ = c.Do(t.Context(), "ping", func(ctx context.Context, r redis.Cmdable) error {
				return r.(*redis.Client).Watch(ctx, func(tx *redis.Tx) error { // holds a connection
					together.Done()
					together.Wait()
					return nil
				})
			})
		})
	}
	all.Wait()
	p.Silence(true)
	redistest.Until(t, "down", func() bool {
		_, err := c.Get(t.Context(), "k")
		return err == ErrDown
	})
	before := p.Accepted()
	p.Silence(false)
	start := time.Now()
	redistest.Until(t, "up again", c.Up)
	if took := time.Since(start); took > 3*probeInterval {
		t.Errorf("up only after %v", took)
	}
	if _, err := c.Get(t.Context(), "k"); err != ErrMissing {
		t.Errorf("get: %v, want ErrMissing", err)
	}
	if p.Accepted() < before {
		t.Error("no new connection")
	}
}

func TestClient_ConnectionsThatAreKilledAreReplaced(t *testing.T) {
	s := redistest.Start(t)
	c, j := connected(t, s.URL(), patient)
	for range 5 {
		if err := c.Set(t.Context(), "k", []byte("v"), 0); err != nil {
			t.Errorf("set: %v", err)
		}
		s.Command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	}
	if j.told() != "[true]" {
		t.Errorf("states %s, want only up", j.told())
	}
}

// Rows 28 and 30 of the fault matrix: a refusal is an answer.
func TestClient_RefusalsAreErrorsButNotADownRedis(t *testing.T) {
	for _, tt := range []struct {
		name, word string
		args       []string
		prepare    func(s *redistest.Server)
		heal       []any
	}{
		{"a replica whose master is dead", "READONLY", nil, func(s *redistest.Server) {
			s.Command("REPLICAOF", "127.0.0.1", "1")
		}, []any{"REPLICAOF", "NO", "ONE"}},
		{"full", "OOM", nil, func(s *redistest.Server) {
			s.Command("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1mb")
		}, []any{"CONFIG", "SET", "maxmemory", "0"}},
		{"no permission", "NOPERM", nil, func(s *redistest.Server) {
			s.Command("ACL", "SETUSER", "default", "-set")
		}, []any{"ACL", "SETUSER", "default", "+set"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := redistest.Start(t, tt.args...)
			p := s.Proxy()
			c, j := connected(t, p.URL(), patient)
			if err := c.Set(t.Context(), "old", []byte("v"), 0); err != nil {
				t.Fatal(err)
			}
			tt.prepare(s)
			for range 3 * failureLimit {
				err := c.Set(t.Context(), "k", make([]byte, 4096), 0)
				var reply redis.Error
				if !errors.As(err, &reply) || !strings.HasPrefix(err.Error(), tt.word) {
					t.Fatalf("set: %v, want %s", err, tt.word)
				}
			}
			if got, err := c.Get(t.Context(), "old"); string(got) != "v" || err != nil {
				t.Errorf("reads: %q, %v; want them to go on", got, err)
			}
			if !c.Up() || j.told() != "[true]" {
				t.Errorf("states %s, want only up", j.told())
			}
			s.Command(tt.heal...)
			if err := c.Set(t.Context(), "k", make([]byte, 4096), 0); err != nil {
				t.Errorf("set after it was healed: %v", err)
			}
		})
	}
}

// Behind a name there may be another server by now, which only a new connection finds.
func TestClient_AReplicaIsReachedAnewAfterItRefused(t *testing.T) {
	s := redistest.Start(t)
	p := s.Proxy()
	c, _ := connected(t, p.URL(), patient)
	s.Command("REPLICAOF", "127.0.0.1", "1")
	before := p.Accepted()
	for range 2 {
		if err := c.Set(t.Context(), "k", nil, 0); err == nil {
			t.Fatal("a replica took a write")
		}
	}
	if p.Accepted() == before {
		t.Error("the connection that answered READONLY is used for ever")
	}
}

func TestClient_WrongTypeIsAReply(t *testing.T) {
	s := redistest.Start(t)
	c, _ := connected(t, s.URL(), patient)
	s.Command("HSET", "k", "f", "v")
	for range 2 * failureLimit {
		if _, err := c.Get(t.Context(), "k"); err == nil || !strings.HasPrefix(err.Error(), "WRONGTYPE") {
			t.Fatalf("get of a hash: %v", err)
		}
	}
	if !c.Up() {
		t.Error("down by replies")
	}
}

func TestClient_ACallerWhoLeavesIsNoFailureOfRedis(t *testing.T) {
	p := redistest.Start(t).Proxy()
	c, j := connected(t, p.URL(), time.Second)
	p.Silence(true)
	for range 2 * failureLimit {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		if _, err := c.Get(ctx, "k"); err == nil {
			t.Error("an answer from nowhere")
		}
		cancel()
		if _, err := c.Get(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			t.Errorf("get for a caller who has left: %v", err)
		}
	}
	if !c.Up() || j.told() != "[true]" {
		t.Errorf("states %s, want only up", j.told())
	}
}

func TestClient_CloseEndsWhatRuns(t *testing.T) {
	p := redistest.Start(t).Proxy()
	c, j := connected(t, p.URL(), time.Minute)
	p.Silence(true)
	var running sync.WaitGroup
	for range 10 {
		running.Go(func() {
			if _, err := c.Get(t.Context(), "k"); err == nil || err == ErrMissing {
				t.Errorf("get that was closed: %v", err)
			}
		})
	}
	redistest.Until(t, "all under way", func() bool { return c.redis.Load().PoolStats().TotalConns == 10 })
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	running.Wait()
	if _, err := c.Get(t.Context(), "k"); err != ErrDown {
		t.Errorf("get after Close: %v, want ErrDown", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if j.told() != "[true]" {
		t.Errorf("states %s: Close is no fault of Redis", j.told())
	}
}

func TestClient_ManyAtOnceShareIt(t *testing.T) {
	c, j := connected(t, redistest.Start(t).URL(), patient)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			key := fmt.Sprint("k", i)
			if err := c.Set(t.Context(), key, []byte(key), time.Minute); err != nil {
				t.Error(err)
			}
			if got, err := c.Get(t.Context(), key); string(got) != key || err != nil {
				t.Errorf("%s: %q, %v", key, got, err)
			}
		})
	}
	all.Wait()
	if j.told() != "[true]" {
		t.Errorf("states %s", j.told())
	}
}

// go-redis has one logger for the whole process, which may have other clients. It is not ours to
// change, so ours must have nothing to say there.
func TestClient_GoRedisHasNothingToLog(t *testing.T) {
	said := &journal{}
	redis.SetLogger(printer{said})
	defer redis.SetLogger(printer{&journal{}})
	s := redistest.Start(t)
	p := s.Proxy()
	c, _ := connected(t, p.URL(), DefaultBudget)
	for _, trouble := range []struct{ begin, end func() }{
		{p.Cut, func() {}},
		{p.Stop, p.Start},
		{func() { p.Delay(time.Second) }, func() { p.Delay(0) }},
		{s.Stop, s.Start},
	} {
		trouble.begin()
		for range 2 * failureLimit {
			_ = c.Set(t.Context(), "k", []byte("v"), time.Microsecond)
			_, _ = c.Get(t.Context(), "k")
		}
		trouble.end()
		redistest.Until(t, "up again", c.Up)
	}
	c.Close()
	if said.log() != "" {
		t.Errorf("on standard error:\n%s", said.log())
	}
}

type printer struct{ j *journal }

func (p printer) Printf(_ context.Context, format string, v ...any) {
	fmt.Fprintf(p.j, format+"\n", v...)
}

func mustCostNothing(t *testing.T, c *Client) {
	t.Helper()
	start := time.Now()
	for range 1000 {
		if _, err := c.Get(t.Context(), "k"); err != ErrDown {
			t.Fatalf("get while Redis is down: %v, want ErrDown", err)
		}
	}
	if took := time.Since(start); took > 50*time.Millisecond {
		t.Errorf("1000 gets while Redis is down took %v", took)
	}
}
