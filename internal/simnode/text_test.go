package simnode

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

func TestVocabulary_DecodesWhatItEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"<|user|>", " the", "River", "\xff", "é", " ", "<think>"})).Draw(t, "parts"), "")
		})).Draw(t, "text")
		back, ok := vocab().decode(vocab().encode(s))
		if !ok || back != s {
			t.Fatalf("%q came back as %q", s, back)
		}
	})
	for _, id := range []int{-1, len(vocab().texts), 99999} {
		if _, ok := vocab().decode([]int{id}); ok {
			t.Errorf("token %d has a text", id)
		}
	}
}

func TestVocabulary_CountsLikeATokenizer(t *testing.T) {
	const s = "The weather in the old city is warm today, and people like to walk along the river."
	if n := len(vocab().encode(s)); n < len(s)/6 || n > len(s)/3 {
		t.Errorf("%d tokens for %d characters of English", n, len(s))
	}
}

func TestVoice_ReadsLikeText(t *testing.T) {
	v := voiceOf("w", "p", api.Options{})
	text := strings.Join(v.prose(200), "")
	for sentence := range strings.SplitSeq(strings.TrimSuffix(text, "."), ". ") {
		if n := len(strings.Fields(sentence)); n < 4 || n > 14 {
			t.Errorf("a sentence of %d words: %q", n, sentence)
		}
		if first := sentence[:1]; first != strings.ToUpper(first) {
			t.Errorf("no capital: %q", sentence)
		}
	}
	if strings.Contains(text, "  ") || strings.Contains(text, " ,") {
		t.Errorf("odd spaces in %q", text)
	}
}

func TestVoice_IsAFunctionOfWhatMatters(t *testing.T) {
	say := func(weights, prompt string, o api.Options) string {
		return strings.Join(voiceOf(weights, prompt, o).prose(40), "")
	}
	cold := api.Options{Seed: -1, RepeatPenalty: 1.1}
	with := func(f func(*api.Options)) api.Options { o := cold; f(&o); return o }
	seeded := with(func(o *api.Options) { o.Temperature, o.Seed = 1, 7 })
	base, warm := say("w", "p", cold), say("w", "p", seeded)
	for name, tt := range map[string]struct {
		got  string
		want string
		same bool
	}{
		"again":                    {say("w", "p", cold), base, true},
		"other weights":            {say("x", "p", cold), base, false},
		"other prompt":             {say("w", "q", cold), base, false},
		"seed at temperature 0":    {say("w", "p", with(func(o *api.Options) { o.Seed = 3 })), base, true},
		"top_k at temperature 0":   {say("w", "p", with(func(o *api.Options) { o.TopK = 3 })), base, true},
		"num_predict":              {say("w", "p", with(func(o *api.Options) { o.NumPredict = 3 })), base, true},
		"stop":                     {say("w", "p", with(func(o *api.Options) { o.Stop = []string{"x"} })), base, true},
		"repeat_penalty":           {say("w", "p", with(func(o *api.Options) { o.RepeatPenalty = 1 })), base, false},
		"seed again":               {say("w", "p", seeded), warm, true},
		"another seed":             {say("w", "p", with(func(o *api.Options) { o.Temperature, o.Seed = 1, 8 })), warm, false},
		"another temperature":      {say("w", "p", with(func(o *api.Options) { o.Temperature, o.Seed = 0.5, 7 })), warm, false},
		"no seed and not cold":     {say("w", "p", with(func(o *api.Options) { o.Temperature = 1 })), warm, false},
		"prompt is not weights":    {say("wp", "", cold), say("w", "p", cold), false},
		"a name's prompt boundary": {say("w", "pp", cold), say("wp", "p", cold), false},
	} {
		if (tt.got == tt.want) != tt.same {
			t.Errorf("%s: want same=%v", name, tt.same)
		}
	}
}

func TestSplitter_DoesNotDependOnTheCuts(t *testing.T) {
	for text, want := range map[string][2]string{
		" <think> a b </think> c d":       {"a b ", "c d"},
		"<think>a</think>c":               {"a", "c"},
		"no tags at all":                  {"", "no tags at all"},
		"  spaces first":                  {"", "  spaces first"},
		"<thin air>":                      {"", "<thin air>"},
		"<think>never closed":             {"never closed", ""},
		"<think>a < b </thing> </think>x": {"a < b </thing> ", "x"},
		"a <think> later":                 {"", "a <think> later"},
		"<think>a</think>b</think>c":      {"a", "b</think>c"},
	} {
		rapid.Check(t, func(t *rapid.T) {
			var s splitter
			var thought, content string
			for rest := text; rest != ""; {
				n := rapid.IntRange(1, len(rest)).Draw(t, "cut")
				a, b := s.feed(rest[:n])
				thought, content, rest = thought+a, content+b, rest[n:]
			}
			if content += s.rest(); thought != want[0] || content != want[1] {
				t.Fatalf("%q: thought %q, content %q; want %q", text, thought, content, want)
			}
		})
	}
}

