package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// A fakeAdmin answers as the admin endpoint of a gateway does.
type fakeAdmin struct {
	matrices []string          // answered one after the other, the last one again
	pulls    map[string]string // answers, by model
	deletes  map[string]string

	mu   sync.Mutex // guards what follows
	seen []string
}

func (a *fakeAdmin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.seen = append(a.seen, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(body)))
	a.mu.Unlock()
	var wanted modelOrder
	json.Unmarshal(body, &wanted)
	var answer string
	switch r.URL.Path {
	case "/ollama/models":
		answer = a.matrices[0]
		a.matrices = a.matrices[min(1, len(a.matrices)-1):]
	case "/ollama/models/pull":
		answer = a.pulls[wanted.Model]
	case "/ollama/models/delete":
		answer = a.deletes[wanted.Model]
	}
	if answer == "" {
		w.WriteHeader(http.StatusNotFound)
		answer = `{"error":"no node has this model"}`
	}
	io.WriteString(w, answer)
}

// asked gives what has been asked since the last time.
func (a *fakeAdmin) asked() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := a.seen
	a.seen = nil
	return seen
}

// start gives the address for --address.
func (a *fakeAdmin) start(t *testing.T) string {
	return strings.TrimPrefix(serve(t, a), "http://")
}

// runModels runs one of the commands about models as it stands below `ollama`.
func runModels(command caddycmd.Command, args ...string) (out string, err error) {
	root := &cobra.Command{Use: "ollama", SilenceErrors: true, SilenceUsage: true}
	cmd := new(cobra.Command)
	command.CobraFunc(cmd)
	cmd.Use = command.Name + " " + command.Usage
	root.AddCommand(cmd)
	var o bytes.Buffer
	root.SetOut(&o)
	root.SetErr(&o)
	root.SetArgs(append([]string{command.Name}, args...))
	err = root.Execute()
	return o.String(), err
}

const (
	pulledA  = `{"node":"a","status":"pulling manifest"}` + "\n" + `{"node":"a","status":"success"}` + "\n"
	failedB  = `{"node":"b","error":"no space"}` + "\n"
	unknownB = `{"node":"b","error":"pull model manifest: file does not exist"}` + "\n"
	allWell  = `{"done":true,"failed":[]}` + "\n"
	butForB  = `{"done":true,"failed":["b"]}` + "\n"
)

