package simnode

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ParseFault reads a Fault from JSON, or from words with commas between them:
//
//	status=500,share=0.1       every tenth answer is an error
//	first-byte=5s,model=tiny   the model takes its time
//	reset-after=3              the connection breaks behind the third frame
//	flap=10s                   connections are refused for 5 s of every 10 s
//
// A word is the JSON name of a field with "-" for "_" and its value behind "=", which switches do not need. Sizes may
// end in KiB or MiB, names in a list have "+" between them. Short for others are:
//
//	reset-after=N, close-after=N, half-after=N, clean-after=N   end and frames; with a B behind N, end and bytes
//	flap=D                                                      refuse, period=D, and for half of it unless for is given
func ParseFault(text string) (Fault, error) {
	var f Fault
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "{") {
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			return Fault{}, fmt.Errorf("fault %s: %w", text, err)
		}
	} else if err := f.parseWords(text); err != nil {
		return Fault{}, fmt.Errorf("fault %s: %w", text, err)
	}
	if err := f.check(); err != nil {
		return Fault{}, fmt.Errorf("fault %s: %w", text, err)
	}
	return f, nil
}

func (f *Fault) parseWords(text string) error {
	fields := f.words()
	for word := range strings.SplitSeq(text, ",") {
		word, value, given := strings.Cut(strings.TrimSpace(word), "=")
		if end, ok := strings.CutSuffix(word, "-after"); ok && end != "" {
			if err := f.endAfter(end, value); err != nil {
				return fmt.Errorf("%s: %w", word, err)
			}
			continue
		}
		if word == "flap" {
			period, err := time.ParseDuration(value)
			if err != nil {
				return fmt.Errorf("flap=%s: say a time as 10s", value)
			}
			f.Refuse, f.Period = true, period
			if f.For == 0 {
				f.For = period / 2
			}
			continue
		}
		field, ok := fields[word]
		if !ok {
			return fmt.Errorf("unrecognized word %q; there are flap, reset-after, close-after, half-after, clean-after, %s",
				word, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		if !given {
			value = assumed(word)
		}
		if err := setWord(field, value); err != nil {
			return fmt.Errorf("%s=%s: %w", word, value, err)
		}
	}
	return nil
}

// assumed is the value of a word that was given none.
func assumed(word string) string {
	switch word {
	case "die":
		return "kill"
	case "bad-line":
		return `{"model":`
	case "load-fails":
		return "llama runner process has terminated: exit status 2"
	}
	return "true"
}

func (f *Fault) endAfter(end, value string) error {
	f.End = end
	bytes, isBytes := strings.CutSuffix(value, "B")
	n, err := strconv.Atoi(bytes)
	if err != nil {
		return fmt.Errorf("%q: say a number of frames as 3, or of bytes as 100B", value)
	}
	if isBytes {
		f.Bytes = n
	} else {
		f.Frames = n
	}
	return nil
}

// words are the fields by their words, durations included.
func (f *Fault) words() map[string]reflect.Value {
	out := make(map[string]reflect.Value)
	add := func(key string, v reflect.Value) { out[strings.ReplaceAll(key, "_", "-")] = v }
	v := reflect.ValueOf(f).Elem()
	for i := range v.NumField() {
		key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if key != "-" && v.Field(i).Kind() != reflect.Map { // headers are for JSON
			add(key, v.Field(i))
		}
	}
	for _, d := range f.durations() {
		add(d.key, reflect.ValueOf(d.value).Elem())
	}
	return out
}

func setWord(field reflect.Value, value string) error {
	switch p := field.Addr().Interface().(type) {
	case *time.Duration:
		d, err := time.ParseDuration(value)
		if err != nil {
			return fmt.Errorf("say a time as 1.5s or 200ms")
		}
		*p = d
	case *bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("it is a switch: say it without a value")
		}
		*p = b
	case *float64:
		x, err := strconv.ParseFloat(value, 64)
		if err != nil || x == 0 {
			return fmt.Errorf("say a number above 0")
		}
		*p = x
	case *int64:
		n, err := parseSize(value)
		if err != nil {
			return err
		}
		*p = n
	case *int:
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("say a whole number")
		}
		*p = n
	case *uint64:
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return fmt.Errorf("say a whole number")
		}
		*p = n
	case *[]string:
		*p = strings.Split(value, "+")
	case *string:
		*p = value
	}
	return nil
}

func parseSize(text string) (int64, error) {
	number, shift := text, 0
	for suffix, bits := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if n, ok := strings.CutSuffix(text, suffix); ok {
			number, shift = n, bits
		}
	}
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("say a size as 500 or 64MiB")
	}
	return n << shift, nil
}
