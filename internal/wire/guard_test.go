package wire

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

// hazardOf parses a body for a path and gives what is known to kill a node in it.
func hazardOf(t testing.TB, path, body string) *BadRequest {
	t.Helper()
	q, err := Parse(*Find("POST", path).Route, []byte(body))
	if err != nil {
		t.Fatalf("%s %.300s: %v", path, body, err)
	}
	return q.Hazard
}

// Every recorded request that killed a node or kept it busy is known for it, and of those that
// did no harm only what the reason says.
func TestHazard_KnowsTheRecordedKillers(t *testing.T) {
	killers := map[string]string{
		"num_batch=0": ReasonDeadlyOption, "num_batch=-1": ReasonDeadlyOption, "num_thread=100000": ReasonDeadlyOption,
		"repeat_penalty=0": ReasonDeadlyOption, "format-minitems": ReasonDeadlySchema, "format-deep-200": ReasonDeadlySchema,
		"template-big": ReasonDeadlyTemplate, "template-loop": ReasonDeadlyTemplate,
		"format-bad-ref": "", "context-negative": "context", "context-out-of-vocab": "context",
	}
	const vocabulary = 515 // of tiny
	for _, file := range []string{"hostile", "generate", "chat", "openai-chat", "openai-completions", "openai-responses", "anthropic", "embed", "encoding"} {
		for _, rec := range golden.Load(t, file) {
			m := Find(rec.Request.Method, rec.Request.Path)
			if m.Route == nil || forms[m.Route.Path] == nil || !rec.Request.HasBody {
				continue
			}
			q, err := Parse(*m.Route, rec.Request.Body)
			if err != nil {
				continue
			}
			got := ""
			switch {
			case q.Hazard != nil:
				got = q.Hazard.Reason
			case !q.Context.Within(vocabulary):
				got = "context"
			}
			if want := killers[rec.ID]; got != want {
				t.Errorf("%s/%s: %q, want %q: %.200s", file, rec.ID, got, want, rec.Request.Body)
			}
		}
	}
}

func TestHazard_OptionsAsANodeReadsThem(t *testing.T) {
	for _, c := range []struct {
		name, options string
		deadly        bool
	}{
		{"none", `{}`, false},
		{"num_batch 1", `{"num_batch":1}`, false},
		{"num_batch cut to 0", `{"num_batch":0.9}`, true},
		{"num_batch 2^31", `{"num_batch":2147483648}`, true}, // 32 bits of it are negative
		{"num_batch 2^32", `{"num_batch":4294967296}`, true}, // 32 bits of it are 0
		{"num_batch beyond int", `{"num_batch":1e300}`, true},
		{"num_batch null", `{"num_batch":null}`, false},
		{"num_batch of another type", `{"num_batch":"0"}`, false},
		{"num_batch escaped", `{"num_batc\u0068":0}`, true},
		{"NUM_BATCH is no option", `{"NUM_BATCH":0}`, false},
		{"num_thread 512", `{"num_thread":512}`, false},
		{"num_thread 513", `{"num_thread":513}`, true},
		{"num_thread negative", `{"num_thread":-1}`, false},
		{"num_ctx", `{"num_ctx":1e300}`, false},
		{"repeat_penalty 1.1", `{"repeat_penalty":1.1}`, false},
		{"repeat_penalty -1", `{"repeat_penalty":-1}`, false},
		{"repeat_penalty -0", `{"repeat_penalty":-0.0}`, true},
		{"repeat_penalty tiny", `{"repeat_penalty":1e-50}`, true},
		{"repeat_penalty below float64", `{"repeat_penalty":1e-400}`, true},
		{"repeat_penalty huge", `{"repeat_penalty":-1e38}`, true},
		{"repeat_penalty null", `{"repeat_penalty":null}`, false},
		{"presence_penalty 0", `{"presence_penalty":0,"frequency_penalty":0}`, false},
		{"frequency_penalty huge", `{"frequency_penalty":-3e38}`, true},
	} {
		for path, body := range map[string]string{
			"/api/generate": `{"model":"m","prompt":"x","OPTIONS":` + c.options + `}`,
			"/api/chat":     `{"options":` + c.options + `,"model":"m","messages":[]}`,
			"/api/embed":    `{"model":"m","input":"x","options":` + c.options + `}`,
		} {
			h := hazardOf(t, path, body)
			if (h != nil) != c.deadly || h != nil && (h.Reason != ReasonDeadlyOption || h.Status != 400 || h.Message == "") {
				t.Errorf("%s, %s: got %v, want deadly: %v", c.name, path, h, c.deadly)
			}
		}
	}
	if h := hazardOf(t, "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"x"}],"frequency_penalty":-1e300}`); h == nil || h.Dialect != OpenAI {
		t.Errorf("a penalty of /v1: %v", h)
	}
}

