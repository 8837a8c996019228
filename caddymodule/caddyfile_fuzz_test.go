package caddymodule

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

// blocks gives the blocks of the goldens that a directive opens: what follows its name.
func blocks(f *testing.F, directive string) (found []string) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*", "*.caddyfiletest"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		text, _, _ := strings.Cut(string(content), parting)
		for rest := text; ; {
			i := strings.Index(rest, directive+" {")
			if i < 0 {
				break
			}
			rest = rest[i:]
			found = append(found, untilClosed(rest))
			rest = rest[1:]
		}
	}
	return found
}

// untilClosed cuts behind the brace that closes the first one.
func untilClosed(text string) string {
	depth := 0
	for i, r := range text {
		switch r {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return text[:i+1]
			}
		}
	}
	return text
}

// FuzzGlobalBlock reads the global option. What it accepts says the same as JSON, and is possible
// in the end.
func FuzzGlobalBlock(f *testing.F) {
	for _, text := range blocks(f, "ollama") {
		f.Add(text)
	}
	f.Add("ollama {\nnode [::1]\nnode \"\u2028\"\nheader\n}")
	f.Add("ollama {\nnode a\ncache {\njitter 1e-300%\nttl off {\n}\nttl forever {\n{\n}\nredis unix://a:{x}@b\nsecret {}\n}\n}")
	f.Add("ollama {\ndiscover a x {\nslots 99999999999999999999\n}\nlimits {\nbody 9e99GiB\n}\n}")
	f.Fuzz(func(t *testing.T, text string) {
		var app App
		if app.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)) != nil {
			return
		}
		var again App
		sayTheSame(t, text, &app, &again)
		if _, err := again.config(); err != nil {
			t.Errorf("%q is taken by the Caddyfile and not by JSON: %v", text, err)
		}
		if strings.Contains(text, "{") && strings.Contains(text, "}") && len(again.Nodes) > 0 && !placeholders(again.Nodes) {
			if _, err := resolveNodes(again.Nodes); err != nil {
				t.Errorf("%q is taken by the Caddyfile and not by JSON: %v", text, err)
			}
		}
		// A further block adds nodes to it, or is refused.
		if app.UnmarshalCaddyfile(caddyfile.NewTestDispenser("ollama {\nnode further.example\n}")) == nil && len(app.Nodes) != len(again.Nodes)+1 {
			t.Errorf("%q: %d nodes and one more are %d", text, len(again.Nodes), len(app.Nodes))
		}
	})
}

// placeholders tells whether what the nodes say depends on the environment.
func placeholders(nodes []*Node) bool {
	for _, n := range nodes {
		plain := *n
		plain.Preload = nil // it has braces of its own, and no placeholders
		text, err := json.Marshal(plain)
		if err != nil || bytes.Count(text, []byte("{")) > 1 {
			return true
		}
	}
	return false
}

// FuzzSiteBlock reads the directive of a site.
func FuzzSiteBlock(f *testing.F) {
	for _, text := range blocks(f, "ollama") {
		f.Add(text)
	}
	f.Add("ollama {\nmodels [ \\\npass /\n}")
	f.Add("ollama {\nttl 0.1ns model a {\nheader x {\n}\nttl 1d2d\n}")
	f.Fuzz(func(t *testing.T, text string) {
		var h Handler
		if h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)) != nil {
			return
		}
		var again Handler
		sayTheSame(t, text, &h, &again)
		if _, err := parseGuard(again.Guard); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		config := gateway.SiteConfig{Class: again.Class, Models: again.Models, Pass: again.Pass}
		err := again.cacheInto(&config)
		if err == nil {
			err = again.manageInto(&config)
		}
		if err == nil {
			_, err = gateway.NewSite(config)
		}
		if err != nil {
			t.Errorf("%q is taken by the Caddyfile and not by JSON: %v", text, err)
		}
	})
}

// FuzzBlogBlock reads the directive of a blog.
func FuzzBlogBlock(f *testing.F) {
	for _, text := range blocks(f, "ollama_blog") {
		f.Add(text)
	}
	f.Add("ollama_blog {\ndatabase postgres \"host=x password = {y}\"\nurl http://[::1%25x]:99999/\ngateway https://a {\nkey {}\n}\n}")
	f.Add("ollama_blog {\nabout ../../x\ndatabase sqlite \"\\x00\"\nmodel \u2028\n}")
	f.Fuzz(func(t *testing.T, text string) {
		var h BlogHandler
		if h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)) != nil {
			return
		}
		var again BlogHandler
		sayTheSame(t, text, &h, &again)
		if err := again.check(); err != nil {
			t.Errorf("%q is taken by the Caddyfile and not by JSON: %v", text, err)
		}
		if again.Database != nil {
			if err := again.Database.check(); err != nil {
				t.Errorf("%q is taken by the Caddyfile and not by JSON: %v", text, err)
			}
		}
	})
}

// sayTheSame writes one as JSON, reads the other from it and wants the same JSON again.
func sayTheSame(t *testing.T, text string, one, other any) {
	t.Helper()
	said, err := json.Marshal(one)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	d := json.NewDecoder(bytes.NewReader(said))
	d.DisallowUnknownFields()
	if err := d.Decode(other); err != nil {
		t.Fatalf("%q: made %s: %v", text, said, err)
	}
	repeated, err := json.Marshal(other)
	if err != nil || !bytes.Equal(said, repeated) {
		t.Errorf("%q\nmade %s\nread %s %v", text, said, repeated, err)
	}
}
