package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

var cacheCommand = caddycmd.Command{
	Name:  "cache",
	Usage: "stats|purge|inspect [--address ADDR] [--config FILE [--adapter NAME]] [--json]",
	Short: "Shows what is in the cache of a running gateway, and purges it",
	Long: `
"stats" shows how many answers are in memory, how much room they take, and whether Redis is there.

"purge" has answers forgotten, those too that are being generated: all, or those of a tag, a model
or a tenant, or one by its key. Gateways that share a Redis obey within a second.

"inspect KEY" shows what is known of one answer: how old it is, for how long it is kept and by which
rule. Its key is in the access log, and in Cache-Status where a site says "explain"; one that begins
with - is written behind --, as in: cache inspect -- KEY. What was asked and answered is shown only
with --text.

` + asksAdmin,
	CobraFunc: func(cmd *cobra.Command) {
		plain(cmd, (*cobra.Command).Help)
		cmd.AddCommand(cacheStatsCommand(), cachePurgeCommand(), cacheInspectCommand())
	},
}

func cacheStatsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "stats", Short: "Shows how much is in the cache"}
	adminFlags(cmd)
	plain(cmd, func(cmd *cobra.Command) error {
		return showAdmin(cmd, http.MethodGet, cachePath, nil, writeStats)
	})
	return cmd
}

func cachePurgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purge (--all | --tag TAG | --model MODEL | --tenant TENANT | --key KEY)",
		Short: "Has answers forgotten",
	}
	adminFlags(cmd)
	f := cmd.Flags()
	f.Bool("all", false, "purge all answers")
	f.String("tag", "", "purge the answers with this tag")
	f.String("model", "", "purge the answers of this model")
	f.String("tenant", "", "purge the answers of this tenant: name of a key or user, value of the tenant's header, or shared")
	f.String("key", "", "purge this one answer")
	plain(cmd, purgeCache)
	return cmd
}

func purgeCache(cmd *cobra.Command) error {
	f := caddycmd.Flags{FlagSet: cmd.Flags()}
	var wanted []map[string]any
	if f.Bool("all") {
		wanted = append(wanted, map[string]any{"all": true})
	}
	for _, name := range []string{"tag", "model", "tenant", "key"} {
		if f.Changed(name) {
			wanted = append(wanted, map[string]any{name: f.String(name)})
		}
	}
	if len(wanted) != 1 {
		return errors.New("say what to purge with one of --all, --tag, --model, --tenant and --key")
	}
	body, err := json.Marshal(wanted[0])
	if err != nil {
		return err
	}
	return showAdmin(cmd, http.MethodPost, purgePath, body, writePurged)
}

func cacheInspectCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "inspect KEY", Short: "Shows what is known of one answer"}
	adminFlags(cmd)
	cmd.Flags().Bool("text", false, "show also what was asked and answered")
	plain(cmd, inspectCache)
	cmd.Args = func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) != 1:
			return errors.New("say which answer by its key, as in: caddy-ollama cache inspect KEY; one that begins with - stands behind --")
		case !isKeyName(args[0]):
			return fmt.Errorf("%q: %s", args[0], whatKeysAre)
		}
		return nil
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w; a key that begins with - stands behind --, as in: caddy-ollama cache inspect -- KEY", err)
	})
	return cmd
}

func inspectCache(cmd *cobra.Command) error {
	path := entriesPath + cmd.Flags().Arg(0)
	if (caddycmd.Flags{FlagSet: cmd.Flags()}).Bool("text") {
		path += "?text=1"
	}
	return showAdmin(cmd, http.MethodGet, path, nil, writeInspected)
}
