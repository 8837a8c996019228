package simnode_test

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

const (
	askA = `{"model":"a","prompt":"x","stream":false,"options":{"num_predict":1}}`
	askB = `{"model":"b","prompt":"x","stream":false,"options":{"num_predict":1}}`
)

func (b *bubble) faults(list ...simnode.Fault) {
	b.Helper()
	if err := b.node.SetFaults(list...); err != nil {
		b.Fatal(err)
	}
}

// struck sends requests one after the other and tells which of them got the status 418.
func (b *bubble) struck(count int, path, body string) string {
	var marks strings.Builder
	for range count {
		if b.post(path, body).status == http.StatusTeapot {
			marks.WriteByte('x')
		} else {
			marks.WriteByte('.')
		}
	}
	return marks.String()
}

func TestFault_ChoosesRequests(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		for name, tt := range map[string]struct {
			fault      simnode.Fault
			path, body string
			want       string
		}{
			"all":                   {simnode.Fault{}, "/api/generate", askA, "xxxxxx"},
			"no other path":         {simnode.Fault{}, "/api/show", askA, "......"},
			"exact path":            {simnode.Fault{Path: "/api/show"}, "/api/show", askA, "xxxxxx"},
			"another exact path":    {simnode.Fault{Path: "/api/show"}, "/api/generate", askA, "......"},
			"prefix":                {simnode.Fault{Path: "/v1/*"}, "/v1/nothing", askA, "xxxxxx"},
			"every path":            {simnode.Fault{Path: "*"}, "/nothing", askA, "xxxxxx"},
			"model":                 {simnode.Fault{Model: "A:latest"}, "/api/generate", askA, "xxxxxx"},
			"another model":         {simnode.Fault{Model: "b"}, "/api/generate", askA, "......"},
			"text":                  {simnode.Fault{Contains: `"prompt":"x"`}, "/api/generate", askA, "xxxxxx"},
			"another text":          {simnode.Fault{Contains: "boom"}, "/api/generate", askA, "......"},
			"skip":                  {simnode.Fault{Skip: 2}, "/api/generate", askA, "..xxxx"},
			"every":                 {simnode.Fault{Every: 3}, "/api/generate", askA, "..x..x"},
			"first":                 {simnode.Fault{First: 2}, "/api/generate", askA, "xx...."},
			"skip, every and first": {simnode.Fault{Skip: 1, Every: 2, First: 1}, "/api/generate", askA, "..x..."},
		} {
			tt.fault.Status = http.StatusTeapot
			b.faults(tt.fault)
			if got := b.struck(6, tt.path, tt.body); got != tt.want {
				t.Errorf("%s: got %s, want %s", name, got, tt.want)
			}
		}
	})
}

func TestFault_Share(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		run := func() string {
			b.faults(simnode.Fault{Name: "some", Status: http.StatusTeapot, Share: 0.25, Seed: 7})
			return b.struck(200, "/api/generate", askA)
		}
		first := run()
		if share := float64(strings.Count(first, "x")) / 200; math.Abs(share-0.25) > 0.1 {
			t.Errorf("struck a share of %g", share)
		}
		if run() != first {
			t.Error("the same seed chose others")
		}
		if got, want := b.node.Stats().Faulted["some"], 2*strings.Count(first, "x"); got != want {
			t.Errorf("counted %d, want %d", got, want)
		}
	})
}

func TestFault_ComesAndGoes(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.faults(simnode.Fault{Status: http.StatusTeapot, Path: "/", After: 2 * time.Second, For: time.Second, Period: 3 * time.Second})
		var got strings.Builder
		for range 10 {
			time.Sleep(time.Second / 2)
			got.WriteString(b.struck(1, "/", ""))
			time.Sleep(time.Second / 2)
		}
		if got.String() != "..x..x..x." {
			t.Errorf("got %s", got.String())
		}
	})
}

func TestFault_SeveralAct(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.faults(simnode.Fault{FirstByte: 3 * time.Second}, simnode.Fault{FirstByte: 4 * time.Second}, simnode.Fault{Status: 500}, simnode.Fault{Status: 501})
		if a := b.post("/api/generate", askA); a.status != 500 || a.first != 7*time.Second {
			t.Errorf("status %d after %v", a.status, a.first)
		}
	})
}

func TestFault_LeavesTheBodyToTheNode(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.faults(simnode.Fault{Never: true, Contains: "boom", Model: "b"})
		if a := b.post("/api/generate", askA); a.status != http.StatusOK || !a.last(t).Done {
			t.Errorf("got %d %s", a.status, a.body)
		}
		if a := b.post("/api/generate", askB); a.status != http.StatusOK {
			t.Errorf("got %d %s", a.status, a.body)
		}
	})
}
