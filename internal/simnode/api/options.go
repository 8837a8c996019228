package api

import (
	"fmt"
	"reflect"
	"strings"
)

// Runner options are fixed when a model is loaded; another value reloads it.
type Runner struct {
	NumCtx    int   `json:"num_ctx"`
	NumBatch  int   `json:"num_batch"`
	NumGPU    int   `json:"num_gpu"`
	MainGPU   int   `json:"main_gpu"`
	UseMMap   *bool `json:"use_mmap"`
	NumThread int   `json:"num_thread"`
}

// Options are all the options a request and a model may set.
type Options struct {
	Runner

	NumKeep          int      `json:"num_keep"`
	Seed             int      `json:"seed"`
	NumPredict       int      `json:"num_predict"`
	TopK             int      `json:"top_k"`
	TopP             float32  `json:"top_p"`
	MinP             float32  `json:"min_p"`
	TypicalP         float32  `json:"typical_p"`
	RepeatLastN      int      `json:"repeat_last_n"`
	Temperature      float32  `json:"temperature"`
	RepeatPenalty    float32  `json:"repeat_penalty"`
	PresencePenalty  float32  `json:"presence_penalty"`
	FrequencyPenalty float32  `json:"frequency_penalty"`
	Stop             []string `json:"stop"`
}

// DefaultOptions are the options of a request that sets none on a model that has none.
func DefaultOptions() Options {
	return Options{
		Runner:        Runner{NumCtx: 4096, NumBatch: 512, NumGPU: -1},
		NumKeep:       4,
		Seed:          -1,
		NumPredict:    -1,
		TopK:          40,
		TopP:          0.9,
		TypicalP:      1,
		RepeatLastN:   64,
		Temperature:   0.8,
		RepeatPenalty: 1.1,
	}
}

// Apply sets the options that m names, key by key with their case, and ignores unknown ones and null. Numbers are
// float64, as encoding/json leaves them; integers lose their fraction.
func (o *Options) Apply(m map[string]any) error {
	return apply(reflect.ValueOf(o).Elem(), m)
}

func apply(v reflect.Value, m map[string]any) error {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		if field.Anonymous {
			if err := apply(value, m); err != nil {
				return err
			}
			continue
		}
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		given, ok := m[key]
		if !ok || given == nil {
			continue
		}
		if err := set(value, given); err != "" {
			return fmt.Errorf("option %q must be of %s", key, err)
		}
	}
	return nil
}

// set stores given in v, or returns what it would have to be.
func set(v reflect.Value, given any) (wanted string) {
	switch v.Kind() {
	case reflect.Int:
		switch n := given.(type) {
		case float64:
			v.SetInt(int64(n))
		case int:
			v.SetInt(int64(n))
		default:
			return "type integer"
		}
	case reflect.Float32:
		switch n := given.(type) {
		case float64:
			v.SetFloat(n)
		case int:
			v.SetFloat(float64(n))
		default:
			return "type float32"
		}
	case reflect.Pointer:
		b, ok := given.(bool)
		if !ok {
			return "type boolean"
		}
		v.Set(reflect.ValueOf(&b))
	case reflect.Slice:
		return setStrings(v, given)
	}
	return ""
}

func setStrings(v reflect.Value, given any) (wanted string) {
	if s, ok := given.([]string); ok {
		v.Set(reflect.ValueOf(s))
		return ""
	}
	list, ok := given.([]any)
	if !ok {
		return "type array"
	}
	out := make([]string, len(list))
	for i, e := range list {
		if out[i], ok = e.(string); !ok {
			return "an array of strings"
		}
	}
	v.Set(reflect.ValueOf(out))
	return ""
}