func TestPullAndRm_SayWhatBecameOfEachNode(t *testing.T) {
	admin := &fakeAdmin{
		pulls: map[string]string{"m": pulledA + allWell, "half": pulledA + failedB + butForB, "cut": pulledA},
		deletes: map[string]string{
			"m": `{"node":"a","status":"success"}` + "\n" + allWell, "half": `{"node":"a","status":"success"}` + "\n" + failedB + butForB, "nowhere": allWell,
		},
	}
	address := admin.start(t)
	for _, test := range []struct {
		name    string
		command caddycmd.Command
		args    []string
		asked   string // "" for nothing
		out     string
		err     string // "" for none
	}{
		{"pull to all", pullCommand, []string{"m"}, `POST /ollama/models/pull {"model":"m"}`, "a: pulling manifest\na: success\n", ""},
		{"pull to some", pullCommand, []string{"m", "--to", "a", "--to", "b"}, `POST /ollama/models/pull {"model":"m","nodes":["a","b"]}`, "a: pulling manifest\na: success\n", ""},
		{"pull as JSON", pullCommand, []string{"half", "--json"}, `POST /ollama/models/pull {"model":"half"}`, pulledA + failedB + butForB, "1 of 2 nodes failed: b"},
		{"pull fails on one", pullCommand, []string{"half"}, `POST /ollama/models/pull {"model":"half"}`, "a: pulling manifest\na: success\nb: failed: no space\n", "1 of 2 nodes failed: b"},
		{"pull breaks off", pullCommand, []string{"cut"}, `POST /ollama/models/pull {"model":"cut"}`, "a: pulling manifest\na: success\n", "broke off"},
		{"pull is refused", pullCommand, []string{"other"}, `POST /ollama/models/pull {"model":"other"}`, "", "asking the gateway at " + address + ": no node has this model"},
		{"pull nothing", pullCommand, nil, "", "", "say which model, as in: caddy-ollama pull llama3"},
		{"pull two", pullCommand, []string{"a", "b"}, "", "", "say which model"},
		{"pull no name", pullCommand, []string{"a:b:c"}, "", "", "llama3 or team/llama3:8b"},
		{"rm on all", rmCommand, []string{"m"}, `POST /ollama/models/delete {"model":"m"}`, "a: success\n", ""},
		{"rm on one", rmCommand, []string{"m", "--from", "a"}, `POST /ollama/models/delete {"model":"m","nodes":["a"]}`, "a: success\n", ""},
		{"rm fails on one", rmCommand, []string{"half"}, `POST /ollama/models/delete {"model":"half"}`, "a: success\nb: failed: no space\n", "1 of 2 nodes failed: b"},
		{"rm of what nobody has", rmCommand, []string{"nowhere"}, `POST /ollama/models/delete {"model":"nowhere"}`, "", "no node was concerned"},
		{"rm nothing", rmCommand, nil, "", "", "say which model, as in: caddy-ollama rm llama3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := runModels(test.command, append(test.args, "--address", address)...)
			if out != test.out {
				t.Errorf("got\n%s, want\n%s", out, test.out)
			}
			if got := strings.Join(admin.asked(), "\n"); got != test.asked {
				t.Errorf("asked %s, want %s", got, test.asked)
			}
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
		})
	}
	if _, err := runModels(pullCommand, "m", "--address", "unix/"+socket(t)); err == nil || !strings.Contains(err.Error(), "is it running?") {
		t.Errorf("nobody there: %v", err)
	}
}

// matrixText is an answer of three nodes, the last of which is down. Each model is "name nodes"; a
// node in capitals has another build.
func matrixText(models ...string) string {
	g := modelMatrix{Nodes: []string{"a", "b", "c"}, Models: []modelRow{}}
	for _, text := range models {
		name, nodes, _ := strings.Cut(text, " ")
		model := modelRow{Model: name, Lacking: []string{}}
		for _, n := range nodes {
			lower := strings.ToLower(string(n))
			model.Nodes = append(model.Nodes, modelCell{Node: lower, Up: lower != "c", Drift: lower != string(n)})
		}
		for _, n := range []string{"a", "b"} {
			if !strings.Contains(strings.ToLower(nodes), n) {
				model.Lacking = append(model.Lacking, n)
			}
		}
		g.Models = append(g.Models, model)
	}
	b, err := json.Marshal(g)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestModels_ShowsWhoHasWhat(t *testing.T) {
	for _, test := range []struct{ name, answer, want string }{
		{
			"all kinds", matrixText("llama3:latest abc", "team/mine:8b a", "odd\x1b:latest aB", "old:latest aC"),
			"MODEL         a    b     c\n" +
				"llama3        yes  yes   (yes)\n" +
				"team/mine:8b  yes  -     ?\n" +
				"odd·          yes  yes*  ?\n" +
				"old           yes  -     (yes*)\n\n" + driftNote + "\n",
		},
		{"no drift", matrixText("llama3:latest ab"), "MODEL   a    b    c\nllama3  yes  yes  ?\n"},
		{"no models", matrixText(), "No node is known to have a model.\n"},
		{
			"with all its fields",
			`{"nodes":["a"],"models":[{"model":"llama3:latest","identity":"x","drift":false,"nodes":[{"node":"a","up":true,"digest":"d","identity":"x","drift":false}],"lacking":[]}]}`,
			"MODEL   a\nllama3  yes\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			address := (&fakeAdmin{matrices: []string{test.answer}}).start(t)
			if out, err := runModels(modelsCommand, "--address", address); out != test.want || err != nil {
				t.Errorf("%v, got\n%s, want\n%s", err, out, test.want)
			}
			if out, err := runModels(modelsCommand, "--address", address, "--json"); out != test.answer || err != nil {
				t.Errorf("--json: %v, got\n%s", err, out)
			}
		})
	}
	if _, err := runModels(modelsCommand, "clear"); err == nil || !strings.Contains(err.Error(), "unknown command") {
		t.Errorf("an unknown word: %v", err)
	}
}

