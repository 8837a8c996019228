package manage

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test that is about to fail.
const patience = 30 * time.Second

// recorded is what Ollama 0.24.0 writes for a pull (golden pull), shortened.
var recorded = []string{
	`{"status":"pulling manifest"}`,
	`{"status":"pulling c54460c78625","digest":"sha256:c54460c78625","total":1000}`,
	`{"status":"pulling c54460c78625","digest":"sha256:c54460c78625","total":1000,"completed":400}`,
	`{"status":"pulling c54460c78625","digest":"sha256:c54460c78625","total":1000,"completed":1000}`,
	`{"status":"verifying sha256 digest"}`,
	`{"status":"writing manifest"}`,
	`{"status":"success"}`,
}

// A fakeNode answers as its handler does, behind a real connection.
type fakeNode struct {
	name   string
	server *httptest.Server
	asked  atomic.Int32
	left   atomic.Int32 // requests that were canceled
	lines  chan string  // what it writes next; closed: the end
	bodies chan string
}

func newNode(t testing.TB, name string) *fakeNode {
	t.Helper()
	n := &fakeNode{name: name, lines: make(chan string, 100), bodies: make(chan string, 10)}
	n.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		select {
		case n.bodies <- string(body):
		default:
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		for {
			select {
			case line, ok := <-n.lines:
				switch {
				case !ok:
					return
				case line == "die":
					panic(http.ErrAbortHandler)
				case strings.HasPrefix(line, "status "):
					var code int
					var text string
					fmt.Sscanf(line, "status %d", &code)
					_, text, _ = strings.Cut(line, ":")
					w.WriteHeader(code)
					io.WriteString(w, text)
					return
				}
				io.WriteString(w, line+"\n")
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				n.left.Add(1)
				return
			}
		}
	}))
	t.Cleanup(func() { n.server.CloseClientConnections(); n.server.Close() })
	return n
}

func (n *fakeNode) Name() string { return n.name }

func (n *fakeNode) URL() *url.URL {
	u, _ := url.Parse(n.server.URL)
	return u
}

func (n *fakeNode) RoundTrip(r *http.Request) (*http.Response, error) {
	return n.server.Client().Transport.RoundTrip(r)
}

func (n *fakeNode) says(lines ...string) *fakeNode {
	for _, l := range lines {
		n.lines <- l
	}
	return n
}

func (n *fakeNode) ends() { close(n.lines) }

// A bench is a table of jobs whose goroutines are waited for.
type bench struct {
	*Jobs
	running sync.WaitGroup
	cancel  context.CancelFunc
	done    chan string // names of nodes that have succeeded
}

func newBench(t testing.TB) *bench {
	b := &bench{done: make(chan string, 10)}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.Jobs = NewJobs(Base{Context: ctx, Running: &b.running, Done: func(n Node, _ Ask) { b.done <- n.Name() }})
	t.Cleanup(func() { cancel(); b.running.Wait() })
	return b
}

var pull = Ask{Method: http.MethodPost, Path: "/api/pull", Body: []byte(`{"model":"m","stream":true}`), Key: "pull m"}

func nodesOf(fakes ...*fakeNode) (nodes []Node) {
	for _, f := range fakes {
		nodes = append(nodes, f)
	}
	return nodes
}

// rest reads a follower to its end.
func rest(t testing.TB, f *Follower) (all []Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		records, over, err := f.Next(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", all, err)
		}
		if all = append(all, records...); over {
			return all
		}
	}
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func failureOf(results []Result, node string) *Failure {
	for _, r := range results {
		if r.Node.Name() == node {
			return r.Failure
		}
	}
	return &Failure{Reason: "not asked"}
}

func TestJob_TellsOneNodesRecordsAsTheyAre(t *testing.T) {
	b, a := newBench(t), newNode(t, "a").says(recorded...)
	f := b.Follow(pull, nodesOf(a), Options{})
	defer f.Close()
	got := fmt.Sprint(rest(t, f))
	for _, want := range []string{"{pulling manifest  0 0}", "{pulling c54460c78625 sha256:c54460c78625 1000 1000}", "{verifying sha256 digest  0 0} {writing manifest  0 0}]"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s, want %s in it", got, want)
		}
	}
	if body := <-a.bodies; body != string(pull.Body) {
		t.Errorf("the node got %s", body)
	}
	if failure := failureOf(f.Results(), "a"); failure != nil {
		t.Error(failure)
	}
	if got := <-b.done; got != "a" {
		t.Errorf("done: %s", got)
	}
}

