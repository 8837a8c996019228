package caddymodule

import (
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

` + asksAdmin,
	CobraFunc: func(cmd *cobra.Command) {
		adminFlags(cmd)
		plain(cmd, showNodes)
		for _, verb := range []string{"drain", "resume"} {
			sub := &cobra.Command{Use: verb + " NAME", Short: map[string]string{
				"drain": "Gives a node no more requests", "resume": "Gives a node requests again",
			}[verb]}
			sub.Flags().AddFlagSet(cmd.Flags())
			plain(sub, func(sub *cobra.Command) error { return changeNode(sub, verb, sub.Flags().Arg(0)) })
			sub.Args = cobra.ExactArgs(1)
			cmd.AddCommand(sub)
		}
	},
}

func showNodes(cmd *cobra.Command) error {
	return showAdmin(cmd, http.MethodGet, nodesPath, nil, writeNodes)
}

// changeNode drains or resumes a node.
func changeNode(cmd *cobra.Command, verb, name string) error {
	resp, _, err := askAdmin(cmd, http.MethodPost, nodesPath+"/"+url.PathEscape(name)+"/"+verb, nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