func TestModelsSync_PullsWhereAModelLacks(t *testing.T) {
	pulledB := strings.ReplaceAll(pulledA, `"a"`, `"b"`) + allWell
	pull := func(model, node string) string {
		return fmt.Sprintf(`POST /ollama/models/pull {"model":"%s:latest","nodes":["%s"]}`, model, node)
	}
	const list = "GET /ollama/models"
	for _, test := range []struct {
		name     string
		args     []string
		matrices []string
		pulls    map[string]string
		asked    []string
		out      string
		err      string
	}{
		{
			"one that lacks",
			[]string{"llama3"},
			[]string{matrixText("llama3:latest a", "other:latest a"), matrixText("llama3:latest ab")},
			map[string]string{"llama3:latest": pulledB},
			[]string{list, pull("llama3", "b"), list},
			"llama3, to b:\nb: pulling manifest\nb: success\n", "",
		},
		{
			"all, and one is from a file",
			[]string{"--all"},
			[]string{matrixText("llama3:latest ab", "mine:latest a", "other:latest b"), matrixText("other:latest ab")},
			map[string]string{"mine:latest": unknownB + butForB, "other:latest": pulledA + allWell},
			[]string{list, pull("mine", "b"), pull("other", "a"), list},
			"mine, to b:\nb: failed: pull model manifest: file does not exist\n" +
				"mine cannot be pulled: its registry does not have it. It was made from a file or copied; make it on the other nodes, too, or push it.\n" +
				"other, to a:\na: pulling manifest\na: success\n",
			"1 of 2 models still lack somewhere: mine",
		},
		{
			"a node fails",
			[]string{"llama3:latest"},
			[]string{matrixText("llama3:latest a")},
			map[string]string{"llama3:latest": failedB + butForB},
			[]string{list, pull("llama3", "b")},
			"llama3, to b:\nb: failed: no space\n", "1 of 1 models still lack somewhere: llama3",
		},
		{
			"the registry has another one by now",
			[]string{"llama3"},
			[]string{matrixText("llama3:latest a"), matrixText("llama3:latest aB")},
			map[string]string{"llama3:latest": pulledB},
			[]string{list, pull("llama3", "b"), list},
			"llama3, to b:\nb: pulling manifest\nb: success\n" +
				"llama3 is now not the same on all nodes: the registry has another one than they had. \"pull llama3\" brings it to all.\n", "",
		},
		{"all have it", []string{"LLAMA3"}, []string{matrixText("llama3:latest ab")}, nil, []string{list}, "Nothing is lacking.\n", ""},
		{"only a node that is down lacks it", []string{"--all"}, []string{matrixText("llama3:latest ab")}, nil, []string{list}, "Nothing is lacking.\n", ""},
		{"nobody has it", []string{"x"}, []string{matrixText()}, nil, []string{list}, "", `no node is known to have x; "pull x" brings it to all`},
		{"neither", nil, nil, nil, nil, "", "say which model"},
		{"both", []string{"x", "--all"}, nil, nil, nil, "", "say which model"},
		{"no name", []string{"a:b:c"}, nil, nil, nil, "", "llama3 or team/llama3:8b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			admin := &fakeAdmin{matrices: test.matrices, pulls: test.pulls}
			out, err := runModels(modelsCommand, append([]string{"sync", "--address", admin.start(t)}, test.args...)...)
			if asked := admin.asked(); out != test.out || !slices.Equal(asked, test.asked) {
				t.Errorf("got\n%s, want\n%s\nasked %q, want %q", out, test.out, asked, test.asked)
			}
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
		})
	}
}