func TestContext_IsTheRangeOfItsNumbers(t *testing.T) {
	for list, want := range map[string]TokenRange{
		`[]`: {}, `null`: {}, `[ 7 ]`: {7, 7, true}, `[3,1,2]`: {1, 3, true}, `[5,null]`: {0, 5, true}, `[-1,9]`: {-1, 9, true},
		`[9223372036854775807]`: {math.MaxInt64, math.MaxInt64, true},
	} {
		q, err := Parse(*Find("POST", "/api/generate").Route, []byte(`{"model":"m","Context":`+list+`}`))
		if err != nil {
			t.Fatal(err)
		}
		if q.Context != want {
			t.Errorf("%s: got %+v, want %+v", list, q.Context, want)
		}
	}
	for _, c := range []struct {
		of         TokenRange
		vocabulary int
		want       bool
	}{
		{TokenRange{}, 0, true},
		{TokenRange{0, 514, true}, 515, true},
		{TokenRange{0, 515, true}, 515, false},
		{TokenRange{-1, 3, true}, 515, false},
		{TokenRange{0, 0, true}, 0, false},
	} {
		if got := c.of.Within(c.vocabulary); got != c.want {
			t.Errorf("%+v within %d: %v, want %v", c.of, c.vocabulary, got, c.want)
		}
	}
}

func TestTemplate_OnlyPlainOnesAreSafe(t *testing.T) {
	many := func(n int) string { return strings.Repeat("{{ .Prompt }}", n) }
	for template, want := range map[string]bool{
		"":                             true,
		"plain } text { }}":            true,
		"{{ .System }}{{ .Prompt }}":   true,
		"{{- .System -}}\n{{.Prompt}}": true,
		"{{\t.Response\n}}":            true,
		"{{ if .System }}<|system|>{{ .System }}{{ end }}{{ if .Prompt }}x{{ else }}y{{ end }}": true,
		"{{ if .A }}a{{ else if .B }}b{{ end }}":                                                true,
		"{{- range .Messages }}<|{{ .Role }}|>{{ .Content }}{{ $.System }}{{ end }}":            true,
		"{{ .Nope":    true, // a node says so
		"{{ .Nope }}": true,
		many(32):      true,
		many(33):      false,
		`{{ range $i, $e := .Messages }}{{ printf "%1000000d" 1 }}{{ end }}`: false,
		`{{ printf "%1000000d" 1 }}`:                                         false,
		`{{ .Prompt | printf "%9999999s" }}`:                                 false,
		"{{ range 1000000000 }}x{{ end }}":                                   false,
		`{{ $a := "x" }}{{ $a = print $a $a }}`:                              false,
		"{{ range .Messages }}{{ range $.Messages }}x{{ end }}{{ end }}":     false,
		"{{ range .Messages }}{{ if .Role }}{{ range .Messages }}":           false,
		"{{ .Messages }}":                    false,
		"{{ json .Messages }}":               false,
		"{{ . }}":                            false,
		"{{ .Prompt.Foo }}":                  false,
		"{{ end }}":                          false,
		`{{ "}}" }}`:                         false,
		"{{/* }} */}}":                       false,
		`{{ define "x" }}{{ end }}`:          false,
		"{{ with .Prompt }}{{ . }}{{ end }}": false,
		"{{-1 }}":                            false,
		"{{ range .Messages }}{{ end }}{{ range .Messages }}{{ end }}": true,
	} {
		if got := isPlainTemplate(template); got != want {
			t.Errorf("%.80q: %v, want %v", template, got, want)
		}
	}
	text, _ := json.Marshal("{{ range 9 }}") // strings always marshal
	h := hazardOf(t, "/api/generate", `{"model":"m","prompt":"x","TEMPLATE":`+string(text)+`}`)
	if h == nil || h.Reason != ReasonDeadlyTemplate {
		t.Errorf("got %v", h)
	}
}

func TestHazard_ShowIsNotJudged(t *testing.T) {
	if h := hazardOf(t, "/api/show", `{"model":"m","template":"{{ range 9 }}","options":{"num_batch":0}}`); h != nil {
		t.Errorf("got %v", h)
	}
}

func BenchmarkHazard(b *testing.B) {
	properties := make([]string, 40)
	for i := range properties {
		properties[i] = fmt.Sprintf(`"property_%d":{"type":"string","maxLength":100,"pattern":"^[a-z]{1,20}$"}`, i)
	}
	schema := `{"type":"object","properties":{` + strings.Join(properties, ",") + `},"required":["property_1"]}`
	for name, body := range map[string]string{
		"plain":   `{"model":"m","messages":[{"role":"user","content":"x"}]}`,
		"options": `{"model":"m","messages":[{"role":"user","content":"x"}],"options":{"num_ctx":4096,"temperature":0,"seed":1,"top_p":0.9}}`,
		"schema":  `{"model":"m","messages":[{"role":"user","content":"x"}],"format":` + schema + `}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if hazardOf(b, "/api/chat", body) != nil {
					b.Fatal("deadly")
				}
			}
		})
	}
}
