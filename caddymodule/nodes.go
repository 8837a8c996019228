package caddymodule

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

var nodesCommand = caddycmd.Command{
	Name:  "nodes",
	Usage: "[drain NAME|resume NAME] [--address ADDR] [--config FILE [--adapter NAME]] [--json]",
	Short: "Shows the nodes of a running gateway and what they do",
	Long: `
Shows each node of a running gateway: its state and why, slots, requests in flight, version,
models on disk and models in memory. Then what is known of each model in memory: tokens per
slot, the options it was loaded with, its size, and how fast it reads prompts and writes answers
there. Then the last loads of each node, the newest last, with the reason for each.

With "drain NAME" the node gets no more requests and finishes those it has, until "resume NAME".
That holds over reloads, not over a restart of the gateway.

It asks the gateway over its admin endpoint: the one at --address, or that of --config, or that
of a running "up" of this user, or Caddy's default.
`,
	CobraFunc: func(cmd *cobra.Command) {
		f := cmd.Flags()
		f.String("address", "", "address of the admin endpoint")
		f.StringP("config", "c", "", "configuration file to take the admin address from")
		f.StringP("adapter", "a", "", "name of the adapter of that file")
		f.Bool("json", false, "print what the admin endpoint answers")
		plain(cmd, showNodes)
		for _, verb := range []string{"drain", "resume"} {
			sub := &cobra.Command{Use: verb + " NAME", Short: map[string]string{
				"drain": "Gives a node no more requests", "resume": "Gives a node requests again",
			}[verb]}
			sub.Flags().AddFlagSet(f)
			plain(sub, func(sub *cobra.Command) error { return changeNode(sub, verb, sub.Flags().Arg(0)) })
			sub.Args = cobra.ExactArgs(1)
			cmd.AddCommand(sub)
		}
	},
}

// maxNodesAnswer bounds what is read of the admin endpoint's answer: 50 nodes with a dozen
// runners each are some 200 kB.
const maxNodesAnswer = 16 << 20

func showNodes(cmd *cobra.Command) error {
	f := caddycmd.Flags{FlagSet: cmd.Flags()}
	address, err := adminAddress(f.String("address"), f.String("config"), f.String("adapter"))
	if err != nil {
		return err
	}
	resp, err := caddycmd.AdminAPIRequest(address, http.MethodGet, nodesPath, nil, nil)
	if err != nil {
		return fmt.Errorf("asking the gateway at %s: %w; is it running? --address or --config says where", address, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxNodesAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", address, err)
	}
	if f.Bool("json") {
		_, err := cmd.OutOrStdout().Write(body)
		return err
	}
	var nodes []nodeStatus
	if err := json.Unmarshal(body, &nodes); err != nil {
		return fmt.Errorf("the answer of %s is not understood: %w", address, err)
	}
	return writeNodes(cmd.OutOrStdout(), nodes)
}

// changeNode drains or resumes a node.
func changeNode(cmd *cobra.Command, verb, name string) error {
	f := caddycmd.Flags{FlagSet: cmd.Flags()}
	address, err := adminAddress(f.String("address"), f.String("config"), f.String("adapter"))
	if err != nil {
		return err
	}
	resp, err := caddycmd.AdminAPIRequest(address, http.MethodPost, nodesPath+"/"+url.PathEscape(name)+"/"+verb, nil, nil)
	if err != nil {
		return fmt.Errorf("asking the gateway at %s: %w", address, err)
	}
	return resp.Body.Close()
}

// adminAddress prefers what the user says, then the socket of a running `up`.
func adminAddress(address, config, adapter string) (string, error) {
	if address == "" && config == "" {
		if path, err := socketPath(); err == nil && answers(path) {
			return "unix/" + path, nil
		}
	}
	return caddycmd.DetermineAdminAPIAddress(address, nil, config, adapter)
}

// answers tells whether somebody listens on the socket. A file that is left over refuses.
func answers(path string) bool {
	conn, err := net.DialTimeout("unix", path, refuseWait)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
