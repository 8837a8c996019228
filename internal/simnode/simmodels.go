package simnode

import "time"

// SimModels are models for people who try something in front of a node without having one. Their names begin with
// "sim-"; they answer at a reading pace, the first token after some 0.2 s.
func SimModels() []Model {
	const (
		header = `{{- range .Messages }}<|{{ .Role }}|>{{ .Content }}`
		footer = `<|end|>{{ end }}<|assistant|>`
	)
	base := Model{
		ParameterSize: "8B", Quantization: "Q4_K_M", Size: 4_900_000_000, CacheBytes: 128 << 10, Template: header + footer,
		ContextLength: 32768, EmbeddingLength: 1024, LoadTime: 1500 * time.Millisecond,
		FirstToken: 180 * time.Millisecond, PromptRate: 2000, DecodeRate: 30, ShortestAnswer: 40, LongestAnswer: 160,
	}
	named := func(name string, capabilities ...string) Model {
		m := base
		m.Name, m.Capabilities = name, capabilities
		return m
	}
	chat := named("sim-chat", Completion)

	small := named("sim-small", Completion)
	small.ParameterSize, small.Size, small.LoadTime = "1B", 800_000_000, 400*time.Millisecond
	small.FirstToken, small.DecodeRate = 60*time.Millisecond, 90

	think := named("sim-think", Completion, Thinking)
	think.Template = header + `{{ if and $.IsThinkSet (not $.Think) (eq .Role "user") }} /no_think{{ end }}` + footer

	tool := named("sim-tool", Completion, Tools)
	tool.Template = `{{- if .Tools }}<|system|>{{ range .Tools }}{{ . }}{{ end }}<|end|>{{ end }}` + header +
		`{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}{{ end }}` + footer

	eyes := named("sim-vision", Completion, Vision)

	code := named("sim-code", Completion, Insert)
	code.Template = `{{ if .Suffix }}<|user|>{{ .Prompt }}<|end|>{{ .Suffix }}<|assistant|>{{ else }}` + header + footer + `{{ end }}`

	embed := Model{
		Name: "sim-embed", Capabilities: []string{Embedding}, Family: "nomic-bert", ParameterSize: "137M",
		Quantization: "F16", Size: 274_000_000, ContextLength: 2048, EmbeddingLength: 768,
		LoadTime: 300 * time.Millisecond, PromptRate: 4000,
	}
	return []Model{chat, small, think, tool, eyes, code, embed}
}
