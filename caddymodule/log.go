package caddymodule

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap/exp/zapslog"
)

// A logRelay passes the engine's records on to the logger of the newest configuration that
// runs, because the engine outlives all of them. While none runs they go to Caddy's default
// logger. It is safe for concurrent use.
type logRelay struct {
	mu       sync.Mutex // guards what follows
	handlers []*slog.Handler
}

func newLogRelay() *logRelay { return new(logRelay) }

// attach makes h the target until detach is called or a newer one is attached.
func (l *logRelay) attach(h slog.Handler) (detach func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handlers = append(l.handlers, &h)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.handlers = slices.DeleteFunc(l.handlers, func(other *slog.Handler) bool { return other == &h })
	}
}

func (l *logRelay) target() slog.Handler {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.handlers); n > 0 {
		return *l.handlers[n-1]
	}
	return zapslog.NewHandler(caddy.Log().Core(), zapslog.WithName("ollama"))
}

func (l *logRelay) logger() *slog.Logger { return slog.New(&relayHandler{relay: l}) }

// A relayHandler finds its target anew for each record, and replays on it what WithAttrs and
// WithGroup asked for.
type relayHandler struct {
	relay *logRelay
	with  []func(slog.Handler) slog.Handler
}

func (h *relayHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.relay.target().Enabled(ctx, level)
}

func (h *relayHandler) Handle(ctx context.Context, r slog.Record) error {
	target := h.relay.target()
	for _, with := range h.with {
		target = with(target)
	}
	return target.Handle(ctx, r)
}

func (h *relayHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.plus(func(t slog.Handler) slog.Handler { return t.WithAttrs(attrs) })
}

func (h *relayHandler) WithGroup(name string) slog.Handler {
	return h.plus(func(t slog.Handler) slog.Handler { return t.WithGroup(name) })
}

func (h *relayHandler) plus(with func(slog.Handler) slog.Handler) slog.Handler {
	return &relayHandler{relay: h.relay, with: append(slices.Clip(h.with), with)}
}
