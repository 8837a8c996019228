package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The buckets of reliability-ops 3.3. Each is a series for each set of labels, so that a list
// shared by two metrics saves nothing but thought.
var (
	requestBuckets  = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800}
	firstBuckets    = []float64{.005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 300}
	tokenBuckets    = []float64{.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5}
	overheadBuckets = []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5}
	waitBuckets     = []float64{.001, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
	loadBuckets     = []float64{.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 180, 300} // a load may take 5 min
	checkBuckets    = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
)

// The native form of a histogram: buckets that grow by a tenth, of which there are as many as
// observations need, up to a hundred. A Prometheus that does not ask for it is not shown it.
const (
	nativeFactor = 1.1
	nativeLimit  = 100
	nativeReset  = time.Hour // before which it rather loses precision than what it has counted
)

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: nativeFactor, NativeHistogramMaxBucketNumber: nativeLimit,
		NativeHistogramMinResetDuration: nativeReset,
	}, labels)
}

// exampleEach is how often an ordinary observation is shown as an example: to show one costs as much
// as ten observations, and a scrape has room for one a bucket.
const exampleEach = time.Second

// A series is a child of a histogram that is looked up once.
type series struct {
	prometheus.Observer
	folded bool // under "other"

	shown   atomic.Int64 // when the last example was, in nanoseconds
	longest atomic.Int64 // what it took
}

// observe tells the histogram, with its trace as an example where there is one and it is time for
// one, or where it took longer than the one before: the slow ones are those that people look for.
func (s *series) observe(took time.Duration, trace string) {
	if trace != "" {
		now := time.Now().UnixNano()
		due := now-s.shown.Load() >= int64(exampleEach)
		if e, ok := s.Observer.(prometheus.ExemplarObserver); ok && (due || int64(took) > s.longest.Load()) {
			s.shown.Store(now)
			s.longest.Store(int64(took))
			e.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": trace})
			return
		}
	}
	s.Observe(took.Seconds())
}
