package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

const (
	// warmPrompts is how many prompts are asked again and again, as the reference measurements had it.
	warmPrompts = 200

	// redisPrompts are many more than a gateway with the smallest memory keeps, so that nearly all
	// hits come from Redis.
	redisPrompts = 12_000

	// longAnswer is the length of usual answers, in words. Of a stream it makes 100 records.
	longAnswer   = 99
	longerAnswer = 299
)

// cacheScenarios are about stored answers, in the order of the goals.
func cacheScenarios(s settings) []scenario {
	calls, turns := 3000, 2
	if s.quick {
		calls, turns = 1000, 1
	}
	hit := func(clients, words int) load {
		l := load{clients: clients, words: words, known: warmPrompts, deterministic: true, turns: turns}
		if clients == 1 {
			l.answers = calls
		} else {
			l.lasting = s.lasting * 2 / 5 // there are many of them
		}
		return l
	}
	stream := func(words int) load {
		l := hit(64, words)
		l.stream = true
		return l
	}
	once := func(clients int) load {
		l := hit(clients, s.words)
		l.known = 0
		return l
	}
	fromRedis := func(clients int) load {
		l := hit(clients, s.words)
		l.known = redisPrompts
		return l
	}
	hits := perSecond("hits/s")
	all := []scenario{
		{
			name: "cache-call-1", about: "One client, stored single answers; `caddy` is `respond` with as large a body",
			load: hit(1, s.words), setup: respondSetup(s.words), rows: []string{caddy, gateway}, warm: []string{gateway},
			figures: []figure{
				callMillis("p50 ms", 0.5).goal(7, 1.5, 1.25),
				callMillis("p99 ms", 0.99),
				cpuPer1000(),
				bodyBytes(),
			},
		},
		{
			name: "cache-call-64", about: "Stored single answers over 64 connections; `caddy` is `respond` with as large a body",
			load: hit(64, s.words), setup: respondSetup(s.words), rows: []string{caddy, gateway}, warm: []string{gateway},
			figures: append([]figure{
				hits.goal(6, 0.5, 0.8),
				cpuPer1000().goal(6, 2, 1.4),
			}, hitFigures()...), profile: true,
		},
		{
			name: "cache-long-64", about: fmt.Sprintf("The same, with answers of %d words", longAnswer),
			load: hit(64, longAnswer), setup: respondSetup(longAnswer), rows: []string{caddy, gateway}, warm: []string{gateway},
			figures: append([]figure{hits, cpuPer1000()}, hitFigures()...),
		},
	}
	for _, words := range []int{longAnswer, longerAnswer} {
		all = append(all, scenario{
			name: fmt.Sprintf("cache-stream-%d", words+1), profile: words == longAnswer,
			about: fmt.Sprintf("Stored streams of %d records, 64 at a time; `caddy` gets them from the nodes, at once", words+1),
			load:  stream(words), setup: cacheSetup(caddy, gateway), rows: []string{caddy, gateway}, warm: []string{gateway},
			figures: append([]figure{
				hits.goal(8, 2, 3),
				cpuPer1000(),
				nodesCPU(),
			}, hitFigures()...),
		})
	}
	const both = "each asked once; `uncached` is a gateway without the word cache"
	missed := cacheSetup(uncached, gateway)
	// So that it is full at once, as it is in use, and each answer that comes must be weighed
	// against others. A cache that still grows would also make the collector's work look smaller.
	missed.caches[gateway] = []string{"memory 1MiB", "ttl 1h"}
	all = append(all,
		scenario{
			name: "cache-miss-1", about: "One client, single answers that are stored and " + both,
			load: once(1), setup: missed, rows: []string{uncached, gateway},
			figures: []figure{
				against(uncached, callMillis("p50 ms", 0.5)).goal(0, 1.05, 0),
				against(uncached, callMillis("p99 ms", 0.99)),
				against(uncached, cpuPer1000()),
				bodyBytes(),
			},
		},
		scenario{
			name: "cache-miss-64", about: "Single answers over 64 connections that are stored and " + both,
			load: once(64), setup: missed, rows: []string{uncached, gateway}, profile: true,
			figures: []figure{
				against(uncached, perSecond("req/s")),
				against(uncached, cpuPer1000()),
				against(uncached, callMillis("p99 ms", 0.99)),
				against(uncached, rssMax()),
				nodesCPU(),
			},
		},
	)
	for _, clients := range []int{1, 64} {
		all = append(all, scenario{
			name: fmt.Sprintf("cache-redis-%d", clients), about: fmt.Sprintf("The same stored answers from memory and from Redis, over %d connections", clients),
			load: fromRedis(clients), setup: redisSetup(), rows: []string{gateway, redis}, warm: []string{gateway}, after: whence,
			figures: []figure{
				against(gateway, hits),
				against(gateway, callMillis("p50 ms", 0.5)),
				against(gateway, callMillis("p99 ms", 0.99)),
				against(gateway, cpuPer1000()),
				bodyBytes(),
			},
		})
	}
	return all
}

