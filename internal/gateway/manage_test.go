package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

const pullNew = `{"model":"new"}`

// spellings are ways to write a path: as it is, as others that a node reads as the same, and as
// some that it reads as another one, redirects or refuses.
func spellings(path string) []string {
	name := strings.TrimPrefix(path, "/api/")
	encoded := "" // each letter
	for _, c := range []byte(path) {
		encoded += fmt.Sprintf("%%%02x", c)
	}
	return []string{
		path, path + "?model=tiny", "/" + encoded[3:], "/%61pi/" + name, "/api%2f" + name, "/api%2F" + name, strings.Replace(path, ":", "%3A", 1), "/api/" + encoded[len("/api/")*3:],
		path + "/", "/" + path, "/api//" + name, "/api/./" + name, "/api/x/../" + name, "/api/%2e%2e/api/" + name, "/api/x/%2e%2e/" + name, "/api/x/..%2f" + name, "/v1/..%2fapi/" + name,
		strings.ToUpper(path), path + "%2f", path + "%00", path + "%20", path + ";x=y", path + "%3fx", path + "%23", "/%5capi%5c" + name, "/%2561pi/" + name, "/api/" + name + "/../" + name,
	}
}

// Row by row of the route table, by every method and by odd spellings of the path: where a site does
// not allow it, the answer is the gateway's own, and no node hears of it.
func TestManage_DeniedReachesNoNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newManager(t, nil)
		r := newRig(t, rigOptions{}, node)
		log := audited(r.engine)
		digest := "sha256:" + strings.Repeat("a", 64)
		for _, route := range wire.Routes() {
			if route.Access != wire.Manage {
				continue
			}
			path := strings.Replace(route.Path, ":name", digest, 1)
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post", "delete", "COPY"} {
				for _, odd := range spellings(path) {
					status, answer, _ := r.asks(method, odd, `{"model":"tiny","name":"tiny","source":"tiny","destination":"x","from":"tiny"}`,
						"X-Ollama-Nodes", "n0", "X-HTTP-Method-Override", route.Methods[0])
					u, err := url.Parse(odd)
					same := err == nil && u.Path == path // as a node reads it
					allowed := slices.Contains(route.Methods, method)
					switch {
					case same && allowed && status != http.StatusForbidden:
						t.Errorf("%s %s: %d %s, want 403", method, odd, status, answer)
					case same && allowed && method != "HEAD" && answer != `{"error":"managing models is not allowed here; ask the operator of this gateway"}`:
						t.Errorf("%s %s: %s", method, odd, answer)
					case status < 300:
						t.Errorf("%s %s: %d %s", method, odd, status, answer)
					}
				}
			}
		}
		for _, path := range []string{"/api/generate", "/api/chat"} {
			for _, keep := range []string{`0`, `-0`, `0.0`, `0e9`, `"0"`, `"0s"`, `"0h0m0s"`, `"-0s"`, `1e-10`, `"0.4ns"`} {
				for _, rest := range []string{``, `,"prompt":"","messages":[]`, `,"stream":false`, `,"Keep_Alive":0`} {
					status, answer, _ := r.asks("POST", path, `{"model":"tiny","keep_alive":`+keep+rest+`}`)
					if status < 400 {
						t.Errorf("%s of %s%s: %d %s", path, keep, rest, status, answer)
					}
				}
			}
		}
		if asked := node.inferred(); asked != 0 {
			t.Errorf("the node was asked to unload %d times", asked)
		}
		if asked := node.requests(); len(asked) != 0 {
			t.Errorf("the node was asked %q", asked)
		}
		for _, line := range log.take() {
			if line["outcome"] != "unauthorized" || line["nodes"] != "[]" {
				t.Errorf("audited %v", line)
			}
		}
		r.idle()
	})
}

