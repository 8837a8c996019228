package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

func TestDelete_ReachesEveryNodeThatHasItAndItIsGoneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := []*manager{newManager(t, nil), newManager(t, nil), newManager(t, nil)}
		nodes[0].has("mine")
		nodes[2].has("mine")
		r := managingRig(t, ManageConfig{}, nodes...)
		if !r.listed("mine:latest") {
			t.Fatal("it is not there to begin with")
		}
		status, answer, header := r.asks("DELETE", "/api/delete", `{"name":"mine"}`)
		if status != 200 || answer != "" || header.Get("Content-Type") != "" {
			t.Errorf("%d %q %v", status, answer, header)
		}
		if r.listed("mine:latest") {
			t.Error("it is still listed")
		}
		asked := fmt.Sprint(nodes[0].requests(), nodes[1].requests(), nodes[2].requests())
		if asked != `[DELETE /api/delete {"model":"mine"}] [] [DELETE /api/delete {"model":"mine"}]` {
			t.Errorf("asked %s", asked)
		}
		if status, answer, _ := r.asks("DELETE", "/api/delete", `{"name":"mine"}`); status != 404 || answer != `{"error":"model 'mine' not found"}` {
			t.Errorf("again: %d %s", status, answer)
		}
		synctest.Wait()
		r.idle()
	})
}

func TestDelete_TellsOfNodesWhereItFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		well, ill, lost := newManager(t, nil), newManager(t, refuses(500, `{"error":"remove /mnt/models/x: permission denied"}`)), newManager(t, refuses(404, `{"error":"model 'tiny' not found"}`))
		r := managingRig(t, ManageConfig{}, well, ill, lost)
		log := audited(r.engine)
		status, answer, _ := r.asks("DELETE", "/api/delete", `{"model":"tiny"}`)
		if want := `{"error":"failed on n1: permission denied; done on n0"}`; status != 500 || answer != want {
			t.Errorf("%d %s, want 500 %s", status, answer, want)
		}
		if lines := log.take(); len(lines) != 1 || lines[0]["outcome"] != "upstream_error" || lines[0]["who"] != "anonymous" {
			t.Errorf("audited %v", lines)
		}
	})
}

func TestCopy_ReachesEveryNodeThatHasItAndIsListedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := []*manager{newManager(t, nil), newManager(t, nil)}
		nodes[1].has("mine")
		r := managingRig(t, ManageConfig{}, nodes...)
		if status, answer, _ := r.asks("POST", "/api/copy", `{"source":"mine","destination":"yours"}`); status != 200 || answer != "" {
			t.Errorf("%d %s", status, answer)
		}
		if !r.listed("yours:latest") {
			t.Error("the copy is not listed")
		}
		if len(nodes[0].requests()) != 0 {
			t.Error("a node was asked that does not have it")
		}
		if status, answer, _ := r.asks("POST", "/api/copy", `{"source":"nope","destination":"x"}`); status != 404 || answer != `{"error":"model \"nope\" not found"}` {
			t.Errorf("%d %s", status, answer)
		}
	})
}

func TestPush_OneNodeThatHasItSendsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		retrieving := `{"status":"retrieving manifest"}`
		without, bad := newManager(t, nil), newManager(t, tells(retrieving, `{"error":"open /mnt/x: input/output error"}`))
		good, spare := newManager(t, tells(retrieving, strings.Replace(layerWhole, "pulling", "pushing", 1), succeeded)), newManager(t, tells(succeeded))
		r := managingRig(t, ManageConfig{}, without, bad, good, spare)
		r.remove(0, "tiny")
		r.engine.fleet.LookAtModels(t.Context(), r.engine.fleet.Snapshot().Nodes[0].Node)
		without.mu.Lock()
		without.asked = nil
		without.mu.Unlock()
		status, answer, _ := r.asks("POST", "/api/push", `{"model":"tiny"}`)
		if status != 200 || lastLine(answer) != succeeded || strings.Count(answer, "retrieving manifest") != 1 || strings.Contains(answer, "failed on") || !strings.Contains(answer, `"total":1000,"completed":1000`) {
			t.Errorf("%d %s", status, answer)
		}
		if asked := fmt.Sprint(len(without.requests()), len(bad.requests()), len(good.requests()), len(spare.requests())); asked != "0 1 1 0" {
			t.Errorf("asked %s", asked)
		}
		if status, answer, _ := r.asks("POST", "/api/push", `{"model":"nope"}`); status != 404 {
			t.Errorf("%d %s of a model that nobody has", status, answer)
		}
	})
}

func TestCreate_GoesToNodesThatHaveWhatItIsMadeOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		digest := "sha256:" + strings.Repeat("ab", 32)
		creates := func(blobs bool) func(*manager, http.ResponseWriter, *http.Request, string) bool {
			return func(m *manager, w http.ResponseWriter, r *http.Request, _ string) bool {
				switch {
				case r.URL.Path == "/api/create":
					says(w, `{"status":"parsing GGUF"}`, `{"status":"writing manifest"}`)
					m.has("made")
					says(w, succeeded)
				case !blobs:
					w.WriteHeader(http.StatusNotFound)
				}
				return true
			}
		}
		nodes := []*manager{newManager(t, creates(true)), newManager(t, creates(false)), newManager(t, creates(true))}
		nodes[1].has("base")
		r := managingRig(t, ManageConfig{}, nodes...)
		creators := func() (which []int) {
			for i, n := range nodes {
				for _, asked := range n.requests() {
					if strings.HasPrefix(asked, "POST /api/create") {
						which = append(which, i)
					}
				}
				n.mu.Lock()
				n.asked = nil
				n.mu.Unlock()
			}
			return which
		}
		for _, c := range []struct{ body, want string }{
			{`{"model":"made","files":{"a.gguf":"` + digest + `"}}`, "[0 2]"},
			{`{"model":"made","from":"base"}`, "[1]"},
			{`{"model":"made","from":"tiny"}`, "[0 1 2]"},
			{`{"model":"made","from":"nobody"}`, "[0 1 2]"}, // each pulls it, as a single node does
		} {
			status, answer, _ := r.asks("POST", "/api/create", c.body)
			if status != 200 || lastLine(answer) != succeeded {
				t.Errorf("%s: %d %s", c.body, status, answer)
			}
			if got := fmt.Sprint(creators()); got != c.want {
				t.Errorf("%s went to %s, want %s", c.body, got, c.want)
			}
			if !r.listed("made:latest") {
				t.Errorf("%s: what was made is not listed", c.body)
			}
		}
	})
}

