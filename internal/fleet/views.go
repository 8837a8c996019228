package fleet

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// TagsBody is the answer of /api/tags: one row a name, the newest of the model's identity as
// its node wrote it. allow is asked for each model's Short name; nil allows all.
func (s *Snapshot) TagsBody(allow func(short string) bool) []byte {
	size := 16
	for _, m := range s.listed {
		size += len(m.row.raw) + 1
	}
	b := append(make([]byte, 0, size), `{"models":[`...)
	first := true
	for _, m := range s.listed {
		if allow == nil || allow(m.Short) {
			b, first = appendRow(b, m.row.raw, first)
		}
	}
	return append(b, `]}`...)
}

// PsBody is the answer of /api/ps: one row a name, the one that expires last as its node wrote
// it, the longest first. Runners of drifted models are not in it, nor those that their node
// has not listed yet.
func (s *Snapshot) PsBody(allow func(short string) bool) []byte {
	var rows []Runner
	at := make(map[string]int)
	for i := range s.Nodes {
		v := &s.Nodes[i]
		if !v.State.Alive() {
			continue
		}
		for _, r := range v.Runners {
			if r.row == "" {
				continue
			}
			if m := s.Models[r.Key]; m != nil && slices.Contains(m.Drift, v.Node.Name()) {
				continue
			}
			j, ok := at[r.Key]
			switch {
			case !ok:
				at[r.Key] = len(rows)
				rows = append(rows, r)
			case r.ExpiresAt.After(rows[j].ExpiresAt):
				rows[j] = r
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b Runner) int { return b.ExpiresAt.Compare(a.ExpiresAt) })

	b := []byte(`{"models":[`)
	first := true
	for _, r := range rows {
		if allow == nil || allow(r.short) {
			b, first = appendRow(b, r.row, first)
		}
	}
	return append(b, `]}`...)
}

// ModelsBody is OpenAI's list of models, in the order of /api/tags, with a newline at its end.
func (s *Snapshot) ModelsBody(allow func(short string) bool) []byte {
	b := []byte(`{"object":"list","data":`)
	first := true
	for _, m := range s.listed {
		if allow != nil && !allow(m.Short) {
			continue
		}
		if first {
			b = append(b, '[')
		} else {
			b = append(b, ',')
		}
		first = false
		b = appendModel(b, m.row.name, m.row.modified)
	}
	if first {
		return append(b, "null}\n"...)
	}
	return append(b, "]}\n"...)
}

// ModelBody is OpenAI's answer for one model, whose id is the name as it was asked for. It is
// false for a model that no node can serve.
func (s *Snapshot) ModelBody(name wire.ModelName) ([]byte, bool) {
	m := s.Models[name.Key()]
	if m == nil || len(m.Nodes) == 0 {
		return nil, false
	}
	return append(appendModel(nil, name.Spelling, m.row.modified), '\n'), true
}

// ShowBody is the answer of /api/show without verbose and system, as a node gave it when the
// model was first seen; it must not be changed. It is false while that is not known.
func (s *Snapshot) ShowBody(name wire.ModelName) ([]byte, bool) {
	m := s.Models[name.Key()]
	if m == nil || len(m.Nodes) == 0 || m.show == nil {
		return nil, false
	}
	return m.show, true
}

func appendRow(b []byte, row string, first bool) ([]byte, bool) {
	if !first {
		b = append(b, ',')
	}
	return append(b, row...), false
}

func appendModel(b []byte, id string, created time.Time) []byte {
	b = append(b, `{"id":`...)
	b = append(b, quoted(id)...)
	b = append(b, `,"object":"model","created":`...)
	b = strconv.AppendInt(b, created.Unix(), 10)
	b = append(b, `,"owned_by":`...)
	b = append(b, quoted(namespaceOf(id))...)
	return append(b, '}')
}

func quoted(s string) []byte {
	b, _ := json.Marshal(s) // a string always marshals
	return b
}

// namespaceOf is the part of a name before the model's, as it was spelt.
func namespaceOf(name string) string {
	parts := strings.Split(strings.TrimSpace(name), "/")
	if len(parts) < 2 {
		return "library"
	}
	return parts[len(parts)-2]
}
