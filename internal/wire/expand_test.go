package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

func compressed(t testing.TB, text string) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.EncodeAll([]byte(text), nil)
}

func expand(t testing.TB, r io.Reader) ([]byte, error) {
	t.Helper()
	body, err := Expand(r)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	return io.ReadAll(body)
}

func TestExpand_RefusesAsANodeDoes(t *testing.T) {
	const request = `{"model":"tiny"}`
	for name, c := range map[string]struct {
		body []byte
		want string
	}{
		"zstd":               {compressed(t, request), ""},
		"nothing":            {nil, ""},
		"several frames":     {append(compressed(t, request), compressed(t, " ")...), ""},
		"as long as allowed": {compressed(t, strings.Repeat(" ", expandedLimit)), ""},
		"a byte too long":    {compressed(t, strings.Repeat(" ", expandedLimit+1)), "http: request body too large"},
		"not zstd":           {[]byte(request), "invalid input: magic number mismatch"},
		"cut":                {compressed(t, request)[:12], "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := expand(t, bytes.NewReader(c.body))
			var bad *BadRequest
			if c.want == "" {
				if err != nil || !strings.HasPrefix(string(got), request[:min(len(got), len(request))]) && len(bytes.TrimSpace(got)) > 0 {
					t.Errorf("got %.100q, error %v", got, err)
				}
				return
			}
			if !errors.As(err, &bad) || bad.Message != c.want || bad.Status != 400 || bad.Dialect != Ollama {
				t.Errorf("error %#v, want 400 %q in the native dialect", err, c.want)
			}
		})
	}
}

func TestExpand_AClientsFaultIsNotOneOfTheEncoding(t *testing.T) {
	gone := errors.New("gone")
	half := compressed(t, strings.Repeat("text ", 1000))
	_, err := expand(t, io.MultiReader(bytes.NewReader(half[:len(half)/2]), iotest.ErrReader(gone)))
	if !errors.Is(err, gone) {
		t.Errorf("error %v, want %v", err, gone)
	}
}

func FuzzExpand(f *testing.F) {
	for _, rec := range golden.Load(f, "encoding") {
		f.Add(rec.Request.Body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := expand(t, bytes.NewReader(body))
		if len(got) > expandedLimit {
			t.Errorf("%d bytes, more than the limit", len(got))
		}
		var bad *BadRequest
		if err != nil && !errors.As(err, &bad) {
			t.Errorf("error %v is not for the client", err)
		}
	})
}
