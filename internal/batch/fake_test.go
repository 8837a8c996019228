package batch

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fleet answers gathered calls as nodes do, each in a slot.
type fleet struct {
	most  int           // slots; 0: as many as there are calls
	slots chan struct{} // made where the time is virtual
	took  func(texts []string) time.Duration
	fails func(texts []string) error // after it took
	load  time.Duration

	mu    sync.Mutex
	calls [][]string // the texts of each, in the order in which they were granted
	ended []error    // causes of those that ended before they were answered
	last  *call.Call
}

func (f *fleet) Answer(ctx context.Context, c *call.Call) (*recording.Reader, error) {
	if f.slots != nil {
		select {
		case f.slots <- struct{}{}:
			defer func() { <-f.slots }()
		case <-ctx.Done():
			return nil, f.left(ctx)
		}
	}
	body := c.Request.Body
	if c.Seal != nil {
		body, _ = c.Seal()
	}
	var q struct {
		Model, Prompt string
		Input         any
		Encoding      string `json:"encoding_format"`
	}
	if err := json.Unmarshal(body.Bytes(), &q); err != nil {
		return nil, err
	}
	texts := []string{q.Prompt}
	switch in := q.Input.(type) {
	case string:
		texts[0] = in
	case []any:
		texts = texts[:0]
		for _, text := range in {
			texts = append(texts, text.(string))
		}
	}
	f.mu.Lock()
	f.calls, f.last = append(f.calls, texts), c
	f.mu.Unlock()
	c.Upstream.Granted("n0", "idle")
	began := time.Now()
	if f.took != nil {
		select {
		case <-time.After(f.took(texts)):
		case <-ctx.Done():
			return nil, f.left(ctx)
		}
	}
	c.Upstream.Tried(call.Try{Node: "n0", Outcome: "ok", Took: time.Since(began)})
	if f.fails != nil {
		if err := f.fails(texts); err != nil {
			return nil, err
		}
	}
	contentType, object := nodesAnswer(c.Request.Route, q.Model, strings.EqualFold(q.Encoding, "base64"), texts, f.load)
	return recording.Replay(c.Request.Route, recording.Whole{ContentType: contentType, Object: object}), nil
}

func (f *fleet) left(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = append(f.ended, context.Cause(ctx))
	return context.Cause(ctx)
}

func (f *fleet) sent() (all [][]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// vectorOf is what every node makes of a text.
func vectorOf(text string) []float32 {
	h := fnv.New32a()
	h.Write([]byte(text))
	return []float32{float32(h.Sum32()%100000) / 100000, -1e-7, 1}
}

func tokensOf(text string) int { return 2 + len(text)/3 }

// nodesAnswer is written with the types of a node's own, not with those that are tested.
func nodesAnswer(route wire.Route, model string, packed bool, texts []string, load time.Duration) (contentType string, object []byte) {
	tokens := 0
	vectors := [][]float32{}
	for _, text := range texts {
		tokens += tokensOf(text)
		vectors = append(vectors, vectorOf(text))
	}
	var b bytes.Buffer
	switch {
	case route.Path == "/api/embeddings":
		json.NewEncoder(&b).Encode(struct {
			Embedding []float32 `json:"embedding"`
		}{vectors[0]})
	case route.Dialect == wire.OpenAI:
		type entry struct {
			Object    string `json:"object"`
			Embedding any    `json:"embedding"`
			Index     int    `json:"index"`
		}
		data := make([]entry, len(vectors))
		for i, v := range vectors {
			data[i] = entry{"embedding", v, i}
			if packed {
				data[i].Embedding = base64.StdEncoding.EncodeToString(fmt.Append(nil, v))
			}
		}
		json.NewEncoder(&b).Encode(struct {
			Object string         `json:"object"`
			Data   []entry        `json:"data"`
			Model  string         `json:"model"`
			Usage  map[string]int `json:"usage"`
		}{"list", data, model, map[string]int{"prompt_tokens": tokens, "total_tokens": tokens}})
		return "application/json", b.Bytes()
	default:
		json.NewEncoder(&b).Encode(struct {
			Model      string        `json:"model"`
			Embeddings [][]float32   `json:"embeddings"`
			Total      time.Duration `json:"total_duration,omitempty"`
			Load       time.Duration `json:"load_duration,omitempty"`
			Tokens     int           `json:"prompt_eval_count,omitempty"`
		}{model, vectors, 1000, load, tokens})
	}
	return "application/json; charset=utf-8", bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// A store is a cache that keeps all and counts.
type store struct {
	mu      sync.Mutex
	kept    map[call.Key]*call.Vector
	lookups int
	nodes   []string // where what was stored came from
}

func (s *store) Lookup(_ context.Context, _ *call.Call, qs []call.Question) ([]*call.Vector, call.Keep) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookups++
	all := make([]*call.Vector, len(qs))
	for i, q := range qs {
		all[i] = s.kept[q.Key]
	}
	return all, s.Keep
}

func (s *store) Keep(qs []call.Question, vs []*call.Vector, from *call.Upstream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = map[call.Key]*call.Vector{}
	}
	node, _ := from.Route()
	for i, q := range qs {
		s.kept[q.Key] = vs[i]
		s.nodes = append(s.nodes, node)
	}
}

