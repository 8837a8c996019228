package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// change asks for a change and shows how it goes, or writes what the gateway answers with raw. The
// error is that of asking; nodes that failed are told in the result.
func change(cmd *cobra.Command, path string, wanted modelOrder, raw bool) (*changes, error) {
	body, err := json.Marshal(wanted)
	if err != nil {
		return nil, err
	}
	resp, address, err := askAdmin(cmd, http.MethodPost, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	c := new(changes)
	out := cmd.OutOrStdout()
	if raw {
		return c, c.follow(io.TeeReader(resp.Body, out), address, func(modelUpdate) {})
	}
	show := newChangeView(c, out)
	err = c.follow(resp.Body, address, func(l modelUpdate) { show.told(l, time.Now()) })
	show.end()
	return c, err
}

// follow reads the lines of an answer to the last one.
func (c *changes) follow(r io.Reader, address string, told func(modelUpdate)) error {
	for lines := json.NewDecoder(r); ; {
		var l modelUpdate
		err := lines.Decode(&l)
		var broken *json.SyntaxError
		var other *json.UnmarshalTypeError
		switch {
		case errors.As(err, &broken), errors.As(err, &other):
			return fmt.Errorf("the answer of %s is not understood: %w", address, err)
		case err != nil:
			return fmt.Errorf("the answer of %s broke off; \"models\" shows which nodes have what now", address)
		case l.Error != "" && l.Node == "":
			return fmt.Errorf("the gateway at %s: %s", address, harmless(l.Error))
		}
		c.take(l)
		told(l)
		if l.Done {
			return nil
		}
	}
}

// A changeView shows changes as they go: as a bar for each node on a terminal, else as lines.
type changeView struct {
	changes *changes
	to      io.Writer
	screen  *os.File  // nil if it is no terminal
	drawn   int       // lines on the terminal
	at      time.Time // when they were drawn
}

func newChangeView(c *changes, to io.Writer) *changeView {
	v := &changeView{changes: c, to: to}
	if file, ok := to.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		v.screen = file
	}
	return v
}

// told shows what a line has changed.
func (v *changeView) told(l modelUpdate, now time.Time) {
	if v.screen == nil {
		io.WriteString(v.to, v.changes.news(l, now))
		return
	}
	if now.Sub(v.at) >= 100*time.Millisecond {
		v.at = now
		v.draw(0)
	}
}

// end leaves the last state on the terminal, of all nodes: nothing is drawn over it any more.
func (v *changeView) end() {
	if v.screen != nil {
		v.draw(math.MaxInt)
	}
}

// draw draws anew in that many lines at most; 0 are those of the terminal.
func (v *changeView) draw(height int) {
	width, rows, err := term.GetSize(int(v.screen.Fd()))
	if err != nil || width < 1 || rows < 1 {
		width, rows = 80, 24 // what a terminal that does not tell usually has
	}
	if height == 0 {
		height = rows
	}
	lines := v.changes.lines(width, height)
	io.WriteString(v.screen, redraw(lines, v.drawn))
	v.drawn = len(lines)
}

// redraw writes lines over as many as were drawn before, and takes away what is left of those.
func redraw(lines []string, before int) string {
	var b strings.Builder
	if before > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", before)
	}
	for _, line := range lines {
		b.WriteString("\r" + line + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	return b.String()
}

// readAdmin asks the admin endpoint and reads its answer.
func readAdmin[T any](cmd *cobra.Command, method, path string) (v T, err error) {
	resp, address, err := askAdmin(cmd, method, path, nil)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, mostAnswer)).Decode(&v); err != nil {
		return v, fmt.Errorf("the answer of %s is not understood: %w", address, err)
	}
	return v, nil
}

func wantsJSON(cmd *cobra.Command) bool { return caddycmd.Flags{FlagSet: cmd.Flags()}.Bool("json") }
