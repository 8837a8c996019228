package caddymodule

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWriteNodes(t *testing.T) {
	now := time.Now()
	var b strings.Builder
	err := writeNodes(&b, []nodeStatus{
		{
			Name: "big", URL: "http://10.0.0.1:11434", State: "up", Since: now.Add(-90 * time.Second), Version: "0.24.0",
			Slots: 4, InFlight: 3, Models: 12,
			Runners: []runnerStatus{
				{
					Model: "llama3:latest", ContextLength: 1 << 20, Options: map[string]any{"use_mmap": true, "num_ctx": float64(1 << 20)},
					Size: 6 << 30, SizeVRAM: 6 << 30, PromptRate: 1234567.8, DecodeRate: 41,
				},
				{Model: "qwen3:8b", Size: 5 << 30, SizeVRAM: 3 << 29},
				{Model: "new"}, // it was not listed yet
			},
			Loads: []loadStatus{
				{Model: "qwen3:8b", Reason: "wait", At: now.Add(-3 * time.Hour), Took: 3723.4, Failed: true},
				{
					Model: "llama3:latest", Reason: "first", At: now.Add(-3*time.Minute - 10*time.Second), Took: 4.21,
					Evicted: []string{"phi4:latest", "mistral:7b"}, Again: true,
				},
				{Model: "new", Reason: "preload", At: now.Add(-time.Second), Took: 0.0851},
			},
		},
		{Name: "old", URL: "http://10.0.0.2:11434", State: "down", Since: now.Add(-50 * time.Hour), Reason: "connection refused", Slots: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `
NAME  URL                    STATE      REASON              SLOTS  IN FLIGHT  VERSION  MODELS  LOADED
big   http://10.0.0.1:11434  up (1m)    -                   4      3          0.24.0   12      llama3 qwen3:8b new
old   http://10.0.0.2:11434  down (2d)  connection refused  1      0          -        0       -

NODE  LOADED    CONTEXT  OPTIONS                        VRAM                PROMPT TOK/S  DECODE TOK/S
big   llama3    1048576  num_ctx=1048576 use_mmap=true  6.0 GiB             1234567.8     41.0
big   qwen3:8b  -        -                              1.5 GiB of 5.0 GiB  -             -
big   new       -        -                              -                   -             -

NODE  LAST LOADS
big   qwen3:8b failed 1h ago after 1h2m3s: wait
big   llama3 loaded 3m ago in 4.2s: first, phi4 and mistral:7b unloaded for it, in use there less than 5m before
big   new loaded 0s ago in 85ms: preload
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteNodes_SaysNothingOfRunnersAndLoadsIfThereAreNone(t *testing.T) {
	var b strings.Builder
	if err := writeNodes(&b, []nodeStatus{{Name: "a", URL: "http://a:11434", State: "down", Reason: "not asked yet", Slots: 1}}); err != nil {
		t.Fatal(err)
	}
	want := `
NAME  URL             STATE  REASON         SLOTS  IN FLIGHT  VERSION  MODELS  LOADED
a     http://a:11434  down   not asked yet  1      0          -        0       -
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
