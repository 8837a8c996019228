package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// A nameServer answers lookups as it was told last.
type nameServer struct {
	mu  sync.Mutex // guards what follows
	ips []netip.Addr
	err error
}

func (o *nameServer) say(err error, ips ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ips, o.err = nil, err
	for _, ip := range ips {
		o.ips = append(o.ips, netip.MustParseAddr(ip))
	}
}

func (o *nameServer) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ips, o.err
}

func (o *nameServer) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", nil, errors.New("nobody asks for it")
}

// 53
func TestMatrix_ANameThatMovesTakesItsNodesAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := new(nameServer)
		names.say(nil, "10.0.0.1")
		sims, pipes := make(map[string]*simnode.Node), make(map[string]*simnode.Pipe)
		for _, address := range []string{"10.0.0.1:11434", "10.0.0.2:11434", "[fd00::1]:11434"} {
			sims[address] = goldenNode(t, 0.01)
			pipes[address] = simnode.NewPipe(sims[address])
			t.Cleanup(pipes[address].Close)
		}
		r := newRig(t, rigOptions{config: Config{Health: fleet.Options{
			Resolver: names,
			Discover: []fleet.Discovery{{Kind: fleet.DiscoverA, Name: "ollama.internal", NewNode: func(address string) (fleet.NodeConfig, error) {
				return fleet.NodeConfig{URL: &url.URL{Scheme: "http", Host: address}, Transport: pipes[address], Slots: 2, Key: address}, nil
			}}},
		}}})
		asked := func(address string) int { return sims[address].Stats().Requests["/api/chat"] }
		all := func() (n int) {
			for address := range sims {
				n += asked(address)
			}
			return n
		}
		goesTo := func(when, address string) {
			t.Helper()
			time.Sleep(2 * time.Minute) // the name was looked up again
			one, every := asked(address), all()
			for range 5 {
				if code, answer, _ := r.ask("/api/chat", chatBody); code != 200 || !strings.Contains(answer, `"done":true`) {
					t.Errorf("%s: %d %s", when, code, answer)
				}
			}
			if one, every = asked(address)-one, all()-every; one != 5 || every != 5 {
				t.Errorf("%s: %d of %d calls went to %s, want 5 of 5", when, one, every, address)
			}
		}
		goesTo("at first", "10.0.0.1:11434")

		// A stream that runs where the name has led is not cut.
		if err := sims["10.0.0.1:11434"].SetFaults(simnode.Fault{Gap: 30 * time.Second}); err != nil {
			t.Fatal(err)
		}
		resp, err := r.post(t.Context(), "/api/chat", `{"model":"tiny","messages":[{"role":"user","content":"hi"}],"options":{"temperature":0,"num_predict":10}}`)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		names.say(nil, "10.0.0.2")
		goesTo("moved", "10.0.0.2:11434")
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(answer), `"done":true`) || time.Since(began) < 3*time.Minute {
			t.Errorf("the stream on the old address ended after %v with %v: %s", time.Since(began), err, answer)
		}
		names.say(errors.New("no name server"))
		goesTo("the name server is gone", "10.0.0.2:11434")
		names.say(nil)
		goesTo("the name has no address", "10.0.0.2:11434")
		names.say(nil, "fd00::1")
		goesTo("IPv6", "[fd00::1]:11434")
		names.say(nil, "::ffff:10.0.0.1")
		if err := sims["10.0.0.1:11434"].SetFaults(); err != nil {
			t.Fatal(err)
		}
		goesTo("back, in another form", "10.0.0.1:11434")
		synctest.Wait()
		r.idle()
	})
}

// aging shifts the years that a node tells.
type aging struct {
	http.Handler
	mu   sync.Mutex // guards year
	year string
}

func (a *aging) jump(year string) { a.mu.Lock(); defer a.mu.Unlock(); a.year = year }

func (a *aging) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	year := a.year
	a.mu.Unlock()
	a.Handler.ServeHTTP(&agingWriter{w, `"` + year + `-`}, r)
}

type agingWriter struct {
	http.ResponseWriter
	begins string
}

var years = regexp.MustCompile(`"20\d\d-`)

func (w *agingWriter) Write(p []byte) (int, error) {
	_, err := w.ResponseWriter.Write(years.ReplaceAll(p, []byte(w.begins)))
	return len(p), err
}
func (w *agingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// 53
func TestMatrix_AClockThatJumpsChangesNothing(t *testing.T) {
	t.Run("of a node", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			node := &aging{Handler: goldenNode(t, 0.01), year: "2000"}
			other := goldenNode(t, 0.01)
			r := newRig(t, rigOptions{}, node, other)
			for _, year := range []string{"2000", "1970", "2099", "0001", "2000"} {
				node.jump(year)
				if code, answer, _ := r.ask("/api/chat", chatBody); code != 200 || !strings.Contains(answer, `"done":true`) {
					t.Errorf("%s: %d %s", year, code, answer)
				}
				time.Sleep(time.Minute)
				for _, v := range r.engine.fleet.Snapshot().Nodes {
					if v.State != fleet.Up {
						t.Errorf("%s: %s is %s", year, v.Node.Name(), v.State)
					}
				}
				code, ps, _ := r.with("GET", "/api/ps", "", http.Header{})
				if code != 200 || strings.Count(ps, `"name":"tiny:latest"`) != 1 {
					t.Errorf("%s: /api/ps says %s", year, ps)
				}
			}
			synctest.Wait()
			r.idle()
			// The model was loaded once, and all calls went there.
			if a, b := calls(node.Handler), calls(other); a != 0 && b != 0 {
				t.Errorf("%d calls on the one and %d on the other", a, b)
			}
		})
	})
	// What the engine remembers of time it compares by the monotonic clock, which no jump moves;
	// that is lost in these ways, so that each place has its reason.
	t.Run("of the gateway", func(t *testing.T) {
		reasons := map[string]string{
			"fleet/inventory.go": "when a model was changed, as nodes wrote it",
			"fleet/show.go":      "the same",
			"fleet/merge.go":     "which of two rows is newer, as nodes wrote them",
			"fleet/views.go":     "the seconds that OpenAI's clients are told",
			"fleet/runner.go":    "which runner goes last, as nodes wrote it",
		}
		used := make(map[string]bool)
		loses := regexp.MustCompile(`\.(Unix|UnixNano|UnixMilli|UnixMicro|UTC|Local|AddDate)\(|\.Round\(0\)|\btime\.(Unix|UnixMilli|Date|Parse)\(`)
		for _, room := range []string{"attempt", "call", "fleet", "gateway", "keys", "recording", "schedule", "suspect", "transport"} {
			files, err := filepath.Glob("../" + room + "/*.go")
			if err != nil || len(files) == 0 {
				t.Fatalf("%s: %v", room, err)
			}
			for _, file := range files {
				if strings.HasSuffix(file, "_test.go") {
					continue
				}
				source, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				name := strings.TrimPrefix(filepath.ToSlash(file), "../")
				found := loses.FindAllString(string(source), -1)
				if len(found) > 0 && reasons[name] == "" {
					t.Errorf("%s uses %q: a time that a jump of the clock moves", name, found)
				}
				used[name] = len(found) > 0
			}
		}
		for name := range reasons {
			if !used[name] {
				t.Errorf("%s is excused and does without", name)
			}
		}
	})
}

func calls(h http.Handler) int { return h.(*simnode.Node).Stats().Requests["/api/chat"] }
