package caddymodule

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func TestParseNodeURL(t *testing.T) {
	for _, test := range []struct{ address, want string }{
		{"http://10.0.0.1:11434", "http://10.0.0.1:11434"},
		{"https://10.0.0.1", "https://10.0.0.1:11434"},
		{"HTTP://Big.Example.com/", "http://big.example.com:11434"},
		{"big", "http://big:11434"},
		{"big:80", "http://big:80"},
		{"[::1]:80", "http://[::1]:80"},
		{"::1", "http://[::1]:11434"},
		{"[::1]", "http://[::1]:11434"},
		{"localhost", "http://localhost:11434"},
	} {
		u, err := parseNodeURL(test.address)
		if err != nil || u.String() != test.want {
			t.Errorf("%q: got %v, %v, want %s", test.address, u, err, test.want)
		}
	}
	for _, address := range []string{
		"", " ", ":80", "http://", "http://:80", "ftp://x", "unix//run/x", "http://x/api", "http://x?", "http://x#f", "http://u@x",
		"http://u:p@x", "x:0", "x:65536", "x:http", "http://x:", "http://a b",
	} {
		if u, err := parseNodeURL(address); err == nil && address != "http://x:" {
			t.Errorf("%q: got %s, want an error", address, u)
		} else if err != nil && strings.Contains(err.Error(), "u:p") {
			t.Errorf("%q: the error shows a password: %v", address, err)
		}
	}
}

