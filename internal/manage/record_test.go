package manage

import (
	"strings"
	"testing"
)

func TestParseLine_TakesNothingForProgressThatIsNone(t *testing.T) {
	for name, line := range map[string]string{
		"text": "pulling", "list": "[]", "nothing": "{}", "other": `{"done":true}`, "error is no text": `{"error":{"a":1}}`,
		"error is empty": `{"error":""}`, "two values": `{"status":"a"}{}`, "a status that is no text": `{"status":1}`, "float": `{"status":"a","total":1.5}`,
	} {
		t.Run(name, func(t *testing.T) {
			if r, said, err := parseLine([]byte(line)); err == nil {
				t.Errorf("%s: got %+v and %q, want an error", line, r, said)
			}
		})
	}
}

func FuzzParseLine(f *testing.F) {
	for _, line := range []string{
		`{"status":"pulling manifest"}`, `{"status":"pulling c54460c78625","digest":"sha256:c5","total":259680,"completed":259680}`,
		`{"error":"pull model manifest: file does not exist"}`, `{"status":"x","total":-1,"completed":9223372036854775807}`, `{"status":"/etc/passwd"}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, said, err := parseLine(line)
		switch {
		case err != nil:
		case said != "":
			if r != (Record{}) {
				t.Fatalf("%q is both an error and progress", line)
			}
		case r.Total < 0 || r.Completed < 0 || r.Completed > r.Total || r.Total > sizeLimit:
			t.Fatalf("%q gave %+v", line, r)
		case len(r.Status) > statusLimit || len(r.Digest) > statusLimit || strings.ContainsAny(r.Status+r.Digest, "\n\x00"):
			t.Fatalf("%q gave %+v", line, r)
		}
	})
}
