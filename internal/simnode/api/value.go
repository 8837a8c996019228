package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"
)

// ImageData is an image; it stands in JSON as base64.
type ImageData []byte

// A Duration is a keep_alive: a number of seconds or a string as time.ParseDuration reads it. A negative one means
// for ever and becomes the longest duration there is.
type Duration struct{ time.Duration }

// UnmarshalJSON reads a number or a string.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch t := v.(type) {
	case float64:
		d.Duration = seconds(t)
	case string:
		parsed, err := time.ParseDuration(t)
		if err != nil {
			return err
		}
		d.Duration = parsed
	default:
		//lint:ignore ST1005 the real server's text
		return fmt.Errorf("Unsupported type: '%s'", reflect.TypeOf(v))
	}
	if d.Duration < 0 {
		d.Duration = math.MaxInt64
	}
	return nil
}

func seconds(s float64) time.Duration {
	ns := s * float64(time.Second)
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns)
}

// A ThinkValue says whether and how hard a model shall think.
type ThinkValue struct {
	On    bool
	Level string // "low", "medium", "high", "max", or "" when the request said true or false
}

// UnmarshalJSON reads true, false or a level.
func (t *ThinkValue) UnmarshalJSON(b []byte) error {
	var on bool
	if json.Unmarshal(b, &on) == nil {
		*t = ThinkValue{On: on}
		return nil
	}
	var level string
	if json.Unmarshal(b, &level) == nil {
		if !slices.Contains([]string{"high", "medium", "low", "max"}, level) {
			return fmt.Errorf(`invalid think value: %q (must be "high", "medium", "low", "max", true, or false)`, level)
		}
		*t = ThinkValue{On: true, Level: level}
		return nil
	}
	return errors.New(`think must be a boolean or string ("high", "medium", "low", "max", true, or false)`)
}
