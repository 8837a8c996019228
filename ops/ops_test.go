package ops

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.yaml.in/yaml/v3"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/telemetry"
)

// Metrics that are neither the gateway's nor of a record: Prometheus' own, and Caddy's, which the
// tests of the binary look for in what it serves.
var foreign = map[string][]string{
	"up":                                  nil,
	"ALERTS":                              {"alertname", "alertstate", "severity"},
	"caddy_config_last_reload_successful": nil,
	"caddy_config_last_reload_success_timestamp_seconds": nil,
}

// target labels are those that Prometheus gives to whatever it scrapes.
var target = []string{"job", "instance"}

// known are the metrics of the code with their labels.
type known map[string][]string

var described = regexp.MustCompile(`fqName: "([^"]*)".*variableLabels: \{(.*)\}\}`)

// Register implements prometheus.Registerer and remembers what a collector describes.
func (k known) Register(c prometheus.Collector) error {
	suffixes := []string{""}
	if reflect.TypeOf(c) == reflect.TypeFor[*prometheus.HistogramVec]() {
		suffixes = []string{"_bucket", "_sum", "_count"}
	}
	descs := make(chan *prometheus.Desc)
	go func() { // ends when all are read
		defer close(descs)
		c.Describe(descs)
	}()
	for d := range descs {
		found := described.FindStringSubmatch(d.String())
		if found == nil {
			return fmt.Errorf("cannot read %s", d)
		}
		var labels []string
		if found[2] != "" {
			labels = strings.Split(found[2], ",")
		}
		for _, suffix := range suffixes {
			if suffix == "_bucket" {
				labels = append(slices.Clip(labels), "le")
			}
			k[found[1]+suffix] = labels
		}
	}
	return nil
}

func (k known) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := k.Register(c); err != nil {
			panic(err)
		}
	}
}

func (k known) Unregister(prometheus.Collector) bool { return false }

func metrics(t *testing.T) known {
	t.Helper()
	k := make(known)
	if err := telemetry.New(func() gateway.State { return gateway.State{} }).Register(k); err != nil {
		t.Fatal(err)
	}
	if err := telemetry.NewBlog().Register(k); err != nil {
		t.Fatal(err)
	}
	k.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	maps.Copy(k, foreign)
	return k
}

func mustRules(t *testing.T) []Rule {
	t.Helper()
	rules, err := Rules()
	if err != nil {
		t.Fatal(err)
	}
	if len(rules) == 0 {
		t.Fatal("there are no rules")
	}
	return rules
}

