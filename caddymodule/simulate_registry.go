package caddymodule

import (
	"fmt"
	"net/http"

	"github.com/dustin/go-humanize"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/registry"
)

// officialRegistry is the host of model names that name none.
const officialRegistry = "registry.ollama.ai"

// A simulatedRegistry is the network of simulated nodes: in the place of the official registry
// is one of this process, with simulated models; others are called as they are.
type simulatedRegistry struct {
	official *simnode.Pipe
	others   *http.Transport
}

// newSimulatedRegistry serves a registry with all sim-* models and the given ones until Close.
func newSimulatedRegistry(models []simnode.Model) (*simulatedRegistry, error) {
	r := registry.New(registry.Options{})
	for _, m := range append(simnode.SimModels(), models...) {
		if err := simnode.Publish(r, m); err != nil {
			return nil, err
		}
	}
	return &simulatedRegistry{simnode.NewPipe(r), &http.Transport{Proxy: http.ProxyFromEnvironment}}, nil
}

// RoundTrip sends a node's request.
func (s *simulatedRegistry) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == officialRegistry {
		return s.official.RoundTrip(r)
	}
	return s.others.RoundTrip(r)
}

// Close ends what runs.
func (s *simulatedRegistry) Close() {
	s.official.Close()
	s.others.CloseIdleConnections()
}

// simulatedDir is where node i of a fleet says that its files are: not where another one does,
// so that models which are created from files have other digests, as they may on real nodes.
func simulatedDir(i int) string {
	if i == 0 {
		return ""
	}
	return fmt.Sprintf("/var/lib/ollama-%d/models", i+1)
}

// sizeFlag reads a size such as 20GB; nothing is 0.
func sizeFlag(name, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > 1<<62 {
		return 0, fmt.Errorf("--%s %s: say a size as 20GB or 512MiB", name, text)
	}
	return int64(n), nil
}
