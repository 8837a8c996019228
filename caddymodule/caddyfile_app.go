package caddymodule

import (
	"encoding/json"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("ollama", parseGlobal)
}

// parseGlobal reads the global option. Caddy calls it once for each block and hands in what
// the block before made.
func parseGlobal(d *caddyfile.Dispenser, existing any) (any, error) {
	app := new(App)
	if before, ok := existing.(httpcaddyfile.App); ok {
		if err := json.Unmarshal(before.Value, app); err != nil {
			return nil, d.WrapErr(err)
		}
	}
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "ollama", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile sets up the app from Caddyfile tokens. Syntax:
//
//	ollama {
//		node <url|host:port|host> {
//			name   <name>
//			slots  <n>
//			tls {
//				trust_pool           <module> ...
//				client_auth          <automate_name> | <cert_file> <key_file>
//				server_name          <name>
//				handshake_timeout    <duration>
//				renegotiation        never|once|freely
//				curves               <curves...>
//				insecure_skip_verify
//			}
//			header <name> <value>
//			preload <model> {
//				num_ctx    <tokens>
//				num_batch  <tokens>
//				num_gpu    <layers>
//				main_gpu   <n>
//				num_thread <n>
//				use_mmap   on|off
//			}
//		}
//		discover a|srv <name> {
//			refresh <duration>
//			slots   <n>
//			header  <name> <value>
//		}
//		health {
//			interval <duration>
//			timeout  <duration>
//			passes   <n>
//			fails    <n>
//		}
//		queue {
//			max_length <n>
//			max_wait   <duration>
//		}
//		limits {
//			body         <size>
//			bodies       <size>
//			body_timeout <duration>
//			streams      <n>
//		}
//		attempts {
//			dial_timeout       <duration>
//			first_byte_timeout <duration>
//			stall_timeout      <duration>
//			total_timeout      <duration>|off
//			retries            <n>
//		}
//		cache {
//			memory                 <size>
//			max_entry              <size>
//			redis                  <url>
//			secret                 <placeholder>
//			min                    <duration>
//			max                    <duration>
//			jitter                 <percentage>|off
//			stale_while_revalidate <duration>
//			stale_if_error         <duration>
//			ttl <duration>|off|forever [<condition>] {
//				model     <globs...>
//				operation <words...>
//				prompt    <globs...>
//				header    <name> [<glob>]
//				deterministic
//				sampled
//				single_turn
//				tools
//			}
//		}
//		coalesce [sampled]
//		batch embed {
//			max_items <n>
//			max_bytes <size>
//			window    <duration>
//		}
//		batch prompts {
//			max_items   <n>
//			concurrency <n>
//		}
//	}
//
// A node is named by its address: a URL without path, or a host with or without port; the
// scheme defaults to http, the port to 11434. At least one node, or a name to find
// some by, is needed. A node may be
// followed by a block; header and preload may stand several times in it, each time with another
// name. The block of preload may be left out, and so may that of cache.
//
// ttl may stand several times: the first whose conditions all hold decides. One condition may
// stand in its line, further ones in its block.
//
// If the app has nodes already, as from an earlier block, further ones are added, and any
// other option is an error.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the option's name
	start := *d
	if err := alone(d); err != nil {
		return err
	}
	had := len(a.Nodes) + len(a.Discover)
	further := had > 0
	once := func(read option) option {
		if !further {
			return read
		}
		return func(d *caddyfile.Dispenser) error {
			return d.Errf("a further ollama block only adds nodes; write %s into the first one", d.Val())
		}
	}
	g := grammar{
		name: "ollama",
		options: []word{
			{name: "node", read: a.readNode, often: true},
			{name: "discover", read: a.readDiscover, often: true},
			{name: "health", read: once(a.readHealth)},
			{name: "queue", read: once(a.readQueue)},
			{name: "limits", read: once(a.readLimits)},
			{name: "attempts", read: once(a.readAttempts)},
			{name: "cache", read: once(a.readCache)},
			{name: "coalesce", read: once(a.readCoalesce)},
			{name: "batch", read: once(a.readBatch), often: true},
		},
		elsewhere: wordsAt("the ollama directive of a site",
			"class", "models", "manage", "pass", "keys", "guard", "num_ctx", "keep_alive", "explain",
			"tenant", "client_ttl", "tags").
			and(wordsAt("the block of cache", ofCache...)).
			and(places{"ttl": "the block of cache, or the ollama directive of a site"}).
			and(ofNode),
	}
	if _, err := g.block(d); err != nil {
		return err
	}
	if len(a.Nodes)+len(a.Discover) == had {
		return start.Errf("ollama names no node; write at least one, as in: node http://10.0.0.1:11434")
	}
	return nil
}

