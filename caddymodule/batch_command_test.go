package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-ollama/caddy-ollama/internal/keys"
)

// runBatchCommand runs the command as it stands below `ollama`.
func runBatchCommand(stdin string, args ...string) (out, errs string, err error) {
	cmd := &cobra.Command{Use: "batch " + batchCommand.Usage, SilenceErrors: true, SilenceUsage: true}
	batchCommand.CobraFunc(cmd)
	var o, e bytes.Buffer
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&o)
	cmd.SetErr(&e)
	cmd.SetArgs(append([]string{}, args...)) // nil would be those of the test
	err = cmd.Execute()
	return o.String(), e.String(), err
}

// startForBatches runs a gateway with more in its site, and gives its URL.
func startForBatches(t *testing.T, more string) string {
	t.Helper()
	address := freeAddress(t)
	load(t, configOf(t, "ollama {\nnode "+startNode(t, fast("m"))+"\n}", "http://"+address+" {\nbind 127.0.0.1\nollama {\n"+more+"\n}\n}\n"))
	return "http://" + address
}

// resultsIn gives for each index of an output whether it is ok, as the last line of it says.
func resultsIn(t *testing.T, output string) map[int]bool {
	t.Helper()
	ok := make(map[int]bool)
	for line := range strings.Lines(output) {
		var l batchLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		ok[l.Index] = l.ok()
	}
	return ok
}

func prompts(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"custom_id":"id-%d","url":"/api/generate","body":{"model":"m","prompt":"<%d>"}}`+"\n", i, i)
	}
	return b.String()
}

func TestBatchCommand_WritesAResultForEachRequest(t *testing.T) {
	to := startForBatches(t, "")
	for _, test := range []struct {
		name, stdin string
		args        []string
		n           int
	}{
		{"lines", prompts(30), nil, 30},
		{"lines with a mark before them", "\ufeff" + prompts(2), nil, 2},
		{"in parts", prompts(30), []string{"--max-items", "7", "--ordered"}, 30},
		{"an array over lines", "[\n{\"model\":\"m\",\n\"prompt\":\"x\"},\n{\"model\":\"m\",\"prompt\":\"y\"}\n]\n", nil, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, errs, err := runBatchCommand(test.stdin, append([]string{"-", "--to", to}, test.args...)...)
			if err != nil || !strings.HasPrefix(errs, fmt.Sprintf("%d ok, 0 failed, 0 not answered, in ", test.n)) {
				t.Errorf("got %v, %s", err, errs)
			}
			got := resultsIn(t, out)
			if len(got) != test.n || strings.Count(out, "\n") != test.n {
				t.Errorf("got %d results:\n%s", len(got), out)
			}
			if test.args == nil {
				return
			}
			for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
				if want := fmt.Sprintf(`{"index":%d,"custom_id":"id-%d",`, i, i); !strings.HasPrefix(line, want) {
					t.Errorf("line %d: got %s, want %s", i, line, want)
				}
			}
		})
	}
}

func TestBatchCommand_FailsIfOneRequestDoes(t *testing.T) {
	to := startForBatches(t, "")
	out, errs, err := runBatchCommand(prompts(1)+"{broken\n"+`{"model":"nope","prompt":"x"}`, "-", "--to", to)
	if err == nil || err.Error() != "2 of 3 requests failed; their lines say why" || !strings.HasPrefix(errs, "1 ok, 2 failed, 0 not answered") {
		t.Errorf("got %v, %s", err, errs)
	}
	if got := resultsIn(t, out); len(got) != 3 || !got[0] || got[1] || got[2] {
		t.Errorf("got %v", got)
	}
}

func TestBatchCommand_GoesOnWithAnOutput(t *testing.T) {
	to := startForBatches(t, "")
	dir := t.TempDir()
	file, output := filepath.Join(dir, "prompts"), filepath.Join(dir, "results")
	if err := os.WriteFile(file, []byte(prompts(6)), 0o600); err != nil {
		t.Fatal(err)
	}
	const done = `{"index":1,"response":{},"error":null}` + "\n" + `{"index":2,"response":{},"error":{"code":"overloaded"}}` + "\n"
	if err := os.WriteFile(output, []byte(done+`{"index":3,"resp`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := runBatchCommand("", file, "--to", to, "--output", output); err == nil || !strings.Contains(err.Error(), "--resume") {
		t.Errorf("without --resume: %v", err)
	}
	_, errs, err := runBatchCommand("", file, "--to", to, "--output", output, "--resume", "--ordered")
	if err != nil || !strings.HasPrefix(errs, "5 ok, 0 failed") {
		t.Errorf("got %v, %s", err, errs)
	}
	text, err := os.ReadFile(output)
	if err != nil || !strings.HasPrefix(string(text), done+`{"index":0,"custom_id":"id-0",`) {
		t.Errorf("%v: got\n%s", err, text)
	}
	got := resultsIn(t, string(text))
	for i := range 6 {
		if !got[i] {
			t.Errorf("item %d has no answer", i)
		}
	}
	if _, errs, err := runBatchCommand("", file, "--to", to, "--output", output, "--resume"); err != nil || !strings.HasPrefix(errs, "0 ok, 0 failed, 0 not") {
		t.Errorf("again: %v, %s", err, errs)
	}
}

