package wire

import (
	"encoding/json"
	"testing"
)

func TestJudge_AllocatesNothingForAPart(t *testing.T) {
	for name, bench := range hotFrames {
		j := NewJudge(bench.d, bench.op)
		j.Frame(bench.frame) // what grows once
		least := 1.0
		for range 50 { // under the race detector a pool loses things at random
			least = min(least, testing.AllocsPerRun(1, func() { j.Frame(bench.frame) }))
		}
		if least > 0 {
			t.Errorf("%s: %v allocations a frame", name, least)
		}
	}
}

var hotFrames = map[string]struct {
	d     Dialect
	op    Operation
	frame []byte
}{
	"chat":      {Ollama, Chat, []byte(`{"model":"tiny","created_at":"2026-11-23T13:02:23.240563359Z","message":{"role":"assistant","content":" green"},"done":false}` + "\n")},
	"generate":  {Ollama, Generate, []byte(`{"model":"tiny","created_at":"2026-11-23T13:01:25.03402574Z","response":" .","done":false}` + "\n")},
	"chunk":     {OpenAI, Chat, []byte(`data: {"id":"chatcmpl-627","object":"chat.completion.chunk","created":1795439002,"model":"tiny","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":" today"},"finish_reason":null}]}` + "\n\n")},
	"messages":  {Anthropic, Chat, []byte("event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" can"}}` + "\n\n")},
	"responses": {OpenAI, Responses, []byte("event: response.output_text.delta\n" + `data: {"content_index":0,"delta":" today","item_id":"msg_152436","logprobs":[],"output_index":0,"sequence_number":4,"type":"response.output_text.delta"}` + "\n\n")},
}

// BenchmarkJudge compares the judging of a part with its decoding by encoding/json.
func BenchmarkJudge(b *testing.B) {
	for name, bench := range hotFrames {
		b.Run("frame="+name+"/ours", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bench.frame)))
			j := NewJudge(bench.d, bench.op)
			for b.Loop() {
				if kind, err := j.Frame(bench.frame); kind != Part || err != nil {
					b.Fatal(kind, err)
				}
			}
		})
		b.Run("frame="+name+"/plain", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bench.frame)))
			data := bench.frame
			if bench.d != Ollama {
				data, _ = eventData(bench.frame)
			}
			for b.Loop() {
				var record struct {
					Done       bool
					DoneReason string `json:"done_reason"`
					Model      string
					Error      json.RawMessage
					Choices    []struct {
						Delta        struct{ Content string }
						FinishReason *string `json:"finish_reason"`
					}
				}
				if err := json.Unmarshal(data, &record); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
