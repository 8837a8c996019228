package wire

import (
	"math"
	"strconv"
)

// runnerOptions reads those options of a request that are fixed when a model is loaded, and those
// that decide whether it can be answered in one way only. Keys
// count as they are spelt. Fractions are cut off as a node does, and numbers beyond int become
// the nearest. null means the default. What has another type is left unset: a node answers it
// with 500 itself.
func (r *reading) runnerOptions() (o RunnerOptions, s Sampling) {
	in := reading{body: r.body, at: r.span("options").from, clean: r.clean}
	for ok := in.enter('}'); ok; ok = in.next('}') {
		key, _ := in.key()
		switch from := in.at; string(key) {
		case "num_ctx":
			o.NumCtx = in.optionalInt()
		case "num_batch":
			o.NumBatch = in.optionalInt()
		case "num_gpu":
			o.NumGPU = in.optionalInt()
		case "main_gpu":
			o.MainGPU = in.optionalInt()
		case "num_thread":
			o.NumThread = in.optionalInt()
		case "use_mmap":
			if c := in.body[from]; c == 't' || c == 'f' {
				o.UseMMap = OptionalBool{Value: c == 't', Set: true}
			}
			in.skip()
		case "temperature":
			in.skip()
			s.Temperature = optionalFloat(in.body[from:in.at])
		case "seed":
			s.Seed = in.optionalInt()
		default:
			in.skip()
		}
	}
	return o, s
}

// optionalInt reads the value at r.at.
func (r *reading) optionalInt() OptionalInt {
	from := r.at
	r.skip()
	if !isNumber(r.body[from]) {
		return OptionalInt{}
	}
	// A node decodes options without knowing their types: every number is a float64 first.
	f, err := strconv.ParseFloat(string(r.body[from:r.at]), 64)
	if err != nil {
		return OptionalInt{}
	}
	return OptionalInt{Value: saturate(f), Set: true}
}

// saturate cuts the fraction off f and keeps it within int.
func saturate(f float64) int {
	switch {
	case f >= math.MaxInt:
		return math.MaxInt
	case f <= math.MinInt:
		return math.MinInt
	}
	return int(f)
}
