package caddymodule

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLogRelay_NewestAttachedGetsTheRecords(t *testing.T) {
	relay := newLogRelay()
	log := relay.logger().With("room", "fleet").WithGroup("g")
	var first, second bytes.Buffer
	log.Info("to Caddy's default logger") // must not fail

	detachFirst := relay.attach(slog.NewTextHandler(&first, nil))
	log.Info("a", "k", 1)
	detachSecond := relay.attach(slog.NewTextHandler(&second, &slog.HandlerOptions{Level: slog.LevelWarn}))
	log.Info("b")
	log.Warn("c")
	detachSecond()
	detachSecond()
	log.Info("d")
	if got := first.String(); !strings.Contains(got, "msg=a room=fleet g.k=1\n") || !strings.Contains(got, "msg=d") ||
		strings.Contains(got, "msg=b") || strings.Contains(got, "msg=c") {
		t.Errorf("first: %s", got)
	}
	if got := second.String(); !strings.Contains(got, "msg=c") || strings.Count(got, "\n") != 1 {
		t.Errorf("second: %s", got)
	}
	detachFirst()
	log.Info("e")
	if strings.Contains(first.String(), "msg=e") {
		t.Error("a detached handler got a record")
	}
}