func TestPull_OneNodeAnswersAsItWouldByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := managingRig(t, ManageConfig{}, newManager(t, pulls("new")))
		status, answer, header := r.asks("POST", "/api/pull", pullNew)
		want := manifest + "\n" + layerWhole + "\n" + `{"status":"verifying sha256 digest"}` + "\n" + `{"status":"writing manifest"}` + "\n" + succeeded + "\n"
		if status != 200 || header.Get("Content-Type") != ndjson || !strings.HasSuffix(answer, want[strings.Index(want, `{"status":"verifying`):]) || !strings.HasPrefix(answer, manifest) {
			t.Errorf("%d %v\n%s\nwant\n%s", status, header, answer, want)
		}
		if !r.listed("new:latest") {
			t.Error("the client was told of success, and the list does not show the model")
		}
		status, answer, header = r.asks("POST", "/api/pull", `{"name":"new","stream":false}`)
		if status != 200 || answer != succeeded || header.Get("Content-Type") != "application/json" {
			t.Errorf("not streamed: %d %s %v", status, answer, header)
		}
		synctest.Wait()
		r.idle()
	})
}

func TestPull_NodesAddUpAndThoseThatFailAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole, full, dead, vague := newManager(t, pulls("new")),
			newManager(t, tells(manifest, layerHalf, `{"error":"write /var/lib/ollama/models/blobs/sha256-c5-partial: no space left on device"}`)),
			newManager(t, dies(manifest, layerHalf)),
			newManager(t, tells(manifest, layerWhole))
		for _, all := range []bool{false, true} {
			r := managingRig(t, ManageConfig{RequireAll: all}, whole, full, dead, vague)
			log := audited(r.engine)
			status, answer, _ := r.asks("POST", "/api/pull", pullNew)
			if status != 200 || strings.Contains(answer, "/var") {
				t.Errorf("%d %s", status, answer)
			}
			last := lastLine(answer)
			failures := []string{"failed on n1: no space left on its disk", "failed on n2: the connection was lost", "failed on n3: it ended without saying that it succeeded"}
			for _, f := range failures {
				if !strings.Contains(answer, f) {
					t.Errorf("%q is not told in %s", f, answer)
				}
			}
			if all && !strings.HasPrefix(last, `{"error":"failed on n1`) || !all && last != succeeded {
				t.Errorf("require all %v: the last line is %s", all, last)
			}
			if !all && !strings.Contains(answer, `"digest":"sha256:c54460c78625","total":4000,"completed":4000}`) {
				t.Errorf("the layer is not complete: %s", answer)
			}
			outcome := map[bool]string{false: "ok", true: "truncated"}[all]
			if lines := log.take(); len(lines) != 1 || lines[0]["nodes"] != "[n0 ok n1 no_space n2 lost n3 incomplete]" || lines[0]["outcome"] != outcome || lines[0]["operation"] != "pull" || lines[0]["model"] != "new:latest" {
				t.Errorf("audited %v", lines)
			}
			synctest.Wait()
			r.idle()
		}
	})
}