func TestResolveNodes_RefusesWithSentence(t *testing.T) {
	t.Setenv("EMPTY", "")
	t.Setenv("LINES", "a\nb")
	for _, test := range []struct {
		name  string
		nodes []*Node
		want  string
	}{
		{"null", []*Node{nil}, "node 1: it is null; give it a url"},
		{"no url", []*Node{{Name: "a"}}, "node a: a node needs an address, as in http://10.0.0.1:11434"},
		{"same address", []*Node{{URL: "a"}, {URL: "http://A:11434"}}, "node a:11434: a:11434 is the address of node a:11434 already; name each server once"},
		{"same name", []*Node{{URL: "a", Name: "x"}, {URL: "b", Name: "x"}}, "node x: there is another node of this name; give each its own"},
		{"negative slots", []*Node{{URL: "a", Slots: -1}}, "slots must be between 1 and 1024, not -1"},
		{"unset placeholder", []*Node{{URL: "a", Headers: map[string]string{"X-Key": "{env.NO_SUCH_VARIABLE}"}}}, "header X-Key: evaluated placeholder {env.NO_SUCH_VARIABLE} is empty"},
		{"empty placeholder", []*Node{{URL: "a", Headers: map[string]string{"X-Key": "{env.EMPTY}"}}}, "header X-Key: evaluated placeholder {env.EMPTY} is empty"},
		{"missing file", []*Node{{URL: "a", Headers: map[string]string{"X-Key": "{file./none}"}}}, "header X-Key: "},
		{"unknown placeholder", []*Node{{URL: "a", Headers: map[string]string{"X-Key": "{vault.x}"}}}, "header X-Key: unrecognized placeholder {vault.x}"},
		{"line break", []*Node{{URL: "a", Headers: map[string]string{"X-Key": "{env.LINES}"}}}, "header X-Key: the value has a line break"},
		{"empty header", []*Node{{URL: "a", Headers: map[string]string{"X-Key": ""}}}, "header X-Key: the value is empty"},
		{"header twice", []*Node{{URL: "a", Headers: map[string]string{"X-Key": "a", "x-key": "b"}}}, "header X-Key is set twice"},
		{"url placeholder", []*Node{{URL: "{env.EMPTY}"}}, "url: evaluated placeholder {env.EMPTY} is empty"},
		{"tls over http", []*Node{{URL: "a", TLS: &reverseproxy.TLSConfig{}}}, "tls is for nodes reached over https"},
		{"except_ports", []*Node{{URL: "https://a", TLS: &reverseproxy.TLSConfig{ExceptPorts: []string{"80"}}}}, "except_ports has no meaning"},
		{"null preload", []*Node{{URL: "a", Preload: []*Preload{nil}}}, "preload 1: it is null; give it a model"},
		{"preload nothing", []*Node{{URL: "a", Preload: []*Preload{{}}}}, "preload needs the name of a model"},
		{"preload no name", []*Node{{URL: "a", Preload: []*Preload{{Model: "a b"}}}}, `"a b" is not the name of a model`},
		{"preload hosted", []*Node{{URL: "a", Preload: []*Preload{{Model: "m:cloud"}}}}, `"m:cloud" runs at the hosted service`},
		{"preload twice", []*Node{{URL: "a", Preload: []*Preload{{Model: "m"}, {Model: "M:latest", NumCtx: 1}}}}, "the node keeps M:latest loaded already"},
		{"preload negative", []*Node{{URL: "a", Preload: []*Preload{{Model: "m", NumCtx: -1}}}}, "preload m: num_ctx must not be negative"},
		{"preload threads", []*Node{{URL: "a", Preload: []*Preload{{Model: "m", NumThread: 513}}}}, "num_thread must be between 1 and 512, not 513"},
		{"negative handshake", []*Node{{URL: "https://a", TLS: &reverseproxy.TLSConfig{HandshakeTimeout: -1}}}, "handshake_timeout must not be negative"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := resolveNodes(test.nodes); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestResolveNodes_FillsIn(t *testing.T) {
	t.Setenv("SPARE", "spare:1234")
	nodes, err := resolveNodes([]*Node{{URL: "a"}, {URL: "{env.SPARE}", Slots: 3}})
	if err != nil {
		t.Fatal(err)
	}
	if n := nodes[0]; n.name != "a:11434" || n.slots != 1 || n.tls != nil {
		t.Errorf("got %+v", n)
	}
	if n := nodes[1]; n.name != "spare:1234" || n.slots != 3 || n.url.String() != "http://spare:1234" {
		t.Errorf("got %+v", n)
	}
	if nodes, err = resolveNodes(nil); err != nil || len(nodes) != 1 || nodes[0].url.String() != defaultNode {
		t.Errorf("no nodes: got %v, %v", nodes, err)
	}
}

func TestResolveNodes_PreloadsAsTheQueueTakesThem(t *testing.T) {
	none, off := 0, false
	nodes, err := resolveNodes([]*Node{{URL: "a", Name: "big", Preload: []*Preload{
		{Model: "Llama3"}, {Model: "team/m:8b", NumCtx: 8192, NumGPU: &none, UseMmap: &off},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []schedule.Preload{
		{Node: "big", Model: "registry.ollama.ai/library/llama3:latest"},
		{Node: "big", Model: "registry.ollama.ai/team/m:8b", Options: wire.RunnerOptions{
			NumCtx: wire.OptionalInt{Value: 8192, Set: true}, NumGPU: wire.OptionalInt{Set: true}, UseMMap: wire.OptionalBool{Set: true},
		}},
	}
	if diff := cmp.Diff(want, nodes[0].preloads); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestApp_RefusesImpossibleSettings(t *testing.T) {
	two := 2
	for _, test := range []struct {
		app  App
		want string
	}{
		{App{Health: &Health{Interval: -1}}, "health: interval must not be negative"},
		{App{Health: &Health{Fails: -1}}, "health: fails must not be negative"},
		{App{Queue: &Queue{MaxWait: -1}}, "queue: max_wait must not be negative"},
		{App{Limits: &Limits{Body: 2 << 30}}, "limits: body (2147483648 bytes) is more than bodies"},
		{App{Limits: &Limits{Bodies: 1}}, "limits: body (104857600 bytes) is more than bodies (1 bytes)"},
		{App{Attempts: &Attempts{TotalTimeout: 1, StallTimeout: 2}}, "attempts: stall_timeout (2ns) is longer than total_timeout (1ns)"},
		{App{Attempts: &Attempts{Retries: new(int)}}, ""},
		{App{Attempts: &Attempts{Retries: &two}}, ""},
		{App{}, ""},
	} {
		_, err := test.app.config()
		switch {
		case test.want == "" && err != nil:
			t.Errorf("got %v", err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
}

func TestApp_NoRetriesAreNotTheDefault(t *testing.T) {
	none := App{Attempts: &Attempts{Retries: new(int)}}
	c, err := none.config()
	if err != nil || c.Attempts.Retries >= 0 {
		t.Errorf("got %d, %v, want a negative number, which is none", c.Attempts.Retries, err)
	}
}

// keyPair writes a certificate and its key and gives the files.
func keyPair(t testing.TB) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"gateway"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("cert.pem", "CERTIFICATE", raw), write("key.pem", "PRIVATE KEY", encoded)
}
