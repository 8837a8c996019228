package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A batchClient has requests answered by a gateway.
type batchClient struct {
	to, key  string
	ordered  bool
	http     *http.Client
	out      *resultsFile
	progress *progress
}

// A batchLine is one result, on its way from the gateway and in a file.
type batchLine struct {
	Index    int             `json:"index"`
	CustomID json.RawMessage `json:"custom_id,omitempty"`
	Response json.RawMessage `json:"response"`
	Error    json.RawMessage `json:"error"`
}

func (l *batchLine) ok() bool { return string(l.Error) == "null" }

// send sends lines and writes a result for each. indices are those of the lines in the file.
func (c *batchClient) send(ctx context.Context, lines []byte, indices []int) error {
	url := c.to + "/api/batch"
	if c.ordered {
		url += "?ordered=true"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(lines))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("asking the gateway: %w; is it running? --to says where", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.refused(resp)
	}
	results := bufio.NewReader(resp.Body)
	for came := range indices {
		line, err := results.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("the connection to %s was lost after %d of %d results: %w", c.to, came, len(indices), err)
		}
		var l batchLine
		if err := json.Unmarshal(line, &l); err != nil || l.Index < 0 || l.Index >= len(indices) {
			return fmt.Errorf("%s does not answer as a gateway does", c.to)
		}
		l.Index = indices[l.Index]
		if err := c.out.write(&l); err != nil {
			return err
		}
		c.progress.count(l.ok())
	}
	_, err = io.Copy(io.Discard, results) // its end: a client that leaves before is told from one that is done
	return err
}

// refused says why a gateway takes none of the requests.
func (c *batchClient) refused(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what is not there is not shown
	said := wire.ErrorMessage(body)
	switch {
	case resp.StatusCode == http.StatusNotFound && said == "":
		return fmt.Errorf("there is no /api/batch at %s: it is a node, or an older gateway; --to says where the gateway is", c.to)
	case said == "":
		said = http.StatusText(resp.StatusCode)
	}
	return fmt.Errorf("%s answered %d: %s", c.to, resp.StatusCode, said)
}

// oneLine appends an item of a file, which may be written over several lines.
func oneLine(to, item []byte) []byte {
	buffer := bytes.NewBuffer(to)
	if json.Compact(buffer, item) == nil {
		return buffer.Bytes()
	}
	return append(to, item...) // a broken line: it was one line before
}

// A resultsFile is where results go.
type resultsFile struct {
	io.Writer
	file *os.File // nil: the standard output
}

// openResults opens the output, and tells which items have an answer there.
func openResults(stdout io.Writer, name string, resume bool) (*resultsFile, map[int]bool, error) {
	if name == "" {
		if resume {
			return nil, nil, errors.New("--resume goes on with a file; name it with --output")
		}
		return &resultsFile{Writer: stdout}, nil, nil
	}
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600) // answers are nobody else's
	if err != nil {
		return nil, nil, err
	}
	answered, size, err := readResults(file)
	switch {
	case err != nil:
		err = fmt.Errorf("%s: %w", name, err)
	case size > 0 && !resume:
		err = fmt.Errorf("%s has something in it; name another file, or go on with it with --resume", name)
	case size > 0:
		if err = file.Truncate(size); err == nil { // a line that was not written to its end
			_, err = file.Seek(size, io.SeekStart)
		}
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return &resultsFile{Writer: file, file: file}, answered, nil
}

// readResults tells which items have an answer in a file, and where its last whole line ends.
func readResults(r io.Reader) (answered map[int]bool, size int64, err error) {
	answered = make(map[int]bool)
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if size == 0 && len(line) > 0 {
				return nil, 0, errors.New("these are no results; name another file")
			}
			return answered, size, nil
		}
		if err != nil {
			return nil, 0, err
		}
		var l batchLine
		if json.Unmarshal(line, &l) != nil || l.Response == nil || l.Error == nil {
			return nil, 0, errors.New("these are no results; name another file")
		}
		answered[l.Index] = answered[l.Index] || l.ok()
		size += int64(len(line))
	}
}

func (f *resultsFile) write(l *batchLine) error {
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil {
		return err
	}
	_, err := f.Write(line.Bytes())
	return err
}

// Close may be called twice.
func (f *resultsFile) Close() error {
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	return file.Close()
}

// A progress shows how far a batch is: as a bar on a terminal, else as a line now and then.
type progress struct {
	to                io.Writer
	bar               bool
	total, ok, failed int
	began, shown      time.Time
}

// newProgress shows it on to. A terminal that shows the results has no room for a bar.
func newProgress(to, results io.Writer, total int) *progress {
	p := &progress{to: to, bar: isTerminal(to) && !isTerminal(results), total: total, began: time.Now()}
	p.shown = p.began
	return p
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// count takes a result in.
func (p *progress) count(ok bool) {
	if ok {
		p.ok++
	} else {
		p.failed++
	}
	every := 10 * time.Second
	if p.bar {
		every = 100 * time.Millisecond
	}
	if time.Since(p.shown) < every {
		return
	}
	p.shown = time.Now()
	if p.bar {
		fmt.Fprint(p.to, "\r"+p.text(30)+"\x1b[K")
		return
	}
	fmt.Fprintln(p.to, p.text(0))
}

// text is what is shown, with a bar of so many characters.
func (p *progress) text(width int) string {
	done := p.ok + p.failed
	var b strings.Builder
	if width > 0 {
		full := width * done / p.total
		b.WriteString("[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "] ")
	}
	took := time.Since(p.began)
	fmt.Fprintf(&b, "%d of %d, %d failed, %.1f/s", done, p.total, p.failed, float64(done)/max(took.Seconds(), 0.001))
	if left := p.total - done; left > 0 && done > 0 {
		fmt.Fprintf(&b, ", %s left", (took / time.Duration(done) * time.Duration(left)).Round(time.Second))
	}
	return b.String()
}

// end takes the bar away.
func (p *progress) end() {
	if p.bar {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
