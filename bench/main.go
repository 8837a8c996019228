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
	"slices"
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
const longest = 45 * time.Minute

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	binary := flags.String("binary", "bin/caddy-ollama", "the `file` to measure")
	rounds := flags.Int("rounds", 5, "how often each peer is measured in each scenario; those of faults, of idle clients and of routing, cache-memory and the coalesce-trace ones have one round")
	names := flags.String("scenarios", "all", "comma-separated `names`, or parts of names")
	duration := flags.Duration("duration", 2*time.Second, "of each measurement of a rate")
	words := flags.Int("words", 8, "of an unstreamed answer: what a node streams to the gateway as so many records")
	quick := flags.Bool("quick", false, "about a minute: two rounds of shorter loads, and neither faults nor idle clients nor routing nor the cache nor what is answered together nor telemetry nor the blog unless they are named")
	out := flags.String("out", "", "a `file` for the report, besides the standard output")
	profile := flags.String("profile", "", "a `directory` for CPU and heap profiles of rate-64, records-64, cache-call-64, cache-stream-100, cache-miss-64, coalesce-frames, coalesce-1000, the telemetry ones and pages of the blog")
	keep := flags.Bool("keep", false, "keep the directory with logs and Caddyfiles: the last scenario's")
	played := roleFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := played.play(); !errors.Is(err, errNoRole) {
		return err
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
	what := everything(settings{lasting: *duration, words: *words, quick: *quick})
	if err := what.choose(*names); err != nil {
		return err
	}
	if *quick && *names == "all" {
		what = selection{scenarios: what.scenarios}
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
	if *keep {
		fmt.Fprintln(stderr, "logs and Caddyfiles are in", dir)
	} else {
		defer os.RemoveAll(dir)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, longest, fmt.Errorf("not finished within %v", longest))
	defer cancel()

	begun := time.Now()
	b := &bench{binary: *binary, dir: dir, rounds: *rounds, profile: *profile, progress: stderr}
	results, err := b.measure(ctx, what)
	if err != nil {
		return err
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

// measure measures whatever was chosen.
func (b *bench) measure(ctx context.Context, what selection) (all results, err error) {
	for _, sc := range slices.Concat(what.scenarios, what.caches, what.sharings, what.watchings, what.blogs) {
		r, err := b.run(ctx, sc)
		if err != nil {
			return all, fmt.Errorf("%s: %w", sc.name, err)
		}
		all.scenarios = append(all.scenarios, r)
	}
	for _, d := range what.drills {
		r := drillResult{drill: d, samples: make(map[string]*drillSample)}
		for _, name := range proxies {
			if r.samples[name], err = b.drill(ctx, d, name); err != nil {
				return all, fmt.Errorf("%s, %s: %w", d.name, name, err)
			}
		}
		all.drills = append(all.drills, r)
	}
	for _, c := range what.crowds {
		r := crowdResult{crowd: c, samples: make(map[string]*crowdSample)}
		for _, name := range proxies {
			if r.samples[name], err = b.crowd(ctx, c, name); err != nil {
				return all, fmt.Errorf("%s, %s: %w", c.name, name, err)
			}
		}
		all.crowds = append(all.crowds, r)
	}
	for _, one := range what.routings {
		r := routingResult{routing: one, samples: make(map[string]*routingSample)}
		for _, name := range proxies {
			if r.samples[name], err = b.route(ctx, one, name); err != nil {
				return all, fmt.Errorf("%s, %s: %w", one.name(), name, err)
			}
		}
		all.routings = append(all.routings, r)
	}
	for _, h := range what.hoards {
		r := hoardResult{hoard: h}
		if r.samples, err = b.hoard(ctx, h); err != nil {
			return all, fmt.Errorf("%s: %w", h.name, err)
		}
		all.hoards = append(all.hoards, r)
	}
	return all, nil
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
	r.scenario = sc
	with := plainSetup
	if sc.setup != nil {
		with = *sc.setup
	}
	if with.redis {
		if r.skipped = noRedis(); r.skipped != "" {
			return r, nil
		}
	}
	f, err := startFleet(ctx, b.binary, b.dir, with, cancel)
	if err != nil {
		return result{}, err
	}
	defer f.Close()
	if err := sc.prepare(ctx, f); errors.Is(err, errNotInRedis) {
		r.skipped = err.Error()
		return r, nil
	} else if err != nil {
		return result{}, err
	}
	if sc.before != nil {
		if err := sc.before(ctx, f); err != nil {
			return result{}, err
		}
	}

	peers := f.among(sc.peers())
	rounds := b.rounds
	if sc.once {
		rounds = 1
	}
	for n := range rounds {
		fmt.Fprintf(b.progress, "%s, round %d of %d\n", sc.name, n+1, rounds)
		samples := make(round)
		for turn := range max(sc.load.turns, 1) {
			// Whoever comes first after a pause is not always the same one.
			for i := range peers {
				p := peers[(n+turn+i)%len(peers)]
				s, err := sc.turn(ctx, f, p, &b.nonce)
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
	if sc.told != nil {
		r.notes = append(r.notes, sc.told(r.rounds))
	}
	if sc.after != nil {
		note, err := sc.after(ctx, f)
		if err != nil {
			return result{}, err
		}
		r.notes = append(r.notes, note)
	}
	if b.profile != "" && sc.profile {
		fmt.Fprintf(b.progress, "%s: profiles\n", sc.name)
		if err := profileProxies(ctx, b.profile, sc, f, &b.nonce); err != nil {
			return result{}, err
		}
	}
	return r, nil
}
