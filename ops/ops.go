// Package ops holds what operators install beside the gateway, and reads it for tests: the rules
// and alerts of Prometheus and the dashboards of Grafana.
//
// It promises only to read what ships; that each expression names metrics which exist is for its
// tests, and for those of the binary, to show. It knows nothing of the gateway.
package ops

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

//go:embed prometheus/rules/*.yml grafana/dashboards/*.json
var files embed.FS

// An Expression is a PromQL expression and where it stands.
type Expression struct {
	Where string
	Text  string
}

// A RuleFile is a file of rules as Prometheus reads it.
type RuleFile struct {
	Groups []RuleGroup `yaml:"groups"`
}

// A RuleGroup is rules that are evaluated together.
type RuleGroup struct {
	Name     string `yaml:"name"`
	Interval string `yaml:"interval,omitempty"`
	Rules    []Rule `yaml:"rules"`
}

// A Rule is an alert or a record.
type Rule struct {
	Alert       string            `yaml:"alert,omitempty"`
	Record      string            `yaml:"record,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

// RuleFiles are all files of rules by their path.
func RuleFiles() (map[string]RuleFile, error) {
	paths, err := fs.Glob(files, "prometheus/rules/*.yml")
	if err != nil {
		return nil, err
	}
	read := make(map[string]RuleFile)
	for _, path := range paths {
		text, err := files.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var f RuleFile
		if err := yaml.Unmarshal(text, &f); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		read[path] = f
	}
	return read, nil
}

// Rules are the rules of all files.
func Rules() ([]Rule, error) {
	read, err := RuleFiles()
	if err != nil {
		return nil, err
	}
	var rules []Rule
	for _, f := range read {
		for _, g := range f.Groups {
			rules = append(rules, g.Rules...)
		}
	}
	return rules, nil
}

// Faster gives the rules with all their times divided by factor, for tests that cannot wait for
// hours: ranges, offsets, intervals and how long an alert has to hold. Expressions stay otherwise
// what they are. No time gets shorter than a second.
func (f RuleFile) Faster(factor int) ([]byte, error) {
	faster := RuleFile{Groups: slices.Clone(f.Groups)}
	for i := range faster.Groups {
		g := &faster.Groups[i]
		g.Interval = divide(g.Interval, factor)
		g.Rules = slices.Clone(g.Rules)
		for j := range g.Rules {
			r := &g.Rules[j]
			r.For = divide(r.For, factor)
			r.Expr = durations.ReplaceAllStringFunc(r.Expr, func(d string) string {
				begin := durations.FindStringSubmatch(d)
				return begin[1] + divide(begin[2], factor)
			})
		}
	}
	return yaml.Marshal(faster)
}

func divide(text string, factor int) string {
	d, err := duration(text)
	if err != nil {
		return text
	}
	return fmt.Sprintf("%dms", max(d/time.Duration(factor), time.Second).Milliseconds())
}

// A Dashboard is what this package reads of a dashboard of Grafana.
type Dashboard struct {
	UID           string
	Title         string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name  string
			Type  string
			Query any
		}
	}
	Panels []Panel
}

// A Panel is one panel, or a row and what it holds.
type Panel struct {
	ID         int
	Title      string
	Type       string
	Datasource *struct{ Type, UID string }
	GridPos    struct{ X, Y, W, H int }
	Targets    []struct {
		Datasource *struct{ Type, UID string }
		Expr       string
		RefID      string
	}
	Panels []Panel
}

// Dashboards are all dashboards by their path.
func Dashboards() (map[string]Dashboard, error) {
	paths, err := fs.Glob(files, "grafana/dashboards/*.json")
	if err != nil {
		return nil, err
	}
	read := make(map[string]Dashboard)
	for _, path := range paths {
		text, err := files.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var d Dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		read[path] = d
	}
	return read, nil
}

// Walk calls visit with each panel, those in rows too.
func (d Dashboard) Walk(visit func(Panel)) {
	walk(d.Panels, visit)
}

func walk(panels []Panel, visit func(Panel)) {
	for _, p := range panels {
		visit(p)
		walk(p.Panels, visit)
	}
}

// Expressions are those of all rules and of all panels. The variables of Grafana are replaced by
// what they may stand for.
func Expressions() ([]Expression, error) {
	rules, err := Rules()
	if err != nil {
		return nil, err
	}
	var all []Expression
	for _, r := range rules {
		all = append(all, Expression{r.Alert + r.Record, r.Expr})
	}
	dashboards, err := Dashboards()
	if err != nil {
		return nil, err
	}
	for _, d := range dashboards {
		d.Walk(func(p Panel) {
			for _, t := range p.Targets {
				all = append(all, Expression{d.Title + ", " + p.Title, grafana.Replace(t.Expr)})
			}
		})
	}
	return all, nil
}
