package caddymodule

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
)

// noKey is the key of no answer.
var noKey = strings.Repeat("A", 43)

// A cachingGateway runs in front of a node that has the models m and n.
type cachingGateway struct {
	admin, site *http.Client
	address     string // of the admin endpoint, as a flag says it
	log         string // file
}

// startCaching runs a gateway whose block of the global option has more besides its node.
func startCaching(t *testing.T, more string) *cachingGateway {
	t.Helper()
	admin, site, log := socket(t), socket(t), filepath.Join(t.TempDir(), "log")
	config, err := adapt("{\nadmin unix/" + admin + "\npersist_config off\ndebug\nlog {\noutput file " + log + "\n}\n" +
		"ollama {\nnode " + startNode(t, fast("m"), fast("n")) + "\n" + more + "\n}\n}\n" +
		"http://site {\nbind unix/" + site + "\nollama {\nexplain\ntags header X-Tags\ntenant header X-Team\n}\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	load(t, config)
	return &cachingGateway{admin: client(t, admin, nil), site: client(t, site, nil), address: "unix/" + admin, log: log}
}

var keyInHeader = regexp.MustCompile(`key="([^"]*)"`)

// ask has a deterministic question answered and gives the key of the answer, if it may be cached, and
// whether it was a hit.
func (g *cachingGateway) ask(t *testing.T, model, prompt string, headers ...string) (key string, hit bool) {
	t.Helper()
	body := `{"model":"` + model + `","prompt":"` + prompt + `","stream":false,"options":{"temperature":0}}`
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://site/api/generate", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		q.Header.Set(name, value)
	}
	resp, err := g.site.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s %v", body, resp.StatusCode, text, err)
	}
	status := resp.Header.Get("Cache-Status")
	if found := keyInHeader.FindStringSubmatch(status); found != nil {
		key = found[1]
	}
	return key, strings.Contains(status, "; hit")
}

// stored has an answer stored. At first nothing is: what the model is has to be found out.
func (g *cachingGateway) stored(t *testing.T, model, prompt string, headers ...string) (key string) {
	t.Helper()
	eventually(t, "the answer is stored", func() bool {
		var hit bool
		key, hit = g.ask(t, model, prompt, headers...)
		return hit
	})
	return key
}

