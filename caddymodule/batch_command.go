package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

var batchCommand = caddycmd.Command{
	Name:  "batch",
	Usage: "FILE [--to URL] [--key KEY] [--output FILE [--resume]] [--ordered] [--max-items N]",
	Short: "Has a file of prompts answered by a running gateway",
	Long: `
Sends the requests in FILE to the gateway and writes a line for each result as it comes. FILE has one
request a line, or is a JSON array of them; - is the standard input:

	{"model":"llama3","prompt":"Why is the sky blue?"}
	{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"llama3","messages":[...]}}

The gateway is the one at --to, else at OLLAMA_HOST, else http://127.0.0.1:8080. A key, if it wants one, is
taken from CADDY_OLLAMA_KEY or OLLAMA_API_KEY; --key shows it to whoever can list processes.

Results come in the order in which they are ready, each with the index of its request, or with --ordered in
the order of the requests. They go to the standard output, or to --output, which must be new or empty.
With --resume it is gone on with: what has an answer there is not asked again, and of two lines with
one index the later counts. Ctrl-C stops and keeps what is written.

The exit code is 0 only if all requests were answered.
`,
	CobraFunc: func(cmd *cobra.Command) {
		f := cmd.Flags()
		f.String("to", "", "URL of the gateway")
		f.String("key", "", "API key; better in CADDY_OLLAMA_KEY")
		f.StringP("output", "o", "", "file for the results")
		f.Bool("resume", false, "go on with what is in the output file")
		f.Bool("ordered", false, "write the results in the order of the requests")
		f.Int("max-items", gateway.DefaultPromptItems, "requests that are sent at once, at most; the rest follows them")
		plain(cmd, runBatch)
		cmd.Args = func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("say which file, as in: caddy-ollama batch prompts.jsonl; - is the standard input")
			}
			return nil
		}
	},
}

// batchBytes is how much is sent at once: less than what a gateway takes by default.
const batchBytes = 64 << 20

// runBatch sends the file and writes what comes of it.
func runBatch(cmd *cobra.Command) error {
	f := caddycmd.Flags{FlagSet: cmd.Flags()}
	to, err := gatewayURL(f.String("to"), os.Getenv)
	if err != nil {
		return err
	}
	most := f.Int("max-items")
	if most < 1 {
		return errors.New("--max-items must be at least 1")
	}
	items, err := readPrompts(cmd.InOrStdin(), cmd.Flags().Arg(0))
	if err != nil {
		return err
	}
	out, answered, err := openResults(cmd.OutOrStdout(), f.String("output"), f.Bool("resume"))
	if err != nil {
		return err
	}
	defer out.Close()
	var pending []int
	for i := range items {
		if !answered[i] {
			pending = append(pending, i)
		}
	}

	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &batchClient{
		to: to, key: batchKey(f.String("key"), os.Getenv), ordered: f.Bool("ordered"), http: new(http.Client), out: out,
		progress: newProgress(cmd.ErrOrStderr(), out.Writer, len(pending)),
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the key goes where it was told to
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	c.http.Transport = transport
	for len(pending) > 0 && err == nil {
		var n int
		var body []byte
		for n < min(len(pending), most) && (n == 0 || len(body)+len(items[pending[n]]) < batchBytes) {
			body = append(oneLine(body, items[pending[n]]), '\n')
			n++
		}
		err = c.send(ctx, body, pending[:n])
		pending = pending[n:]
	}
	return c.conclude(ctx, err, f.String("output"))
}

// conclude says in one line what came of it. The error is what makes the exit code 1.
func (c *batchClient) conclude(ctx context.Context, err error, output string) error {
	p := c.progress
	p.end()
	if closed := c.out.Close(); err == nil {
		err = closed
	}
	left := p.total - p.ok - p.failed
	fmt.Fprintf(p.to, "%d ok, %d failed, %d not answered, in %s\n", p.ok, p.failed, left, time.Since(p.began).Round(100*time.Millisecond))
	hint := ""
	if output != "" && p.ok+p.failed > 0 {
		hint = "; --resume asks for the rest"
	}
	switch {
	case ctx.Err() != nil:
		return errors.New("stopped" + hint)
	case err != nil:
		return fmt.Errorf("%w%s", err, hint)
	case p.failed > 0:
		return fmt.Errorf("%d of %d requests failed; their lines say why%s", p.failed, p.total, hint)
	}
	return nil
}

// gatewayURL is where the gateway is: what the user says, else as Ollama's own client finds it, else
// where "up" listens.
func gatewayURL(flag string, getenv func(string) string) (string, error) {
	origin, text := "--to", flag
	if text == "" {
		origin, text = "OLLAMA_HOST", ollamaVar(getenv, "OLLAMA_HOST")
	}
	if text == "" {
		return "http://127.0.0.1:8080", nil
	}
	n, err := parseOllamaHost(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", origin, err)
	}
	return n.URL.String(), nil
}

func batchKey(flag string, getenv func(string) string) string {
	for _, key := range []string{flag, getenv("CADDY_OLLAMA_KEY"), getenv("OLLAMA_API_KEY")} {
		if key != "" {
			return key
		}
	}
	return ""
}

// readPrompts reads a file whole, in one of the forms that the gateway takes.
func readPrompts(stdin io.Reader, name string) ([][]byte, error) {
	var body []byte
	var err error
	if name == "-" {
		body, err = io.ReadAll(stdin)
	} else {
		body, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, err
	}
	prompts, err := wire.ParsePrompts(bytes.TrimPrefix(body, []byte("\ufeff")), math.MaxInt)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return prompts.Items, nil
}