func TestCaller_DoesNotDependOnTheCuts(t *testing.T) {
	tools := api.Tools{{Function: api.ToolFunction{Name: "f"}}}
	for text, want := range map[string]struct {
		content string
		calls   int
	}{
		` {"name": "f", "arguments": {"a": {"b": "}"}}}`:               {" ", 1},
		`{"name":"f","arguments":{}} {"name":"f","arguments":{"x":1}}`: {" ", 2},
		`{"name":"g","arguments":{}}`:                                  {`{"name":"g","arguments":{}}`, 0},
		`no call`:                                                      {"no call", 0},
		`{not json} {"name":"f","arguments":{}}`:                       {"{not json} ", 1},
		`half {"name": "f", "argu`:                                     {`half {"name": "f", "argu`, 0},
	} {
		rapid.Check(t, func(t *rapid.T) {
			c := caller{tools: tools}
			var content string
			var calls []api.ToolCall
			pieces := vocab().pieces(text)
			for len(pieces) > 0 {
				n := rapid.IntRange(1, len(pieces)).Draw(t, "cut")
				text, found := c.feed(strings.Join(pieces[:n], ""))
				content, calls, pieces = content+text, append(calls, found...), pieces[n:]
			}
			if content += c.rest(); content != want.content || len(calls) != want.calls {
				t.Fatalf("%q: content %q, %d calls; want %+v", text, content, len(calls), want)
			}
			for i, call := range calls {
				if call.Function.Index != i || len(call.ID) != len("call_")+8 || !json.Valid(call.Function.Arguments) {
					t.Fatalf("call %d: %+v", i, call)
				}
			}
		})
	}
}

func TestFormat_FillsSchemas(t *testing.T) {
	for name, tt := range map[string]struct {
		schema string
		check  func(v any) bool
	}{
		"any object": {`"json"`, func(v any) bool { _, ok := v.(map[string]any); return ok }},
		"integer":    {`{"type":"integer","minimum":5}`, func(v any) bool { n, ok := v.(float64); return ok && n == float64(int(n)) && n >= 5 }},
		"boolean":    {`{"type":"boolean"}`, func(v any) bool { _, ok := v.(bool); return ok }},
		"enum":       {`{"enum":["x","y"]}`, func(v any) bool { return v == "x" || v == "y" }},
		"const":      {`{"const":{"a":1}}`, func(v any) bool { m, ok := v.(map[string]any); return ok && m["a"] == 1.0 }},
		"nullable":   {`{"type":["string","null"]}`, func(v any) bool { _, ok := v.(string); return ok || v == nil }},
		"any of":     {`{"anyOf":[{"type":"null"},{"type":"number"}]}`, func(v any) bool { _, ok := v.(float64); return ok || v == nil }},
		"array":      {`{"type":"array","items":{"type":"number"},"minItems":3}`, func(v any) bool { a, ok := v.([]any); return ok && len(a) >= 3 }},
		"anything":   {`{}`, func(any) bool { return true }},
		"required, nested": {`{"type":"object","properties":{"a":{"type":"object","properties":{"b":{"type":"string"}},"required":["b"]}},"required":["a"]}`, func(v any) bool {
			m, _ := v.(map[string]any)
			a, _ := m["a"].(map[string]any)
			_, ok := a["b"].(string)
			return ok
		}},
		"reference": {`{"$defs":{"n":{"type":"integer"}},"type":"object","properties":{"x":{"$ref":"#/$defs/n"}},"required":["x"]}`, func(v any) bool {
			m, _ := v.(map[string]any)
			_, ok := m["x"].(float64)
			return ok
		}},
		"endless": {`{"$defs":{"n":{"type":"object","properties":{"a":{"$ref":"#/$defs/n"},"b":{"$ref":"#/$defs/n"}},"required":["a","b"]}},"$ref":"#/$defs/n"}`, func(v any) bool {
			_, ok := v.(map[string]any)
			return ok
		}},
		"circle": {`{"$defs":{"n":{"$ref":"#/$defs/n"}},"$ref":"#/$defs/n"}`, func(any) bool { return true }},
		"huge":   {`{"type":"array","minItems":10000}`, func(v any) bool { a, ok := v.([]any); return ok && len(a) <= 1000 }},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := parseFormat(json.RawMessage(tt.schema))
			if err != nil {
				t.Fatal(err)
			}
			for seed := range 5 {
				text := f.fill(voiceOf("w", "p", api.Options{Seed: seed, Temperature: 1}))
				var v any
				if err := json.Unmarshal([]byte(text), &v); err != nil || !tt.check(v) {
					t.Fatalf("filled with %s (%v)", text, err)
				}
			}
		})
	}
}