func (a *App) readNode(d *caddyfile.Dispenser) error {
	start := *d
	address, err := value(d, "http://10.0.0.1:11434")
	if err != nil {
		return err
	}
	n := &Node{URL: address}
	others := a.Nodes
	known := !hasPlaceholder(address)
	if known {
		u, err := parseNodeURL(address)
		if err != nil {
			return d.WrapErr(err)
		}
		start = *d
		n.URL = u.String()
		for _, other := range others {
			if o, err := parseNodeURL(other.URL); err == nil && o.Host == u.Host {
				return d.Errf("%s is the address of another node already; name each server once", u.Host)
			}
		}
	}
	g := grammar{name: "node", options: []word{
		{name: "name", read: func(d *caddyfile.Dispenser) error {
			if err := text(&n.Name, "big")(d); err != nil {
				return err
			}
			if err := checkNodeName(n.Name); err != nil {
				return d.WrapErr(err)
			}
			if taken(others, n.Name) {
				return d.Errf("there is another node named %q; give each its own name", n.Name)
			}
			return nil
		}},
		{name: "slots", read: count(&n.Slots, 1, maxSlots, "4")},
		{name: "tls", read: n.readTLS},
		{name: "header", read: n.readHeader, often: true},
		{name: "preload", read: n.readPreload, often: true},
	}}
	if _, err := g.block(d); err != nil {
		return err
	}
	if n.Name == "" && known && taken(others, n.label()) {
		return start.Errf("there is another node named %q; give each its own name", n.label())
	}
	a.Nodes = append(a.Nodes, n)
	return nil
}

// label is the node's name, or what stands for it if there is none.
func (n *Node) label() string {
	if n.Name != "" {
		return n.Name
	}
	if u, err := parseNodeURL(n.URL); err == nil {
		return u.Host
	}
	return ""
}

func taken(nodes []*Node, name string) bool {
	for _, n := range nodes {
		if n.label() == name {
			return true
		}
	}
	return false
}

func (n *Node) readHeader(d *caddyfile.Dispenser) error {
	const example = `header Authorization "Bearer {env.NODE_TOKEN}"`
	if !d.NextArg() {
		return d.Errf("header needs a name and a value, as in: %s", example)
	}
	name := d.Val()
	if err := checkNodeHeader(name); err != nil {
		return d.WrapErr(err)
	}
	for other := range n.Headers {
		if strings.EqualFold(other, name) {
			return d.Errf("header %s is set already; leave one out", name)
		}
	}
	if !d.NextArg() {
		return d.Errf("header %s needs a value, as in: %s", name, example)
	}
	v := d.Val()
	if err := checkHeaderValue(v); err != nil {
		return d.Errf("header %s: %w", name, err)
	}
	if d.NextArg() {
		return d.Errf("header %s has more than one value; put quotes around a value with blanks in it", name)
	}
	if n.Headers == nil {
		n.Headers = make(map[string]string)
	}
	n.Headers[name] = v
	return nil
}

func (n *Node) readTLS(d *caddyfile.Dispenser) error {
	if u, err := parseNodeURL(n.URL); err == nil && u.Scheme != "https" {
		return d.WrapErr(errTLSWithoutHTTPS)
	}
	if err := alone(d); err != nil {
		return err
	}
	n.TLS = new(reverseproxy.TLSConfig)
	start := *d
	g := grammar{name: "tls", options: []word{
		{name: "trust_pool", read: readTrustPool(n.TLS)},
		{name: "client_auth", read: readClientAuth(n.TLS)},
		{name: "server_name", read: text(&n.TLS.ServerName, "ollama.internal")},
		{name: "handshake_timeout", read: duration(&n.TLS.HandshakeTimeout, "10s")},
		{name: "renegotiation", read: choice(&n.TLS.Renegotiation, "never", "once", "freely")},
		{name: "curves", read: readCurves(n.TLS)},
		{name: "insecure_skip_verify", read: mark(&n.TLS.InsecureSkipVerify)},
	}}
	if _, err := g.block(d); err != nil {
		return err
	}
	if n.TLS.InsecureSkipVerify && len(n.TLS.CARaw) > 0 {
		return start.WrapErr(errTrustAndSkip)
	}
	return nil
}

