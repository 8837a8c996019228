package caddymodule

import (
	"io"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/inprocess"
	"github.com/caddy-ollama/caddy-ollama/internal/keys"
)

const (
	// blogTenant is whose answers those of blogs are: all blogs of a process share them, as their pages
	// are public.
	blogTenant = "blog"
	// insideURL is the address of the gateway in this process. It is only looked at, never resolved.
	insideURL = "http://localhost"
)

// blogGateway is a transport to the gateway of this process, for all blogs: requests are those of a site
// of their own, interactive and of the tenant blog.
var blogGateway = sync.OnceValues(func() (http.RoundTripper, error) {
	line, secret, err := keys.New(blogTenant) // of this process alone; the tenant's name is what lasts
	if err != nil {
		return nil, err
	}
	known, err := keys.Parse(line)
	if err != nil {
		return nil, err
	}
	site, err := gateway.NewSite(gateway.SiteConfig{Keys: known})
	if err != nil {
		return nil, err
	}
	transport := inprocess.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serveInside(w, r, gateway.Entry{Site: site, Name: blogTenant})
	}), blogLog.logger())
	return authorized{transport, secret}, nil
})

// serveInside answers by the settings that rule now: a blog's page may be older than they are, or
// younger.
func serveInside(w http.ResponseWriter, r *http.Request, entry gateway.Entry) {
	var settings *gateway.Settings
	if e, ok := currentEngine(); ok {
		settings = e.Ruling()
	}
	if settings == nil { // it is starting, or was taken out of the configuration
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, `{"error":"the gateway is not running"}`)
		return
	}
	record := settings.Serve(w, r, entry)
	if record.Model != "" { // no access log tells of it
		caddy.Log().Named("http.handlers.ollama_blog").Info("a model was asked", zap.Object("ollama", recordFields{record}))
	}
}

// authorized shows a key.
type authorized struct {
	http.RoundTripper
	secret string
}

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+a.secret)
	return a.RoundTripper.RoundTrip(r)
}
