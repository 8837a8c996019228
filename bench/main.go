// Command bench puts the gateway beside plain Caddy, out of the same binary and before the
// same simulated nodes, and tells the ratios. README.md says how to run and to read it.
package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// longest is far more than a run takes, so that one that hangs ends by itself.
const longest = 30 * time.Minute

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	binary := flags.String("binary", "bin/caddy-ollama", "the `file` to measure")
	rounds := flags.Int("rounds", 5, "how often each peer is measured in each scenario")
	names := flags.String("scenarios", "all", "comma-separated `names`, or parts of names")
	duration := flags.Duration("duration", 2*time.Second, "of each measurement of a rate")
	words := flags.Int("words", 8, "of an unstreamed answer: what a node streams to the gateway as so many records")
	quick := flags.Bool("quick", false, "about a minute: two rounds of shorter loads")
	out := flags.String("out", "", "a `file` for the report, besides the standard output")
	profile := flags.String("profile", "", "a `directory` for CPU and heap profiles of rate-64 and records-64")
	node := flags.Bool("node", false, "be a node (the bench starts itself so)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *node {
		return runNode()
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("what is %q? The bench takes only flags", flags.Arg(0))
	}
	if *quick {
		*rounds, *duration = min(*rounds, 2), min(*duration, 700*time.Millisecond)
	}
	if *rounds < 1 || *duration <= 0 || *words < 1 {
		return errors.New("-rounds, -duration and -words must be positive")
	}
	chosen, err := choose(scenarios(settings{lasting: *duration, words: *words, quick: *quick}), *names)
	if err != nil {
		return err
	}
	if _, err := usageOf([]int{os.Getpid()}); err != nil {
		return fmt.Errorf("the bench reads /proc, as Linux has it: %w", err)
	}
	about, err := describe(*binary)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, longest, fmt.Errorf("not finished within %v", longest))
	defer cancel()

	begun := time.Now()
	b := &bench{binary: *binary, dir: dir, rounds: *rounds, profile: *profile, progress: stderr}
	var results []result
	for _, sc := range chosen {
		r, err := b.run(ctx, sc)
		if err != nil {
			return fmt.Errorf("%s: %w", sc.name, err)
		}
		results = append(results, r)
	}
	fmt.Fprintf(stderr, "finished in %v\n", time.Since(begun).Round(time.Second))

	about = fmt.Sprintf("%s %d interleaved rounds, %d nodes; they, the client and the peers shared %d cores.",
		about, *rounds, nodeCount, runtime.NumCPU())
	var report strings.Builder
	if err := writeReport(&report, about, results); err != nil {
		return err
	}
	if _, err := io.WriteString(stdout, report.String()); err != nil {
		return err
	}
	if *out == "" {
		return nil
	}
	return os.WriteFile(*out, []byte(report.String()), 0o644)
}

// choose picks the scenarios whose names hold one of the parts.
func choose(all []scenario, parts string) ([]scenario, error) {
	if parts == "all" {
		return all, nil
	}
	var chosen []scenario
	for _, sc := range all {
		for part := range strings.SplitSeq(parts, ",") {
			if strings.Contains(sc.name, part) {
				chosen = append(chosen, sc)
				break
			}
		}
	}
	if len(chosen) > 0 {
		return chosen, nil
	}
	var names []string
	for _, sc := range all {
		names = append(names, sc.name)
	}
	return nil, fmt.Errorf("no scenario %q; there are %s", parts, strings.Join(names, ", "))
}

// describe tells what the binary was built from.
func describe(binary string) (string, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return "", fmt.Errorf("%w; build it with: make build", err)
	}
	caddyVersion, revision, modified := "unknown", "unknown", ""
	for _, dep := range info.Deps {
		if dep.Path == "github.com/caddyserver/caddy/v2" {
			caddyVersion = dep.Version
		}
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = ", modified"
		}
	}
	return fmt.Sprintf("Revision %s%s, Caddy %s, %s.", revision, modified, caddyVersion, info.GoVersion), nil
}

// A bench is one run.
type bench struct {
	binary, dir string
	rounds      int
	profile     string
	progress    io.Writer
	nonce       uint64
}

// run measures a scenario with processes of its own, so that none carries over what another
// one has left in its memory.
func (b *bench) run(ctx context.Context, sc scenario) (r result, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		if cause := context.Cause(ctx); cause != nil {
			err = cause // says more than the failure it has led to
		}
	}()
	f, err := startFleet(ctx, b.binary, b.dir, cancel)
	if err != nil {
		return result{}, err
	}
	defer f.Close()

	r.scenario = sc
	for n := range b.rounds {
		fmt.Fprintf(b.progress, "%s, round %d of %d\n", sc.name, n+1, b.rounds)
		samples := make(round)
		for turn := range max(sc.load.turns, 1) {
			// Whoever comes first after a pause is not always the same one.
			for i := range f.peers {
				p := f.peers[(n+turn+i)%len(f.peers)]
				s, err := sc.load.run(ctx, p, f.nodes, &b.nonce)
				if err != nil {
					return result{}, err
				}
				if samples[p.name] == nil {
					samples[p.name] = new(sample)
				}
				samples[p.name].merge(s)
			}
		}
		for _, s := range samples {
			s.settle()
		}
		r.rounds = append(r.rounds, samples)
	}
	if b.profile != "" && sc.profile {
		fmt.Fprintf(b.progress, "%s: profiles\n", sc.name)
		if err := profileProxies(ctx, b.profile, sc, f, &b.nonce); err != nil {
			return result{}, err
		}
	}
	return r, nil
}
