package status

import (
	"math"
	"time"
)

// A spread counts durations in buckets, each sqrt(2) times as wide as the one before, from 1 ms on:
// what is read from it is at most a fifth off, and it has a fixed size.
type spread struct {
	counts [spreadBuckets]int32
	total  int32
}

// 38 buckets reach to six minutes, more than a cold load takes. What is longer is in the last one.
const spreadBuckets = 38

func (s *spread) add(d time.Duration) {
	s.counts[bucketOf(d)]++
	s.total++
}

func bucketOf(d time.Duration) int {
	ms := float64(d) / float64(time.Millisecond)
	if ms <= 1 {
		return 0
	}
	return min(int(math.Ceil(2*math.Log2(ms))), spreadBuckets-1)
}

// upTo is the end of a bucket in seconds.
func upTo(bucket int) float64 { return math.Exp2(float64(bucket)/2) / 1000 }

func (s *spread) merge(t *spread) {
	for i, n := range t.counts {
		s.counts[i] += n
	}
	s.total += t.total
}

// quantile is in seconds; nil if there is nothing to tell it from.
func (s *spread) quantile(q float64) *float64 {
	if s.total == 0 {
		return nil
	}
	rank := q * float64(s.total)
	below := 0.0
	for i, n := range s.counts {
		if n == 0 || below+float64(n) < rank {
			below += float64(n)
			continue
		}
		begin := 0.0
		if i > 0 {
			begin = upTo(i - 1)
		}
		at := begin + (upTo(i)-begin)*(rank-below)/float64(n)
		at = math.Round(at*10000) / 10000 // a tenth of a millisecond
		return &at
	}
	return nil // not reached: the ranks end with total
}

// tenths rounds a measurement to what it is worth.
func tenths(x float64) float64 { return math.Round(x*10) / 10 }
