package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

var pullCommand = caddycmd.Command{
	Name:  "pull",
	Usage: "MODEL [--to NODE]... [--address ADDR] [--config FILE [--adapter NAME]] [--json]",
	Short: "Has the nodes of a running gateway pull a model",
	Long: `
Has all nodes that are up pull a model, or those named with --to, and shows how far each of them is.
Ctrl-C ends it; what a node has by then it need not pull again.

The exit code is 0 only if no node failed.

` + asksAdmin,
	CobraFunc: func(cmd *cobra.Command) {
		changeCommand(cmd, "to", "have this node pull it, not all; may be repeated", pullPath)
	},
}

var rmCommand = caddycmd.Command{
	Name:  "rm",
	Usage: "MODEL [--from NODE]... [--address ADDR] [--config FILE [--adapter NAME]] [--json]",
	Short: "Has the nodes of a running gateway delete a model",
	Long: `
Has all nodes that have a model delete it, or those named with --from, without asking back.

The exit code is 0 only if no node failed.

` + asksAdmin,
	CobraFunc: func(cmd *cobra.Command) {
		changeCommand(cmd, "from", "have this node delete it, not all; may be repeated", deletePath)
	},
}

var modelsCommand = caddycmd.Command{
	Name:  "models",
	Usage: "[sync MODEL|--all] [--address ADDR] [--config FILE [--adapter NAME]] [--json]",
	Short: "Shows which node has which model, and evens it out",
	Long: `
Shows the models on the disks of the nodes: who has what, and with a star what is called the same and is
not. Of a node that is not up it may be unknown.

"sync" has the nodes that are up pull a model that others have and they lack, or with --all all of
them. What was made from a file, or copied, no registry has: it is named, and stays where it is.

` + asksAdmin,
	CobraFunc: func(cmd *cobra.Command) {
		adminFlags(cmd)
		plain(cmd, func(cmd *cobra.Command) error {
			return showAdmin(cmd, http.MethodGet, modelsPath, nil, writeMatrix)
		})
		cmd.AddCommand(modelsSyncCommand())
	},
}

// changeCommand makes a command of one that asks for a change of a model at path.
func changeCommand(cmd *cobra.Command, flag, usage, path string) {
	adminFlags(cmd)
	cmd.Flags().StringArray(flag, nil, usage)
	plain(cmd, func(cmd *cobra.Command) error {
		nodes, err := cmd.Flags().GetStringArray(flag)
		if err != nil {
			return err
		}
		c, err := change(cmd, path, modelOrder{Model: cmd.Flags().Arg(0), Nodes: nodes}, wantsJSON(cmd))
		if err != nil {
			return err
		}
		return c.err()
	})
	cmd.Args = oneModel
}

func oneModel(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("say which model, as in: caddy-ollama %s llama3", cmd.Name())
	}
	return checkModel(args[0])
}

func checkModel(name string) error {
	if _, err := wire.ParseModelName(name); err != nil {
		return fmt.Errorf("%q is no name of a model; write it as in llama3 or team/llama3:8b", name)
	}
	return nil
}

// modelKey is the same for all spellings of a model's name.
func modelKey(name string) string {
	n, err := wire.ParseModelName(name)
	if err != nil {
		return name
	}
	return n.Key()
}

func modelsSyncCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "sync (MODEL | --all)", Short: "Has nodes pull a model that others have and they lack"}
	addressFlags(cmd)
	cmd.Flags().Bool("all", false, "all models")
	plain(cmd, syncModels)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		all := caddycmd.Flags{FlagSet: cmd.Flags()}.Bool("all")
		switch {
		case all == (len(args) > 0) || len(args) > 1:
			return errors.New("say which model, as in: caddy-ollama models sync llama3; or --all")
		case all:
			return nil
		}
		return checkModel(args[0])
	}
	return cmd
}

// syncModels pulls one model after the other where it lacks.
func syncModels(cmd *cobra.Command) error {
	m, err := readAdmin[modelMatrix](cmd, http.MethodGet, modelsPath)
	if err != nil {
		return err
	}
	wanted := m.Models
	if name := cmd.Flags().Arg(0); name != "" {
		model, ok := m.find(name)
		if !ok {
			return fmt.Errorf("no node is known to have %s; \"pull %s\" brings it to all", name, name)
		}
		wanted = []modelRow{model}
	}
	var pulled, failed []string
	for _, model := range wanted {
		if len(model.Lacking) == 0 {
			continue
		}
		c, err := syncModel(cmd, model.Model, model.Lacking)
		if err != nil {
			return err
		}
		if c.err() != nil {
			failed = append(failed, untagged(model.Model))
		} else {
			pulled = append(pulled, model.Model)
		}
	}
	out := cmd.OutOrStdout()
	if len(pulled)+len(failed) == 0 {
		fmt.Fprintln(out, "Nothing is lacking.")
		return nil
	}
	if err := tellDrift(cmd, pulled); err != nil {
		return err
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d models still lack somewhere: %s", len(failed), len(failed)+len(pulled), harmless(strings.Join(failed, ", ")))
	}
	return nil
}

// syncModel pulls a model to nodes, and says so if it cannot be pulled at all.
func syncModel(cmd *cobra.Command, model string, nodes []string) (*changes, error) {
	out, name := cmd.OutOrStdout(), oneWord(untagged(model))
	fmt.Fprintf(out, "%s, to %s:\n", name, oneWord(strings.Join(nodes, ", ")))
	c, err := change(cmd, pullPath, modelOrder{Model: model, Nodes: nodes}, false)
	if err == nil && c.unknown() {
		fmt.Fprintf(out, "%s cannot be pulled: its registry does not have it. It was made from a file or copied; make it on the other nodes, too, or push it.\n", name)
	}
	return c, err
}

// unknown tells whether all failed because the registry does not have the model. A node has
// these words for it (golden pull-unknown).
func (c *changes) unknown() bool {
	for _, n := range c.nodes {
		if !strings.Contains(n.failure, "file does not exist") {
			return false
		}
	}
	return len(c.nodes) > 0
}

// tellDrift names those of the models that are not the same on all nodes after they were pulled:
// a registry may have a newer one by now, or another one of this name.
func tellDrift(cmd *cobra.Command, models []string) error {
	if len(models) == 0 {
		return nil
	}
	m, err := readAdmin[modelMatrix](cmd, http.MethodGet, modelsPath)
	if err != nil {
		return err
	}
	for _, name := range models {
		if model, ok := m.find(name); ok && model.drifts() {
			fmt.Fprintf(cmd.OutOrStdout(), "%s is now not the same on all nodes: the registry has another one than they had. \"pull %s\" brings it to all.\n",
				oneWord(untagged(name)), oneWord(untagged(name)))
		}
	}
	return nil
}
