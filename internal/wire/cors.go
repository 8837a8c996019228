package wire

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// HostAllowed tells whether a node that listens on a loopback address serves a request with
// this Host header, port or not; it answers others 403 with an empty body. That keeps out
// names which a foreign site has pointed at the loopback address. ownHostname is the name of
// the machine, "" if it is not known.
//
// A node also takes the addresses of its machine's interfaces; here they are taken only where
// they are private. An IPv6 literal without a port, which a node refuses, is taken.
func HostAllowed(host, ownHostname string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if name, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(name, "]")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback() || ip.IsPrivate() || ip.IsUnspecified()
	}
	host = strings.ToLower(host)
	switch host {
	case "", "localhost", strings.ToLower(ownHostname):
		return true
	}
	for _, domain := range [...]string{".localhost", ".local", ".internal"} {
		if strings.HasSuffix(host, domain) {
			return true
		}
	}
	return false
}

// OriginAllowed tells whether a node lets a request with this Origin header through, whatever
// the method; it answers others 403 with an empty body. sameHost says that the origin is the
// request's own Host, in which case the answer has no CORS headers. An empty origin is
// allowed and no business of CORS.
//
// The operator's own origins (OLLAMA_ORIGINS at a node) are not known here.
func OriginAllowed(origin, host string) (allowed, sameHost bool) {
	if origin == "" {
		return true, false
	}
	if origin == "http://"+host || origin == "https://"+host {
		return true, true
	}
	for _, scheme := range [...]string{"app://", "file://", "tauri://", "vscode-webview://", "vscode-file://"} {
		if strings.HasPrefix(origin, scheme) {
			return true, false
		}
	}
	rest, ok := strings.CutPrefix(origin, "http://")
	if !ok {
		rest, ok = strings.CutPrefix(origin, "https://")
	}
	if !ok {
		return false, false
	}
	name, _, _ := strings.Cut(rest, ":") // any port, read or not
	switch name {
	case "localhost", "127.0.0.1", "0.0.0.0":
		return true, false
	}
	return false, false
}

// PreflightHeaders are the headers of the 204 with which a node answers a preflight of an
// origin that it allows, beside Allow, which is Find's. The header map is the caller's.
func PreflightHeaders(origin string) http.Header {
	return http.Header{
		"Access-Control-Allow-Headers": {allowedHeaders},
		"Access-Control-Allow-Methods": {"GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"},
		"Access-Control-Allow-Origin":  {origin},
		"Access-Control-Max-Age":       {"43200"},
		"Vary":                         {"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"},
	}
}

// OriginHeaders are the headers that a node adds to any other answer to an origin that it
// allows. The header map is the caller's.
func OriginHeaders(origin string) http.Header {
	return http.Header{
		"Access-Control-Allow-Origin": {origin},
		"Vary":                        {"Origin"},
	}
}

// allowedHeaders are those of OpenAI's clients; x-api-key and Anthropic's own are not among
// them.
const allowedHeaders = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta," +
	"X-Stainless-Arch,X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method," +
	"X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper," +
	"X-Stainless-Retry-Count,X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout"
