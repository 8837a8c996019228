package replica

import (
	"bytes"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-ollama/caddy-ollama/internal/redistest"
)

// What the budget, the breaker and the bound dial cost beside plain go-redis.
func BenchmarkGet8KiB(b *testing.B) {
	s := redistest.Start(b)
	value := bytes.Repeat([]byte("x"), 8<<10)
	for _, url := range []struct{ name, url string }{{"unix", s.URL()}, {"proxied", s.Proxy().URL()}} {
		b.Run(url.name+"/ours", func(b *testing.B) {
			c, _ := connected(b, url.url, patient)
			if err := c.Set(b.Context(), "k", value, 0); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if got, err := c.Get(b.Context(), "k"); err != nil || len(got) != len(value) {
					b.Fatal(len(got), err)
				}
			}
		})
		b.Run(url.name+"/plain", func(b *testing.B) {
			o, err := redis.ParseURL(url.url)
			if err != nil {
				b.Fatal(err)
			}
			c := redis.NewClient(o)
			defer c.Close()
			b.ReportAllocs()
			for b.Loop() {
				if got, err := c.Get(b.Context(), "k").Bytes(); err != nil || len(got) != len(value) {
					b.Fatal(len(got), err)
				}
			}
		})
	}
}

func BenchmarkGetWhileDown(b *testing.B) {
	c, _ := connect(b, "unix:///nowhere", DefaultBudget)
	redistest.Until(b, "down", func() bool { return !c.Up() })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Get(b.Context(), "k"); err != ErrDown {
			b.Fatal(err)
		}
	}
}
