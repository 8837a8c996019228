package main

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

// runRoutingNode serves the nth node of a routing in this process until its parent has gone,
// with the models loaded that it begins with. It prints where it listens.
func runRoutingNode(name string, nth int, listen string) error {
	all := routings()
	i := slices.IndexFunc(all, func(r routing) bool { return r.Name == name })
	if i < 0 || nth < 0 || nth >= len(all[i].Nodes) {
		return fmt.Errorf("no node %d of %q", nth, name)
	}
	options := all[i].Nodes[nth]
	options.Admin, options.CheckHost = true, true
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := simnode.Serve(ln.(*net.TCPListener), simnode.New(options), simnode.ServerOptions{})
	addr := server.Addr().String()
	for _, model := range all[i].Warm {
		c := &client{ctx: context.Background(), addr: addr}
		if _, err := c.askChat(workload.Chat{Model: model}); err != nil {
			return fmt.Errorf("load %s: %w", model, err)
		}
		c.close()
	}
	fmt.Println(addr)
	endWithInput()
	return nil
}
