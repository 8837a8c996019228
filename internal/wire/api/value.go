package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"
)

// Duration is a keep_alive: a number of seconds or a Go duration. What is negative is for
// ever.
type Duration struct{ time.Duration }

// UnmarshalJSON refuses other JSON types in a node's words.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case float64:
		d.Duration = time.Duration(v * float64(time.Second))
		if v < 0 {
			d.Duration = math.MaxInt64
		}
	case string:
		parsed, err := time.ParseDuration(v)
		if err != nil {
			return err
		}
		if d.Duration = parsed; parsed < 0 {
			d.Duration = math.MaxInt64
		}
	default:
		//lint:ignore ST1005 a node's words
		return fmt.Errorf("Unsupported type: '%s'", reflect.TypeOf(v))
	}
	return nil
}

// ThinkLevels are the strings that a ThinkValue may be.
var ThinkLevels = [...]string{"high", "medium", "low", "max"}

// ThinkValue says whether to think, or how hard.
type ThinkValue struct{ Value any }

// UnmarshalJSON refuses what is neither a bool nor one of ThinkLevels in a node's words.
func (t *ThinkValue) UnmarshalJSON(b []byte) error {
	var on bool
	if json.Unmarshal(b, &on) == nil {
		t.Value = on
		return nil
	}
	var level string
	if json.Unmarshal(b, &level) != nil {
		return errors.New(`think must be a boolean or string ("high", "medium", "low", "max", true, or false)`)
	}
	for _, known := range ThinkLevels {
		if level == known {
			t.Value = level
			return nil
		}
	}
	return fmt.Errorf(`invalid think value: %q (must be "high", "medium", "low", "max", true, or false)`, level)
}

// PropertyType is one JSON Schema type or several.
type PropertyType []string

// UnmarshalJSON takes a string for a list of one.
func (p *PropertyType) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*p = PropertyType{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(p))
}
