package simnode_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func TestAdmin_ReadsAndChangesFaults(t *testing.T) {
	n := simnode.New(simnode.Options{Admin: true, Models: []simnode.Model{{Name: "a"}}})
	defer n.Close()
	call := func(method, body string) simnode.Report {
		t.Helper()
		status, raw := ask(t, n, method, "/_faults", body)
		var r simnode.Report
		if err := json.Unmarshal([]byte(raw), &r); status != http.StatusOK || err != nil {
			t.Fatalf("%s %s: %d %s", method, body, status, raw)
		}
		return r
	}
	if r := call(http.MethodPut, `[{"status":418,"path":"*"},"busy,path=/x"]`); len(r.Faults) != 2 || !r.Faults[1].Busy {
		t.Errorf("got %+v", r)
	}
	if status, _ := ask(t, n, http.MethodGet, "/", ""); status != http.StatusTeapot {
		t.Errorf("not struck: %d", status)
	}
	if r := call(http.MethodPost, `"never,model=b"`); len(r.Faults) != 3 || r.Stats.Faulted["1"] != 1 || r.Stats.Requests["/"] != 1 || len(r.Stats.Requests) != 1 {
		t.Errorf("got %+v", r)
	}
	if r := call(http.MethodPut, `{"busy":true}`); len(r.Faults) != 1 {
		t.Errorf("got %+v", r)
	}
	call(http.MethodPut, `{"refuse":true,"after":"1h","for":"1s"}`)
	for body, want := range map[string]string{
		``:                             "EOF",
		`{"status":1}`:                 "200 to 599",
		`"refuse"`:                     "shut you out",
		`[{"deaf":true}]`:              "shut you out",
		`{"nonsense":true}`:            "nonsense",
		`{"never":true,"model":"a b"}`: "invalid model name",
	} {
		if status, raw := ask(t, n, http.MethodPut, "/_faults", body); status != http.StatusBadRequest || !strings.Contains(raw, want) {
			t.Errorf("%s: %d %s", body, status, raw)
		}
	}
	if r := call(http.MethodGet, ""); len(r.Faults) != 1 || !r.Faults[0].Refuse {
		t.Errorf("a wrong one changed them: %+v", r)
	}
	if r := call(http.MethodDelete, ""); len(r.Faults) != 0 {
		t.Errorf("got %+v", r)
	}
	if status, raw := ask(t, n, http.MethodPatch, "/_faults", ""); status != http.StatusMethodNotAllowed {
		t.Errorf("PATCH: %d %s", status, raw)
	}
}

func TestAdmin_IsNotThereUnlessAllowed(t *testing.T) {
	n := newNode(t)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
		if status, raw := ask(t, n, method, "/_faults", `{"busy":true}`); status != http.StatusNotFound || raw != "404 page not found" {
			t.Errorf("%s: %d %s", method, status, raw)
		}
	}
}
