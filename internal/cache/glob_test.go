package cache

import (
	"strings"
	"testing"
	"unicode"
)

func TestGlob_MatchesTheWholeTextInAnyCase(t *testing.T) {
	for _, test := range []struct {
		name, glob, text string
		want             bool
	}{
		{"nothing", "", "", true},
		{"nothing, some text", "", "a", false},
		{"star, nothing", "*", "", true},
		{"stars", "***", "any\nthing/at all", true},
		{"the founding rule", "*urgent*", "This is URGENT!", true},
		{"the founding rule, alone", "*urgent*", "urgent", true},
		{"not there", "*urgent*", "urgen t", false},
		{"line breaks", "a*z", "a\n\r\nz", true},
		{"slashes", "*b", "a/b", true},
		{"not from the beginning", "b*", "ab", false},
		{"not to the end", "*a", "ab", false},
		{"goes back", "*ab", "aab", true},
		{"goes back twice", "*abc*abd", "ababcabcababd", true},
		{"one character", "?", "é", true},
		{"one character, none", "?", "", false},
		{"one character, two", "?", "ab", false},
		{"no class", "[ab]", "a", false},
		{"class as it stands", "[ab]", "[AB]", true},
		{"no escape", `\*`, `\x`, true},
		{"other letters", "*ÄRGER*", "viel ärger", true},
		{"sharp s is no ss", "straße", "STRASSE", false},
		{"kelvin", "*kelvin*", "0 \u212Aelvin", true},
		{"kelvin in the glob", "\u212Aelvin", "kelvin", true},
		{"long s behind a star", "*sun", "the \u017Fun", true},
		{"greek has three sigmas", "ΟΔΟΣ", "οδος", true},
		{"bad text", "a?b", "a\xffb", true},
		{"star before nothing more", "a*", "a", true},
		{"a rest that is too short", "*abc", "bc", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := matchGlob(test.glob, test.text); got != test.want {
				t.Errorf("matchGlob(%q, %q) = %v, want %v", test.glob, test.text, got, test.want)
			}
		})
	}
}

func TestGlob_ModelWithoutTagIsEveryTag(t *testing.T) {
	for _, test := range []struct {
		glob, model string
		want        bool
	}{
		{"llama3", "llama3:latest", true},
		{"llama3", "llama3:8b", true},
		{"LLama3", "llama3:8b", true},
		{"llama3:8b", "llama3:latest", false},
		{"llama*", "llama3:8b", true},
		{"*-vision", "llama3-vision:11b", true},
		{"*", "llama3:8b", true},
		{"*", "team/llama3:8b", false},
		{"team/*", "team/llama3:8b", true},
		{"llama3", "team/llama3:8b", false},
		{"localhost:5000/team/llama3", "localhost:5000/team/llama3:8b", true},
		{"localhost", "localhost:5000/team/llama3:8b", false},
		{"llama[34]", "llama4:latest", true},
	} {
		if got := MatchModel(test.glob, test.model); got != test.want {
			t.Errorf("MatchModel(%q, %q) = %v, want %v", test.glob, test.model, got, test.want)
		}
	}
}

func TestGlob_CoversWhatItCertainlyMatches(t *testing.T) {
	for _, test := range []struct {
		a, b   string
		text   bool
		models bool
	}{
		{"*", "a*", true, true},
		{"a*", "*", false, false},
		{"A*", "ab*", true, true},
		{"*a*", "*ba", true, true},
		{"a?", "a*", false, false},
		{"a*", "a?", true, true},
		{"a?", "ab", true, true},
		{"a?", "A?", true, true},
		{"*", "team/a", true, false},
		{"llama3", "llama3:8b", false, true},
		{"llama3:8b", "llama3", false, false},
		{"llama3*", "llama3:*", true, true},
		{"[ab]", "a", false, false}, // not worth the trouble
		{"team/*", "team/a:8b", true, true},
	} {
		if got := globCovers(test.a, test.b); got != test.text {
			t.Errorf("globCovers(%q, %q) = %v, want %v", test.a, test.b, got, test.text)
		}
		if got := modelCovers(test.a, test.b); got != test.models {
			t.Errorf("modelCovers(%q, %q) = %v, want %v", test.a, test.b, got, test.models)
		}
	}
}

// naive says by recursion what a glob means.
func naive(glob, text []rune) bool {
	switch {
	case len(glob) == 0:
		return len(text) == 0
	case glob[0] == '*':
		return naive(glob[1:], text) || len(text) > 0 && naive(glob, text[1:])
	case len(text) == 0:
		return false
	}
	same := strings.EqualFold(string(glob[0]), string(text[0]))
	return (glob[0] == '?' || same) && naive(glob[1:], text[1:])
}

func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{
		{"*urgent*", "so URGENT"},
		{"a*b?c", "aXXbYc"},
		{"*\u212A*", "kkk"},
		{"*s?*", "\u017F\xff"},
		{"**a*", "\n/a"},
		{"*é*e", "éée"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, glob, text string) {
		if len(glob) > 12 || len(text) > 24 {
			return
		}
		want := naive([]rune(glob), []rune(text))
		if got := matchGlob(glob, text); got != want {
			t.Errorf("matchGlob(%q, %q) = %v, want %v", glob, text, got, want)
		}
		// What one glob covers, it matches.
		if globCovers(glob, text) && naive([]rune(text), []rune("a*a?b")) && !naive([]rune(glob), []rune("a*a?b")) {
			t.Errorf("%q does not cover %q", glob, text)
		}
	})
}

// Models are short names, so a few letters tell all there is to tell.
func FuzzModelCovers(f *testing.F) {
	for _, seed := range [][3]string{{"a*", "ab:*", "ab:c"}, {"a", "a:b", "a:b"}, {"*/a", "b/*:c", "b/a:c"}, {"*:*", "a", "a:b"}, {"a:1/b", "a:1/b:*", "a:1/b:c"}} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, a, b, name string) {
		after := name[strings.LastIndexByte(name, '/')+1:]
		if strings.Count(after, ":") != 1 || strings.ContainsFunc(name, unicode.IsUpper) {
			return // a normalised name has one tag
		}
		if modelCovers(a, b) && MatchModel(b, name) && !MatchModel(a, name) {
			t.Errorf("%q does not cover %q: %q", a, b, name)
		}
	})
}

func TestGlob_AllocatesNothing(t *testing.T) {
	text := strings.Repeat("This is a long prompt. ", 100)
	if n := testing.AllocsPerRun(100, func() {
		matchGlob("*urgent*", text)
		MatchModel("llama3*", "qwen3:8b")
	}); n != 0 {
		t.Errorf("%v allocations a match, want none", n)
	}
}

func BenchmarkGlob(b *testing.B) {
	for name, text := range map[string]string{
		"plain":  strings.Repeat("There is nothing of that kind to be found here. ", 20000),
		"almost": strings.Repeat("urgenurgenurgen", 64000),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if matchGlob("*urgent*", text) {
					b.Fatal("it is not there")
				}
			}
		})
	}
}
