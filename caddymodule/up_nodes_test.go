package caddymodule

import (
	"slices"
	"strings"
	"testing"
)

// environ is a getenv that knows these variables only.
func environ(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func urls(found upNodes) []string {
	var list []string
	for _, n := range found.nodes {
		list = append(list, n.URL.String())
	}
	return list
}

func TestFindNodes_FirstSourceThatSaysSomethingDecides(t *testing.T) {
	for _, test := range []struct {
		name   string
		flags  []string
		env    map[string]string
		want   []string
		origin string
		slots  int
	}{
		{
			name: "nothing is named",
			want: []string{"http://127.0.0.1:11434"},
		},
		{
			name: "OLLAMA_HOST", env: map[string]string{"OLLAMA_HOST": "10.0.0.1"},
			want: []string{"http://10.0.0.1:11434"}, origin: "OLLAMA_HOST",
		},
		{
			name:   "OLLAMA_NODES before OLLAMA_HOST",
			env:    map[string]string{"OLLAMA_HOST": "10.0.0.1", "OLLAMA_NODES": "http://10.0.0.2, 10.0.0.3:9000,"},
			want:   []string{"http://10.0.0.2:11434", "http://10.0.0.3:9000"},
			origin: "OLLAMA_NODES",
		},
		{
			name: "flags before all", flags: []string{"https://node.internal", "10.0.0.4"},
			env:    map[string]string{"OLLAMA_HOST": "10.0.0.1", "OLLAMA_NODES": "10.0.0.2"},
			want:   []string{"https://node.internal:11434", "http://10.0.0.4:11434"},
			origin: "--node",
		},
		{
			name: "a list of commas says nothing", env: map[string]string{"OLLAMA_NODES": " , ", "OLLAMA_HOST": "10.0.0.1"},
			want: []string{"http://10.0.0.1:11434"}, origin: "OLLAMA_HOST",
		},
		{
			name: "empty variables say nothing", env: map[string]string{"OLLAMA_NODES": "", "OLLAMA_HOST": " ", "OLLAMA_NUM_PARALLEL": ""},
			want: []string{"http://127.0.0.1:11434"},
		},
		{
			name: "slots for every source", flags: []string{"10.0.0.4"}, env: map[string]string{"OLLAMA_NUM_PARALLEL": "4"},
			want: []string{"http://10.0.0.4:11434"}, origin: "--node", slots: 4,
		},
		{
			name: "0 slots is Ollama's word for the default", env: map[string]string{"OLLAMA_NUM_PARALLEL": "0"},
			want: []string{"http://127.0.0.1:11434"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, err := findNodes(test.flags, environ(test.env))
			if err != nil {
				t.Fatal(err)
			}
			if got := urls(found); !slices.Equal(got, test.want) || found.origin != test.origin || found.slots != test.slots {
				t.Errorf("flags %q, environment %q: got %q from %q with %d slots, want %q from %q with %d",
					test.flags, test.env, got, found.origin, found.slots, test.want, test.origin, test.slots)
			}
		})
	}
}

func TestFindNodes_ReadsOllamaHostAsOllamaDoes(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "http://127.0.0.1:11434",
		"localhost":               "http://localhost:11434",
		"example.com:56789":       "http://example.com:56789",
		"10.0.0.1":                "http://10.0.0.1:11434",
		":1234":                   "http://127.0.0.1:1234",
		"1.2.3.4:":                "http://1.2.3.4:11434",
		"0.0.0.0":                 "http://127.0.0.1:11434",
		"0.0.0.0:8000":            "http://127.0.0.1:8000",
		"::":                      "http://[::1]:11434",
		"[::]:8000":               "http://[::1]:8000",
		"::1":                     "http://[::1]:11434",
		"[fd00::7]":               "http://[fd00::7]:11434",
		"http://1.2.3.4":          "http://1.2.3.4:80",
		"http://0.0.0.0:11434/":   "http://127.0.0.1:11434",
		"https://1.2.3.4":         "https://1.2.3.4:443",
		"https://example.com:444": "https://example.com:444",
		`"http://1.2.3.4:4321"`:   "http://1.2.3.4:4321",
		" 1.2.3.4 ":               "http://1.2.3.4:11434",
	} {
		found, err := findNodes(nil, environ(map[string]string{"OLLAMA_HOST": text}))
		if err != nil {
			t.Errorf("OLLAMA_HOST=%q: %v", text, err)
			continue
		}
		if got := urls(found); !slices.Equal(got, []string{want}) {
			t.Errorf("OLLAMA_HOST=%q: got %q, want %q", text, got, want)
		}
	}
}

func TestFindNodes_RefusalNamesTheSource(t *testing.T) {
	for _, test := range []struct {
		name  string
		flags []string
		env   map[string]string
		want  []string
	}{
		{name: "a path in a flag", flags: []string{"10.0.0.1", "http://10.0.0.2/ollama"}, want: []string{"--node, node 2", "/ollama"}},
		{name: "a port that does not exist", env: map[string]string{"OLLAMA_NODES": "10.0.0.1:99999"}, want: []string{"OLLAMA_NODES, node 1", "99999"}},
		{name: "another scheme", env: map[string]string{"OLLAMA_HOST": "ftp://10.0.0.1"}, want: []string{"OLLAMA_HOST", "http://"}},
		{name: "a path in OLLAMA_HOST", env: map[string]string{"OLLAMA_HOST": "http://10.0.0.1/ollama"}, want: []string{"OLLAMA_HOST", "/ollama"}},
		{name: "words for slots", env: map[string]string{"OLLAMA_NUM_PARALLEL": "many"}, want: []string{"OLLAMA_NUM_PARALLEL", "many"}},
		{name: "negative slots", env: map[string]string{"OLLAMA_NUM_PARALLEL": "-1"}, want: []string{"OLLAMA_NUM_PARALLEL", "-1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, err := findNodes(test.flags, environ(test.env))
			if err == nil {
				t.Fatalf("accepted as %q", urls(found))
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, which does not say %q", err, part)
				}
			}
		})
	}
}

func TestFindNodes_RefusalKeepsPasswordsToItself(t *testing.T) {
	_, err := findNodes([]string{"http://me:hunter2@10.0.0.1"}, environ(nil))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want a refusal without the password", err)
	}
}
