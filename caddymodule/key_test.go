package caddymodule

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/caddy-ollama/caddy-ollama/internal/keys"
)

// runKey runs the command as it stands below `ollama`.
func runKey(args ...string) (out, errs string, err error) {
	root := &cobra.Command{Use: "ollama", SilenceErrors: true, SilenceUsage: true}
	cmd := &cobra.Command{Use: "key NAME"}
	keyCommand.CobraFunc(cmd)
	root.AddCommand(cmd)
	var o, e bytes.Buffer
	root.SetOut(&o)
	root.SetErr(&e)
	root.SetArgs(append([]string{"key"}, args...))
	err = root.Execute()
	return o.String(), e.String(), err
}

func TestKey_PrintsTheLineAndShowsTheSecretOnce(t *testing.T) {
	line, said, err := runKey("alice")
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(said[strings.LastIndexByte(said, ' ')+1:])
	k, err := keys.Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	if name, ok := k.Lookup(secret); !ok || name != "alice" {
		t.Errorf("%q is no key of %q", secret, line)
	}
	if strings.Contains(line, secret) || strings.Count(said, secret) != 1 || strings.Count(line, "\n") != 1 {
		t.Errorf("output %q, errors %q", line, said)
	}
}

func TestKey_RefusesWhatIsNoName(t *testing.T) {
	for _, args := range [][]string{nil, {"a", "b"}, {"a b"}, {""}, {"sk-abc"}} {
		if out, _, err := runKey(args...); err == nil || out != "" {
			t.Errorf("%q: got %q", args, out)
		}
	}
}

// newKey makes a line and its secret.
func newKey(t *testing.T, name string) (line, secret string) {
	t.Helper()
	line, secret, err := keys.New(name)
	if err != nil {
		t.Fatal(err)
	}
	return line, secret
}

// askWithKey asks with a key in one of the two ways.
func askWithKey(t *testing.T, c *http.Client, url, header, value string) int {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set(header, value)
	resp, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestKeys_AreReadAgainOnReloadAndNeverShown(t *testing.T) {
	node := startNode(t, fast("m"))
	saved := caddy.ConfigAutosavePath
	caddy.ConfigAutosavePath = filepath.Join(t.TempDir(), "autosave.json")
	t.Cleanup(func() { caddy.ConfigAutosavePath = saved })
	aliceLine, alice := newKey(t, "alice")
	bobLine, bob := newKey(t, "bob")
	file := filepath.Join(t.TempDir(), "keys")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# who may ask\n" + aliceLine + "\n")

	site, admin, log := socket(t), socket(t), filepath.Join(t.TempDir(), "log")
	config, err := adapt(fmt.Sprintf(`{
		admin unix/%s
		debug
		log {
			output file %s
		}
		ollama {
			node %s
		}
	}
	http://site {
		bind unix/%s
		log {
			output file %s.access
			format filter {
				wrap json
				request>headers>X-Api-Key delete
			}
		}
		ollama {
			keys {file.%s}
		}
	}`, admin, log, node, site, log, file))
	if err != nil {
		t.Fatal(err)
	}
	load(t, config)
	c := overReloads(client(t, site, func(tr *http.Transport) { tr.DisableKeepAlives = true })) // a reload ends connections
	status := func(header, value string) int { return askWithKey(t, c, "http://site/", header, value) }
	for _, want := range []struct {
		header, value string
		status        int
	}{
		{"X-Other", "", 401}, {"X-Api-Key", alice, 200}, {"Authorization", "Bearer " + alice, 200}, {"X-Api-Key", bob, 401}, {"Authorization", "Bearer " + bob, 401},
	} {
		if got := status(want.header, want.value); got != want.status {
			t.Errorf("%s: got %d, want %d", want.header, got, want.status)
		}
	}

	write(bobLine + "\n")
	load(t, config)
	if a, b := status("X-Api-Key", alice), status("Authorization", "Bearer "+bob); a != 401 || b != 200 {
		t.Errorf("after a reload alice gets %d and bob %d, want 401 and 200", a, b)
	}

	// What is wrong is told by its line, changes nothing, and repeats nothing.
	write(bobLine + "\n\nalice " + alice + "\n")
	err = caddy.Load(config, true)
	if err == nil || !strings.Contains(err.Error(), "keys: line 3: ") {
		t.Errorf("got %v, want an error that names the line", err)
	}
	if got := status("X-Api-Key", bob); got != 200 {
		t.Errorf("after a reload that failed bob gets %d", got)
	}

	shown := map[string]string{"the error": fmt.Sprint(err)}
	_, shown["/config/"] = get(t, client(t, admin, nil), "http://localhost/config/")
	for where, path := range map[string]string{"autosave": caddy.ConfigAutosavePath, "the log": log, "the access log": log + ".access"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		shown[where] = string(text)
	}
	for where, text := range shown {
		for _, secret := range []string{alice, bob, strings.Fields(aliceLine)[1], strings.Fields(bobLine)[1]} {
			if strings.Contains(text, secret) {
				t.Errorf("a secret or its hash is in %s: %s", where, text)
			}
		}
	}
	if !strings.Contains(shown["/config/"], "{file."+file+"}") || !strings.Contains(shown["the access log"], `"status":401`) {
		t.Errorf("/config/ or the access log does not show what it should:\n%s\n%s", shown["/config/"], shown["the access log"])
	}
}

func TestGuard_IsOnUnlessTurnedOff(t *testing.T) {
	node := startNode(t, fast("m"))
	on, off := socket(t), socket(t)
	load(t, configOf(t, "ollama {\nnode "+node+"\n}",
		"http://on {\nbind unix/"+on+"\nollama\n}\nhttp://off {\nbind unix/"+off+"\nollama {\nguard off\n}\n}\n"))
	const body = `{"model":"m","prompt":"x","stream":false,"options":{"num_batch":0}}`
	// Without the guard the node's own refusal comes: its runner has failed.
	for name, want := range map[string]int{"on": http.StatusBadRequest, "off": http.StatusInternalServerError} {
		at := map[string]string{"on": on, "off": off}[name]
		resp, err := client(t, at, nil).Post("http://"+name+"/api/generate", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("guard %s: got %d, want %d", name, resp.StatusCode, want)
		}
	}
}
