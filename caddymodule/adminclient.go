package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// asksAdmin ends the help of commands that have adminFlags.
const asksAdmin = `It asks the gateway over its admin endpoint: the one at --address, or that of --config, or that
of a running "up" of this user, or Caddy's default.
`

// mostAnswer bounds what is read of the admin endpoint's answer. The longest one is a stored
// answer with its text: it has 64 MiB at most, and JSON may spell each byte with six.
const mostAnswer = 512 << 20

// adminFlags are those of a command that asks a running gateway.
func adminFlags(cmd *cobra.Command) {
	addressFlags(cmd)
	cmd.Flags().Bool("json", false, "print what the admin endpoint answers")
}

// addressFlags are those of adminFlags that say where the gateway is.
func addressFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.String("address", "", "address of the admin endpoint")
	f.StringP("config", "c", "", "configuration file to take the admin address from")
	f.StringP("adapter", "a", "", "name of the adapter of that file")
}

// askAdmin asks the admin endpoint that the flags of cmd tell. The caller closes the answer's body.
func askAdmin(cmd *cobra.Command, method, path string, body []byte) (resp *http.Response, address string, err error) {
	f := caddycmd.Flags{FlagSet: cmd.Flags()}
	address, err = adminAddress(f.String("address"), f.String("config"), f.String("adapter"))
	if err != nil {
		return nil, "", err
	}
	var reader io.Reader // a nil one says that there is no body
	if body != nil {
		reader = bytes.NewReader(body)
	}
	resp, err = caddycmd.AdminAPIRequest(address, method, path, nil, reader)
	if err == nil {
		return resp, address, nil
	}
	if said := refusal(err); said != "" {
		return nil, "", fmt.Errorf("asking the gateway at %s: %s", address, said)
	}
	return nil, "", fmt.Errorf("asking the gateway at %s: %w; is it running? --address or --config says where", address, err)
}

// showAdmin asks the admin endpoint and has show write the answer, or writes it as it is with --json.
func showAdmin[T any](cmd *cobra.Command, method, path string, body []byte, show func(io.Writer, T) error) error {
	resp, address, err := askAdmin(cmd, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", address, err)
	}
	if (caddycmd.Flags{FlagSet: cmd.Flags()}).Bool("json") {
		_, err := cmd.OutOrStdout().Write(answer)
		return err
	}
	var v T
	if err := json.Unmarshal(answer, &v); err != nil {
		return fmt.Errorf("the answer of %s is not understood: %w", address, err)
	}
	return show(cmd.OutOrStdout(), v)
}

// refusal is what a gateway has answered instead of what it was asked for; "" if none has answered.
// Caddy's client tells the two apart in the text of its error alone.
func refusal(err error) string {
	status, ok := strings.CutPrefix(err.Error(), "caddy responded with error: ")
	if !ok {
		return ""
	}
	_, body, _ := strings.Cut(status, ": ")
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal([]byte(body), &said) == nil && said.Error != "" {
		return said.Error
	}
	return strings.TrimSpace(status)
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