func TestJob_SlowestDecidesAndFailuresAreToldByNode(t *testing.T) {
	b := newBench(t)
	whole, full, dies, silent, slow := newNode(t, "whole"), newNode(t, "full"), newNode(t, "dies"), newNode(t, "silent"), newNode(t, "slow")
	f := b.Follow(pull, nodesOf(whole, full, dies, silent, slow), Options{})
	defer f.Close()
	whole.says(recorded...)
	full.says(recorded[0], recorded[2], `{"error":"write /var/lib/ollama/models/blobs/sha256-c5-partial: no space left on device"}`)
	dies.says(recorded[:3]...).says("die")
	silent.says(recorded[:4]...).ends() // an end in order, without success
	slow.says(recorded[:3]...)
	until(t, "one node is done", func() bool { return len(b.done) == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, over, err := f.Next(ctx); over || err != nil {
		t.Fatalf("over %v, %v although a node is not done", over, err)
	}
	slow.says(recorded[3:]...)
	all := rest(t, f)
	if last := all[len(all)-1]; last.Status != "writing manifest" && last.Completed != 5000 {
		t.Errorf("the end was %v", all)
	}
	for node, want := range map[string]Reason{"full": NoSpace, "dies": Lost, "silent": Incomplete} {
		if got := failureOf(f.Results(), node); got == nil || got.Reason != want {
			t.Errorf("%s: got %v, want %s", node, got, want)
		}
	}
	for _, node := range []string{"whole", "slow"} {
		if got := failureOf(f.Results(), node); got != nil {
			t.Errorf("%s: got %v", node, got)
		}
	}
	for _, r := range f.Results() {
		if r.Failure != nil && strings.Contains(r.Failure.Text(), "/") {
			t.Errorf("%s tells clients %q", r.Node.Name(), r.Failure.Text())
		}
	}
}

func TestJob_NodeThatCannotBeReachedHasFailed(t *testing.T) {
	b, a := newBench(t), newNode(t, "a")
	a.server.Close()
	f := b.Follow(pull, nodesOf(a), Options{})
	defer f.Close()
	rest(t, f)
	if got := failureOf(f.Results(), "a"); got == nil || got.Reason != Unreachable || strings.Contains(got.Text(), "127.0.0.1") {
		t.Errorf("got %v, %q", got, got.Text())
	}
}

func TestJob_RefusalKeepsItsStatus(t *testing.T) {
	b, a := newBench(t), newNode(t, "a").says(`status 400:{"error":"invalid model name"}`)
	f := b.Follow(pull, nodesOf(a), Options{})
	defer f.Close()
	rest(t, f)
	if got := failureOf(f.Results(), "a"); got == nil || got.Reason != Refused || got.Status != 400 || got.Text() != "invalid model name" {
		t.Errorf("got %+v", got)
	}
}

func TestJob_RedirectIsNotFollowed(t *testing.T) {
	b, a, other := newBench(t), newNode(t, "a"), newNode(t, "other")
	a.server.Config.Handler = http.RedirectHandler(other.server.URL, http.StatusTemporaryRedirect)
	f := b.Follow(pull, nodesOf(a), Options{})
	defer f.Close()
	rest(t, f)
	if got := failureOf(f.Results(), "a"); got == nil || got.Status != 307 || other.asked.Load() != 0 {
		t.Errorf("got %v, and %d requests elsewhere", got, other.asked.Load())
	}
}

func TestJob_SilentNodeFailsAndHoldsNobodyUp(t *testing.T) {
	b := newBench(t)
	hangs, well := newNode(t, "hangs").says(recorded[:3]...), newNode(t, "well").says(recorded...)
	f := b.Follow(pull, nodesOf(hangs, well), Options{Stall: 100 * time.Millisecond})
	defer f.Close()
	rest(t, f)
	if got := failureOf(f.Results(), "hangs"); got == nil || got.Reason != Stalled {
		t.Errorf("got %v", got)
	}
	if got := failureOf(f.Results(), "well"); got != nil {
		t.Errorf("got %v", got)
	}
	until(t, "the silent node's request is closed", func() bool { return hangs.left.Load() == 1 })
}

func TestJob_EqualAsksAreOneWhileTheyRun(t *testing.T) {
	b, a, c := newBench(t), newNode(t, "a"), newNode(t, "c")
	first := b.Follow(pull, nodesOf(a, c), Options{})
	defer first.Close()
	a.says(recorded[:3]...)
	c.says(recorded[:3]...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, _, err := first.Next(ctx); err != nil {
		t.Fatal(err)
	}
	second := b.Follow(pull, nodesOf(c, a), Options{})
	defer second.Close()
	if first.job != second.job {
		t.Fatal("an equal pull is a job of its own")
	}
	other := pull
	other.Key = "pull other"
	third := b.Follow(other, nodesOf(a), Options{})
	if third.job == first.job {
		t.Fatal("another pull is the same job")
	}
	third.Close()
	until(t, "the follower sees where the job is", func() bool {
		records, _, err := second.Next(ctx)
		return err != nil || slices.ContainsFunc(records, func(r Record) bool { return r.Completed == 800 })
	})
	first.Close() // the other one holds it
	a.says(recorded[3:]...)
	c.says(recorded[3:]...)
	rest(t, second)
	for _, r := range second.Results() {
		if r.Failure != nil {
			t.Errorf("%s: %v", r.Node.Name(), r.Failure)
		}
	}
	again := b.Follow(pull, nodesOf(a, c), Options{})
	defer again.Close()
	if again.job == second.job {
		t.Error("a job that is over was joined")
	}
}

func TestJob_LastFollowerCancelsAllNodes(t *testing.T) {
	b, a, c := newBench(t), newNode(t, "a").says(recorded[0]), newNode(t, "c").says(recorded[0])
	f := b.Follow(pull, nodesOf(a, c), Options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if records, _, err := f.Next(ctx); err != nil || len(records) != 1 {
		t.Fatalf("%v, %v", records, err)
	}
	f.Close()
	f.Close()
	until(t, "the requests are closed", func() bool { return a.left.Load() == 1 && c.left.Load() == 1 })
	b.running.Wait()
	if len(b.Jobs.running) != 0 {
		t.Error("the job is still in the table")
	}
}

func TestJob_AnotherNodeIsTriedUntilOneGetsSomewhere(t *testing.T) {
	push := Ask{Method: http.MethodPost, Path: "/api/push", Body: []byte(`{}`), Key: "push m", One: true}
	b := newBench(t)
	bad, good, spare := newNode(t, "bad"), newNode(t, "good"), newNode(t, "spare")
	bad.says(`{"status":"retrieving manifest"}`, `{"error":"couldn't retrieve manifest"}`)
	good.says(`{"status":"retrieving manifest"}`).says(recorded[1:3]...).says("die")
	f := b.Follow(push, nodesOf(bad, good, spare), Options{})
	defer f.Close()
	all := rest(t, f)
	if n := strings.Count(fmt.Sprint(all), "retrieving manifest"); n != 1 {
		t.Errorf("a status was told %d times: %v", n, all)
	}
	if got := fmt.Sprint(all); !strings.Contains(got, "1000 400") {
		t.Errorf("the total is not that of one node: %s", got)
	}
	if got := f.Results(); len(got) != 2 || got[0].Failure.Reason != Failed || got[1].Failure.Reason != Lost {
		t.Errorf("got %v", got)
	}
	if spare.asked.Load() != 0 {
		t.Error("a node was asked although another had begun")
	}
}

func TestFollower_TellsEachNodeByItself(t *testing.T) {
	b := newBench(t)
	a, c := newNode(t, "a").says(recorded...), newNode(t, "c").says(recorded[:3]...).says("die")
	f := b.Follow(pull, nodesOf(a, c), Options{})
	defer f.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := map[string][]Update{}
	for over := false; !over; {
		var updates []Update
		var err error
		if updates, over, err = f.NextByNode(ctx); err != nil {
			t.Fatal(err)
		}
		for _, u := range updates {
			seen[u.Node] = append(seen[u.Node], u)
		}
	}
	if last := seen["a"][len(seen["a"])-1]; !last.Done {
		t.Errorf("a ended with %+v", last)
	}
	if last := seen["c"][len(seen["c"])-1]; last.Failure == nil || last.Failure.Reason != Lost {
		t.Errorf("c ended with %+v", last)
	}
	for node, updates := range seen {
		ends := 0
		for _, u := range updates {
			if u.Done || u.Failure != nil {
				ends++
			}
		}
		if ends != 1 {
			t.Errorf("%s has %d ends: %+v", node, ends, updates)
		}
	}
}

func TestEach_TellsOfEachNode(t *testing.T) {
	a, c, d := newNode(t, "a"), newNode(t, "c").says(`status 404:{"error":"model 'x' not found"}`), newNode(t, "d").says("die")
	a.ends()
	results := Each(t.Context(), Ask{Method: http.MethodDelete, Path: "/api/delete", Body: []byte(`{"model":"x"}`)}, nodesOf(a, c, d), Options{})
	if results[0].Failure != nil {
		t.Error(results[0].Failure)
	}
	if f := results[1].Failure; f == nil || f.Status != 404 || f.Text() != "model 'x' not found" {
		t.Errorf("got %+v", f)
	}
	if f := results[2].Failure; f == nil || f.Reason != Lost {
		t.Errorf("got %+v", f)
	}
}

func TestEach_DoesNotWaitForEver(t *testing.T) {
	a := newNode(t, "a")
	results := Each(t.Context(), Ask{Method: http.MethodDelete, Path: "/api/delete"}, nodesOf(a), Options{AtOnce: 50 * time.Millisecond})
	if f := results[0].Failure; f == nil || f.Reason != Stalled {
		t.Errorf("got %v", f)
	}
}
