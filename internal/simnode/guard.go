package simnode

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
)

// admitted applies the Origin rule and the Host rule, in this order, and reports whether the request may go on. When
// it may not, it has been answered.
func (n *Node) admitted(w http.ResponseWriter, r *http.Request) bool {
	return originAdmitted(w, r) && (!n.opts.CheckHost || hostAdmitted(w, r))
}

// originAdmitted answers preflight requests and refuses foreign origins. An origin equal to the request's own host
// passes without CORS headers.
func originAdmitted(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || origin == "http://"+r.Host || origin == "https://"+r.Host {
		return true
	}
	if !allowedOrigin(origin) {
		w.WriteHeader(http.StatusForbidden)
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions {
		h.Set("Vary", "Origin")
		return true
	}
	h.Set("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS")
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", "43200")
	h["Vary"] = []string{"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"}
	w.WriteHeader(http.StatusNoContent)
	return false
}

const corsHeaders = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta," +
	"X-Stainless-Arch,X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method," +
	"X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper," +
	"X-Stainless-Retry-Count,X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout"

func allowedOrigin(origin string) bool {
	scheme, _, ok := strings.Cut(origin, "://")
	if !ok {
		return false
	}
	if slices.Contains([]string{"app", "file", "tauri", "vscode-webview", "vscode-file"}, scheme) {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || scheme != "http" && scheme != "https" {
		return false
	}
	return slices.Contains([]string{"localhost", "127.0.0.1", "0.0.0.0"}, u.Hostname())
}

// hostAdmitted is the rule of a server bound to a loopback address. It answers OPTIONS for a host that is a name, and
// leaves OPTIONS for an address to the router.
func hostAdmitted(w http.ResponseWriter, r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsLoopback() || ip.IsPrivate() || ip.IsUnspecified() {
			return true
		}
		w.WriteHeader(http.StatusForbidden)
		return false
	}
	switch {
	case !allowedHostName(strings.ToLower(host)):
		w.WriteHeader(http.StatusForbidden)
		return false
	case r.Method == http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
		return false
	}
	return true
}

func allowedHostName(host string) bool {
	if host == "" || host == "localhost" {
		return true
	}
	if own, err := os.Hostname(); err == nil && host == strings.ToLower(own) {
		return true
	}
	return strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".internal")
}
