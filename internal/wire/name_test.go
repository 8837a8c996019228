package wire

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

func TestParseModelName(t *testing.T) {
	long := strings.Repeat("x", 80)
	tests := []struct {
		name, in, key, short string // "" for both: refused
		cloud                bool
	}{
		{"model alone", "llama3", "registry.ollama.ai/library/llama3:latest", "llama3:latest", false},
		{"with tag", "llama3:8b", "registry.ollama.ai/library/llama3:8b", "llama3:8b", false},
		{"with namespace", "me/llama3", "registry.ollama.ai/me/llama3:latest", "me/llama3:latest", false},
		{"with host and port", "127.0.0.1:21500/library/tiny", "127.0.0.1:21500/library/tiny:latest", "127.0.0.1:21500/library/tiny:latest", false},
		{"default parts spelt out", "registry.ollama.ai/library/llama3:latest", "registry.ollama.ai/library/llama3:latest", "llama3:latest", false},
		{"case does not count", "REGISTRY.ollama.AI/Library/Llama3:LATEST", "registry.ollama.ai/library/llama3:latest", "llama3:latest", false},
		{"default host, own namespace", "registry.ollama.ai/me/x:1", "registry.ollama.ai/me/x:1", "me/x:1", false},
		{"own host, default namespace", "hf.co/library/x:1", "hf.co/library/x:1", "hf.co/library/x:1", false},
		{"scheme is dropped", "https://hf.co/me/x:1", "hf.co/me/x:1", "hf.co/me/x:1", false},
		{"scheme without host", "https:///me/x", "registry.ollama.ai/me/x:latest", "me/x:latest", false},
		{"white space around", " \tllama3\n", "registry.ollama.ai/library/llama3:latest", "llama3:latest", false},
		{"local suffix", "tiny:local", "registry.ollama.ai/library/tiny:latest", "tiny:latest", false},
		{"local suffix behind a tag", "tiny:8b:LOCAL", "registry.ollama.ai/library/tiny:8b", "tiny:8b", false},
		{"cloud suffix", "tiny:cloud", "registry.ollama.ai/library/tiny:cloud", "tiny:cloud", true},
		{"cloud suffix behind a tag is that of the tag", "gpt-oss:120b:Cloud", "registry.ollama.ai/library/gpt-oss:120b-cloud", "gpt-oss:120b-cloud", true},
		{"cloud tag", "gpt-oss:120b-CLOUD", "registry.ollama.ai/library/gpt-oss:120b-cloud", "gpt-oss:120b-cloud", true},
		{"cloud suffix with a space before it", "tiny: cloud", "registry.ollama.ai/library/tiny:cloud", "tiny:cloud", true},
		{"cloud in the model's own name is no suffix", "my-cloud", "registry.ollama.ai/library/my-cloud:latest", "my-cloud:latest", false},
		{"cloud in the tag's middle is no suffix", "x:cloudy", "registry.ollama.ai/library/x:cloudy", "x:cloudy", false},
		{"cloud behind a port is no suffix", "h:1/n/x-cloud", "h:1/n/x-cloud:latest", "h:1/n/x-cloud:latest", false},
		{"dots and dashes", "_a.b-c:q4_K_M", "registry.ollama.ai/library/_a.b-c:q4_k_m", "_a.b-c:q4_k_m", false},
		{"parts of 80 bytes", long + "/" + long + ":" + long, "registry.ollama.ai/" + long + "/" + long + ":" + long, long + "/" + long + ":" + long, false},

		{"nothing", "", "", "", false},
		{"white space alone", " \n", "", "", false},
		{"space within", "a b", "", "", false},
		{"climbing path", "../x", "", "", false},
		{"absolute path", "/etc/passwd", "", "", false},
		{"four segments", "a/b/c/d", "", "", false},
		{"empty segment", "a//b", "", "", false},
		{"empty tag", "x:", "", "", false},
		{"tag alone", ":latest", "", "", false},
		{"two tags", "x:a:b", "", "", false},
		{"tag before the slash", "x:1/y", "", "", false},
		{"dot in the namespace", "a.b/x", "", "", false},
		{"leading dash", "-x", "", "", false},
		{"leading dot in the tag", "x:.y", "", "", false},
		{"digest", "x@sha256:00", "", "", false},
		{"part of 81 bytes", long + "x", "", "", false},
		{"host of 351 bytes", strings.Repeat("h", 351) + "/n/x", "", "", false},
		{"not ASCII", "modèle", "", "", false},
		{"not UTF-8", "ti\xffny", "", "", false},
		{"NUL", "a\x00b", "", "", false},
		{"cloud suffix alone", ":cloud", "", "", false},
		{"cloud tag of nothing else", "x:-cloud", "", "", false},
		{"local and cloud", "x:local:cloud", "", "", false},
		{"cloud twice", "x:a-cloud:cloud", "", "", false},
		{"cloud tag twice", "x:a-cloud-cloud", "", "", false},
		{"space before the local suffix", "x :local", "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, err := ParseModelName(tt.in)
			if tt.key == "" {
				if !errors.Is(err, ErrModelName) || n != (ModelName{}) {
					t.Errorf("ParseModelName(%q)\ngot  %+v, %v\nwant %v", tt.in, n, err, ErrModelName)
				}
				return
			}
			if err != nil || n.Key() != tt.key || n.Short() != tt.short || n.Cloud() != tt.cloud || n.Spelling != tt.in {
				t.Errorf("ParseModelName(%q)\ngot  %q %q cloud=%v spelt %q, %v\nwant %q %q cloud=%v", tt.in,
					n.Key(), n.Short(), n.Cloud(), n.Spelling, err, tt.key, tt.short, tt.cloud)
			}
		})
	}
}

