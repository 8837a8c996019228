package gateway

import (
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// leastInFlight is what Caddy's least_conn does: a request goes at once to the node with the
// fewest on their way, of equals to any; the nodes queue by themselves, as Ollama does.
type leastInFlight struct {
	pipes []*simnode.Pipe

	mu       sync.Mutex // guards what follows
	inFlight []int
	random   *rand.Rand
}

func newLeastInFlight(pipes []*simnode.Pipe, seed uint64) *leastInFlight {
	return &leastInFlight{pipes: pipes, inFlight: make([]int, len(pipes)), random: rand.New(rand.NewPCG(seed, 7))}
}

func (l *leastInFlight) RoundTrip(q *http.Request) (*http.Response, error) {
	node := l.take()
	return sent(l.pipes[node], q, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.inFlight[node]--
	})
}

func (l *leastInFlight) take() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	least := slices.Min(l.inFlight)
	var equal []int
	for i, n := range l.inFlight {
		if n == least {
			equal = append(equal, i)
		}
	}
	node := equal[l.random.IntN(len(equal))]
	l.inFlight[node]++
	return node
}

// sent sends a request to a node; over is called once, when its answer has been closed.
func sent(pipe *simnode.Pipe, q *http.Request, over func()) (*http.Response, error) {
	resp, err := pipe.RoundTrip(q)
	if err != nil {
		over()
		return nil, err
	}
	resp.Body = &watchedBody{resp.Body, sync.OnceFunc(over)}
	return resp, nil
}

// A watchedBody tells when it is closed.
type watchedBody struct {
	io.ReadCloser
	over func()
}

func (b *watchedBody) Close() error {
	defer b.over()
	return b.ReadCloser.Close()
}
