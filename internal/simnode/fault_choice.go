package simnode

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An armed fault is one that was set on a node, with what it remembers. The node's mutex guards the fields that change.
type armed struct {
	Fault
	since time.Time
	model string // name.key of Model

	// What follows changes.
	rand   *rand.Rand
	seen   int // requests that are the fault's, whether it struck or not
	struck int
}

// SetFaults replaces the node's faults; none heals it. Nothing changes when one of them is wrong. Requests that run go
// on as they began. It is safe for concurrent use.
func (n *Node) SetFaults(faults ...Fault) error {
	list := make([]*armed, 0, len(faults))
	for i, f := range faults {
		if f.Name == "" {
			f.Name = strconv.Itoa(i + 1)
		}
		a, err := arm(f)
		if err != nil {
			return fmt.Errorf("fault %s: %w", f.Name, err)
		}
		list = append(list, a)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = list
	n.changedLocked()
	return nil
}

// Faults returns the faults that were set, with the names they are counted under.
func (n *Node) Faults() []Fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]Fault, len(n.faults))
	for i, a := range n.faults {
		out[i] = a.Fault
	}
	return out
}

func arm(f Fault) (*armed, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	a := &armed{Fault: f, since: time.Now()}
	if f.Model != "" {
		name, err := parseName(f.Model)
		if err != nil {
			return nil, fmt.Errorf("model %q: %w", f.Model, err)
		}
		a.model = name.key()
	}
	seed := [2]uint64{f.Seed, 0}
	if f.Seed == 0 {
		seed = [2]uint64{rand.Uint64(), rand.Uint64()} // accidents, not secrets
	}
	a.rand = rand.New(rand.NewPCG(seed[0], seed[1]))
	return a, nil
}

// present reports whether the fault is there at that time, and when that changes next; the zero time is never.
func (a *armed) present(now time.Time) (bool, time.Time) {
	begin := a.since.Add(a.After)
	if now.Before(begin) {
		return false, begin
	}
	if a.For == 0 {
		return true, time.Time{}
	}
	if a.Period > 0 {
		begin = begin.Add(now.Sub(begin) / a.Period * a.Period)
	}
	switch end := begin.Add(a.For); {
	case now.Before(end):
		return true, end
	case a.Period > 0:
		return false, begin.Add(a.Period)
	}
	return false, time.Time{}
}

// The routes that a fault strikes when it names none.
var (
	answering = []string{
		"/api/generate", "/api/chat", "/api/embed", "/api/embeddings",
		"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
	}
	listing = []string{"/api/tags", "/api/ps", "/v1/models"}
	taking  = []string{"/api/pull", "/api/create"} // besides the blobs
)

// onPath reports whether requests with the path are the fault's.
func (a *armed) onPath(path string) bool {
	switch begin, open := strings.CutSuffix(a.Path, "*"); {
	case open:
		return strings.HasPrefix(path, begin)
	case a.Path != "":
		return path == a.Path
	}
	if a.onFiles() {
		return isBlob(path) || slices.Contains(taking, path)
	}
	return slices.Contains(answering, path) || a.lies() && slices.Contains(listing, path)
}

func isBlob(path string) bool { return strings.HasPrefix(path, blobsPath) }

// struck returns the faults that strike the request. Its body is read when one of them looks at that, and put back.
func (n *Node) struckBy(r *http.Request) []*Fault {
	now := time.Now()
	var candidates []*armed
	reads := false
	n.mu.Lock()
	for _, a := range n.faults {
		if there, _ := a.present(now); there && !a.onConnections() && a.onPath(r.URL.Path) && r.URL.Path != adminPath {
			candidates = append(candidates, a)
			reads = reads || a.model != "" || a.Contains != ""
		}
	}
	n.mu.Unlock()
	if len(candidates) == 0 {
		return nil
	}
	var body []byte
	if reads && r.Body != nil && !isBlob(r.URL.Path) { // a file may have gigabytes
		var err error
		body, err = io.ReadAll(r.Body)
		rest := io.Reader(r.Body)
		if err != nil {
			rest = failing{err}
		}
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), rest))
	}
	model := modelIn(body)
	var out []*Fault
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range candidates {
		if (a.model == "" || a.model == model) && bytes.Contains(body, []byte(a.Contains)) && a.strikesLocked() {
			n.stats.Faulted[a.Name]++
			out = append(out, &a.Fault)
		}
	}
	return out
}

// strikesLocked counts a request that is the fault's and decides whether it is struck.
func (a *armed) strikesLocked() bool {
	a.seen++
	nth := a.seen - a.Skip
	switch {
	case nth <= 0,
		a.Every > 0 && nth%a.Every != 0,
		a.First > 0 && a.struck >= a.First,
		a.Share > 0 && a.rand.Float64() >= a.Share:
		return false
	}
	a.struck++
	return true
}

// modelIn is the name.key of the model that a body names, or "".
func modelIn(body []byte) string {
	var asked struct{ Model, Name string }
	_ = json.NewDecoder(bytes.NewReader(body)).Decode(&asked) // what is no request names no model
	if asked.Model == "" {
		asked.Model = asked.Name
	}
	local, _ := splitSource(asked.Model)
	name, err := parseName(local)
	if err != nil {
		return ""
	}
	return name.key()
}

// failing is a body that broke off.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
