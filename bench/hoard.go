package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// A hoard is more answers than a gateway has memory for, and what it takes for them all the same.
type hoard struct {
	name, about string
	load        load
	limit       int64 // bytes of answers, as the word memory says
}

// hoards are all there are. With answers of 40 words the limit is reached with some 9000 of them.
func hoards(quick bool) []hoard {
	const clients, limit = 8, 16 << 20
	answers := 10_000
	if quick {
		answers = 2000
	}
	return []hoard{{
		name: "cache-memory", limit: limit,
		about: fmt.Sprintf("%d distinct answers of 40 words, of which `gateway` may keep 16 MiB; `uncached` is one without the word cache", answers),
		load:  load{clients: clients, words: 40, answers: answers / clients, deterministic: true},
	}}
}

// A hoardSample is what a gateway has in memory in the end.
type hoardSample struct {
	answers, failed int
	fault           error
	rss             int64 // bytes, as it is when nothing has been asked for a while
	heap            int64 // bytes that are in use after a collection
}

// hoard asks two gateways for the same answers, one after the other.
func (b *bench) hoard(ctx context.Context, h hoard) (samples map[string]*hoardSample, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		if cause := context.Cause(ctx); cause != nil {
			err = cause // says more than the failure it has led to
		}
	}()
	with := cacheSetup(uncached, gateway)
	with.caches[gateway] = []string{fmt.Sprint("memory ", h.limit>>20, "MiB"), "ttl 1h"}
	f, err := startFleet(ctx, b.binary, b.dir, *with, cancel)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	samples = make(map[string]*hoardSample)
	for _, p := range f.among(hoarders) {
		fmt.Fprintf(b.progress, "%s, %s\n", h.name, p.name)
		got, err := h.load.run(ctx, p, f.nodes, &b.nonce)
		if err != nil {
			return nil, err
		}
		s := &hoardSample{answers: got.answers, failed: got.failed, fault: got.fault}
		if s.rss, err = settledRSS(ctx, p); err != nil {
			return nil, err
		}
		if s.heap, err = p.heap(ctx); err != nil {
			return nil, err
		}
		samples[p.name] = s
	}
	return samples, nil
}

// hoarders is the order of the rows.
var hoarders = []string{uncached, gateway}

// heap has the peer collect its garbage, and is what is left of its heap then, in bytes.
func (p *peer) heap(ctx context.Context) (int64, error) {
	resp, err := p.ask(ctx, "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	return parseHeap(text)
}

// parseHeap takes the bytes in use out of a heap profile in words.
func parseHeap(profile []byte) (bytesUsed int64, err error) {
	_, rest, ok := bytes.Cut(profile, []byte("\n# HeapAlloc = "))
	if !ok {
		return 0, fmt.Errorf("no HeapAlloc in a heap profile of %d bytes", len(profile))
	}
	_, err = fmt.Sscan(string(rest[:min(len(rest), 20)]), &bytesUsed)
	return bytesUsed, err
}

// A hoardResult is one hoard in both gateways.
type hoardResult struct {
	hoard   hoard
	samples map[string]*hoardSample
}

const (
	// mostOfLimit is how much of the word memory the answers and all that keeps them may take.
	mostOfLimit = 1.1

	// mostResident is how much the process may be larger, as a part of that: Go lets a heap grow to
	// twice of what is in use before it collects.
	mostResident = 2 * mostOfLimit
)

// more is how much larger a figure is with the cache, as a part of the limit.
func (r hoardResult) more(of func(*hoardSample) int64) float64 {
	return float64(of(r.samples[gateway])-of(r.samples[uncached])) / float64(r.hoard.limit)
}

func heapOf(s *hoardSample) int64 { return s.heap }

func rssOf(s *hoardSample) int64 { return s.rss }

func (r hoardResult) writeGoals(out *printer) {
	for _, g := range []struct {
		figure string
		value  float64
		must   float64
	}{
		{"heap in use, what it is more than without a cache, to the limit", r.more(heapOf), mostOfLimit},
		{"RSS, likewise", r.more(rssOf), mostResident},
	} {
		out.print("| | %s | %s | **%s** | <= %s | | %s |\n", r.hoard.name, g.figure, ratio(g.value), ratio(g.must), kept(g.value <= g.must))
	}
}

func (r hoardResult) write(out *printer) {
	out.print("\n## %s\n\n%s.\n\n| peer | answers | failed | heap in use MB | RSS MB |\n|---|---|---|---|---|\n", r.hoard.name, r.hoard.about)
	for _, name := range hoarders {
		s := r.samples[name]
		out.print("| %s | %d | %d | %s | %s |\n", name, s.answers, s.failed, number(megabytes(s.heap)), number(megabytes(s.rss)))
	}
	for _, name := range hoarders {
		if err := r.samples[name].fault; err != nil {
			out.print("\nFirst failure of %s: `%v`\n", name, err)
		}
	}
}