func TestBlob_IsThereWhenAllNodesHaveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		has := func(status int) func(*manager, http.ResponseWriter, *http.Request, string) bool {
			return func(_ *manager, w http.ResponseWriter, _ *http.Request, _ string) bool {
				w.WriteHeader(status)
				return true
			}
		}
		a, b := newManager(t, has(200)), newManager(t, has(404))
		path := "/api/blobs/sha256:" + strings.Repeat("ab", 32)
		if status, _, header := managingRig(t, ManageConfig{}, a).asks("HEAD", path, ""); status != 200 || header.Get("Content-Length") != "" {
			t.Errorf("%d %v where the node has it", status, header)
		}
		if status, _, _ := managingRig(t, ManageConfig{}, a, b).asks("HEAD", path, ""); status != 404 {
			t.Errorf("%d where one lacks it", status)
		}
	})
}

func TestManage_OneLineTellsWhoDidWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known, secret := keyFor(t)
		node := newManager(t, nil)
		r := newRig(t, rigOptions{site: SiteConfig{Manage: true, Keys: known}}, node)
		log := audited(r.engine)
		r.asks("POST", "/api/copy", `{"source":"tiny","destination":"x"}`, "Authorization", "Bearer "+secret)
		r.asks("POST", "/api/copy", `{"source":"tiny","destination":"x"}`)
		r.asks("POST", "/api/generate", `{"model":"tiny","keep_alive":0}`, "Authorization", "Bearer "+secret, "X-Request-Id", "id-1")
		lines := log.take()
		if len(lines) != 3 {
			t.Fatalf("%d lines: %v", len(lines), lines)
		}
		for i, want := range []map[string]string{
			{"operation": "copy", "model": "tiny:latest", "target": "x:latest", "who": "key alice", "nodes": "[n0 ok]", "outcome": "ok"},
			{"operation": "copy", "model": "", "who": "anonymous", "nodes": "[]", "outcome": "unauthorized"},
			{"operation": "unload", "model": "tiny:latest", "who": "key alice", "nodes": "[n0 ok]", "outcome": "ok", "request_id": "id-1"},
		} {
			for field, value := range want {
				if lines[i][field] != value {
					t.Errorf("line %d: %s is %q, want %q", i, field, lines[i][field], value)
				}
			}
		}
	})
}

// What was recorded of pulls and pushes from a registry without TLS, less that they ask for it, and of
// all others that change models: a node that says what was recorded stands behind the gateway.
func TestManage_Goldens(t *testing.T) {
	own := map[string]bool{ // refused or found by the gateway itself
		"push-missing": true, "push-no-ns": true, // 404 before a node is asked
		"create-missing-blob": true, "pull-refused": true, "pull-refused-nonstream": true, "pull-insecure-off": true, // paths and addresses are left out
	}
	for _, file := range []string{"models", "pull"} {
		for _, rec := range golden.Load(t, file) {
			if !manages(rec.Request) || own[rec.ID] || rec.Request.Method == http.MethodGet || strings.HasPrefix(rec.Request.Path, "/api/blobs/") {
				continue
			}
			t.Run(file+"/"+rec.ID, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					node := newManager(t, func(_ *manager, w http.ResponseWriter, r *http.Request, _ string) bool {
						w.Header().Set("Content-Type", ndjson)
						w.WriteHeader(rec.Response.Status)
						w.Write(rec.Response.Body)
						return true
					})
					for _, model := range []string{"tinycopy", "me/tiny:v2", "127.0.0.1:21500/library/tinythink"} {
						if !strings.HasSuffix(rec.ID, "missing") {
							node.has(model)
						}
					}
					r := managingRig(t, ManageConfig{Registries: []string{"127.0.0.1:21500", "registry.ollama.ai"}}, node)
					body := strings.Replace(string(rec.Request.Body), `, "insecure": true`, "", 1)
					status, answer, header := r.asks(rec.Request.Method, rec.Request.Path, body)
					if status != rec.Response.Status {
						t.Errorf("status %d %s, want %d", status, answer, rec.Response.Status)
					}
					if got, want := header.Get("Content-Type"), typeOf(rec); got != want {
						t.Errorf("type %q, want %q", got, want)
					}
					if want := lastLine(string(rec.Response.Body)); rec.Request.Method != http.MethodHead && lastLine(answer) != want {
						t.Errorf("ended with %s, want %s", lastLine(answer), want)
					}
				})
			})
		}
	}
}

// typeOf is the content type of a recorded answer.
func typeOf(rec golden.Record) string {
	for _, h := range rec.Response.Headers {
		if h[0] == "Content-Type" {
			return h[1]
		}
	}
	return ""
}
