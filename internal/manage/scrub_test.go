package manage

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// The words are those of recorded answers of Ollama 0.24.0 (goldens models and pull), of Go's
// errors, and of its sources.
func TestScrub_LeavesNoPathAndNoAddress(t *testing.T) {
	for name, tc := range map[string]struct{ said, want string }{
		"blob":       {"open /var/lib/ollama/models/blobs/sha256-0000: no such file or directory", "no such file or directory"},
		"manifest":   {"open /var/lib/ollama/models/manifests/127.0.0.1:9/library/nope/latest: no such file or directory", "no such file or directory"},
		"refused":    {`pull model manifest: Get "http://127.0.0.1:9/v2/library/x/manifests/latest": dial tcp 127.0.0.1:9: connect: connection refused`, "pull model manifest: connect: connection refused"},
		"refused 6":  {`Get "https://[::1]:9/v2/": dial tcp [::1]:9: connect: connection refused`, "connect: connection refused"},
		"no host":    {`pull model manifest: Get "https://reg.corp.example/v2/a/manifests/b": dial tcp: lookup reg.corp.example on 10.1.2.3:53: no such host`, "pull model manifest: no such host"},
		"timeout":    {`Get "https://r/v2/": dial tcp 10.0.0.1:443: i/o timeout`, "i/o timeout"},
		"reset":      {"read tcp 10.0.0.7:51234->104.21.75.227:443: read: connection reset by peer", "read: connection reset by peer"},
		"proxy":      {`Get "https://r/": proxyconnect tcp: dial tcp 10.9.9.9:3128: connect: no route to host`, "connect: no route to host"},
		"space":      {"write /mnt/models/blobs/sha256-ab-partial: no space left on device", "no space left on device"},
		"permission": {"mkdir /usr/share/ollama/.ollama: permission denied: ensure path elements are traversable", "permission denied: ensure path elements are traversable"},
		"two paths":  {"rename /a/b /c/d: file exists", "file exists"},
		"windows":    {`open C:\Users\joe\.ollama\models\manifests: Access is denied.`, "Access is denied."},
		"path alone": {"blob at /home/joe/.ollama is bad", "blob at ... is bad"},
		"home":       {"see ~/.ollama/logs/server.log", "see ..."},
		"relative":   {"cannot use ../../secret/x", "cannot use ..."},
		"url":        {"max retries exceeded: https://dd20bb891979d25aebc8bec07b2b3bbc.r2.cloudflarestorage.com/x?sig=abc", "max retries exceeded: ..."},
		"host alone": {"cannot resolve gpu7.corp.example:11434 now", "cannot resolve ... now"},
		"local":      {"cannot reach localhost", "cannot reach ..."},
		"ipv6":       {"peer fe80::1%eth0 left, so did 2001:db8:0:1:2:3:4:5", "peer ... left, so did ..."},
		"lines":      {"one\ntwo\x00three", "one two three"},

		"digest":        {`digest mismatch, expected "sha256:11", got "sha256:22"`, `digest mismatch, expected "sha256:11", got "sha256:22"`},
		"layer":         {"using existing layer sha256:2d761494b8e5ab5def14809cc2f43ad35a47c0263a22d7d7efe53c82d1256ba4", "using existing layer sha256:2d761494b8e5ab5def14809cc2f43ad35a47c0263a22d7d7efe53c82d1256ba4"},
		"pulling":       {"pulling c54460c78625", "pulling c54460c78625"},
		"missing":       {"pull model manifest: file does not exist", "pull model manifest: file does not exist"},
		"gguf":          {"supplied file was not in GGUF format", "supplied file was not in GGUF format"},
		"template":      {"template error: template: :1: unclosed action", "template error: template: :1: unclosed action"},
		"not found":     {"model 'me/tiny:v2' not found", "model 'me/tiny:v2' not found"},
		"quoted":        {`model "nope" not found`, `model "nope" not found`},
		"version":       {"requires Ollama 0.24.0 or newer", "requires Ollama 0.24.0 or newer"},
		"manifest left": {"couldn't retrieve manifest", "couldn't retrieve manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Scrub(tc.said); got != tc.want {
				t.Errorf("%q\n got %q\nwant %q", tc.said, got, tc.want)
			}
		})
	}
}

var (
	anyURL     = regexp.MustCompile(`[a-zA-Z]+://[^\s"'<>.]`)
	anyPath    = regexp.MustCompile(`(^|\s)/\w`)
	anyWindows = regexp.MustCompile(`(^|\s)[A-Za-z]:\\\w`)
	anyIPv4    = regexp.MustCompile(`(^|\s)\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(\s|$|:\d)`)
)

func FuzzScrub(f *testing.F) {
	for _, said := range []string{
		"open /a/b: x", `Get "http://10.0.0.1/": dial tcp 10.0.0.1:80: y`, "rename /a /b: z", "lookup h on [fe80::1%x]:53: no", "10.0.0.1 /x http://y",
	} {
		f.Add(said)
	}
	f.Fuzz(func(t *testing.T, said string) {
		got := Scrub(said)
		if len(got) > textLimit || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x00") {
			t.Fatalf("%q gave %q", said, got)
		}
		for _, leak := range []*regexp.Regexp{anyURL, anyPath, anyWindows, anyIPv4} {
			if found := leak.FindString(got); found != "" {
				t.Fatalf("%q gave %q, which has %q", said, got, found)
			}
		}
		for word := range strings.FieldsSeq(got) {
			if a, err := netip.ParseAddr(word); err == nil {
				t.Fatalf("%q gave %q, which has the address %s", said, got, a)
			}
		}
	})
}
