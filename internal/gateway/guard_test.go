package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

const contextBody = `{"model":"tiny","prompt":"hi","stream":false,"context":%s,"options":{"num_predict":2}}`

func TestGuard_RefusesBeforeANodeIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := &faulty{Handler: goldenNode(t, 0.01)}
		r := newRig(t, rigOptions{}, node)
		for _, c := range []struct{ name, path, body, want string }{
			{"an option", "/api/chat", `{"model":"tiny","messages":[{"role":"user","content":"x"}],"options":{"repeat_penalty":0}}`, `{"error":"the option \"repeat_penalty\"`},
			{"a load", "/api/generate", `{"model":"tiny","options":{"num_batch":0}}`, `{"error":"the option \"num_batch\"`},
			{"an embedding", "/api/embed", `{"model":"tinyembed","input":"x","options":{"num_thread":100000}}`, `{"error":"the option \"num_thread\"`},
			{"a schema", "/v1/chat/completions", `{"model":"tiny","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"string","pattern":"^(?:a)$"}}}}`, `{"error":{"message":"a node would crash at the JSON schema`},
			{"a template", "/api/generate", `{"model":"tiny","prompt":"x","template":"{{ range 9 }}{{ end }}"}`, `{"error":"the field \"template\"`},
			{"a number below", "/api/generate", fmt.Sprintf(contextBody, "[-1]"), `{"error":"the field \"context\" holds a number that is no token of the model, which has 515`},
			{"a number beyond", "/api/generate", fmt.Sprintf(contextBody, "[1,515]"), `{"error":"the field \"context\" holds`},
			{"an unknown model", "/api/generate", `{"model":"nobody","prompt":"x","options":{"num_batch":0}}`, `{"error":"the option`},
		} {
			code, answer, _ := r.ask(c.path, c.body)
			if code != http.StatusBadRequest || !strings.HasPrefix(answer, c.want) || !strings.Contains(answer, "guard off") {
				t.Errorf("%s: %d %s, want 400 and %s", c.name, code, answer, c.want)
			}
		}
		if calls, _ := node.count(); calls != 0 {
			t.Errorf("the node was asked %d times", calls)
		}
		for _, body := range []string{fmt.Sprintf(contextBody, "[]"), fmt.Sprintf(contextBody, "[0,514]")} {
			if code, answer, _ := r.ask("/api/generate", body); code != http.StatusOK {
				t.Errorf("%s: %d %s, want 200", body, code, answer)
			}
		}
		synctest.Wait()
		r.idle()
	})
}

// What the recordings say of hostile requests, but for killers, holds for the gateway too.
func TestGuard_LetsHarmlessRecordsThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := &faulty{Handler: goldenNode(t, 0.001), infer: status(200, `{}`)}
		r := newRig(t, rigOptions{}, node)
		asked := 0
		for _, rec := range golden.Load(t, "hostile") {
			if rec.Response.Status != http.StatusOK || !rec.Request.HasBody || strings.HasPrefix(rec.ID, "template-big") {
				continue
			}
			asked++
			r.ask(rec.Request.Path, string(rec.Request.Body))
			if calls, _ := node.count(); calls != asked {
				t.Fatalf("%s did not reach the node", rec.ID)
			}
		}
	})
}

func TestGuard_OffLetsAllThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := goldenNode(t, 0.01)
		r := newRig(t, rigOptions{site: SiteConfig{Unguarded: true}}, node)
		// The one kills the runner when the engine loads it for the call, the other when it runs.
		for i, body := range []string{`{"model":"tiny","prompt":"x","options":{"num_batch":0}}`, fmt.Sprintf(contextBody, "[-1]")} {
			r.ask("/api/generate", body)
			if s := node.Stats(); s.LoadsFailed+s.Crashes+s.Deaths != i+1 {
				t.Errorf("%s did not reach the node", body)
			}
		}
	})
}

func TestGuard_UnknownVocabularyTakesNoContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{}, goldenNode(t, 0.01))
		code, answer, _ := r.ask("/api/generate", strings.Replace(fmt.Sprintf(contextBody, "[1]"), "tiny", "tinyembed", 1))
		if code != http.StatusBadRequest || !strings.Contains(answer, "does not tell the size of its vocabulary") {
			t.Errorf("%d %s, want 400", code, answer)
		}
	})
}
