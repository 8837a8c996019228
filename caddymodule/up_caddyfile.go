package caddymodule

import (
	"bytes"
	_ "embed"
	"fmt"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

//go:embed up.caddyfile.tmpl
var upTemplate string

var upCaddyfile = template.Must(template.New("up").Parse(upTemplate))

// upGrace is how long running answers may go on after the process was told to leave: most
// end by themselves in that time, and nobody waits longer for Ctrl-C. A second one leaves at
// once.
const upGrace = 10 * time.Second

// An upPlan is everything `up` found out before it serves.
type upPlan struct {
	found     upNodes
	simulated bool // the nodes are
	demo      bool // they are, and there are clients, too
	http      upListener
	https     *upListener // nil: off
	blog      bool        // wanted; it needs https
	socket    string      // of the admin endpoint, absolute
	logLevel  string
}

// servesBlog tells whether there is a blog. Signing in needs HTTPS.
func (p upPlan) servesBlog() bool { return p.blog && p.https != nil }

// caddyfile is the configuration as text, formatted as `fmt` would.
func (p upPlan) caddyfile() ([]byte, error) {
	admin, err := quote("unix/" + p.socket + "|0600")
	if err != nil {
		return nil, fmt.Errorf("the data directory %s: %w; choose another with XDG_DATA_HOME", filepath.Dir(p.socket), err)
	}
	fields := struct {
		Admin, LogLevel, Manage string
		Quiet, Blog             bool
		Grace                   time.Duration
		Nodes                   []upNode
		Slots                   int
		HTTP                    upListener
		HTTPS                   *upListener
	}{
		Admin: admin, LogLevel: p.logLevel, Quiet: p.logLevel == "WARN", Manage: "deny", Grace: upGrace,
		Nodes: p.found.nodes, Slots: p.found.slots, HTTP: p.http, HTTPS: p.https, Blog: p.servesBlog(),
	}
	if p.http.private() {
		fields.Manage = "allow"
	}
	var text bytes.Buffer
	if err := upCaddyfile.Execute(&text, fields); err != nil {
		return nil, err
	}
	return caddyfile.Format(text.Bytes()), nil
}

// quote makes one token of a path. A brace would be read as a placeholder.
func quote(text string) (string, error) {
	switch {
	case strings.ContainsAny(text, "{}`\n"):
		return "", fmt.Errorf("a brace, a backtick or a line break in the path cannot be written in a Caddyfile")
	case strings.ContainsAny(text, " \t\"#"):
		return "`" + text + "`", nil
	}
	return text, nil
}

// adaptUp turns the Caddyfile into the JSON that Caddy runs.
func adaptUp(text []byte) ([]byte, error) {
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": "up"})
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		caddy.Log().Named("up").Warn(w.String())
	}
	return config, nil
}
