package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
)

const (
	// defaultNode is the node of a configuration that names none.
	defaultNode = "http://127.0.0.1:11434"
	// defaultNodePort is the port an Ollama server listens on unless told otherwise.
	defaultNodePort = "11434"

	// maxSlots bounds typing errors: it is far beyond what a GPU does at once.
	maxSlots = 1024
)

// Node is one Ollama server.
type Node struct {
	// What the node is called in logs, metrics and the admin API.
	// Default: the host and port of its URL.
	Name string `json:"name,omitempty"`

	// Where the node listens: scheme, host and port, without a path. The scheme defaults to
	// `http`, the port to `11434` whatever the scheme is. Placeholders such as `{env.X}` are
	// replaced when the configuration is loaded.
	URL string `json:"url,omitempty"`

	// How many answers the node gives at once for one model: its own `OLLAMA_NUM_PARALLEL`.
	// Further requests wait in the gateway's queue. Default: 1.
	Slots int `json:"slots,omitempty"`

	// How to trust an `https` node, and how to be trusted by it. The fields are those of
	// `reverse_proxy`'s HTTP transport. Default: the system's certificate authorities, the
	// host of the URL, and 10s for the handshake. Placeholders in `server_name`,
	// `client_certificate_file` and `client_certificate_key_file` are replaced when the
	// configuration is loaded.
	TLS *reverseproxy.TLSConfig `json:"tls,omitempty"`

	// Header fields set on every request to this node, such as a bearer token. Placeholders
	// in values are replaced when the configuration is loaded, so that a secret written as
	// `{env.X}` or `{file./path}` stays out of saved configurations. A placeholder that is
	// unset or empty is an error.
	Headers map[string]string `json:"headers,omitempty"`

	// Models that are kept loaded on this node. Default: none.
	Preload []*Preload `json:"preload,omitempty"`
}

// A resolvedNode is a checked Node with defaults filled in and placeholders replaced. It
// holds secrets and is never written anywhere.
type resolvedNode struct {
	name     string
	url      *url.URL
	slots    int
	tls      *reverseproxy.TLSConfig
	headers  http.Header
	preloads []schedule.Preload
}

// resolveNodes checks nodes each by itself and all together.
func resolveNodes(nodes []*Node) ([]*resolvedNode, error) {
	if len(nodes) == 0 {
		nodes = []*Node{{URL: defaultNode}}
	}
	var resolved []*resolvedNode
	for i, n := range nodes {
		if n == nil {
			return nil, fmt.Errorf("node %d: it is null; give it a url", i+1)
		}
		r, err := n.resolve()
		if err != nil {
			which := n.Name
			if which == "" {
				which = strconv.Itoa(i + 1)
			}
			return nil, fmt.Errorf("node %s: %w", which, err)
		}
		for _, other := range resolved {
			if err := r.clash(other); err != nil {
				return nil, err
			}
		}
		resolved = append(resolved, r)
	}
	return resolved, nil
}

// resolve checks the node and replaces its placeholders.
func (n *Node) resolve() (*resolvedNode, error) {
	repl := caddy.NewReplacer()
	address, err := repl.ReplaceOrErr(n.URL, true, true)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	u, err := parseNodeURL(address)
	if err != nil {
		return nil, err
	}
	r := &resolvedNode{name: n.Name, url: u, slots: n.Slots, headers: http.Header{}}
	if r.name == "" {
		r.name = u.Host
	}
	if err := checkNodeName(r.name); err != nil {
		return nil, err
	}
	switch {
	case r.slots == 0:
		r.slots = 1
	case r.slots < 0 || r.slots > maxSlots:
		return nil, fmt.Errorf("slots must be between 1 and %d, not %d", maxSlots, r.slots)
	}
	for _, name := range slices.Sorted(maps.Keys(n.Headers)) {
		value := n.Headers[name]
		if err := checkNodeHeader(name); err != nil {
			return nil, err
		}
		if _, twice := r.headers[http.CanonicalHeaderKey(name)]; twice {
			return nil, fmt.Errorf("header %s is set twice", http.CanonicalHeaderKey(name))
		}
		// Errors name the placeholder, never the value.
		if value, err = repl.ReplaceOrErr(value, true, true); err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		if err := checkHeaderValue(value); err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		r.headers.Set(name, value)
	}
	if r.preloads, err = resolvePreloads(r.name, n.Preload); err != nil {
		return nil, err
	}
	if n.TLS == nil {
		return r, nil
	}
	if r.tls, err = resolveTLS(repl, n.TLS); err != nil {
		return nil, err
	}
	if u.Scheme != "https" {
		return nil, errTLSWithoutHTTPS
	}
	return r, nil
}

