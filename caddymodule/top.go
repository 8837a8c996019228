package caddymodule

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/caddy-ollama/caddy-ollama/internal/status"
)

var topCommand = caddycmd.Command{
	Name:  "top",
	Usage: "[--once] [--address ADDR] [--config FILE [--adapter NAME]] [--json]",
	Short: "Shows live what a running gateway does",
	Long: `
Shows what a running gateway does, anew each second, until Ctrl-C: its nodes, the queue, the last
minutes of traffic, the cache and what it saved. It is what the status page of ollama_status shows.

With --once, and where the output is no terminal, it is shown once. NO_COLOR takes the colors out.

` + asksAdmin,
	CobraFunc: func(cmd *cobra.Command) {
		adminFlags(cmd)
		cmd.Flags().Bool("once", false, "show it once")
		plain(cmd, top)
	},
}

const (
	topInterval = time.Second
	// topWidth is for what is no terminal, such as a file or a pipe.
	topWidth = 120
)

func top(cmd *cobra.Command) error {
	f := caddycmd.Flags{FlagSet: cmd.Flags()}
	screen, isFile := cmd.OutOrStdout().(*os.File)
	if f.Bool("json") || f.Bool("once") || !isFile || !term.IsTerminal(int(screen.Fd())) {
		return showAdmin(cmd, http.MethodGet, statusPath, nil, func(w io.Writer, r status.Report) error {
			for _, line := range r.Lines(topWidth) {
				fmt.Fprintln(w, strings.TrimRight(line.Text, " "))
			}
			return nil
		})
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return watchTop(ctx, cmd, screen)
}

// watchTop shows a report after the other on the terminal's second screen until ctx ends. A gateway
// that does not answer at first is an error; later on it may be back soon.
func watchTop(ctx context.Context, cmd *cobra.Command, screen *os.File) error {
	report, err := readAdmin[status.Report](cmd, http.MethodGet, statusPath)
	if err != nil {
		return err
	}
	const (
		enter = "\x1b[?1049h\x1b[?25l" // the second screen, no cursor
		leave = "\x1b[?25h\x1b[?1049l"
	)
	io.WriteString(screen, enter)
	defer io.WriteString(screen, leave)
	tick := time.NewTicker(topInterval)
	defer tick.Stop()
	for {
		width, height, sizeErr := term.GetSize(int(screen.Fd()))
		if sizeErr != nil {
			width, height = 80, 24 // what a terminal that does not tell usually has
		}
		lines := report.Lines(width)
		if err != nil {
			lines = append([]status.Line{{Style: "bad", Text: cutLine(err.Error(), width)}}, lines...)
		}
		if _, writeErr := screen.Write(frame(lines, height, os.Getenv("NO_COLOR") == "")); writeErr != nil {
			return writeErr
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var next status.Report
		if next, err = readAdmin[status.Report](cmd, http.MethodGet, statusPath); err == nil {
			report = next
		}
	}
}

// styles are the sequences of the styles of lines.
var styles = map[string]string{
	"title": "\x1b[1m", "dim": "\x1b[2m", "ok": "\x1b[32m", "warn": "\x1b[33m", "bad": "\x1b[31m",
}

// frame draws lines over the ones before, as many as fit: no line is erased first, so nothing
// flickers.
func frame(lines []status.Line, height int, colors bool) []byte {
	var b bytes.Buffer
	b.WriteString("\x1b[H")
	for i, line := range lines[:min(len(lines), max(1, height))] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if style := styles[line.Style]; colors && style != "" {
			b.WriteString(style + line.Text + "\x1b[0m")
		} else {
			b.WriteString(line.Text)
		}
		b.WriteString("\x1b[K")
	}
	b.WriteString("\x1b[J")
	return b.Bytes()
}

// cutLine makes one line of a text.
func cutLine(text string, width int) string {
	runes := []rune(harmless(strings.ReplaceAll(text, "\n", " ")))
	return string(runes[:min(len(runes), width)])
}
