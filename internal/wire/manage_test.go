package wire

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func manageRoute(t testing.TB, path string) Route {
	t.Helper()
	for _, r := range Routes() {
		if r.Path == path {
			return r
		}
	}
	t.Fatalf("no route %s", path)
	return Route{}
}

func TestParseManage_SendsOnlyWhatANodeKnows(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for name, tc := range map[string]struct{ path, body, want string }{
		"pull":            {"/api/pull", `{"model":"llama3","x":1,"username":"u","stream":false}`, `{"model":"llama3","stream":true}`},
		"old name":        {"/api/pull", `{"name":"LLama3:8B"}`, `{"model":"LLama3:8B","stream":true}`},
		"folded key":      {"/api/pull", `{"MODEL":"a"}`, `{"model":"a","stream":true}`},
		"scheme":          {"/api/pull", `{"model":"http://reg.example:5000/team/m:1"}`, `{"model":"reg.example:5000/team/m:1","stream":true}`},
		"scheme alone":    {"/api/pull", `{"model":"http:///team/m"}`, `{"model":"team/m","stream":true}`},
		"local":           {"/api/push", `{"model":" me/m:local "}`, `{"model":"me/m","stream":true}`},
		"insecure false":  {"/api/pull", `{"model":"a","insecure":false}`, `{"model":"a","stream":true}`},
		"stream null":     {"/api/pull", `{"model":"a","stream":null}`, `{"model":"a","stream":true}`},
		"delete":          {"/api/delete", `{"name":"a","stream":1}`, `{"model":"a"}`},
		"copy":            {"/api/copy", `{"source":"a","destination":"b"}`, `{"source":"a","destination":"b"}`},
		"create":          {"/api/create", `{"model":"m","from":"a","parameters":{"seed":1},"y":{}}`, `{"model":"m","stream":true,"from":"a","parameters":{"seed":1}}`},
		"create of files": {"/api/create", `{"model":"m","files":{"a.gguf":"` + digest + `"}}`, `{"model":"m","stream":true,"files":{"a.gguf":"` + digest + `"}}`},
		"message is mended": {
			"/api/create", "{\"model\":\"m\",\"from\":\"a\",\"messages\":[{\"ROLE\":\"user\",\"content\":\"\xff\"}]}",
			"{\"model\":\"m\",\"stream\":true,\"from\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"\uFFFD\"}]}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := ParseManage(manageRoute(t, tc.path), []byte(tc.body))
			if err != nil {
				t.Fatalf("%s: %v", tc.body, err)
			}
			if string(m.Body) != tc.want {
				t.Errorf("%s\n got %s\nwant %s", tc.body, m.Body, tc.want)
			}
		})
	}
}

func TestParseManage_RefusesInANodesWords(t *testing.T) {
	for name, tc := range map[string]struct {
		path, body string
		status     int
		want       string
	}{
		"pull of nothing":         {"/api/pull", `{}`, 400, "invalid model name"},
		"pull without a body":     {"/api/pull", ``, 400, "missing request body"},
		"pull of a bad name":      {"/api/pull", `{"model":"a b"}`, 400, "invalid model name"},
		"traversal":               {"/api/pull", `{"model":"../../etc/passwd"}`, 400, "invalid model name"},
		"traversal behind host":   {"/api/pull", `{"model":"reg.example/../x"}`, 400, "invalid model name"},
		"host with a path":        {"/api/pull", `{"model":"http://h/p/ns/m"}`, 400, "invalid model name"},
		"user in the host":        {"/api/pull", `{"model":"u@h/ns/m"}`, 400, "invalid model name"},
		"insecure":                {"/api/pull", `{"model":"a","insecure":true}`, 400, "insecure is not allowed"},
		"insecure, folded":        {"/api/pull", `{"model":"a","inSecure":true}`, 400, "insecure is not allowed"},
		"insecure twice":          {"/api/pull", `{"model":"a","insecure":false,"INSECURE":true}`, 400, "more than once"},
		"model twice":             {"/api/delete", `{"model":"a","Model":"b"}`, 400, "more than once"},
		"data after the value":    {"/api/copy", `{"source":"a","destination":"b"}{}`, 400, "after the JSON value"},
		"hosted":                  {"/api/pull", `{"model":"gpt-oss:120b-cloud"}`, 403, "ollama cloud is disabled"},
		"push of nothing":         {"/api/push", `{}`, 400, "model is required"},
		"delete of nothing":       {"/api/delete", `{}`, 400, "model is required"},
		"delete of a bad name":    {"/api/delete", `{"model":"a b"}`, 400, `name "a b" is invalid`},
		"copy of nothing":         {"/api/copy", `{}`, 400, `source "" is invalid`},
		"copy to a bad name":      {"/api/copy", `{"source":"tiny","destination":"a b"}`, 400, `destination "a b" is invalid`},
		"create without a name":   {"/api/create", `{"from":"m"}`, 400, "invalid model name"},
		"create of a remote":      {"/api/create", `{"model":"m","from":"a","remote_host":"http://10.0.0.1"}`, 400, "remote_host is not allowed"},
		"create that kills":       {"/api/create", `{"model":"m","from":"a","info":{"base_name":1}}`, 400, "info.base_name"},
		"create that kills, null": {"/api/create", `{"model":"m","from":"a","info":{"context_length":null}}`, 400, "info.context_length"},
		"file outside":            {"/api/create", `{"model":"m","files":{"../a":"sha256:` + strings.Repeat("0", 64) + `"}}`, 400, "file path must be relative"},
		"adapter outside":         {"/api/create", `{"model":"m","from":"a","adapters":{"/a":"sha256:` + strings.Repeat("0", 64) + `"}}`, 400, "file path must be relative"},
		"digest with a path":      {"/api/create", `{"model":"m","files":{"a":"sha256:../../x"}}`, 400, "invalid digest format"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseManage(manageRoute(t, tc.path), []byte(tc.body))
			var bad *BadRequest
			if !errors.As(err, &bad) || bad.Status != tc.status || !strings.Contains(bad.Message, tc.want) {
				t.Errorf("%s: got %v, want %d %q", tc.body, err, tc.status, tc.want)
			}
		})
	}
}

func FuzzParseManage(f *testing.F) {
	for _, body := range []string{
		`{"model":"a"}`, `{"name":"http://h/n/m:t","insecure":true}`, `{"source":"a","destination":"b"}`,
		`{"model":"m","from":"a:local","messages":[{"role":"user","Content":"x"}],"info":{"a":1}}`, `{"MODEL":"\ud800"}`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for path := range manageForms {
			route := manageRoute(t, path)
			m, err := ParseManage(route, []byte(body))
			if err != nil {
				continue
			}
			again, err := ParseManage(route, m.Body)
			if err != nil {
				t.Fatalf("%s: %q gave %q, which is refused: %v", path, body, m.Body, err)
			}
			if again.Model.Key() != m.Model.Key() || again.Target.Key() != m.Target.Key() || again.From.Key() != m.From.Key() {
				t.Fatalf("%s: %q gave %q, which names another model", path, body, m.Body)
			}
			if !json.Valid(m.Body) || strings.Contains(again.Model.Spelling, "://") {
				t.Fatalf("%s: %q gave %q", path, body, m.Body)
			}
		}
	})
}
