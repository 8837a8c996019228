package caddymodule

import (
	"errors"
	"fmt"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-ollama/caddy-ollama/internal/keys"
)

var keyCommand = caddycmd.Command{
	Name:  "key",
	Usage: "NAME",
	Short: "Makes an API key and the line of a keys file for it",
	Long: `
Makes an API key for NAME. The line for a keys file goes to the standard output, the key itself
to the standard error, and nowhere else: it cannot be shown again.

	$ caddy-ollama key alice >> /etc/caddy-ollama/keys

The line holds the SHA-256 of the key, which is of no use to who reads it. A name may have
several lines, so that an old key works on while it is replaced. A gateway reads the file when
its configuration is loaded: "caddy-ollama reload --force" takes a new line up.
`,
	CobraFunc: func(cmd *cobra.Command) {
		plain(cmd, makeKey)
		cmd.Args = func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("say whose key it is, in one word, as in: caddy-ollama key alice")
			}
			return nil
		}
	},
}

func makeKey(cmd *cobra.Command) error {
	name := cmd.Flags().Arg(0)
	line, secret, err := keys.New(name)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), line); err != nil {
		return err // a key whose line is lost is of no use
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "The key of %s, shown only here: %s\n", name, secret)
	return err
}
