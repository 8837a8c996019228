package caddymodule

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"
)

// upPlanOf is the plan for these flags, without asking the machine about its addresses.
func upPlanOf(t *testing.T, nodes []string, env map[string]string, listen, https string) upPlan {
	t.Helper()
	p := upPlan{socket: "/home/alice/.local/share/caddy/ollama-up.sock", logLevel: "WARN", blog: true}
	var err error
	if p.found, err = findNodes(nodes, environ(env)); err != nil {
		t.Fatal(err)
	}
	if p.http, err = parseListen(listen); err != nil {
		t.Fatal(err)
	}
	if p.https, err = parseHTTPS(https); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestUpCaddyfile(t *testing.T) {
	blanks := upPlanOf(t, []string{"10.0.0.1"}, nil, "localhost", "off")
	blanks.socket = "/Users/alice/Library/Application Support/Caddy/ollama-up.sock"
	blanks.logLevel = "DEBUG"
	simulated := upPlanOf(t, []string{"127.0.0.1:40001", "127.0.0.1:40002"}, nil, defaultListen, defaultHTTPS)
	simulated.found.nodes[0].Name, simulated.found.nodes[1].Name = "sim-1", "sim-2"

	bare := upPlanOf(t, nil, nil, defaultListen, defaultHTTPS)
	bare.blog = false

	for name, plan := range map[string]upPlan{
		"no_blog":      bare,
		"default":      upPlanOf(t, nil, nil, defaultListen, defaultHTTPS),
		"nodes_slots":  upPlanOf(t, []string{"10.0.0.1", "https://10.0.0.2:443"}, map[string]string{"OLLAMA_NUM_PARALLEL": "4"}, defaultListen, defaultHTTPS),
		"every_listen": upPlanOf(t, []string{"10.0.0.1"}, nil, ":9000", "9443"),
		"one_listen":   upPlanOf(t, []string{"[fd00::1]:11434"}, nil, "10.0.0.5", "off"),
		"blanks_debug": blanks,
		"simulated":    simulated,
	} {
		t.Run(name, func(t *testing.T) {
			text, err := plan.caddyfile()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "up", name+".caddyfile")
			if *updateGoldens {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(text)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(string(caddyfile.Format(text)), string(text)); diff != "" {
				t.Errorf("fmt would change it (-formatted +got):\n%s", diff)
			}
		})
	}
}

// What matters of the adapted form: who can reach what, and what is left alone.
func TestUpCaddyfile_AdaptsToWhatWasAskedFor(t *testing.T) {
	text, err := upPlanOf(t, []string{"10.0.0.1"}, nil, "localhost:9000", "9443").caddyfile()
	if err != nil {
		t.Fatal(err)
	}
	adapted, err := adaptUp(text)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Admin struct {
			Listen string
			Config struct{ Persist *bool }
		}
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Listen          []string
					ListenProtocols [][]string `json:"listen_protocols"`
					AutomaticHTTPS  struct {
						DisableRedirects bool `json:"disable_redirects"`
					} `json:"automatic_https"`
				}
			}
			PKI struct {
				Authorities map[string]struct {
					InstallTrust *bool `json:"install_trust"`
				} `json:"certificate_authorities"`
			}
		}
	}
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	if got, want := config.Admin.Listen, "unix//home/alice/.local/share/caddy/ollama-up.sock|0600"; got != want {
		t.Errorf("admin: got %s, want %s", got, want)
	}
	if config.Admin.Config.Persist == nil || *config.Admin.Config.Persist {
		t.Error("the configuration would be saved")
	}
	if a := config.Apps.PKI.Authorities["local"]; a.InstallTrust == nil || *a.InstallTrust {
		t.Error("the root would be installed in the trust store")
	}
	protocols := map[string]string{}
	for name, s := range config.Apps.HTTP.Servers {
		for i, listen := range s.Listen {
			protocols[listen] = strings.Join(s.ListenProtocols[i], " ")
		}
		if !s.AutomaticHTTPS.DisableRedirects {
			t.Errorf("server %s would have port 80 taken for redirects", name)
		}
	}
	want := map[string]string{
		"127.0.0.1:9000": "h1 h2c", "[::1]:9000": "h1 h2c",
		"127.0.0.1:9443": "h1 h2", "[::1]:9443": "h1 h2",
	}
	if diff := cmp.Diff(want, protocols); diff != "" {
		t.Errorf("listeners and protocols (-want +got):\n%s", diff)
	}
}

func TestUpCaddyfile_IsAccepted(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	for name, plan := range map[string]upPlan{
		"default": upPlanOf(t, nil, nil, defaultListen, defaultHTTPS),
		"every":   upPlanOf(t, []string{"10.0.0.1"}, map[string]string{"OLLAMA_NUM_PARALLEL": "4"}, ":9000", "off"),
	} {
		t.Run(name, func(t *testing.T) {
			text, err := plan.caddyfile()
			if err != nil {
				t.Fatal(err)
			}
			adapted, err := adaptUp(text)
			if err != nil {
				t.Fatal(err)
			}
			var config caddy.Config
			if err := json.Unmarshal(adapted, &config); err != nil {
				t.Fatal(err)
			}
			if err := caddy.Validate(&config); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUpCaddyfile_RefusesADirectoryThatWouldBeAPlaceholder(t *testing.T) {
	p := upPlanOf(t, nil, nil, defaultListen, defaultHTTPS)
	p.socket = "/home/{env.USER}/caddy/ollama-up.sock"
	if text, err := p.caddyfile(); err == nil || !strings.Contains(err.Error(), "XDG_DATA_HOME") {
		t.Errorf("got %v and\n%s", err, text)
	}
}