func TestBatchCommand_SaysWhatIsWrong(t *testing.T) {
	to := startForBatches(t, "")
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("a letter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	node := startNode(t, fast("m"))
	cut := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"index":0,"response":{},"error":null}` + "\n"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	for _, test := range []struct {
		name, stdin string
		args        []string
		want        string
	}{
		{"no file", "", nil, "say which file"},
		{"a file that is not there", "", []string{filepath.Join(dir, "none"), "--to", to}, "no such file"},
		{"an empty file", "", []string{"-", "--to", to}, "there are no items"},
		{"a broken array", "[{}", []string{"-", "--to", to}, "unexpected EOF"},
		{"nobody there", prompts(1), []string{"-", "--to", "http://127.0.0.1:1"}, "is it running? --to says where"},
		{"a URL that is none", prompts(1), []string{"-", "--to", "ftp://x"}, "--to: "},
		{"a node", prompts(1), []string{"-", "--to", node}, "there is no /api/batch at " + node},
		{"a connection that is lost", prompts(3), []string{"-", "--to", cut}, "was lost after 1 of 3 results"},
		{"an output that is something else", prompts(1), []string{"-", "--to", to, "--output", other, "--resume"}, "these are no results"},
		{"nothing to go on with", prompts(1), []string{"-", "--to", to, "--resume"}, "name it with --output"},
		{"none at once", prompts(1), []string{"-", "--to", to, "--max-items", "0"}, "--max-items"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, _, err := runBatchCommand(test.stdin, test.args...); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if text, _ := os.ReadFile(other); string(text) != "a letter\n" {
		t.Errorf("the other file became %q", text)
	}
}

func TestBatchCommand_SendsTheKey(t *testing.T) {
	line, secret, err := keys.New("alice")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := startForBatches(t, "keys {file."+file+"}")
	t.Setenv("OLLAMA_HOST", to)
	if _, _, err := runBatchCommand(prompts(1), "-"); err == nil || !strings.Contains(err.Error(), "answered 401: an API key is needed") {
		t.Errorf("without a key: %v", err)
	}
	t.Setenv("OLLAMA_API_KEY", "another one")
	if _, _, err := runBatchCommand(prompts(1), "-"); err == nil || !strings.Contains(err.Error(), "not known here") {
		t.Errorf("with another key: %v", err)
	}
	t.Setenv("CADDY_OLLAMA_KEY", secret)
	if _, _, err := runBatchCommand(prompts(1), "-"); err != nil {
		t.Errorf("with the key of the environment: %v", err)
	}
	t.Setenv("CADDY_OLLAMA_KEY", "another one")
	if _, _, err := runBatchCommand(prompts(1), "-", "--key", secret); err != nil {
		t.Errorf("with --key: %v", err)
	}
}

func TestBatchCommand_FindsTheGateway(t *testing.T) {
	for _, test := range []struct{ flag, env, want string }{
		{"", "", "http://127.0.0.1:8080"},
		{"", "0.0.0.0:9999", "http://127.0.0.1:9999"},
		{"", "http://gpu", "http://gpu:80"},
		{"https://ollama.example.com", "x:1", "https://ollama.example.com:443"},
	} {
		got, err := gatewayURL(test.flag, func(string) string { return test.env })
		if err != nil || got != test.want {
			t.Errorf("--to %q, OLLAMA_HOST=%q: got %s, %v, want %s", test.flag, test.env, got, err, test.want)
		}
	}
}

func TestProgress_ShowsABarOrALine(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, &out, 4)
	p.began = p.began.Add(-16 * time.Second)
	p.shown = p.began
	p.count(true)
	p.count(false)
	if want := "1 of 4, 0 failed, 0.1/s, 48s left\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	out.Reset()
	p.bar, p.shown = true, p.began
	p.count(true)
	if want := "\r[######################........] 3 of 4, 1 failed, 0.2/s, 5s left\x1b[K"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