func hitFigures() []figure {
	return []figure{callMillis("p99 ms", 0.99), rssMax(), bodyBytes()}
}

// bodyBytes shows that the compared answers are of one size.
func bodyBytes() figure {
	return plain(figure{name: "body bytes", value: func(s, _ *sample) float64 { return float64(s.bytes) / float64(s.answers) }})
}

// cacheSetup has nodes that answer at once; the gateway has a cache.
func cacheSetup(proxies ...string) *setup {
	s := plainSetup
	s.proxies, s.config = proxies, cacheCaddyfile
	s.caches = map[string][]string{gateway: {"ttl 1h"}}
	return &s
}

// respondSetup lets plain Caddy answer everything with the answer to the first known prompt.
func respondSetup(words int) *setup {
	s := cacheSetup(caddy, gateway)
	s.body = respondBody(words)
	s.answers = func(c *client) error {
		return c.ask(prompt{words: words, nonce: firstKnown, deterministic: true}, false, new(observer))
	}
	return s
}

// redisSetup has a gateway whose answers are in Redis as well, and one that finds them there,
// because its memory is the smallest there can be.
func redisSetup() *setup {
	s := cacheSetup(gateway, redis)
	s.redis = true
	store := []string{"redis {env." + redisEnv + "}", "secret {env." + secretEnv + "}", "ttl 1h"}
	s.caches = map[string][]string{gateway: store, redis: append([]string{"memory 1MiB"}, store...)}
	return s
}

// respondBody is a node's answer to the first known prompt, but with brackets for braces: in
// braces are placeholders, and Caddy would look for what they mean each time.
func respondBody(words int) string {
	var n nodeConn
	n.whole(prompt{words: words, nonce: firstKnown})
	return strings.NewReplacer("{", "[", "}", "]").Replace(string(n.record))
}

// prepare has everybody ask all known prompts who is to know the answers when the rounds begin.
func (sc scenario) prepare(ctx context.Context, f *fleet) error {
	for _, p := range f.among(sc.warm) {
		l := sc.load
		// Each of eight clients asks as many as there are prompts for it, one after the other.
		const clients = 8
		failed := make(chan error, clients)
		for i := range clients {
			go func() { // ends with its answers
				c := &client{ctx: ctx, addr: p.addrs[0]}
				defer c.close()
				var err error
				for k := i; k < l.known && err == nil; k += clients {
					err = c.ask(prompt{words: l.words, nonce: firstKnown + uint64(k), deterministic: true}, l.stream, new(observer))
				}
				failed <- err
			}()
		}
		var err error
		for range clients {
			if one := <-failed; one != nil {
				err = fmt.Errorf("ask %s what it is to store: %w", p.name, one)
			}
		}
		if err != nil {
			return err
		}
	}
	if f.setup.redis {
		return f.redisHolds(ctx, sc.load.known)
	}
	return nil
}

// among are the peers of these names.
func (f *fleet) among(names []string) (these []*peer) {
	for _, p := range f.peers {
		if slices.Contains(names, p.name) {
			these = append(these, p)
		}
	}
	return these
}

// whence tells where the hits of the gateway that is to have them from Redis came from.
func whence(ctx context.Context, f *fleet) (string, error) {
	p := f.among([]string{redis})[0]
	var hits [2]float64
	for i, backend := range []string{"memory", "redis"} {
		var err error
		if hits[i], err = p.counter(ctx, "caddy_ollama_cache_requests_total", `result="hit"`, `backend="`+backend+`"`); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("By its own count `%s` had %.0f %% of its hits from Redis, the others from its memory.", redis, 100*hits[1]/(hits[0]+hits[1])), nil
}
