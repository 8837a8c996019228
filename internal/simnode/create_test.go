package simnode_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/registry"
)

func sum(s string) string {
	b := sha256.Sum256([]byte(s))
	return hex.EncodeToString(b[:])
}

const gguf = "GGUF\x03\x00\x00\x00 some weights"

func TestCreate_FromAFileItHasAPathInItsDigest(t *testing.T) {
	body := `{"model":"mine","files":{"w.gguf":"sha256:` + sum(gguf) + `"},"template":"{{ .Prompt }}{{ .Suffix }}"}`
	made := func(t *testing.T, dir string) (digest, said string) {
		n := simnode.New(simnode.Options{Dir: dir, Scale: 1e-9})
		defer n.Close()
		if status, raw := ask(t, n, http.MethodPost, "/api/blobs/sha256:"+sum(gguf), gguf); status != http.StatusCreated {
			t.Fatalf("blob: %d %s", status, raw)
		}
		if _, raw := ask(t, n, http.MethodPost, "/api/create", body); !strings.HasSuffix(raw, `{"status":"success"}`+"\n") {
			t.Fatalf("create: %s", raw)
		}
		_, shown := ask(t, n, http.MethodPost, "/api/show", `{"model":"mine"}`)
		for _, want := range []string{dir + "/blobs/sha256-" + sum(gguf), `"capabilities":["completion","insert"]`} {
			if !strings.Contains(shown, want) {
				t.Errorf("shown is no %s: %s", want, shown)
			}
		}
		_, list := ask(t, n, http.MethodGet, "/api/tags", "")
		_, digest, _ = strings.Cut(list, `"digest":"`)
		said, _ = say(t, n, `{"model":"mine","prompt":"hi","stream":false,"options":{"temperature":0}}`)
		return digest[:64], said
	}
	one, saidOne := made(t, "/srv/one")
	two, saidTwo := made(t, "/srv/two")
	again, _ := made(t, "/srv/one")
	if one == two || one != again {
		t.Errorf("digests %s and %s on two nodes, %s on one like the first", one, two, again)
	}
	if saidOne != saidTwo || saidOne == "" {
		t.Errorf("equal weights say %q and %q", saidOne, saidTwo)
	}
}

func TestCreate_MessagesStandBeforeEveryChat(t *testing.T) {
	n := newNode(t, simnode.Model{Name: "base"})
	ask(t, n, http.MethodPost, "/api/create",
		`{"model":"mine","from":"base","system":"S","license":["L1","L2"],"messages":[{"role":"user","content":"M"},{"role":"assistant","content":"A"}]}`)
	_, shown := ask(t, n, http.MethodPost, "/api/show", `{"model":"mine"}`)
	for _, want := range []string{`"license":"L1\nL2"`, `"system":"S"`, `MESSAGE user M\nMESSAGE assistant A\n`, `"parent_model":"base:latest"`} {
		if !strings.Contains(shown, want) {
			t.Errorf("shown is no %s: %s", want, shown)
		}
	}
	_, chat := ask(t, n, http.MethodPost, "/api/chat", `{"model":"mine","messages":[{"role":"user","content":"q"}],"_debug_render_only":true}`)
	_, generate := ask(t, n, http.MethodPost, "/api/generate", `{"model":"mine","prompt":"q","_debug_render_only":true}`)
	const want = `|\u003eS\u003c|end|\u003e\u003c|user|\u003eM\u003c|end|\u003e\u003c|assistant|\u003eA\u003c|end|\u003e\u003c|user|\u003eq\u003c|end|`
	if !strings.Contains(chat, want) || !strings.Contains(generate, want) {
		t.Errorf("rendered:\n%s\n%s", chat, generate)
	}
}

