package caddymodule

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// upNodes are the nodes that `up` serves.
type upNodes struct {
	nodes  []upNode
	origin string // who named them: --node, OLLAMA_NODES, OLLAMA_HOST; empty when nobody did
	slots  int    // 0: not said
}

// An upNode is a node as `up` writes it into its Caddyfile.
type upNode struct {
	URL  *url.URL // scheme, host and port
	Name string   // empty: the gateway names it after its address
}

// findNodes takes the nodes from the flags, else from OLLAMA_NODES, else from OLLAMA_HOST,
// else names Ollama's own default address. The first source that says something decides.
func findNodes(flags []string, getenv func(string) string) (upNodes, error) {
	found, err := namedNodes(flags, getenv)
	if err != nil {
		return upNodes{}, err
	}
	if text := ollamaVar(getenv, "OLLAMA_NUM_PARALLEL"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxSlots {
			return upNodes{}, fmt.Errorf("OLLAMA_NUM_PARALLEL is %q; it must be a number of slots, as in OLLAMA_NUM_PARALLEL=4", text)
		}
		found.slots = n // 0 leaves it to the default, as at a node
	}
	return found, nil
}

func namedNodes(flags []string, getenv func(string) string) (upNodes, error) {
	if len(flags) > 0 {
		return parseNodes("--node", flags)
	}
	list := strings.FieldsFunc(ollamaVar(getenv, "OLLAMA_NODES"), func(r rune) bool {
		return r == ',' || r == ' ' || r == '\t' || r == '\n'
	})
	if len(list) > 0 {
		return parseNodes("OLLAMA_NODES", list)
	}
	host := ollamaVar(getenv, "OLLAMA_HOST")
	n, err := parseOllamaHost(host)
	if err != nil {
		return upNodes{}, fmt.Errorf("OLLAMA_HOST: %w", err)
	}
	found := upNodes{nodes: []upNode{n}}
	if host != "" {
		found.origin = "OLLAMA_HOST"
	}
	return found, nil
}

// ollamaVar reads a variable as Ollama does: without blanks and quotes around it.
func ollamaVar(getenv func(string) string, name string) string {
	return strings.Trim(strings.TrimSpace(getenv(name)), `"'`)
}

func parseNodes(origin string, list []string) (upNodes, error) {
	found := upNodes{origin: origin}
	for i, text := range list {
		n, err := parseNode(text)
		if err != nil { // the text may hold a password, so it is not repeated
			return upNodes{}, fmt.Errorf("%s, node %d: %w", origin, i+1, err)
		}
		found.nodes = append(found.nodes, n)
	}
	return found, nil
}

// parseNode reads a node as the Caddyfile does.
func parseNode(text string) (upNode, error) {
	u, err := parseNodeURL(strings.TrimSpace(text))
	if err != nil {
		return upNode{}, err
	}
	return upNode{URL: connectable(u)}, nil
}

// parseOllamaHost reads OLLAMA_HOST as Ollama's own client does: all parts may be missing, and
// a scheme brings that scheme's port.
func parseOllamaHost(text string) (upNode, error) {
	defaultPort := defaultNodePort
	scheme, hostport, ok := strings.Cut(text, "://")
	switch {
	case !ok:
		scheme, hostport = "http", text
	case scheme == "http":
		defaultPort = "80"
	case scheme == "https":
		defaultPort = "443"
	default:
		return upNode{}, errors.New("a node is reached over http:// or https://")
	}
	hostport, path, _ := strings.Cut(hostport, "/")
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		host, port = strings.Trim(hostport, "[]"), ""
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = defaultPort
	}
	return parseNode(scheme + "://" + net.JoinHostPort(host, port) + "/" + path)
}

// connectable turns the unspecified address, where a server listens, into the loopback
// address that a client means by it.
func connectable(u *url.URL) *url.URL {
	addr, err := netip.ParseAddr(u.Hostname())
	if err != nil || !addr.IsUnspecified() {
		return u
	}
	return &url.URL{Scheme: u.Scheme, Host: net.JoinHostPort(loopback(addr).String(), u.Port())}
}
