package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A shown is what /api/show told of a manifest digest. It is never changed.
type shown struct {
	identity   string
	parameters wire.RunnerOptions
	sampling   wire.Sampling
	dated      bool // its template prints the date
	embedding  bool

	key  string // the name it was asked under
	body []byte // nil if it is too much to keep

	tries int       // that failed; the identity is the manifest digest then
	retry time.Time // when it is asked again, if tries is not 0
}

// errOtherModel says that a model was changed between tags and show.
var errOtherModel = errors.New("model has changed")

// placement are the parameters that say where and how fast a model runs, not what it answers.
var placement = map[string]bool{"num_gpu": true, "main_gpu": true, "num_thread": true, "num_batch": true, "use_mmap": true}

// blobDigest is how the path of a file in a node's store ends.
var blobDigest = regexp.MustCompile(`sha256[-:]([0-9a-f]{64})$`)

// parseShow reads an answer of /api/show for the model of a row. Its modified_at must be the
// row's: else it describes another manifest than that of the row's digest.
func parseShow(body []byte, r *row) (*shown, error) {
	var v struct {
		Modelfile    string          `json:"modelfile"`
		Parameters   string          `json:"parameters"`
		Template     string          `json:"template"`
		System       string          `json:"system"`
		Messages     json.RawMessage `json:"messages"`
		Capabilities []string        `json:"capabilities"`
		Modified     string          `json:"modified_at"`
	}
	if json.Unmarshal(body, &v) != nil {
		return nil, errNotOllama
	}
	if t, err := time.Parse(time.RFC3339, v.Modified); err == nil && !r.modified.IsZero() && !t.Equal(r.modified) {
		return nil, errOtherModel
	}
	parameters, runner, sampling := parseParameters(v.Parameters)
	messages, err := canonical(v.Messages)
	if err != nil {
		return nil, errNotOllama
	}
	s := &shown{
		identity:   r.digest,
		parameters: runner,
		sampling:   sampling,
		dated:      wire.PrintsDate(v.Template),
		embedding:  slices.Contains(v.Capabilities, "embedding") && !slices.Contains(v.Capabilities, "completion"),
		key:        r.key,
		body:       body,
	}
	if files, ok := filesOf(v.Modelfile, v.Template, v.System); ok {
		s.identity = identity(v.Template, v.System, messages, parameters, files)
	}
	return s, nil
}

// identity hashes what answers depend on. The parts are framed by JSON, so that no text can
// pass for two others.
func identity(template, system, messages string, parameters, files []string) string {
	text, _ := json.Marshal([]any{template, system, messages, parameters, files}) // strings always marshal
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// parseParameters reads "name   value" a line: the sorted lines that answers depend on, and
// the runner options and the sampling among all of them.
func parseParameters(text string) (lines []string, runner wire.RunnerOptions, sampling wire.Sampling) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.TrimSpace(value)
		if name == "" {
			continue
		}
		if !placement[name] {
			lines = append(lines, name+" "+value)
		}
		switch name {
		case "num_ctx":
			runner.NumCtx = parseInt(value)
		case "num_batch":
			runner.NumBatch = parseInt(value)
		case "num_gpu":
			runner.NumGPU = parseInt(value)
		case "main_gpu":
			runner.MainGPU = parseInt(value)
		case "num_thread":
			runner.NumThread = parseInt(value)
		case "temperature":
			if f, err := strconv.ParseFloat(value, 64); err == nil {
				sampling.Temperature = wire.OptionalFloat{Value: f, Set: true}
			}
		case "seed":
			sampling.Seed = parseInt(value)
		case "use_mmap":
			if b, err := strconv.ParseBool(value); err == nil {
				runner.UseMMap = wire.OptionalBool{Value: b, Set: true}
			}
		}
	}
	slices.Sort(lines)
	return lines, runner, sampling
}

// parseInt reads a number as nodes write them, 1e+06 too, cut to an integer as they do.
func parseInt(s string) wire.OptionalInt {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > math.MaxInt32 {
		return wire.OptionalInt{}
	}
	return wire.OptionalInt{Value: int(f), Set: true}
}

// filesOf takes the lines of a modelfile that name what a model is made of, in their order,
// paths cut to the digest of the file: they differ between nodes. ok is false unless the FROM
// lines name digests.
func filesOf(modelfile, template, system string) (lines []string, ok bool) {
	// Texts of several lines may hold anything. Template and system are known and cut out;
	// licenses and messages stand behind all that is looked for.
	text := "\n" + modelfile + "\n"
	text = cutCommand(text, "TEMPLATE", template)
	text = cutCommand(text, "SYSTEM", system)
	for _, last := range []string{"\nLICENSE ", "\nMESSAGE "} {
		if i := strings.Index(text, last); i >= 0 {
			text = text[:i]
		}
	}
	for line := range strings.Lines(text) {
		command, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch command = strings.ToUpper(command); command {
		case "FROM", "ADAPTER", "DRAFT":
			value = strings.Trim(strings.TrimSpace(value), `"`)
			if digest := blobDigest.FindStringSubmatch(value); digest != nil {
				value = "sha256-" + digest[1]
				ok = ok || command == "FROM"
			} else {
				return nil, false // a path or a name says nothing of what lies there
			}
			lines = append(lines, command+" "+value)
		case "RENDERER", "PARSER":
			lines = append(lines, command+" "+strings.TrimSpace(value))
		}
	}
	return lines, ok
}

// cutCommand takes a command with a known value out, however a node quotes it.
func cutCommand(text, command, value string) string {
	if value == "" {
		return text
	}
	for _, quote := range []string{`"""`, `"`, ``} {
		if before, after, ok := strings.Cut(text, "\n"+command+" "+quote+value+quote+"\n"); ok {
			return before + "\n" + after
		}
	}
	return text
}

// canonical is the one spelling of a JSON value; absent, null and an empty list are "".
func canonical(raw json.RawMessage) (string, error) {
	if len(raw) == 0 {
		return "", nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return "", err
	}
	if list, ok := v.([]any); v == nil || ok && len(list) == 0 {
		return "", nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}
