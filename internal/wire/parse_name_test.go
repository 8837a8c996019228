package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"
)

// pieces are what random strings are made of, as they stand inside a JSON string.
var pieces = []string{
	"a", "K", "k", "s", "S", "\u017f", "\u212a", "é", "É", "ß", "ẞ", "σ", "ς", "Σ", "ǅ", "😀", "\xff", "\xe2\x82", "\xed\xa0\x80", "\ufffd",
	`\n`, `\"`, `\\`, `\/`, `\u0061`, `\u017F`, `\uD83D`, `\ude00`, `\ud83d\uDE00`, `\ufffd`, `\\ud83d`, "=", "+", "\n", "AAAA", "AAAAAAAA",
}

func drawPieces(t *rapid.T, label string) string {
	return strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 12).Draw(t, label), "")
}

func TestAppendText_ReadsAsTheDecoderDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := strings.ReplaceAll(drawPieces(t, "text"), "\n", "")
		quoted := []byte(`"` + s + `"`)
		var want string
		if err := json.Unmarshal(quoted, &want); err != nil {
			t.Fatalf("%s: %v", quoted, err)
		}
		if got := string(appendText(nil, []byte(s))); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
		if got, want := isClean(quoted), jsontext.Value(quoted).IsValid(); got != want {
			t.Errorf("%q: clean %v, want %v", s, got, want)
		}
	})
}

func TestAppendFolded_IsEqualWhereverTheDecoderFolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := appendText(nil, []byte(drawPieces(t, "a"))), appendText(nil, []byte(drawPieces(t, "b")))
		if rapid.Bool().Draw(t, "upper") {
			b = bytes.ToUpper(a)
		}
		if got, want := bytes.Equal(appendFolded(nil, a), appendFolded(nil, b)), bytes.EqualFold(a, b); got != want {
			t.Errorf("%q and %q: folded equal is %v, want %v", a, b, got, want)
		}
	})
}

func TestIsBase64_AgreesWithTheDecoder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := base64.StdEncoding.EncodeToString(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			at := rapid.IntRange(0, len(s)).Draw(t, "at")
			s = s[:at] + rapid.SampledFrom([]string{`\n`, `\r`, "=", "A", "AA", "-", `\/`, `\u002b`, `\u003D`, `\u0141`, "é", `\"`}).Draw(t, "insert") + s[at:]
		}
		var image []byte
		err := json.Unmarshal([]byte(`"`+s+`"`), &image)
		if _, syntax := err.(*json.SyntaxError); syntax {
			return // an escape was torn apart
		}
		if got := isBase64([]byte(s)); got != (err == nil) {
			t.Errorf("%q: got %v, a node says %v", s, got, err)
		}
	})
}