func TestModelName_ZeroIsNoModel(t *testing.T) {
	var n ModelName
	if n.Key() != "" || n.Short() != "" || n.Cloud() {
		t.Errorf("zero value: key %q, short %q, cloud %v", n.Key(), n.Short(), n.Cloud())
	}
}

func TestParseModelName_JudgesAsRecorded(t *testing.T) {
	judged := 0
	for _, file := range []string{"generate", "chat", "embed", "openai-chat", "anthropic", "models"} {
		for _, rec := range golden.Load(t, file) {
			var q struct{ Model *string }
			if json.Unmarshal(rec.Request.Body, &q) != nil || q.Model == nil || *q.Model == "" {
				continue
			}
			n, err := ParseModelName(*q.Model)
			status, message := rec.Response.Status, ErrorMessage(rec.Response.Body)
			switch {
			case message == "invalid model name":
				if err == nil {
					t.Errorf("%s/%s: ParseModelName(%q) = %q, recorded was %d %q", file, rec.ID, *q.Model, n.Key(), status, message)
				}
			case strings.HasPrefix(message, "ollama cloud is disabled"):
				if err != nil || !n.Cloud() {
					t.Errorf("%s/%s: ParseModelName(%q) = %+v, %v, recorded was %d %q", file, rec.ID, *q.Model, n, err, status, message)
				}
			case status == 200, strings.HasSuffix(message, "not found"):
				if err != nil || n.Cloud() {
					t.Errorf("%s/%s: ParseModelName(%q) = %+v, %v, recorded was %d %q", file, rec.ID, *q.Model, n, err, status, message)
				}
			default:
				continue
			}
			judged++
		}
	}
	if judged < 100 {
		t.Errorf("%d names judged, want most of the records", judged)
	}
}

func FuzzParseModelName(f *testing.F) {
	for _, s := range []string{
		"tiny", "a b", "../x", "a/b/c:d", "h:1/n/m:t", "x:local", "x:y:cloud", "x:1-cloud", "https://h/n/m",
		"x:local:cloud", "A:B", " x ", "x: cloud", "://n/m", "x:\u00a0cloud",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseModelName(s)
		if err != nil {
			if n != (ModelName{}) || err != ErrModelName {
				t.Fatalf("ParseModelName(%q) = %+v, %v", s, n, err)
			}
			return
		}
		if n.Spelling != s {
			t.Errorf("ParseModelName(%q).Spelling = %q", s, n.Spelling)
		}
		for _, again := range []string{n.Key(), n.Short(), strings.ToUpper(n.Short())} {
			m, err := ParseModelName(again)
			if err != nil || m.Key() != n.Key() || m.Cloud() != n.Cloud() {
				t.Errorf("ParseModelName(%q) has key %q; that of its form %q is %q, %v", s, n.Key(), again, m.Key(), err)
			}
		}
	})
}
