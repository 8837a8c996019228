package simnode

import (
	_ "embed" // for the show bodies
	"encoding/json"
	"time"
)

// goldenShow has "model_info" and "tensors" of the recorded /api/show answers, byte for byte.
//
//go:embed goldenmodels.json
var goldenShow []byte

// GoldenModels are the models of the server whose answers were recorded (package golden): tiny, tiny2, tinytool,
// tinythink, tinyembed, tinyslow, and broken, which does not load and which that server did not have at first.
func GoldenModels() []Model {
	var shown map[string]struct{ Info, Tensors json.RawMessage }
	_ = json.Unmarshal(goldenShow, &shown) // a test holds the file to the recordings

	at := func(ns int) time.Time { return time.Date(2026, 11, 23, 12, 56, 19, ns, time.UTC) }
	chatty := map[string]any{"num_ctx": 2048, "num_predict": 64, "num_thread": 1}
	const blob = modelsDir + "/blobs/sha256-"
	models := []Model{
		{
			Name:    "tiny",
			Digest:  "67f11d4b26489537af40e13954ef6961f3e57b7849a3ba27a6e73bbb42db2a49",
			Weights: "2d761494b8e5ab5def14809cc2f43ad35a47c0263a22d7d7efe53c82d1256ba4",
			Size:    574271, ParameterSize: "140K", Memory: 428032, CacheBytes: 256, ModifiedAt: at(788299858),
		},
		{
			Name:    "tiny2",
			Digest:  "e4e2bdc5270495b0c227edb1ca7bd64fd76254acd89731c67ec33a91bae26861",
			Weights: "cb3eda1b3011adb20d44059683dd6fa08b8a4df9ca178f52536caa1a64ff1793",
			Size:    1408447, ParameterSize: "348K", Memory: 1326848, CacheBytes: 512, ModifiedAt: at(793866480),
		},
		{
			Name:    "tinytool",
			Digest:  "d27a4538a9ae7e3e5d57d17be13515a517913394dc67ccdbb1305eea53bafa16",
			Weights: "2c61d490af0f12d9f6faaab32f522da125bcabccce6364cd7276d67a26d64777",
			Size:    272771, ParameterSize: "66K", Memory: 181760, CacheBytes: 128, ModifiedAt: at(797276875),
			Capabilities: []string{Completion, Tools},
			Call:         `{"name": "get_weather", "arguments": {"city": "Paris", "unit": "celsius"}}`,
			Template: "{{- if .Tools }}<|system|>{{ range .Tools }}{{ . }}{{ end }}<|end|>{{ end }}\n" +
				"{{- range .Messages }}<|{{ if eq .Role \"tool\" }}user{{ else }}{{ .Role }}{{ end }}|>{{ .Content }}\n" +
				"{{- range .ToolCalls }}{\"name\": \"{{ .Function.Name }}\", \"arguments\": {{ .Function.Arguments }}}" +
				"{{ end }}<|end|>{{ end }}<|assistant|>",
		},
		{
			Name:    "tinythink",
			Digest:  "8cd2204d14acc2f942b6238ed37e22fb9cfa2989ab42910d3d3a0697c1c853a5",
			Weights: "c54460c78625140bc73089f762fafa493b2895141319b2f2e229838a989e512e",
			Size:    260279, ParameterSize: "63K", Memory: 176128, CacheBytes: 128, ModifiedAt: at(800918634),
			Capabilities: []string{Completion, Thinking},
			Template: "{{- range .Messages }}<|{{ .Role }}|>{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}" +
				"{{ .Content }}<|end|>{{ end }}<|assistant|>",
		},
		{
			Name:    "tinyembed",
			Digest:  "9cce72ae54e8c0f144fb32b2d8043c2eb9efee6f70ca909edcf6b2cf3fc11c4f",
			Weights: "d66539c2e585629645603970447ee0156fc7c88d57623892f3d1e7392fbcfd2b",
			Size:    460387, ParameterSize: "113K", Memory: 5357056, ModifiedAt: at(804261319),
			Capabilities: []string{Embedding}, Parameters: map[string]any{"num_thread": 1}, PromptRate: 6000,
		},
		{
			Name:   "tinyslow",
			Digest: "3a8d1ed85772d75d0866efdd88b4f71109daa4412f593980e6acb104c21357e9",
			Size:   127990945, ParameterSize: "31.99M", Memory: 126918656, CacheBytes: 8192,
			ModifiedAt: at(1149935717), // a second later than the others
			LoadTime:   400 * time.Millisecond, PromptRate: 120, DecodeRate: 30, ShortestAnswer: 60, LongestAnswer: 120,
		},
		{
			Name:    "broken",
			Weights: "45681ff27f922dde8eaf2de98c78a8fd9e15dd13d5a1a9db3494221e3f1bc1e6",
			Size:    574015, ParameterSize: "140K", ModifiedAt: at(810000000),
			LoadError: "llama runner process has terminated: error loading model: missing tensor 'output_norm.weight'\n" +
				"panic: unable to load model: " + blob + "45681ff27f922dde8eaf2de98c78a8fd9e15dd13d5a1a9db3494221e3f1bc1e6",
		},
	}
	for i := range models {
		m := &models[i]
		m.Info, m.Tensors = shown[m.Name].Info, shown[m.Name].Tensors
		if m.Parameters == nil {
			m.Parameters = chatty
		}
		orNumber(&m.LoadTime, 280*time.Millisecond)
		orNumber(&m.PromptRate, 1500)
		orNumber(&m.DecodeRate, 9000)
	}
	return models
}
