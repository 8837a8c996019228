package cache

import (
	"reflect"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

func TestPast_TravelsWithItsEntry(t *testing.T) {
	m := Meta{
		Stored: time.Unix(1, 0).UTC(), TTL: time.Hour, Shared: true,
		Past: &Past{Seen: 12, Changed: 3, Watched: 7 * time.Hour, Said: 1<<64 - 1, Source: 7, Keep: 7 * 24 * time.Hour},
	}
	e, err := Unmarshal(NewEntry(m, Answer{Object: []byte("{}")}).Marshal())
	if err != nil || !reflect.DeepEqual(e.Meta.Past, m.Past) || !e.Meta.Shared {
		t.Errorf("%+v, %v", e, err)
	}
	for name, wrong := range map[string]Past{
		"more changes than refreshes": {Seen: 1, Changed: 2},
		"more refreshes than count":   {Seen: mostSeen + 1},
		"kept too long":               {Keep: DefaultMax + 1},
	} {
		m.Past = &wrong
		if _, err := Unmarshal(NewEntry(m, Answer{Object: []byte("{}")}).Marshal()); err == nil {
			t.Errorf("%s: is read", name)
		}
	}
}

func TestSuccession_CountsWhatTimeDoes(t *testing.T) {
	const hour = time.Hour
	adaptive := &call.Adaptive{Target: 0.05, First: time.Minute, Min: time.Minute, Max: 7 * 24 * hour}
	tags := *adaptive
	tags.SourceTags = true
	for _, c := range []struct {
		name         string
		s            succession
		seen, change uint32
		result       string
	}{
		{"the first answer", succession{after: Past{Said: 1}}, 0, 0, ""},
		{"equal", succession{before: &Past{Said: 1}, after: Past{Said: 1}, lasted: hour}, 1, 0, RefreshEqual},
		{"differs", succession{before: &Past{Said: 1}, after: Past{Said: 2}, lasted: hour}, 1, 1, RefreshChanged},
		{"made anew at once", succession{before: &Past{Said: 1}, after: Past{Said: 2}, lasted: time.Second}, 0, 0, ""},
		{"purged", succession{before: &Past{Said: 1}, after: Past{Said: 2}, lasted: hour, told: true}, 0, 0, ""},
		{"purged, which is the source", succession{Adaptive: &tags, before: &Past{Said: 1}, after: Past{Said: 1}, told: true}, 1, 1, RefreshChanged},
		{"not purged", succession{Adaptive: &tags, before: &Past{Said: 1}, after: Past{Said: 2}, lasted: hour}, 1, 0, RefreshEqual},
		{"another source at once", succession{before: &Past{Said: 1, Source: 1}, after: Past{Said: 1, Source: 2}}, 1, 1, RefreshChanged},
		{"the same source", succession{before: &Past{Said: 1, Source: 1}, after: Past{Said: 2, Source: 1}, lasted: hour}, 1, 0, RefreshEqual},
		{"differs as noise does", succession{before: &Past{Said: 1, Seen: 9, Changed: 3, Watched: hour}, after: Past{Said: 2}, lasted: hour, life: time.Minute}, 10, 4, RefreshDoubtful},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.s.Adaptive == nil {
				c.s.Adaptive = adaptive
			}
			if c.s.life == 0 {
				c.s.life = hour
			}
			p, life, result := c.s.next()
			if p.Seen != c.seen || p.Changed != c.change || result != c.result {
				t.Errorf("%d/%d %q, want %d/%d %q", p.Seen, p.Changed, result, c.seen, c.change, c.result)
			}
			if life < adaptive.Min || life > 2*hour {
				t.Errorf("the TTL is %s", life)
			}
		})
	}
}
