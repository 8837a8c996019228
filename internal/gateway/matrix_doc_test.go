package gateway

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tests of the matrix stand here, with Caddy or with the binary, by what a row needs.
func TestMatrix_TheDocumentNamesWhatHoldsIt(t *testing.T) {
	doc, err := os.ReadFile("../../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, where := range []string{"*_test.go", "../../caddymodule/*_test.go", "../../cmd/*/*_test.go", "../../test/*/*_test.go"} {
		found, err := filepath.Glob(where)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: no tests, %v", where, err)
		}
		files = append(files, found...)
	}
	there := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range declared.FindAllSubmatch(source, -1) {
			there[string(m[1])] = true
		}
	}
	named := make(map[string]bool)
	for _, name := range regexp.MustCompile(`\bTest\w+`).FindAllString(string(doc), -1) {
		named[name] = true
		if !there[name] {
			t.Errorf("docs/faults.md names %s, which does not exist", name)
		}
	}
	for name := range there {
		if strings.HasPrefix(name, "TestMatrix_") && name != t.Name() && !named[name] {
			t.Errorf("docs/faults.md does not name %s", name)
		}
	}
	for name := range known {
		if !there[name] {
			t.Errorf("what is known of %s has no test", name)
		}
	}
}
