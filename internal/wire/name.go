package wire

import (
	"errors"
	"strings"
)

// ErrModelName says that a string is not a model's name; a node answers it with 400 "invalid
// model name", or in its own words where there is no name at all.
var ErrModelName = errors.New("invalid model name")

// What a name means that leaves a part out.
const (
	defaultHost      = "registry.ollama.ai"
	defaultNamespace = "library"
	defaultTag       = "latest"
)

// The longest part of a name, and the longest host, in bytes.
const (
	partLimit = 80
	hostLimit = 350
)

// A ModelName is a model's name as a client wrote it and as nodes understand it. It is
// comparable; the zero value is "no model". Two spellings of one model have equal Keys.
type ModelName struct {
	Spelling string // as the client wrote it: what answers echo

	key   string
	cloud bool
}

// ParseModelName reads [host/][namespace/]model[:tag] and judges it as a node does. White
// space around it is ignored, and so is a scheme before the host. The suffix ":local" is
// dropped; ":cloud" and a tag that ends in "-cloud", in any case, say that the hosted service
// is meant. Two such suffixes exclude each other. The error is ErrModelName, also for "".
func ParseModelName(s string) (ModelName, error) {
	base, source := cutSource(strings.TrimSpace(s))
	if source != runsAnywhere {
		if _, second := cutSource(base); second != runsAnywhere {
			return ModelName{}, ErrModelName
		}
	}

	rest, tag := base, defaultTag
	colon := strings.LastIndexByte(base, ':')
	tagged := colon > strings.LastIndexByte(base, '/')
	if tagged {
		rest, tag = base[:colon], base[colon+1:]
	}
	host, namespace, model := defaultHost, defaultNamespace, rest
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		namespace, model = rest[:i], rest[i+1:]
		if i := strings.LastIndexByte(namespace, '/'); i >= 0 {
			host, namespace = namespace[:i], namespace[i+1:]
			if _, after, ok := strings.Cut(host, "://"); ok {
				// A scheme alone names no host, which is then the default one.
				if host = after; host == "" {
					host = defaultHost
				}
			}
		}
	}
	if !validPart(host, hostLimit, ".:") || !validPart(namespace, partLimit, "") ||
		!validPart(model, partLimit, ".") || !validPart(tag, partLimit, ".") {
		return ModelName{}, ErrModelName
	}

	n := ModelName{Spelling: s, cloud: source == runsHosted}
	if n.cloud {
		// The form under which nodes list a hosted model, so that it never meets a local one.
		if tagged {
			tag += "-cloud"
		} else {
			tag = "cloud"
		}
	}
	n.key = strings.ToLower(host + "/" + namespace + "/" + model + ":" + tag)
	return n, nil
}

// Key is the canonical spelling: full and in lower case, since nodes match without case, like
// registry.ollama.ai/library/llama3:latest. It is "" for no model.
func (n ModelName) Key() string { return n.key }

// Short is the shortest normalised spelling: llama3:latest, namespace/model:tag or
// host/namespace/model:tag, in lower case. It parses to the same Key. Globs match it, people
// and labels see it.
func (n ModelName) Short() string {
	own, ok := strings.CutPrefix(n.key, defaultHost+"/")
	if !ok {
		return n.key
	}
	return strings.TrimPrefix(own, defaultNamespace+"/")
}

// Host is the registry that the model comes from, in lower case, with its port if the name has
// one; "" for no model.
func (n ModelName) Host() string {
	host, _, _ := strings.Cut(n.key, "/")
	return host
}

// Cloud tells whether the name asks for the hosted service: prompt and answer would leave the
// building.
func (n ModelName) Cloud() bool { return n.cloud }

// String is the spelling.
func (n ModelName) String() string { return n.Spelling }

// A modelSource is where a name says that its model runs.
type modelSource uint8

const (
	runsAnywhere modelSource = iota
	runsLocally
	runsHosted
)

// cutSource takes the suffix off that says where the model runs.
func cutSource(s string) (base string, from modelSource) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, runsAnywhere
	}
	suffix := strings.TrimSpace(s[i+1:])
	switch {
	case strings.EqualFold(suffix, "cloud"):
		return s[:i], runsHosted
	case strings.EqualFold(suffix, "local"):
		return s[:i], runsLocally
	}
	const dashed = "-cloud"
	if cut := len(suffix) - len(dashed); cut >= 0 && strings.EqualFold(suffix[cut:], dashed) && !strings.Contains(suffix, "/") {
		return s[:i+1] + suffix[:cut], runsHosted
	}
	return s, runsAnywhere
}

// validPart tells whether a part is letters, digits, '_', and after the first character also
// '-' and those in more.
func validPart(s string, limit int, more string) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_':
		case i > 0 && (c == '-' || strings.IndexByte(more, c) >= 0):
		default:
			return false
		}
	}
	return true
}
