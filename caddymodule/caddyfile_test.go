package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/google/go-cmp/cmp"
)

var updateGoldens = flag.Bool("update", false, "rewrite the golden files in testdata")

// parting stands between the Caddyfile and what is expected of it.
const parting = "----------\n"

// golden compares what adapt makes of the first part of each file with the second part.
func golden(t *testing.T, dir string, made func(t *testing.T, caddyfile string) string) {
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.caddyfiletest"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens in %s: %v", dir, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			caddyfile, want, ok := strings.Cut(string(content), parting)
			if !ok {
				t.Fatalf("%s has no line of dashes", file)
			}
			got := made(t, caddyfile) + "\n"
			if *updateGoldens {
				if err := os.WriteFile(file, []byte(caddyfile+parting+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("input:\n%s\n(-want +got):\n%s", caddyfile, diff)
			}
		})
	}
}

// adapt gives the JSON of a Caddyfile, under the name Caddyfile.
func adapt(caddyfile string) ([]byte, error) {
	adapter := caddyconfig.GetAdapter("caddyfile")
	made, _, err := adapter.Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return made, err
}

func TestCaddyfile_AdaptsToJSON(t *testing.T) {
	golden(t, "adapt", func(t *testing.T, caddyfile string) string {
		made, err := adapt(caddyfile)
		if err != nil {
			t.Fatalf("adapt:\n%s\n%v", caddyfile, err)
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, made, "", "\t"); err != nil {
			t.Fatal(err)
		}
		return indented.String()
	})
}

func TestCaddyfile_RefusesWithLineAndAlternative(t *testing.T) {
	golden(t, "errors", func(t *testing.T, caddyfile string) string {
		made, err := adapt(caddyfile)
		if err == nil {
			t.Fatalf("accepted:\n%s\n%s", caddyfile, made)
		}
		return err.Error()
	})
}

// Whatever can be adapted by the goldens is also possible in the end.
func TestCaddyfile_AdaptedJSONIsAccepted(t *testing.T) {
	t.Setenv("SPARE_NODE", "10.9.9.9:1234")
	t.Setenv("BIG_TOKEN", "secret")
	t.Setenv("CACHE_SECRET", "a secret of more than sixteen bytes")
	t.Setenv("REDIS_PASSWORD", "secret")
	t.Setenv("BLOG_DATABASE_URL", "postgres://blog@127.0.0.1:1/blog")
	t.Setenv("BLOG_KEY", "secret")
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	for _, name := range []string{
		"directive_alone", "directive_full", "directive_order", "nodes", "settings", "settings_off", "second_block", "node_preload",
		"cache", "cache_alone", "cache_off", "site_cache", "batch_prompts", "blog",
	} {
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(filepath.Join("testdata", "adapt", name+".caddyfiletest"))
			if err != nil {
				t.Fatal(err)
			}
			caddyfile, _, _ := strings.Cut(string(content), parting)
			made, err := adapt(caddyfile)
			if err != nil {
				t.Fatal(err)
			}
			var config caddy.Config
			if err := json.Unmarshal(made, &config); err != nil {
				t.Fatal(err)
			}
			if err := caddy.Validate(&config); err != nil {
				t.Error(err)
			}
		})
	}
	if refs, ok := engines.References(engineKey); ok {
		t.Errorf("%d references to the engine are left", refs)
	}
}

func TestInsteadOf(t *testing.T) {
	words := []string{"interval", "timeout", "passes", "fails"}
	for _, test := range []struct{ word, want string }{
		{"intervall", `did you mean "interval"?`},
		{"intreval", `did you mean "interval"?`},
		{"fail", `did you mean "fails"?`},
		{"Passes", `did you mean "passes"?`},
		{"refresh", "use interval, timeout, passes or fails"},
		{"", "use interval, timeout, passes or fails"},
	} {
		if got := insteadOf(test.word, words); got != test.want {
			t.Errorf("insteadOf(%q) = %s, want %s", test.word, got, test.want)
		}
	}
}