// A bench is a step before a fleet.
type bench struct {
	*Step
	*fleet
	t   testing.TB
	end context.CancelFunc

	mu      sync.Mutex
	results []call.Texts
	sizes   []int // of what was sent
	waits   []time.Duration
}

// Answer is the step's, not the fleet's.
func (b *bench) Answer(ctx context.Context, c *call.Call) (*recording.Reader, error) {
	r, err := b.Step.Answer(ctx, c)
	if err == nil && c.Vectors != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.results = append(b.results, c.Cached.Result().Texts)
	}
	return r, err
}

// within runs a test on a bench of its own in virtual time, and sees that nothing is left.
func within(t *testing.T, f *fleet, o Options, items Items, test func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		if f.most > 0 {
			f.slots = make(chan struct{}, f.most)
		}
		b := newBench(t, f, o, items, f)
		test(t, b)
		synctest.Wait()
		b.Step.mu.Lock()
		defer b.Step.mu.Unlock()
		if len(b.open) > 0 || len(b.flying) > 0 || len(b.waiting) > 0 {
			t.Errorf("%d calls are open, %d items in flight and %d kinds wait after all", len(b.open), len(b.flying), len(b.waiting))
		}
		b.end()
		b.Jobs.Wait()
	})
}

func newBench(t testing.TB, f *fleet, o Options, items Items, next call.Answerer) *bench {
	ctx, cancel := context.WithCancel(context.Background())
	b := &bench{fleet: f, t: t, end: cancel}
	o.Sent = func(_ string, texts int, waited time.Duration) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.sizes, b.waits = append(b.sizes, texts), append(b.waits, waited)
	}
	b.Step = New(Base{Context: ctx, Jobs: new(sync.WaitGroup)}).Step(o, items, next)
	return b
}

// asking makes a call as admit does.
func asking(t testing.TB, path, body string, change ...func(*call.Call)) *call.Call {
	t.Helper()
	r, err := wire.Parse(*wire.Find("POST", path).Route, []byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	c := &call.Call{
		Request: r, Identity: "id", Embedding: true, Runner: r.Runner, Upstream: call.NewUpstream(2), Cached: new(call.Cached),
		Caching: &call.Caching{Identity: "id", Version: "0.24.0", Tenant: "shared", Verdict: call.Verdict{TTL: time.Hour}},
	}
	for _, change := range change {
		change(c)
	}
	if w := c.Caching; w != nil && w.Tenant != "" && (r.KeepAlive == nil || *r.KeepAlive != 0) {
		c.Vectors = Apart(r)
	}
	return c
}

func embedding(texts ...string) string {
	list, _ := json.Marshal(texts)
	return `{"model":"m","input":` + string(list) + `}`
}

// want is what one node would answer to a request, up to the times.
func want(texts ...string) string {
	_, object := nodesAnswer(*wire.Find("POST", "/api/embed").Route, "m", false, texts, 0)
	return timeless(object)
}

// timeless takes out of an answer what it says of time.
func timeless(object []byte) string {
	at, end := bytes.Index(object, []byte(`,"total_duration"`)), bytes.Index(object, []byte(`,"prompt_eval_count"`))
	if at < 0 || end < at {
		return string(object)
	}
	return string(object[:at]) + string(object[end:])
}

// get gives the answer to a call in the texts' own words.
func (b *bench) get(ctx context.Context, c *call.Call) (string, error) {
	r, err := b.Answer(ctx, c)
	if err != nil {
		return "", err
	}
	defer r.Close()
	_, object, ok := r.Object()
	if !ok {
		b.t.Error("the answer is no object")
	}
	return timeless(object), nil
}

// ask holds the vectors of texts to those of one node.
func (b *bench) ask(texts ...string) {
	b.t.Helper()
	got, err := b.get(context.Background(), asking(b.t, "/api/embed", embedding(texts...)))
	if want := want(texts...); err != nil || countless(got) != countless(want) {
		b.t.Errorf("%q\ngot  %s, %v\nwant %s", texts, got, err, want)
	}
}

// countless takes out of an answer the count of tokens, which may be apportioned.
func countless(object string) string {
	vectors, _, _ := strings.Cut(object, `,"prompt_eval_count"`)
	vectors, _, _ = strings.Cut(vectors, `,"total_duration"`) // where the count is 0
	return vectors
}

// numbered are n texts.
func numbered(word string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s %d", word, i)
	}
	return all
}

// sealedBody is what was sent for a call.
func sealedBody(c *call.Call) string {
	body, _ := c.Seal()
	return string(body.Bytes())
}

// dear has it known that a call costs much, however many texts it has.
func (b *bench) dear() {
	b.Step.mu.Lock()
	defer b.Step.mu.Unlock()
	for _, n := range []int{1, 32, 1, 32} {
		b.learnLocked("id", n, time.Second)
	}
}