func readTrustPool(t *reverseproxy.TLSConfig) option {
	return func(d *caddyfile.Dispenser) error {
		if !d.NextArg() {
			return d.Errf("trust_pool needs a module, as in: trust_pool file /etc/ssl/ca.pem")
		}
		name := d.Val()
		id := "tls.ca_pool.source." + name
		if _, err := caddy.GetModule(id); err != nil {
			return d.Errf("unrecognized trust_pool %q; use file, inline, storage, http, pki_root or pki_intermediate", name)
		}
		module, err := caddyfile.UnmarshalModule(d, id)
		if err != nil {
			return err
		}
		ca, ok := module.(caddytls.CA)
		if !ok {
			return d.Errf("trust_pool %s gives no certificate authorities", name)
		}
		t.CARaw = caddyconfig.JSONModuleObject(ca, "provider", name, nil)
		return nil
	}
}

func readClientAuth(t *reverseproxy.TLSConfig) option {
	return func(d *caddyfile.Dispenser) error {
		switch args := d.RemainingArgs(); len(args) {
		case 1:
			t.ClientCertificateAutomate = args[0]
		case 2:
			t.ClientCertificateFile, t.ClientCertificateKeyFile = args[0], args[1]
		default:
			return d.Errf("client_auth needs a certificate file and a key file, or the name to manage a certificate for")
		}
		return nil
	}
}

func readCurves(t *reverseproxy.TLSConfig) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		for d.NextArg() {
			if _, ok := caddytls.SupportedCurves[d.Val()]; !ok {
				return d.Errf("unrecognized curve %q; see the curves of Caddy's tls directive", d.Val())
			}
			t.Curves = append(t.Curves, d.Val())
		}
		if len(t.Curves) == 0 {
			return d.Errf("%s needs at least one curve, as in: curves x25519", name)
		}
		return nil
	}
}

func (a *App) readHealth(d *caddyfile.Dispenser) error {
	h := new(Health)
	a.Health = h
	return settingsBlock(d, h, "health",
		word{name: "interval", read: duration(&h.Interval, "5s")},
		word{name: "timeout", read: duration(&h.Timeout, "2s")},
		word{name: "passes", read: count(&h.Passes, 1, maxCount, "2")},
		word{name: "fails", read: count(&h.Fails, 1, maxCount, "3")})
}

func (a *App) readQueue(d *caddyfile.Dispenser) error {
	q := new(Queue)
	a.Queue = q
	return settingsBlock(d, q, "queue",
		word{name: "max_length", read: count(&q.MaxLength, 1, maxCount, "512")},
		word{name: "max_wait", read: duration(&q.MaxWait, "10m")})
}

func (a *App) readLimits(d *caddyfile.Dispenser) error {
	l := new(Limits)
	a.Limits = l
	return settingsBlock(d, l, "limits",
		word{name: "body", read: size(&l.Body, "100MiB")},
		word{name: "bodies", read: size(&l.Bodies, "1GiB")},
		word{name: "body_timeout", read: duration(&l.BodyTimeout, "60s")},
		word{name: "streams", read: count(&l.Streams, 1, maxCount, "4096")})
}

func (a *App) readAttempts(d *caddyfile.Dispenser) error {
	t := new(Attempts)
	a.Attempts = t
	return settingsBlock(d, t, "attempts",
		word{name: "dial_timeout", read: duration(&t.DialTimeout, "2s")},
		word{name: "first_byte_timeout", read: duration(&t.FirstByteTimeout, "5m")},
		word{name: "stall_timeout", read: duration(&t.StallTimeout, "60s")},
		word{name: "total_timeout", read: durationOrOff(&t.TotalTimeout, "10m")},
		word{name: "retries", read: func(d *caddyfile.Dispenser) error {
			t.Retries = new(int)
			return count(t.Retries, 0, maxCount, "2")(d)
		}})
}

// settingsBlock reads a block of settings and then checks how they go together.
func settingsBlock(d *caddyfile.Dispenser, s settings, name string, words ...word) error {
	if err := alone(d); err != nil {
		return err
	}
	start := *d
	g := grammar{name: name, options: words}
	n, err := g.block(d)
	if err != nil {
		return err
	}
	if n == 0 {
		return start.Errf("%s needs a block with %s in it", name, oneOf(g.names()))
	}
	if err := s.check(); err != nil {
		return start.WrapErr(err)
	}
	return nil
}

// Interface guards
var _ caddyfile.Unmarshaler = (*App)(nil)