func TestCreate_AnotherModelOfThatNameGivesWay(t *testing.T) {
	n := newNode(t, simnode.Model{Name: "base"})
	ask(t, n, http.MethodPost, "/api/create", `{"model":"mine","from":"base","system":"first"}`)
	ask(t, n, http.MethodPost, "/api/create", `{"model":"MINE","from":"base","system":"second"}`)
	if _, shown := ask(t, n, http.MethodPost, "/api/show", `{"model":"mine"}`); !strings.Contains(shown, `"system":"second"`) {
		t.Errorf("shown: %s", shown)
	}
	has := func(content string) bool {
		status, _ := ask(t, n, http.MethodHead, "/api/blobs/sha256:"+sum(content), "")
		return status == http.StatusOK
	}
	if has("first") || !has("second") {
		t.Errorf("the old layer is there: %t, the new one: %t", has("first"), has("second"))
	}
}

func TestCreate_PullsWhatItIsMadeFrom(t *testing.T) {
	inRegistryBubble(t, published(t, registry.Options{}, big()), simnode.Options{}, func(t *testing.T, b *bubble) {
		a := b.post("/api/create", `{"model":"mine","from":"reg.example/team/big:v1"}`)
		b.wantEnd(a, "success")
		if got := b.digests(); len(got) != 2 {
			t.Errorf("models: %v", got)
		}
		b.wantEnd(b.post("/api/create", `{"model":"mine","from":"reg.example/team/nope"}`), "pull model manifest: file does not exist")
	})
}

func TestCreate_SaysWhatItDoesNotDo(t *testing.T) {
	n := newNode(t, simnode.Model{Name: "base", Quantization: "F16"}, simnode.Model{Name: "small", Quantization: "Q4_K_M"})
	digest := `"sha256:` + strings.Repeat("0", 64) + `"`
	for body, want := range map[string]struct {
		status int
		text   string
	}{
		`{"model":"x","files":{"/a.gguf":` + digest + `}}`:                                         {400, "file path must be relative"},
		`{"model":"x","files":{"a.gguf":""}}`:                                                      {400, "invalid digest format"},
		`{"model":"x","from":"base","adapters":{"a":""}}`:                                          {400, "invalid digest format"},
		`{"model":"x","files":{}}`:                                                                 {400, "unknown type"},
		`{"model":"x","files":{"a.bin":` + digest + `}}`:                                           {400, "unknown type"},
		`{"model":"x","files":{"a.safetensors":` + digest + `}}`:                                   {501, "the simulated node converts no safetensors"},
		`{"model":"x","files":{"a.gguf":"sha256:zz"},"stream":false}`:                              {500, "invalid digest format"},
		`{"model":"x","from":"gpt:cloud"}`:                                                         {501, "the simulated node makes no models of hosted ones"},
		`{"model":"x","from":"a b"}`:                                                               {400, "invalid model name"},
		`{"model":"x","from":"base","quantize":"Q4_K_M"}`:                                          {501, "the simulated node quantizes nothing"},
		`{"model":"x","from":"small","quantize":"Q8_0"}`:                                           {500, "quantization is only supported for F16, BF16 and F32 models"},
		`{"model":"x","from":"base","adapters":{"a.gguf":` + digest + `,"b.gguf":` + digest + `}}`: {400, "only one adapter is currently supported"},
		`{"model":"x","from":"base","license":7}`:                                                  {500, "json: cannot unmarshal number into Go value of type []string"},
	} {
		if status, raw := ask(t, n, http.MethodPost, "/api/create", body); status != want.status || !strings.Contains(raw, want.text) {
			t.Errorf("%s: %d %s", body, status, raw)
		}
	}
	if _, list := ask(t, n, http.MethodGet, "/api/tags", ""); strings.Contains(list, `"x:latest"`) {
		t.Errorf("a model was made: %s", list)
	}
}

func TestCreate_FullDisk(t *testing.T) {
	n := simnode.New(simnode.Options{Disk: 1000, Models: []simnode.Model{{Name: "base"}}}) // what it has at first is there
	defer n.Close()
	status, raw := ask(t, n, http.MethodPost, "/api/create", `{"model":"mine","from":"base","system":"no room for that"}`)
	if status != 500 || !strings.Contains(raw, "no space left on device") {
		t.Errorf("%d %s", status, raw)
	}
}
