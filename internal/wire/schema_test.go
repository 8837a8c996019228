package wire

import "testing"

func TestSchemas_JudgeWhateverANodeDecodes(t *testing.T) {
	seen := map[*schema]bool{}
	var walk func(path string, s *schema)
	walk = func(path string, s *schema) {
		if seen[s] {
			return
		}
		seen[s] = true
		// Some fields are kept as text by a node; anything else that is free has been forgotten.
		if s.kind == kindFree && s.shadow.String() != "json.RawMessage" {
			t.Errorf("%s: a %s is not judged", path, s.shadow)
		}
		if s.kind == kindUnion && (s.look == nil || len(s.variants) == 0) {
			t.Errorf("%s: a union of %v, at first sight %v", path, s.variants, s.look)
		}
		if (s.kind == kindTexts || s.kind == kindList || s.kind == kindBytes || s.kind == kindMap || s.kind == kindOrdered || s.kind == kindTypes) != (s.elem != nil) {
			t.Errorf("%s: kind %d with elements %v", path, s.kind, s.elem)
		}
		if s.elem != nil {
			walk(path+"[]", s.elem)
		}
		for _, f := range s.fields {
			walk(path+"."+f.name, f.schema)
		}
		for word, variant := range s.variants {
			walk(path+"("+word+")", variant)
		}
	}
	for path, f := range forms {
		walk(path, f.schema)
	}
}