func TestFormat_Refuses(t *testing.T) {
	for raw, want := range map[string]string{
		`"yaml"`:                            `invalid format: "\"yaml\""; expected "json" or a valid JSON Schema object`,
		`[]`:                                `invalid format: "[]"; expected "json" or a valid JSON Schema object`,
		`{"type":"nonsense"}`:               "invalid JSON schema in format",
		`{"properties":{"a":{"type":"x"}}}`: "invalid JSON schema in format",
		`{"properties":[]}`:                 "invalid JSON schema in format",
	} {
		if _, err := parseFormat(json.RawMessage(raw)); err == nil || err.Error() != want {
			t.Errorf("%.60s: got %v, want %s", raw, err, want)
		}
	}
	for name, raw := range map[string]string{
		"deep":     strings.Repeat(`{"items":`, 200) + "{}" + strings.Repeat("}", 200),
		"deep def": `{"$defs":{"x":` + strings.Repeat(`{"items":`, 200) + "{}" + strings.Repeat("}", 200) + `},"$ref":"#/$defs/x"}`,
		"long":     `{"type":"array","minItems":100000}`,
	} {
		if f, err := parseFormat(json.RawMessage(raw)); err != nil || !f.deadly {
			t.Errorf("%s: got %+v, %v; want it to be deadly", name, f, err)
		}
	}
	for _, raw := range []string{``, `null`, `""`} {
		if f, err := parseFormat(json.RawMessage(raw)); f != nil || err != nil {
			t.Errorf("%q: got %v, %v; want no format", raw, f, err)
		}
	}
}

func TestWholeRunes(t *testing.T) {
	for s, want := range map[string]bool{"": true, "a": true, "é": true, "a\xc3": false, "\xe2\x82": false, "€": true, "😀": true, "\xf0\x9f\x98": false} {
		if got := wholeRunes(s); got != want {
			t.Errorf("%q: got %v", s, got)
		}
	}
	if !utf8.ValidString(strings.Join(voiceOf("", "", api.Options{}).prose(10), "")) {
		t.Error("prose is no UTF-8")
	}
}

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"tiny":                     "registry.ollama.ai/library/tiny:latest",
		"Tiny:V2":                  "registry.ollama.ai/library/Tiny:V2",
		"me/tiny":                  "registry.ollama.ai/me/tiny:latest",
		"host:5000/me/tiny:x":      "host:5000/me/tiny:x",
		"http://host:5000/me/tiny": "host:5000/me/tiny:latest",
		"":                         "", "a b": "", "../x": "", "a/": "", "/a": "", "a:": "", ":x": "", "a:b:c": "", "-a": "",
		strings.Repeat("a", 81): "",
	} {
		n, err := parseName(in)
		if got := n.full(); (err != nil) != (want == "") || err == nil && got != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{"tiny": "tiny:latest", "me/tiny:v2": "me/tiny:v2", "h/me/t": "h/me/t:latest"} {
		if n, _ := parseName(in); n.short() != want {
			t.Errorf("%q: short %q, want %q", in, n.short(), want)
		}
	}
}

func TestModels_AreComplete(t *testing.T) {
	names := make(map[string]bool)
	for _, m := range append(GoldenModels(), SimModels()...) {
		if _, err := parseName(m.Name); err != nil || names[m.Name] {
			t.Errorf("name %q: %v", m.Name, err)
		}
		names[m.Name] = true
		if _, err := parsePrompt(m.withDefaults(now()).Template); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
	for _, m := range SimModels() {
		if !strings.HasPrefix(m.Name, "sim-") {
			t.Errorf("%s does not begin with sim-", m.Name)
		}
	}
	if !slices.ContainsFunc(GoldenModels(), func(m Model) bool { return m.Info != nil && m.Tensors != nil }) {
		t.Error("the recorded show bodies are missing")
	}
}