// clash tells what two nodes must not share. One server under two schemes would be counted
// twice all the same.
func (n *resolvedNode) clash(other *resolvedNode) error {
	switch {
	case n.url.Host == other.url.Host:
		return fmt.Errorf("node %s: %s is the address of node %s already; name each server once", n.name, n.url.Host, other.name)
	case n.name == other.name:
		return fmt.Errorf("node %s: there is another node of this name; give each its own", n.name)
	}
	return nil
}

// config is the node as the engine takes it.
func (n *resolvedNode) config(transport http.RoundTripper, key string) fleet.NodeConfig {
	return fleet.NodeConfig{Name: n.name, URL: n.url, Slots: n.slots, Transport: transport, Key: key}
}

// parseNodeURL reads a node's address: a URL without path, host:port, or a host alone. The
// URL it returns has a scheme, a lower-case host and a port, and nothing else.
func parseNodeURL(address string) (*url.URL, error) {
	if address == "" {
		return nil, errors.New("a node needs an address, as in http://10.0.0.1:11434")
	}
	text := address
	if !strings.Contains(text, "://") {
		if ip, err := netip.ParseAddr(text); err == nil && ip.Is6() {
			text = "[" + text + "]"
		}
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err // its own text would repeat a password that somebody put in
		}
		return nil, fmt.Errorf("the address of a node looks like http://10.0.0.1:11434: %w", err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("unrecognized scheme %q; a node is reached over http:// or https://", u.Scheme)
	case u.User != nil:
		return nil, errors.New("a node's URL has no user or password; write: header Authorization \"Basic {env.X}\"")
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q names no host; write it as in 127.0.0.1:11434", address)
	case u.Path != "" && u.Path != "/":
		return nil, fmt.Errorf("a node's URL has no path; leave out %q", u.Path)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("a node's URL has no query or fragment; leave out what follows the port")
	}
	port := u.Port()
	if port == "" {
		port = defaultNodePort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("port %s does not exist; use one between 1 and 65535", port)
	}
	return &url.URL{Scheme: u.Scheme, Host: net.JoinHostPort(strings.ToLower(u.Hostname()), port)}, nil
}

// checkNodeName keeps names such that they can stand in a log line and a metric's label.
func checkNodeName(name string) error {
	odd := func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsGraphic(r) || r == '"' || r == '{' || r == '}'
	}
	switch {
	case name == "":
		return errors.New("a node's name is not empty")
	case len(name) > 253: // a host name's own limit, for the default
		return errors.New("a node's name is at most 253 bytes long")
	case strings.ContainsFunc(name, odd):
		return fmt.Errorf("node name %q: leave out blanks, quotes and braces", name)
	}
	return nil
}

// ownHeaders are set by the gateway or by HTTP itself.
var ownHeaders = []string{
	"Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Via",
}

func checkNodeHeader(name string) error {
	canonical := http.CanonicalHeaderKey(name)
	switch {
	case !isToken(name):
		return fmt.Errorf("header %q is not a header name; use letters, digits and dashes", name)
	case canonical == "Host":
		return errors.New("header Host is always the node's own; write the name into the node's URL")
	case slices.Contains(ownHeaders, canonical):
		return fmt.Errorf("header %s is the gateway's own; leave it out", canonical)
	}
	return nil
}

// checkHeaderValue does not repeat the value, which may be a secret.
func checkHeaderValue(value string) error {
	control := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
	switch {
	case strings.TrimSpace(value) == "":
		return errors.New("the value is empty")
	case strings.ContainsFunc(value, control):
		return errors.New("the value has a line break or another control character in it")
	}
	return nil
}

// isToken tells whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r >= 0x80 || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}
