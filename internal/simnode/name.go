package simnode

import (
	"errors"
	"strings"
)

// The parts a name has when it does not say so.
const (
	defaultHost      = "registry.ollama.ai"
	defaultNamespace = "library"
	defaultTag       = "latest"
)

var errInvalidName = errors.New("invalid model name")

// A name is a model's full name: host/namespace/model:tag.
type name struct{ host, namespace, model, tag string }

// parseName reads [host/][namespace/]model[:tag] and fills in the defaults. A scheme before the host is dropped.
func parseName(s string) (name, error) {
	n := name{host: defaultHost, namespace: defaultNamespace, tag: defaultTag}
	rest := s
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, n.tag = rest[:i], rest[i+1:]
	}
	parts := []*string{&n.model, &n.namespace}
	for _, part := range parts {
		i := strings.LastIndexByte(rest, '/')
		*part = rest[i+1:]
		if i < 0 {
			rest = ""
			break
		}
		if rest = rest[:i]; rest == "" {
			return n, errInvalidName
		}
	}
	if rest != "" {
		if _, host, ok := strings.Cut(rest, "://"); ok {
			rest = host
		}
		n.host = rest
	}
	if !validPart(n.host, 350, "-._:") || !validPart(n.namespace, 80, "-_") ||
		!validPart(n.model, 80, "-._") || !validPart(n.tag, 80, "-._") {
		return n, errInvalidName
	}
	return n, nil
}

// validPart reports whether part has 1 to limit letters, digits and characters of others, and begins with a letter,
// a digit or an underscore.
func validPart(part string, limit int, others string) bool {
	if part == "" || len(part) > limit {
		return false
	}
	for i := range len(part) {
		c := part[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		case i > 0 && strings.IndexByte(others, c) >= 0:
		default:
			return false
		}
	}
	return true
}

// key is the name as installed models are found by it: without case.
func (n name) key() string { return strings.ToLower(n.full()) }

func (n name) full() string { return n.host + "/" + n.namespace + "/" + n.model + ":" + n.tag }

// short leaves out what is default, but never the tag.
func (n name) short() string {
	s := n.model + ":" + n.tag
	if n.host != defaultHost {
		return n.host + "/" + n.namespace + "/" + s
	}
	if n.namespace != defaultNamespace {
		return n.namespace + "/" + s
	}
	return s
}

// splitSource takes the suffix ":local" off a name and reports whether the name asks for the hosted service: it has
// the suffix ":cloud" or a tag that ends in "-cloud".
func splitSource(s string) (local string, hosted bool) {
	lower := strings.ToLower(s)
	if strings.HasSuffix(lower, ":local") {
		return s[:len(s)-len(":local")], false
	}
	i := strings.LastIndexByte(lower, ':')
	if i <= strings.LastIndexByte(lower, '/') {
		return s, false
	}
	tag := lower[i+1:]
	return s, tag == "cloud" || strings.HasSuffix(tag, "-cloud")
}
