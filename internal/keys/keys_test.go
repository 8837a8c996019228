package keys

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// canary is a secret that no error may repeat.
const canary = "sk-CANARYCANARYCANARY"

func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func TestParse_ReadsLines(t *testing.T) {
	a, b, c := hashOf("a"), hashOf("b"), hashOf("c")
	text := "# who may ask\n\n alice " + a + "\r\n\tbob\t" + strings.ToUpper(b) + "  \n  # bob's next\nbob " + c
	k, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if k.Len() != 3 {
		t.Errorf("%d keys, want 3", k.Len())
	}
	for secret, want := range map[string]string{"a": "alice", "b": "bob", "c": "bob", "d": "", "": "", a: "", "A": ""} {
		name, ok := k.Lookup(secret)
		if name != want || ok != (want != "") {
			t.Errorf("Lookup(%q) = %q %v, want %q", secret, name, ok, want)
		}
	}
}

func TestParse_NamesTheLineAndRepeatsNothing(t *testing.T) {
	good := "alice " + hashOf("a") + "\n"
	for _, c := range []struct{ name, text, want string }{
		{"the secret for its hash", good + "bob " + canary, "line 2: the second word is not a SHA-256"},
		{"the secret for the name", good + canary + " " + hashOf("b"), "line 2: the name begins like a key"},
		{"the secret alone", "\n\n" + canary, "line 3: it has 1 words"},
		{"a third word", good + "bob " + hashOf("b") + " " + canary, "line 2: it has 3 words"},
		{"a short hash", "bob " + hashOf("b")[1:], "line 1: the second word"},
		{"a long hash", "bob " + hashOf("b") + "00", "line 1: the second word"},
		{"no hash of anything", "bob " + hashOf(""), "line 1: the hash is that of an empty key"},
		{"the same key twice", good + "bob " + hashOf("b") + "\n\ncarol " + strings.ToUpper(hashOf("a")), "line 4: the key of line 1 again"},
		{"a strange name", "b\u00f6b " + hashOf("b"), "line 1: the name is made of letters"},
		{"a name that is an option", "-bob " + hashOf("b"), "line 1: the name is made of letters"},
		{"a path for a name", "../bob " + hashOf("b"), "line 1: the name is made of letters"},
		{"a long name", strings.Repeat("b", 65) + " " + hashOf("b"), "line 1: the name is longer than 64 bytes"},
		{"a byte order mark", "\ufeffalice " + hashOf("b"), "line 1: the name is made of letters"},
		{"a long line", good + "bob " + strings.Repeat("x", 1<<20), "line 2: the second word"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, err := Parse(c.text)
			if err == nil || k != nil {
				t.Fatalf("accepted: %v", k)
			}
			if !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %q, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), "CANARY") || strings.Contains(err.Error(), hashOf("b")[:8]) || len(err.Error()) > 200 {
				t.Errorf("the error repeats what is in the line: %s", err)
			}
		})
	}
}

func TestParse_EmptyFileIsAnError(t *testing.T) {
	for _, text := range []string{"", "\n", "# nobody\n\n"} {
		if _, err := Parse(text); !errors.Is(err, ErrEmpty) {
			t.Errorf("%q: %v, want ErrEmpty", text, err)
		}
	}
}

func TestNew_MakesALineForItsSecret(t *testing.T) {
	seen := map[string]bool{}
	for i := range 100 {
		name := fmt.Sprintf("team-%d@example.com", i)
		line, secret, err := New(name)
		if err != nil {
			t.Fatal(err)
		}
		if seen[secret] || len(secret) != len("sk-")+26 || !strings.HasPrefix(secret, "sk-") || strings.Contains(line, secret) {
			t.Errorf("a strange key: %q of %d bytes", line, len(secret))
		}
		seen[secret] = true
		k, err := Parse("# before\n" + line + "\n")
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := k.Lookup(secret); !ok || got != name {
			t.Errorf("the key of %s is that of %q", name, got)
		}
	}
	for _, name := range []string{"", "a b", "a\nb", "-a", "sk-a", "a#\u00e9", strings.Repeat("a", 65)} {
		if line, secret, err := New(name); err == nil || line != "" || secret != "" {
			t.Errorf("New(%q) = %q, want an error", name, line)
		}
	}
}

// Whatever is read, a secret is found only if its hash stands in a line of its own, and errors
// repeat nothing long.
func FuzzParse(f *testing.F) {
	f.Add("alice "+hashOf("a")+"\nbob "+hashOf("b"), "a")
	f.Add("# x\r\n\r\nalice\t"+strings.ToUpper(hashOf("a")), "a")
	f.Add("alice "+hashOf("")+"\n", "")
	f.Add("alice "+hashOf("a")+"\x00", "a")
	f.Add("alice "+canary, canary)
	f.Fuzz(func(t *testing.T, text, secret string) {
		k, err := Parse(text)
		if err != nil {
			if len(err.Error()) > 200 {
				t.Errorf("a long error: %s", err)
			}
			return
		}
		name, ok := k.Lookup(secret)
		if ok && !strings.Contains(strings.ToLower(text), hashOf(secret)) {
			t.Errorf("%q is said to be a key of %s", secret, name)
		}
		if ok && checkName(name) != nil {
			t.Errorf("a strange name %q", name)
		}
		// What was read can be written and read again.
		var again strings.Builder
		for _, e := range k.entries {
			fmt.Fprintf(&again, "%s %x\n", e.name, e.hash)
		}
		if same, err := Parse(again.String()); err != nil || same.Len() != k.Len() {
			t.Errorf("read again: %v", err)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "n%d %s\n", i, hashOf(fmt.Sprint(i)))
		}
		k, err := Parse(text.String())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				k.Lookup(canary)
			}
		})
	}
}
