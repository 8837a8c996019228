package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-ollama/caddy-ollama/internal/transport"
)

const (
	// minIdleConns is how many idle connections a node may keep at least: Go's default of two
	// would close most connections of a busy node, only to dial anew.
	minIdleConns = 64

	// defaultHandshakeTimeout is that of net/http's own default transport.
	defaultHandshakeTimeout = 10 * time.Second
)

// Impossible pairs.
var (
	errTLSWithoutHTTPS = errors.New("tls is for nodes reached over https; write https:// before the host, or leave tls out")
	errTrustAndSkip    = errors.New("tls: insecure_skip_verify and trusted authorities contradict each other; leave one out")
)

// transports outlives configurations, so that connections to nodes do. Keys are made of
// everything that makes one transport differ from another.
var transports = caddy.NewUsagePool()

// A nodeTransport is the pooled way to one node. It is safe for concurrent use and works on
// after its Destruct, for requests that are still running: it just keeps nothing idle.
type nodeTransport struct {
	*transport.Transport
	headers http.Header
}

// RoundTrip sends a request with the node's own headers. They are set on a copy: what the
// engine holds, and may log, has no secret in it.
func (t *nodeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if len(t.headers) == 0 {
		return t.Transport.RoundTrip(r)
	}
	sent := r.Clone(r.Context())
	for name, values := range t.headers {
		sent.Header[name] = values
	}
	return t.Transport.RoundTrip(sent)
}

// Destruct implements caddy.Destructor.
func (t *nodeTransport) Destruct() error {
	t.CloseIdleConnections()
	return nil
}

// loadTransport takes a reference on the transport with a node's settings, and gives the
// pool's key with it.
func loadTransport(ctx caddy.Context, n *resolvedNode, dialTimeout time.Duration) (http.RoundTripper, string, error) {
	settings := transportSettings(n, dialTimeout)
	key, err := transportKey(n, settings)
	if err != nil {
		return nil, "", err
	}
	// Made even if the pool has it: it costs nothing yet, and what a configuration must do for
	// its TLS (load a module, have a client certificate managed) is then done for this one too.
	made, err := settings.NewTransport(ctx)
	if err != nil {
		return nil, "", err
	}
	// Caddy's transport itself is not used, only what it knows of dialling and TLS.
	pooled, _, err := transports.LoadOrNew(key, func() (caddy.Destructor, error) {
		return &nodeTransport{Transport: transport.New(transport.Options{
			Dial:             made.DialContext,
			TLS:              made.TLSClientConfig,
			HandshakeTimeout: made.TLSHandshakeTimeout,
			MaxIdle:          settings.KeepAlive.MaxIdleConnsPerHost,
		}), headers: n.headers}, nil
	})
	if err != nil {
		return nil, "", err
	}
	return pooled.(*nodeTransport), key, nil
}

// transportSettings are Caddy's own, as far as a node needs them. Waiting for a response is
// limited where the try is made, not here: a cold load takes minutes.
func transportSettings(n *resolvedNode, dialTimeout time.Duration) *reverseproxy.HTTPTransport {
	t := &reverseproxy.HTTPTransport{
		DialTimeout: caddy.Duration(dialTimeout),
		KeepAlive:   &reverseproxy.KeepAlive{MaxIdleConnsPerHost: max(minIdleConns, 4*n.slots)},
		// A connection a call: on a shared one a fault, or a reader that pauses, would hit all.
		Versions: []string{"1.1"},
	}
	if n.url.Scheme == "https" {
		t.TLS = new(reverseproxy.TLSConfig)
		if n.tls != nil {
			*t.TLS = *n.tls
		}
		if t.TLS.HandshakeTimeout == 0 {
			t.TLS.HandshakeTimeout = caddy.Duration(defaultHandshakeTimeout)
		}
	}
	return t
}

// transportKey is the JSON of all settings. Secret headers and the contents of certificate
// files are in it as a hash: a forced reload takes up a certificate that was renewed in place.
func transportKey(n *resolvedNode, settings *reverseproxy.HTTPTransport) (string, error) {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(n.headers)) {
		writeField(sum, []byte(name))
		for _, value := range n.headers[name] {
			writeField(sum, []byte(value))
		}
	}
	for _, file := range certificateFiles(settings.TLS) {
		pem, _ := os.ReadFile(file) // a missing one is told of when the transport is made
		writeField(sum, []byte(file))
		writeField(sum, pem)
	}
	key, err := json.Marshal(struct {
		URL      string                      `json:"url"`
		Settings *reverseproxy.HTTPTransport `json:"settings"`
		Hidden   string                      `json:"hidden"`
	}{n.url.String(), settings, hex.EncodeToString(sum.Sum(nil))})
	return string(key), err
}

// writeField writes a length before b, so that no two lists of fields look alike.
func writeField(sum hash.Hash, b []byte) {
	fmt.Fprintf(sum, "%d:", len(b))
	sum.Write(b)
}

// certificateFiles are the files that TLS settings name.
func certificateFiles(t *reverseproxy.TLSConfig) []string {
	if t == nil {
		return nil
	}
	//lint:ignore SA1019 configurations still have it
	files := slices.Clone(t.RootCAPEMFiles)
	for _, file := range []string{t.ClientCertificateFile, t.ClientCertificateKeyFile} {
		if file != "" {
			files = append(files, file)
		}
	}
	var ca struct {
		PEMFiles []string `json:"pem_files"`
	}
	if json.Unmarshal(t.CARaw, &ca) == nil { // other providers have no such field
		files = append(files, ca.PEMFiles...)
	}
	return files
}

// resolveTLS replaces placeholders and refuses what makes no sense for one node.
func resolveTLS(repl *caddy.Replacer, t *reverseproxy.TLSConfig) (*reverseproxy.TLSConfig, error) {
	resolved := *t
	for _, field := range []struct {
		name  string
		value *string
	}{
		{"server_name", &resolved.ServerName},
		{"client_certificate_file", &resolved.ClientCertificateFile},
		{"client_certificate_key_file", &resolved.ClientCertificateKeyFile},
	} {
		replaced, err := repl.ReplaceOrErr(*field.value, true, true)
		if err != nil {
			return nil, fmt.Errorf("tls: %s: %w", field.name, err)
		}
		*field.value = replaced
	}
	switch {
	case len(t.ExceptPorts) > 0:
		return nil, errors.New("tls: except_ports has no meaning for a node, which has one port")
	case strings.ContainsAny(resolved.ServerName, "{}"):
		return nil, fmt.Errorf("tls: server_name %q is not a host name", resolved.ServerName)
	//lint:ignore SA1019 configurations still have the older two
	case t.InsecureSkipVerify && (len(t.CARaw) > 0 || len(t.RootCAPool) > 0 || len(t.RootCAPEMFiles) > 0):
		return nil, errTrustAndSkip
	case t.HandshakeTimeout < 0:
		return nil, errors.New("tls: handshake_timeout must not be negative")
	}
	return &resolved, nil
}
