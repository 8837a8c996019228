package cache

import (
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// What is beside the text of a request: two models that embed one text, two versions, two tenants,
// and no way to have one part pass for two.
func TestKeyOf_EachPartMakesAnotherKey(t *testing.T) {
	keys := make(map[call.Key]string)
	for name, c := range map[string][4]string{
		"one":                     {"identity", "0.24.0", "key:alice", "text"},
		"another model":           {"identitz", "0.24.0", "key:alice", "text"},
		"another version":         {"identity", "0.24.1", "key:alice", "text"},
		"another tenant":          {"identity", "0.24.0", "key:bob", "text"},
		"another text":            {"identity", "0.24.0", "key:alice", "tex"},
		"a border moved":          {"identity0", ".24.0", "key:alice", "text"},
		"another border":          {"identity", "0.24.0k", "ey:alice", "text"},
		"the last border":         {"identity", "0.24.0", "key:alicet", "ext"},
		"nothing":                 {"", "", "", ""},
		"all in one":              {"identity0.24.0key:alicetext", "", "", ""},
		"all in the text":         {"", "", "", "identity0.24.0key:alicetext"},
		"300 kB":                  {"identity", "0.24.0", "key:alice", strings.Repeat("a", 300<<10)},
		"300 kB, another end":     {"identity", "0.24.0", "key:alice", strings.Repeat("a", 300<<10-1) + "b"},
		"a tenant of another way": {"identity", "0.24.0", "user:alice", "text"},
	} {
		k := KeyOf(c[0], c[1], c[2], []byte(c[3]))
		if other, ok := keys[k]; ok {
			t.Errorf("%s has the key of %s", name, other)
		}
		keys[k] = name
		if k != KeyOf(c[0], c[1], c[2], []byte(c[3])) {
			t.Errorf("%s: two keys of one request", name)
		}
	}
}
