package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// deployments are the files of ops/ that run the binary.
const deployments = "../../ops/"

func readDeployment(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(deployments + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A deployed is what a Caddyfile has the binary do.
type deployed struct {
	ports []string
	paths map[string]string // paths that are not the API's: their port
	stop  time.Duration     // how long it may take to end
}

var probePath = regexp.MustCompile(`"/(livez|readyz|metrics)"`)

// adaptDeployment checks a Caddyfile with the binary and reads what it makes of it.
func adaptDeployment(t *testing.T, text string) deployed {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if keys := "{file./etc/caddy-ollama/secret/keys}"; strings.Contains(text, keys) {
		text = withKeys(t, strings.Replace(text, keys, "{file./etc/caddy-ollama/keys}", 1))
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + t.TempDir(), "CACHE_SECRET=" + cacheSecret, "REDIS_PASSWORD=password"}
	if formatted := mustAsk(t, env, "fmt", file); formatted != text {
		t.Errorf("fmt makes it\n%s\nof\n%s", formatted, text)
	}
	mustAsk(t, env, "validate", "--config", file)

	var config struct {
		Admin struct{ Listen string }
		Apps  struct {
			HTTP struct {
				Grace   time.Duration `json:"grace_period"`
				Delay   time.Duration `json:"shutdown_delay"`
				Servers map[string]struct {
					Listen []string
					Routes json.RawMessage
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(mustAsk(t, env, "adapt", "--config", file)), &config); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(config.Admin.Listen, "unix//") {
		t.Errorf("the admin endpoint is %q, want a socket", config.Admin.Listen)
	}
	d := deployed{paths: make(map[string]string), stop: config.Apps.HTTP.Grace + config.Apps.HTTP.Delay}
	if config.Apps.HTTP.Grace <= 0 {
		t.Error("no grace_period: there is no time that is longer")
	}
	for _, server := range config.Apps.HTTP.Servers {
		_, port, _ := strings.Cut(server.Listen[0], ":")
		d.ports = append(d.ports, port)
		for _, path := range probePath.FindAllStringSubmatch(string(server.Routes), -1) {
			d.paths["/"+path[1]] = port
		}
	}
	slices.Sort(d.ports)
	return d
}

// checkCommand checks that the binary has a command and each of its flags.
func checkCommand(t *testing.T, words []string) {
	t.Helper()
	if len(words) == 0 {
		t.Error("no command")
		return
	}
	help := mustAsk(t, []string{"HOME=" + t.TempDir()}, words[0], "--help")
	if !strings.Contains(help, "caddy-ollama "+words[0]) {
		t.Errorf("%q is no command: %s", words[0], help)
	}
	for _, word := range words[1:] {
		if word == "--environ" {
			t.Error("--environ writes secrets to the log")
		}
		if strings.HasPrefix(word, "-") && !strings.Contains(help, word+" ") {
			t.Errorf("%q has no flag %s", words[0], word)
		}
	}
}

func checkStop(t *testing.T, d deployed, given time.Duration) {
	t.Helper()
	if given < d.stop+5*time.Second {
		t.Errorf("it is killed after %s, and may take %s to end", given, d.stop)
	}
}

func TestDeploy_SystemdUnit(t *testing.T) {
	t.Parallel()
	d := adaptDeployment(t, readDeployment(t, "systemd/Caddyfile"))
	unit := readDeployment(t, "systemd/caddy-ollama.service")
	values := make(map[string][]string)
	for line := range strings.Lines(unit) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			values[name] = append(values[name], value)
		}
	}
	for _, name := range []string{"ExecStart", "ExecReload"} {
		if len(values[name]) != 1 {
			t.Fatalf("%s: %q", name, values[name])
		}
		words := strings.Fields(values[name][0])
		if words[0] != "/usr/bin/caddy-ollama" {
			t.Errorf("%s runs %s", name, words[0])
		}
		checkCommand(t, words[1:])
	}
	stop, err := time.ParseDuration(values["TimeoutStopSec"][0])
	if err != nil {
		t.Fatal(err)
	}
	checkStop(t, d, stop)
	if !slices.Equal(values["Type"], []string{"notify"}) {
		t.Errorf("Type %q: Caddy tells when it is ready", values["Type"])
	}

	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not at hand")
		return
	}
	file := filepath.Join(t.TempDir(), "caddy-ollama.service")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(unit, "/usr/bin/caddy-ollama", binary)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", file).CombinedOutput(); err != nil || strings.Contains(string(out), "caddy-ollama.service:") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// A composed is what these tests read of a service.
type composed struct {
	Command  any
	Profiles []string
	Ports    []string
	Volumes  []string
	Stop     string                  `yaml:"stop_grace_period"`
	Health   struct{ Test []string } `yaml:"healthcheck"`
	Build    struct{ Context, Dockerfile string }
}

func TestDeploy_Compose(t *testing.T) {
	t.Parallel()
	d := adaptDeployment(t, readDeployment(t, "compose/Caddyfile"))
	var file struct{ Services map[string]composed }
	if err := yaml.Unmarshal([]byte(readDeployment(t, "compose/compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gateway", "ollama-1", "ollama-2", "simulated-1", "simulated-2", "redis", "prometheus", "grafana"} {
		if _, ok := file.Services[name]; !ok {
			t.Errorf("there is no %s", name)
		}
	}
	for name, s := range file.Services {
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") || strings.HasSuffix(port, ":2019") {
				t.Errorf("%s: port %s is open to others", name, port)
			}
		}
		if len(s.Ports) > 0 && len(s.Profiles) > 0 {
			t.Errorf("%s: a node publishes %q", name, s.Ports)
		}
		for _, volume := range s.Volumes {
			if from, _, _ := strings.Cut(volume, ":"); strings.HasPrefix(from, ".") {
				if _, err := os.Stat(filepath.Join(deployments+"compose", from)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		if s.Build.Context != "" {
			if _, err := os.Stat(filepath.Join(deployments+"compose", s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if slices.Contains(s.Profiles, "simulated") {
			var words []string
			for _, word := range s.Command.([]any) {
				words = append(words, word.(string))
			}
			checkCommand(t, words)
		}
	}

	gateway := file.Services["gateway"]
	for _, port := range gateway.Ports {
		if _, inside, _ := strings.Cut(strings.TrimPrefix(port, "127.0.0.1:"), ":"); !slices.Contains(d.ports, inside) {
			t.Errorf("nobody listens on %s; the Caddyfile has %q", inside, d.ports)
		}
	}
	if test := gateway.Health.Test; len(test) < 3 || test[1] != "/usr/bin/caddy-ollama" {
		t.Errorf("healthcheck %q", test)
	} else {
		checkCommand(t, test[2:])
	}
	stop, err := time.ParseDuration(gateway.Stop)
	if err != nil {
		t.Fatal(err)
	}
	checkStop(t, d, stop)

	var scraped struct {
		Scrapes []struct {
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte(readDeployment(t, "prometheus/prometheus.yml")), &scraped); err != nil {
		t.Fatal(err)
	}
	if got, want := scraped.Scrapes[0].Static[0].Targets[0], "gateway:"+d.paths["/metrics"]; got != want {
		t.Errorf("Prometheus scrapes %s, metrics are at %s", got, want)
	}
}

func TestDeploy_Image(t *testing.T) {
	t.Parallel()
	d := adaptDeployment(t, readDeployment(t, "compose/Caddyfile"))
	words := make(map[string]string)
	for line := range strings.Lines(readDeployment(t, "docker/Dockerfile")) {
		if word, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			words[word] = rest
		}
	}
	if got := strings.Fields(words["EXPOSE"]); !slices.Equal(got, d.ports) {
		t.Errorf("EXPOSE %q, the Caddyfile listens on %q", got, d.ports)
	}
	var command []string
	if err := json.Unmarshal([]byte(words["CMD"]), &command); err != nil {
		t.Fatal(err)
	}
	checkCommand(t, command)
	if words["ENTRYPOINT"] != `["/usr/bin/caddy-ollama"]` || !strings.HasPrefix(words["USER"], "65532") || !strings.HasPrefix(words["FROM"], "gcr.io/distroless/static") {
		t.Errorf("ENTRYPOINT %s, USER %s, FROM %s", words["ENTRYPOINT"], words["USER"], words["FROM"])
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if version := regexp.MustCompile(`(?m)^go (1\.\d+)`).FindStringSubmatch(string(mod))[1]; !strings.Contains(readDeployment(t, "docker/Dockerfile"), "FROM golang:"+version+" AS") {
		t.Errorf("the image is not built with Go %s", version)
	}
}

func TestDeploy_Kubernetes(t *testing.T) {
	t.Parallel()
	type probe struct {
		Get struct{ Path, Port string } `yaml:"httpGet"`
	}
	type mount struct {
		Path string `yaml:"mountPath"`
	}
	type object struct {
		Kind     string
		Metadata struct{ Name, Namespace string }
		Data     map[string]string
		Spec     struct {
			ClusterIP string `yaml:"clusterIP"`
			Ports     []struct {
				Port       int
				TargetPort string `yaml:"targetPort"`
			}
			Template struct {
				Spec struct {
					Grace      int `yaml:"terminationGracePeriodSeconds"`
					Containers []struct {
						Args  []string
						Ports []struct {
							Name          string
							ContainerPort int `yaml:"containerPort"`
						}
						Liveness  probe   `yaml:"livenessProbe"`
						Readiness probe   `yaml:"readinessProbe"`
						Startup   probe   `yaml:"startupProbe"`
						Mounts    []mount `yaml:"volumeMounts"`
					}
				}
			}
		}
	}
	objects := make(map[string]object)
	for decoder := yaml.NewDecoder(strings.NewReader(readDeployment(t, "kubernetes/caddy-ollama.yaml"))); ; {
		var o object
		if err := decoder.Decode(&o); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		objects[o.Kind+" "+o.Metadata.Name] = o
	}
	text := objects["ConfigMap caddy-ollama"].Data["Caddyfile"]
	d := adaptDeployment(t, text)
	pod := objects["Deployment caddy-ollama"].Spec.Template.Spec
	checkStop(t, d, time.Duration(pod.Grace)*time.Second)
	c := pod.Containers[0]
	checkCommand(t, c.Args)

	names, listens := make(map[string]string), []string{}
	for _, p := range c.Ports {
		names[p.Name] = strconv.Itoa(p.ContainerPort)
		listens = append(listens, names[p.Name])
	}
	if slices.Sort(listens); !slices.Equal(listens, d.ports) {
		t.Errorf("containerPorts %q, the Caddyfile listens on %q", listens, d.ports)
	}
	for _, p := range []probe{c.Liveness, c.Readiness, c.Startup} {
		if port := names[p.Get.Port]; port == "" || d.paths[p.Get.Path] != port {
			t.Errorf("probe %s at port %s %q; the Caddyfile has %v", p.Get.Path, p.Get.Port, port, d.paths)
		}
	}
	for _, p := range objects["Service caddy-ollama"].Spec.Ports {
		if names[p.TargetPort] == "" {
			t.Errorf("service port %d leads to %q", p.Port, p.TargetPort)
		}
	}
	nodes := objects["Service ollama"]
	if nodes.Spec.ClusterIP != "None" {
		t.Error("the service of the nodes is not headless")
	}
	if name := fmt.Sprintf("discover a %s.%s.svc.cluster.local:%d ", nodes.Metadata.Name, nodes.Metadata.Namespace, nodes.Spec.Ports[0].Port); !strings.Contains(text, name) {
		t.Errorf("the Caddyfile does not have %q", name)
	}
	for _, path := range []string{"/data", "/etc/caddy-ollama/secret", "/etc/caddy-ollama/Caddyfile"} {
		if !slices.ContainsFunc(c.Mounts, func(m mount) bool { return m.Path == path }) {
			t.Errorf("nothing is mounted at %s", path)
		}
	}
}
