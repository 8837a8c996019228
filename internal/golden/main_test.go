package golden

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var all = []string{
	"anthropic", "chat", "embed", "embeddings", "encoding", "faults", "general", "generate", "hostile", "models",
	"openai-chat", "openai-completions", "openai-embeddings", "openai-other", "openai-responses", "pull", "queue", "sched",
}