func mustExpressions(t *testing.T) []Expression {
	t.Helper()
	all, err := Expressions()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// words are what a label can be, of those that the code lists.
func words() map[string][]string {
	outcomes := make([]string, 0, len(gateway.Outcomes))
	for _, o := range gateway.Outcomes {
		outcomes = append(outcomes, string(o))
	}
	states := make([]string, 0, len(fleet.States))
	for _, s := range fleet.States {
		states = append(states, s.String())
	}
	return map[string][]string{
		"outcome": outcomes, "endpoint": gateway.Endpoints, "state": states, "backend": cache.Backends[:],
		"caddy_ollama_blog_asked_total outcome":                 telemetry.BlogOutcomes[:],
		"caddy_ollama_blog_asked_total kind":                    telemetry.BlogKinds[:],
		"caddy_ollama_cache_requests_total result":              {string(call.Hit), string(call.Stale), string(call.Miss), string(call.Bypass)},
		"caddy_ollama_route_choices_total reason":               schedule.Choices[:],
		"caddy_ollama_retries_total result":                     attempt.RetryResults[:],
		"caddy_ollama_node_health_checks_total result":          fleet.CheckResults[:],
		"caddy_ollama_queue_wait_seconds_bucket result":         schedule.WaitResults[:],
		"caddy_ollama_queue_wait_seconds_count result":          schedule.WaitResults[:],
		"caddy_ollama_time_to_first_token_seconds_bucket cache": telemetry.Sources(),
		"caddy_ollama_time_to_first_token_seconds_count cache":  telemetry.Sources(),
		"caddy_ollama_request_duration_seconds_bucket cache":    telemetry.Sources(),
		"caddy_ollama_request_duration_seconds_count cache":     telemetry.Sources(),
	}
}

func TestExpressions_ReadWhatTheCodeHas(t *testing.T) {
	known, may := metrics(t), words()
	for _, r := range mustRules(t) {
		if r.Record != "" {
			known[r.Record] = nil
		}
	}
	for _, e := range mustExpressions(t) {
		selectors, grouped := Read(e.Text)
		if len(selectors) == 0 {
			t.Errorf("%s: reads no metric: %s", e.Where, e.Text)
		}
		var all []string
		for _, s := range selectors {
			labels, ok := known[s.Metric]
			if !ok {
				t.Errorf("%s: there is no metric %s", e.Where, s.Metric)
				continue
			}
			all = append(all, labels...)
			for _, m := range s.Labels {
				if !slices.Contains(labels, m.Label) && !slices.Contains(target, m.Label) {
					t.Errorf("%s: %s has no label %s", e.Where, s.Metric, m.Label)
				}
				list := may[s.Metric+" "+m.Label]
				if list == nil {
					list = may[m.Label]
				}
				for _, word := range m.Words() {
					if list != nil && !slices.Contains(list, word) {
						t.Errorf("%s: %s of %s is never %q", e.Where, m.Label, s.Metric, word)
					}
				}
			}
		}
		for _, label := range grouped {
			if !slices.Contains(all, label) && !slices.Contains(target, label) {
				t.Errorf("%s: no metric there has the label %s: %s", e.Where, label, e.Text)
			}
		}
	}
}

// A dashboard is wrapped in rules, for promtool has no other way to parse an expression.
func TestExpressions_Parse(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatalf("%v: make need-prometheus installs it", err)
	}
	var g RuleGroup
	g.Name = "all"
	for i, e := range mustExpressions(t) {
		g.Rules = append(g.Rules, Rule{Record: fmt.Sprintf("e%d", i), Expr: "# " + e.Where + "\n" + e.Text})
	}
	text, err := yaml.Marshal(RuleFile{Groups: []RuleGroup{g}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "all.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAlerts_AreComplete(t *testing.T) {
	const runbooks = "../docs/runbooks"
	left := make(map[string]bool)
	files, err := filepath.Glob(runbooks + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		left[strings.TrimSuffix(filepath.Base(file), ".md")] = true
	}
	listed, err := os.ReadFile("../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, r := range mustRules(t) {
		if r.Alert == "" {
			continue
		}
		if seen[r.Alert] {
			t.Errorf("%s is there twice", r.Alert)
		}
		seen[r.Alert] = true
		if s := r.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s: severity %q, want page or ticket", r.Alert, s)
		}
		for _, word := range []string{"summary", "description"} {
			if r.Annotations[word] == "" {
				t.Errorf("%s: no %s", r.Alert, word)
			}
		}
		if got, want := r.Annotations["runbook_url"], "docs/runbooks/"+r.Alert+".md"; got != want {
			t.Errorf("%s: runbook_url is %q, want %q", r.Alert, got, want)
		}
		if !left[r.Alert] {
			t.Errorf("%s has no runbook", r.Alert)
		}
		delete(left, r.Alert)
		if !strings.Contains(string(listed), "("+strings.TrimPrefix(r.Annotations["runbook_url"], "docs/")+")") {
			t.Errorf("docs/monitoring.md does not list %s", r.Alert)
		}
	}
	for name := range left {
		t.Errorf("%s.md is the runbook of no alert", name)
	}
}

func TestAlerts_HaveAFiringAndASilentTest(t *testing.T) {
	files, err := filepath.Glob("prometheus/tests/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	fires, silent := make(map[string]bool), make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var f struct {
			Tests []struct {
				Alerts []struct {
					Name     string `yaml:"alertname"`
					Expected []any  `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			} `yaml:"tests"`
		}
		if err := yaml.Unmarshal(text, &f); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, test := range f.Tests {
			for _, a := range test.Alerts {
				fires[a.Name] = fires[a.Name] || len(a.Expected) > 0
				silent[a.Name] = silent[a.Name] || len(a.Expected) == 0
			}
		}
	}
	for _, r := range mustRules(t) {
		if r.Alert != "" && !fires[r.Alert] {
			t.Errorf("no test has %s fire", r.Alert)
		}
		if r.Alert != "" && !silent[r.Alert] {
			t.Errorf("no test has %s silent", r.Alert)
		}
	}
}

func TestDashboards_AreComplete(t *testing.T) {
	dashboards, err := Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	uids := make(map[string]string)
	for path, d := range dashboards {
		if d.UID == "" || d.Title == "" || uids[d.UID] != "" {
			t.Errorf("%s: uid %q, title %q; other dashboards: %v", path, d.UID, d.Title, uids)
		}
		uids[d.UID] = path
		variables := make(map[string]string)
		for _, v := range d.Templating.List {
			variables[v.Name] = v.Type
		}
		if variables["datasource"] != "datasource" || variables["instance"] != "query" {
			t.Errorf("%s: variables %v, want a datasource and an instance", path, variables)
		}
		ids, taken := make(map[int]bool), make(map[[2]int]string)
		d.Walk(func(p Panel) {
			where := path + ", " + p.Title
			if p.Title == "" || ids[p.ID] {
				t.Errorf("%s: has no title, or its id %d is another's", where, p.ID)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" || x > 23 {
						t.Fatalf("%s: lies over %q, or off the page, at %d,%d", where, other, x, y)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.Type == "row" {
				return
			}
			if len(p.Targets) == 0 {
				t.Errorf("%s: asks nothing", where)
			}
			if p.Datasource == nil || p.Datasource.UID != "${datasource}" {
				t.Errorf("%s: its datasource is no variable", where)
			}
			for _, target := range p.Targets {
				if target.Datasource == nil || target.Datasource.UID != "${datasource}" {
					t.Errorf("%s: the datasource of %s is no variable", where, target.RefID)
				}
				if expr := grafana.Replace(target.Expr); strings.Contains(expr, "$") {
					t.Errorf("%s: an unknown variable in %s", where, expr)
				}
			}
		})
	}
}

func TestRead(t *testing.T) {
	for _, test := range []struct {
		name, expr string
		metrics    []string
		labels     []string
	}{
		{"a metric", `up`, []string{"up"}, nil},
		{"functions and ranges", `rate(a_total[5m] offset 1d) > 0.5`, []string{"a_total"}, nil},
		{"matchers", `a{x="1",y=~"b|c}"} - on (z) b`, []string{"a", "b"}, []string{"z"}},
		{"grouping behind", `sum(a) by (x, y)`, []string{"a"}, []string{"x", "y"}},
		{"grouping before", `sum by (x) (a == bool 0)`, []string{"a"}, []string{"x"}},
		{"a record", `job:a:rate5m and on (job) b`, []string{"job:a:rate5m", "b"}, []string{"job"}},
		{"a metric before a match", `a unless on (x) b`, []string{"a", "b"}, []string{"x"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			selectors, labels := Read(test.expr)
			var got []string
			for _, s := range selectors {
				got = append(got, s.Metric)
			}
			if !slices.Equal(got, test.metrics) || !slices.Equal(labels, test.labels) {
				t.Errorf("%s: got %q by %q, want %q by %q", test.expr, got, labels, test.metrics, test.labels)
			}
		})
	}
}

func TestFaster_DividesTimesAndNothingElse(t *testing.T) {
	f := RuleFile{Groups: []RuleGroup{{Name: "g", Interval: "30s", Rules: []Rule{{
		Alert: "A", For: "5m", Expr: `rate(a{b="5m"}[30m]) > 60 and c offset 1d > 14.4`,
	}}}}}
	text, err := f.Faster(60)
	if err != nil {
		t.Fatal(err)
	}
	var got RuleFile
	if err := yaml.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	r := got.Groups[0].Rules[0]
	if got.Groups[0].Interval != "1000ms" || r.For != "5000ms" || !strings.Contains(r.Expr, "[30000ms]) > 60 and c offset 1440000ms > 14.4") {
		t.Errorf("got\n%s", text)
	}
}

var (
	documented = regexp.MustCompile("(?m)^\\| (`[^|]*`) \\| (?:counter|gauge|histogram)[^|]* \\| ([^|]*)\\|")
	quoted     = regexp.MustCompile("`([a-z_]+)`")
)

func TestDocs_ListEachMetricWithItsLabels(t *testing.T) {
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := make(known)
	for _, row := range documented.FindAllStringSubmatch(string(text), -1) {
		labels := strings.FieldsFunc(row[2], func(r rune) bool { return r == ',' || r == ' ' })
		slices.Sort(labels)
		for _, name := range quoted.FindAllStringSubmatch(row[1], -1) {
			full := name[1]
			if strings.HasPrefix(full, "_") {
				full = "caddy_ollama" + full
			}
			listed[full] = labels
		}
	}
	for name, labels := range metrics(t) {
		name, ok := strings.CutSuffix(name, "_count") // of a histogram
		if !strings.HasPrefix(name, "caddy_ollama_") || strings.HasSuffix(name, "_bucket") || strings.HasSuffix(name, "_sum") {
			continue
		}
		labels = slices.DeleteFunc(slices.Clone(labels), func(l string) bool { return ok && l == "le" })
		slices.Sort(labels)
		if got, there := listed[name]; !there || !slices.Equal(got, labels) {
			t.Errorf("docs/metrics.md lists %s with %q, want %q", name, got, labels)
		}
		delete(listed, name)
	}
	for name := range listed {
		t.Errorf("docs/metrics.md lists %s, which there is not", name)
	}
}
