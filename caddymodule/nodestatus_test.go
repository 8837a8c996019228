package caddymodule

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
)

func TestLoadStatuses_NameModelsAsPeopleDo(t *testing.T) {
	got, err := json.Marshal(loadStatuses([]schedule.LoadRecord{
		{
			Model: "registry.ollama.ai/library/llama3:latest", Reason: schedule.ReasonFirst, Took: 4200 * time.Millisecond,
			Evicted: []string{"registry.ollama.ai/team/m:8b"}, Again: true,
		},
		{Model: "registry.ollama.ai/library/phi4:14b", Reason: schedule.ReasonPreload, Took: time.Second, Failed: true},
	}))
	want := `[{"model":"llama3:latest","reason":"first","evicted":["team/m:8b"],"at":"0001-01-01T00:00:00Z","took":4.2,"again":true},` +
		`{"model":"phi4:14b","reason":"preload","at":"0001-01-01T00:00:00Z","took":1,"failed":true}]`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if got, err := json.Marshal(loadStatuses(nil)); err != nil || string(got) != "[]" {
		t.Errorf("no loads: got %s, %v, want []", got, err)
	}
}