// do asks the admin endpoint.
func (g *cachingGateway) do(t *testing.T, method, path, body string) (status int, answer string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := g.admin.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestAdminCache_StatsTellWhatIsThere(t *testing.T) {
	g := startCaching(t, "cache {\nmemory 8MiB\n}")
	g.stored(t, "m", "one")
	g.stored(t, "m", "two")
	status, body := g.do(t, http.MethodGet, cachePath, "")
	var s cache.Stats
	if err := json.Unmarshal([]byte(body), &s); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	if !s.On || s.Entries != 2 || s.Bytes <= 0 || s.Bytes > s.Limit || s.Limit != 8<<20 || s.Redis != "off" {
		t.Errorf("got %s", body)
	}
}

func TestAdminCache_PurgesWhatIsNamedAndNothingElse(t *testing.T) {
	g := startCaching(t, "cache")
	ask := map[string]func() (string, bool){
		"m, tagged, of red": func() (string, bool) { return g.ask(t, "m", "one", "X-Tags: prices, news", "X-Team: red") },
		"m, of blue":        func() (string, bool) { return g.ask(t, "m", "one", "X-Team: blue") },
		"n, of blue":        func() (string, bool) { return g.ask(t, "n", "one", "X-Team: blue") },
	}
	keys := make(map[string]string)
	fill := func() {
		for name, ask := range ask {
			eventually(t, name+" is stored", func() bool {
				key, hit := ask()
				keys[name] = key
				return hit
			})
		}
	}
	fill()
	for _, test := range []struct {
		name, body string
		gone       string // what all its names have in common
	}{
		{"a tag", `{"tag":"prices"}`, "tagged"},
		{"a tag that nothing has", `{"tag":"Prices"}`, "nothing"},
		{"a model", `{"model":"m"}`, "m,"},
		{"a model, spelt in full", ` { "model" : "registry.ollama.ai/library/M:latest" } `, "m,"},
		{"a model that nobody has", `{"model":"nobody/has:it"}`, "nothing"},
		{"a tenant", `{"tenant":"blue"}`, "blue"},
		{"a tenant that shares nothing", `{"tenant":"shared"}`, "nothing"},
		{"a key", `{"key":"` + keys["n, of blue"] + `"}`, "n,"},
		{"a key of nothing", `{"key":"` + noKey + `"}`, "nothing"},
		{"all", `{"all":true}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			gone := 0
			for name := range ask {
				if strings.Contains(name, test.gone) {
					gone++
				}
			}
			status, body := g.do(t, http.MethodPost, purgePath, test.body)
			var p cache.Purged
			if err := json.Unmarshal([]byte(body), &p); err != nil || status != http.StatusOK || p.Memory != gone || p.Pending {
				t.Errorf("%s: got %d %s, want %d purged", test.body, status, body, gone)
			}
			for name, ask := range ask {
				if _, hit := ask(); hit == strings.Contains(name, test.gone) {
					t.Errorf("%s: a hit is %t for %s", test.body, hit, name)
				}
			}
			fill()
		})
	}
}

func TestAdminCache_RefusesWhatIsNotOneTarget(t *testing.T) {
	g := startCaching(t, "cache")
	const one, empty = "in one member what to purge", "an empty text names no answers"
	for name, test := range map[string]struct{ body, want string }{
		"no body":                 {"", one},
		"no JSON":                 {"secret-word", one},
		"a text":                  {`"secret-word"`, one},
		"a list":                  {`["tag","secret-word"]`, one},
		"nothing":                 {"{}", one},
		"an unknown field":        {`{"secret-word":true}`, one},
		"a field in another case": {`{"Tag":"secret-word"}`, one},
		"two targets":             {`{"tag":"secret-word","model":"m"}`, one},
		"one twice":               {`{"tag":"a","tag":"secret-word"}`, one},
		"all and one":             {`{"all":true,"tag":"secret-word"}`, one},
		"not all":                 {`{"all":false}`, one},
		"all as a text":           {`{"all":"true"}`, one},
		"null":                    {`{"tag":null}`, one},
		"a number":                {`{"tag":1}`, one},
		"a list of tags":          {`{"tag":["secret-word"]}`, one},
		"something behind":        {`{"tag":"secret-word"} {}`, one},
		"cut off":                 {`{"tag":"secret-word"`, one},
		"far too long":            {`{"tag":"` + strings.Repeat("secret-word", mostPurge/11+1) + `"}`, one},
		"an empty tag":            {`{"tag":""}`, empty},
		"an empty tenant":         {`{"tenant":""}`, empty},
		"an empty model":          {`{"model":""}`, empty},
		"an empty key":            {`{"key":""}`, empty},
		"no name of a model":      {`{"model":"secret-word:a:b"}`, "llama3 or team/llama3:8b"},
		"a glob of models":        {`{"model":"llama*"}`, "llama3 or team/llama3:8b"},
		"no key":                  {`{"key":"secret-word"}`, "43 letters"},
		"a key with a line end":   {`{"key":"` + noKey + `\n"}`, "43 letters"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := g.do(t, http.MethodPost, purgePath, test.body)
			var said struct{ Error string }
			if err := json.Unmarshal([]byte(body), &said); err != nil || status != http.StatusBadRequest || !strings.Contains(said.Error, test.want) {
				t.Errorf("%.80s: got %d %s, want 400 with %q", test.body, status, body, test.want)
			}
		})
	}
	if log, err := os.ReadFile(g.log); err != nil || !strings.Contains(string(log), purgePath) || strings.Contains(string(log), "secret-word") {
		t.Errorf("%v; the log has no such request, or a body in it:\n%s", err, log)
	}
}

func TestAdminCache_EntryTellsItsTextOnlyIfAsked(t *testing.T) {
	g := startCaching(t, "cache {\nttl 10m prompt *word*\n}")
	key := g.stored(t, "m", "secret-word", "X-Tags: prices")
	for query, text := range map[string]bool{"": false, "?text=1": true, "?text=0": false, "?text=true": false} {
		status, body := g.do(t, http.MethodGet, entriesPath+key+query, "")
		var i map[string]any
		if err := json.Unmarshal([]byte(body), &i); err != nil || status != http.StatusOK {
			t.Fatalf("%q: %d %s: %v", query, status, body, err)
		}
		question, _ := i["question"].(string)
		answer, _ := i["answer"].([]any)
		if strings.Contains(question, "secret-word") != text || len(answer) > 0 != text || strings.Contains(body, "secret-word") != text {
			t.Errorf("%q: got %s", query, body)
		}
		maps.DeleteFunc(i, func(name string, _ any) bool { return name == "question" || name == "answer" })
		for name, want := range map[string]any{
			"key": key, "backend": "memory", "route": "/api/generate", "model": "registry.ollama.ai/library/m:latest",
			"version": "0.24.0", "rule": "ttl 10m prompt *word*", "class": "deterministic", "purged": false,
		} {
			if i[name] != want {
				t.Errorf("%s: got %v, want %v", name, i[name], want)
			}
		}
	}
	log, err := os.ReadFile(g.log)
	if err != nil || strings.Contains(string(log), "secret-word") {
		t.Errorf("%v; what was asked is in the log:\n%s", err, log)
	}
}

func TestAdminCache_RefusesOtherMethodsAndKeysOfNothing(t *testing.T) {
	g := startCaching(t, "cache")
	key := g.stored(t, "m", "one")
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{http.MethodPost, cachePath, 405},
		{http.MethodHead, cachePath, 405},
		{http.MethodDelete, cachePath, 405},
		{http.MethodGet, purgePath, 405},
		{http.MethodDelete, purgePath, 405},
		{http.MethodPost, entriesPath + key, 405},
		{http.MethodDelete, entriesPath + key, 405},
		{http.MethodGet, entriesPath + key, 200},
		{http.MethodGet, entriesPath + noKey, 404},
		{http.MethodGet, entriesPath + key[1:], 404},
		{http.MethodGet, entriesPath + key + "/", 404},
		{http.MethodGet, entriesPath, 404},
	} {
		if status, body := g.do(t, test.method, test.path, `{"all":true}`); status != test.status {
			t.Errorf("%s %s: got %d %s, want %d", test.method, test.path, status, body, test.status)
		}
	}
	if _, hit := g.ask(t, "m", "one"); !hit {
		t.Error("a refused request has purged an answer")
	}
}

func TestAdminCache_WithoutACacheSaysWhatToAdd(t *testing.T) {
	c := adminClient(t, "ollama {\nnode "+startNode(t, fast("m"))+"\n}")
	g := &cachingGateway{admin: c}
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{http.MethodGet, cachePath, "", 200, `"on":false`},
		{http.MethodPost, purgePath, `{"all":true}`, 409, "add the word cache"},
		{http.MethodPost, purgePath, `{}`, 400, "what to purge"},
		{http.MethodGet, entriesPath + noKey, "", 404, "no answer is stored"},
	} {
		if status, body := g.do(t, test.method, test.path, test.body); status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s %s: got %d %s, want %d with %s", test.method, test.path, status, body, test.status, test.want)
		}
	}
}

func TestAdminCache_WithoutTheApp(t *testing.T) {
	g := &cachingGateway{admin: adminClient(t, "")}
	for _, test := range [][2]string{{http.MethodGet, cachePath}, {http.MethodPost, purgePath}, {http.MethodGet, entriesPath + noKey}} {
		if status, body := g.do(t, test[0], test[1], `{"all":true}`); status != 404 || !strings.Contains(body, "no ollama in it") {
			t.Errorf("%s %s: got %d %s", test[0], test[1], status, body)
		}
	}
}
