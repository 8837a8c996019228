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
		// Two fields are kept as text by a node; anything else that is free has been forgotten.
		if s.kind == kindFree && s.shadow.String() != "json.RawMessage" {
			t.Errorf("%s: a %s is not judged", path, s.shadow)
		}
		if (s.kind == kindList || s.kind == kindBytes || s.kind == kindMap || s.kind == kindOrdered || s.kind == kindTypes) != (s.elem != nil) {
			t.Errorf("%s: kind %d with elements %v", path, s.kind, s.elem)
		}
		if s.elem != nil {
			walk(path+"[]", s.elem)
		}
		for _, f := range s.fields {
			walk(path+"."+f.name, f.schema)
		}
	}
	for path, f := range forms {
		walk(path, f.schema)
		if f.commands != "" {
			if _, ok := f.schema.exact[f.commands]; !ok {
				t.Errorf("%s: no field %q", path, f.commands)
			}
		}
	}
}
