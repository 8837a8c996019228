package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

// gauges tell what is so at the moment of a scrape, so that nothing has to be kept in step.
type gauges struct{ state func() gateway.State }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

var (
	nodeUp       = desc("node_up", "Whether the node gets requests.", "node")
	nodeState    = desc("node_state", "1 for the state the node is in, 0 for the others.", "node", "state")
	nodeInFlight = desc("node_in_flight", "Requests of this gateway that hold a slot of the node.", "node")
	nodeSlots    = desc("node_slots", "Answers at once that one model on the node is given.", "node")
	nodeInfo     = desc("node_info", "1, with the version of Ollama that the node told last.", "node", "version")
	nodeThrash   = desc("node_reloads_soon_total", "Loads on the node of models that had been in use there less than five minutes before: they take turns in too little memory, or with other options.", "node")
	queueDepth   = desc("queue_depth", "Requests that wait for a slot.", "class")
	cacheEntries = desc("cache_entries", "Answers that are stored in memory.", "backend")
	cacheBytes   = desc("cache_bytes", "Memory that stored answers take.", "backend")
	flights      = desc("coalesced_groups_in_flight", "Running answers that an equal request can join.")
	cacheUp      = desc("cache_backend_up", "Whether a store of the cache that is configured can be used.", "backend")
	queueLimit   = desc("queue_limit", "Requests of all classes that may wait; further ones are refused.")
)

// Describe implements prometheus.Collector.
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{nodeUp, nodeState, nodeInFlight, nodeSlots, nodeInfo, nodeThrash, queueDepth, queueLimit, cacheEntries, cacheBytes, cacheUp, flights} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	one := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	s := g.state()
	for _, n := range s.Nodes {
		gauge(nodeUp, one(n.Usable), n.Name)
		for _, state := range s.States {
			gauge(nodeState, one(n.State == state), n.Name, state)
		}
		gauge(nodeInFlight, float64(n.InFlight), n.Name)
		gauge(nodeSlots, float64(n.Slots), n.Name)
		to <- prometheus.MustNewConstMetric(nodeThrash, prometheus.CounterValue, float64(n.ReloadsSoon), n.Name)
		if n.Version != "" {
			gauge(nodeInfo, 1, n.Name, n.Version)
		}
	}
	for class, waiting := range s.Waiting {
		gauge(queueDepth, float64(waiting), class)
	}
	gauge(queueLimit, float64(s.QueueLimit))
	gauge(flights, float64(s.Flights))
	if !s.Cache.On {
		return
	}
	gauge(cacheEntries, float64(s.Cache.Entries), cache.Memory)
	gauge(cacheBytes, float64(s.Cache.Bytes), cache.Memory)
	gauge(cacheUp, 1, cache.Memory)
	if s.Cache.Redis != "off" {
		gauge(cacheUp, one(s.Cache.Redis == "up"), cache.Redis)
	}
}