func TestPull_FailsWhereAllNodesFail(t *testing.T) {
	missing := `{"error":"pull model manifest: file does not exist"}`
	for name, c := range map[string]struct {
		nodes  []func(*manager, http.ResponseWriter, *http.Request, string) bool
		stream bool
		status int
		last   string
	}{
		"recorded":           {[]func(*manager, http.ResponseWriter, *http.Request, string) bool{tells(manifest, missing)}, true, 200, missing},
		"two say the same":   {[]func(*manager, http.ResponseWriter, *http.Request, string) bool{tells(manifest, missing), tells(manifest, missing)}, true, 200, missing},
		"not streamed":       {[]func(*manager, http.ResponseWriter, *http.Request, string) bool{tells(manifest, missing)}, false, 500, missing},
		"each its own":       {[]func(*manager, http.ResponseWriter, *http.Request, string) bool{tells(manifest, missing), dies(manifest)}, false, 500, `{"error":"failed on n0: pull model manifest: file does not exist; failed on n1: the connection was lost"}`},
		"refused by all":     {[]func(*manager, http.ResponseWriter, *http.Request, string) bool{refuses(400, `{"error":"invalid model name"}`), refuses(400, `{"error":"invalid model name"}`)}, true, 400, `{"error":"invalid model name"}`},
		"an address is said": {[]func(*manager, http.ResponseWriter, *http.Request, string) bool{tells(manifest, `{"error":"pull model manifest: Get \"http://127.0.0.1:9/v2/x\": dial tcp 127.0.0.1:9: connect: connection refused"}`)}, true, 200, `{"error":"pull model manifest: connect: connection refused"}`},
		"redirected":         {[]func(*manager, http.ResponseWriter, *http.Request, string) bool{refuses(307, ``)}, true, 502, `{"error":"failed on n0: it refused"}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var nodes []*manager
				for _, script := range c.nodes {
					nodes = append(nodes, newManager(t, script))
				}
				r := managingRig(t, ManageConfig{}, nodes...)
				status, answer, header := r.asks("POST", "/api/pull", fmt.Sprintf(`{"model":"new","stream":%v}`, c.stream))
				if status != c.status || lastLine(answer) != c.last {
					t.Errorf("%d %s, want %d %s", status, answer, c.status, c.last)
				}
				if status != 200 && header.Get("Content-Type") != "application/json" {
					t.Errorf("type %q, want that of a node", header.Get("Content-Type"))
				}
				synctest.Wait()
				r.idle()
			})
		})
	}
}

func TestPull_ClientThatLeavesCancelsAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newManager(t, hangs(manifest, layerHalf)), newManager(t, hangs(manifest))
		r := managingRig(t, ManageConfig{}, a, b)
		log := audited(r.engine)
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := r.post(ctx, "/api/pull", pullNew)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := resp.Body.Read(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // both nodes are at it
		cancel()
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		synctest.Wait()
		if a.canceled() != 1 || b.canceled() != 1 {
			t.Errorf("canceled at %d and %d nodes", a.canceled(), b.canceled())
		}
		r.idle()
		if lines := log.take(); len(lines) != 1 || lines[0]["outcome"] != "client_canceled" || lines[0]["nodes"] != "[n0 n1]" {
			t.Errorf("audited %v", lines)
		}
	})
}

func TestPull_EqualPullsAreOneAndBothAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proceed := make(chan struct{})
		node := newManager(t, func(m *manager, w http.ResponseWriter, r *http.Request, body string) bool {
			says(w, manifest, layerHalf)
			<-proceed
			return pulls("new")(m, w, r, body)
		})
		r := managingRig(t, ManageConfig{}, node)
		answers := make(chan string)
		for _, body := range []string{pullNew, `{"name":"NEW:latest","stream":false}`} {
			go func() { _, answer, _ := r.asks("POST", "/api/pull", body); answers <- lastLine(answer) }()
			synctest.Wait()
		}
		close(proceed)
		for range 2 {
			if got := <-answers; got != succeeded {
				t.Errorf("a client was told %s", got)
			}
		}
		if asked := node.requests(); len(asked) != 1 {
			t.Errorf("the node was asked %q", asked)
		}
	})
}

func TestManage_RefusesWhatLeadsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newManager(t, nil)
		r := managingRig(t, ManageConfig{Registries: []string{"Reg.Example:5000"}}, node)
		for name, c := range map[string]struct {
			path, body string
			status     int
		}{
			"insecure":                    {"/api/pull", `{"model":"reg.example:5000/a/b","insecure":true}`, 400},
			"another registry":            {"/api/pull", `{"model":"10.0.0.1/a/b"}`, 403},
			"the registry, another port":  {"/api/pull", `{"model":"reg.example:5001/a/b"}`, 403},
			"the default is not added":    {"/api/pull", `{"model":"llama3"}`, 403},
			"a scheme hides nothing":      {"/api/pull", `{"model":"http://10.0.0.1/a/b"}`, 403},
			"push elsewhere":              {"/api/push", `{"model":"tiny"}`, 403},
			"create from elsewhere":       {"/api/create", `{"model":"x","from":"10.0.0.1/a/b"}`, 403},
			"create of a remote":          {"/api/create", `{"model":"x","from":"tiny","remote_host":"http://10.0.0.1"}`, 400},
			"a name twice":                {"/api/pull", `{"model":"reg.example:5000/a/b","Model":"10.0.0.1/a/b"}`, 400},
			"a name in both forms counts": {"/api/pull", `{"name":"reg.example:5000/a/b","model":"10.0.0.1/a/b"}`, 403},
			"a digest that climbs":        {"/api/blobs/sha256:..%2f..%2fetc", ``, 307}, // as at a node: to what is no route
			"a digest that is none":       {"/api/blobs/nope", ``, 400},
		} {
			status, answer, _ := r.asks("POST", c.path, c.body)
			if status != c.status {
				t.Errorf("%s: %d %s, want %d", name, status, answer, c.status)
			}
		}
		if asked := node.requests(); len(asked) != 0 {
			t.Errorf("the node was asked %q", asked)
		}
	})
}

func TestManage_NodesAreThoseOfTheSiteAndOfTheClient(t *testing.T) {
	for name, c := range map[string]struct {
		config         ManageConfig
		target, header string
		status         int
		asked          string
	}{
		"all":                          {ManageConfig{}, "/api/pull", "", 200, "[1 1 1]"},
		"those of the site":            {ManageConfig{To: []string{"n0", "n2", "gone"}}, "/api/pull", "", 200, "[1 0 1]"},
		"none of the site is there":    {ManageConfig{To: []string{"gone"}}, "/api/pull", "", 503, "[0 0 0]"},
		"client may not choose":        {ManageConfig{}, "/api/pull", "n1", 403, "[0 0 0]"},
		"client may not choose, ?":     {ManageConfig{}, "/api/pull?nodes=n1", "", 403, "[0 0 0]"},
		"client chooses":               {ManageConfig{ByClient: true}, "/api/pull", "n1, n2", 200, "[0 1 1]"},
		"client chooses, ?":            {ManageConfig{ByClient: true}, "/api/pull?nodes=n1", "", 200, "[0 1 0]"},
		"client chooses of the site's": {ManageConfig{ByClient: true, To: []string{"n0"}}, "/api/pull", "n1", 400, "[0 0 0]"},
		"client chooses what is not":   {ManageConfig{ByClient: true}, "/api/pull", "n1,http://10.0.0.1", 400, "[0 0 0]"},
		"client chooses nothing":       {ManageConfig{ByClient: true}, "/api/pull?nodes=", "", 400, "[0 0 0]"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nodes := []*manager{newManager(t, pulls("new")), newManager(t, pulls("new")), newManager(t, pulls("new"))}
				r := managingRig(t, c.config, nodes...)
				var headers []string
				if c.header != "" {
					headers = []string{"X-Ollama-Nodes", c.header}
				}
				status, answer, _ := r.asks("POST", c.target, pullNew, headers...)
				var asked []int
				for _, n := range nodes {
					asked = append(asked, len(n.requests()))
				}
				if status != c.status || fmt.Sprint(asked) != c.asked {
					t.Errorf("%d %s, asked %v; want %d and %s", status, answer, asked, c.status, c.asked)
				}
			})
		})
	}
}

func TestManage_DrainedNodesGetNothingNewAndLoseWhatIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := []*manager{newManager(t, pulls("new")), newManager(t, pulls("new"))}
		r := managingRig(t, ManageConfig{}, nodes...)
		if err := r.engine.fleet.Drain("n1"); err != nil {
			t.Fatal(err)
		}
		r.asks("POST", "/api/pull", pullNew)
		if len(nodes[0].requests()) != 1 || len(nodes[1].requests()) != 0 {
			t.Errorf("pulled on %q and %q", nodes[0].requests(), nodes[1].requests())
		}
		if status, answer, _ := r.asks("DELETE", "/api/delete", `{"model":"tiny"}`); status != 200 || len(nodes[1].requests()) != 1 {
			t.Errorf("%d %s, asked %q", status, answer, nodes[1].requests())
		}
	})
}

func TestManage_NodesWithoutANameAreNotCalledByTheirAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := managingRig(t, ManageConfig{}, newManager(t, pulls("new")))
		q := &request{Settings: r.settings}
		if got := q.label("n0"); got != "n0" {
			t.Errorf("a name of its own: %q", got)
		}
		if got := q.label("10.0.0.1:11434"); strings.Contains(got, "10.0") {
			t.Errorf("got %q", got)
		}
	})
}
