package simnode

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// What a model can do, as /api/show spells it in "capabilities".
const (
	Completion = "completion"
	Tools      = "tools"
	Insert     = "insert"
	Vision     = "vision"
	Embedding  = "embedding"
	Thinking   = "thinking"
	Image      = "image" // no simulated model paints; the newest nodes refuse those that say they can
)

// A Model is one installed model. Only Name is required; the zero value of every other field has a default.
type Model struct {
	// Name is the model's name as a client would spell it; "latest" is the tag when it has none.
	Name string

	// Digest is the hex SHA-256 of the manifest, shown by /api/tags and /api/ps. Default: that of the manifest which a
	// registry has of the model, see Publish.
	Digest string

	// Weights is the hex SHA-256 of the model file. Models with equal Weights share a runner and give equal answers.
	// Default: made from Name. There is no such file: where it is pulled or pushed, a stand-in takes its place, see
	// package blob.
	Weights string

	Family        string // Default: "llama", for embedding models "bert".
	ParameterSize string // such as "140K". Default: "1B".
	Quantization  string // Default: "unknown".
	ParentModel   string // Default: the path of the model file.

	// Template is the prompt template. Default: a plain one of role markers.
	Template string

	System  string // system prompt of requests that bring none
	License string

	// Modelfile is shown by /api/show. Default: made from the other fields.
	Modelfile string

	// Messages stand before those of every chat.
	Messages []api.Message

	// Parameters are the model's own options, such as "num_ctx": 2048. A wrong type is stored without complaint and
	// fails when the model is used, as on a real node.
	Parameters map[string]any

	Size int64 // bytes on disk. Default: 1 GB.

	// Memory is what a runner takes besides its cache, in bytes. Default: Size.
	Memory int64

	// CacheBytes is the size of one token of context in a runner's cache; each slot has num_ctx of them.
	CacheBytes int64

	// Capabilities default to completion alone.
	Capabilities []string

	ContextLength   int // trained context; a larger num_ctx is cut to it. Default: 4096, for embedding models 512.
	EmbeddingLength int // Default: 64.

	LoadTime   time.Duration // Default: 300 ms.
	FirstToken time.Duration // what every prompt takes besides its tokens. Default: 0.
	EmbedCall  time.Duration // what every embedding request takes besides its inputs. Default: 0, as measured on 0.24.0.
	PromptRate float64       // prompt tokens a second. Default: 2000.
	DecodeRate float64       // generated tokens a second. Default: 1000.

	// ShortestAnswer and LongestAnswer bound an answer's own length in tokens. Defaults: 12 and 80.
	ShortestAnswer, LongestAnswer int

	// Call, when set, is what the model says whenever it is offered tools: a call as text, also of a function that
	// nobody offered and behind a tool's result. Default: it makes up a call of the first tool, and speaks when the last
	// message is a tool's result.
	Call string

	// LoadError, when set, is the text with which every load fails, after LoadTime.
	LoadError string

	// ModifiedAt defaults to the time New was called.
	ModifiedAt time.Time

	// Info is the "model_info" object of /api/show. Default: the few keys that clients read.
	Info json.RawMessage

	// Tensors is the "tensors" array of /api/show. Default: left out.
	Tensors json.RawMessage
}

// modelsDir is where a packaged Linux server keeps its models.
const modelsDir = "/var/lib/ollama/models"

const plainTemplate = `{{- range .Messages }}<|{{ .Role }}|>{{ .Content }}<|end|>{{ end }}<|assistant|>`

func (m Model) can(capability string) bool { return slices.Contains(m.Capabilities, capability) }

// embedsOnly reports whether the model makes vectors and no text. Such a model has one slot, always.
func (m Model) embedsOnly() bool { return m.can(Embedding) && !m.can(Completion) }

// withDefaults returns m with every default filled in; now is the time of installation.
func (m Model) withDefaults(now time.Time) Model {
	orString(&m.Weights, hexSum([]byte("weights "+m.Name)))
	if len(m.Capabilities) == 0 {
		m.Capabilities = []string{Completion}
	}
	family, context, template := "llama", 4096, plainTemplate
	if m.embedsOnly() {
		family, context, template = "bert", 512, "{{ .Prompt }}"
	}
	orString(&m.Family, family)
	orString(&m.ParameterSize, "1B")
	orString(&m.Quantization, "unknown")
	orString(&m.Template, template)
	orNumber(&m.ContextLength, context)
	orNumber(&m.EmbeddingLength, 64)
	orNumber(&m.Size, 1_000_000_000)
	orNumber(&m.Memory, m.Size)
	orNumber(&m.LoadTime, 300*time.Millisecond)
	orNumber(&m.PromptRate, 2000)
	orNumber(&m.DecodeRate, 1000)
	orNumber(&m.ShortestAnswer, 12)
	orNumber(&m.LongestAnswer, max(80, m.ShortestAnswer))
	m.LongestAnswer = max(m.LongestAnswer, m.ShortestAnswer)
	if m.ModifiedAt.IsZero() {
		m.ModifiedAt = now
	}
	m.ModifiedAt = m.ModifiedAt.UTC().Round(0)
	return m
}

func orString(field *string, fallback string) {
	if *field == "" {
		*field = fallback
	}
}

func orNumber[N int | int64 | float64 | time.Duration](field *N, fallback N) {
	if *field <= 0 {
		*field = fallback
	}
}
