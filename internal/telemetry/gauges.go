package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

// gauges tell what is so at the moment of a scrape, so that nothing has to be kept in step.
type gauges struct{ *Metrics }

// bornLimit is for how many models requests_total is zero before their first request: they are 54
// series each.
const bornLimit = 50

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

var (
	nodeUp       = desc("node_up", "Whether the node gets requests.", "node")
	nodeState    = desc("node_state", "1 for the state the node is in, 0 for the others.", "node", "state")
	nodeInFlight = desc("node_in_flight", "Requests of this gateway that hold a slot of the node.", "node")
	nodeSlots    = desc("node_slots", "Answers at once that one model on the node is given.", "node")
	nodeInfo     = desc("node_info", "1, with the version of Ollama that the node told last.", "node", "version")
	nodeVRAM     = desc("node_vram_used_bytes", "Memory of GPUs that models loaded on the node take, as it says.", "node")
	nodeHas      = desc("node_model_available", "1 for a model that the node can serve.", "node", "model")
	nodeLoaded   = desc("node_model_loaded", "Whether a model that the node can serve is loaded there.", "node", "model")
	configInfo   = desc("config_info", "1, with what the configuration in force has switched on.", "cache", "coalesce", "batch")
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
	for _, d := range []*prometheus.Desc{nodeUp, nodeState, nodeInFlight, nodeSlots, nodeInfo, nodeThrash, nodeVRAM, nodeHas, nodeLoaded, configInfo, queueDepth, queueLimit, cacheEntries, cacheBytes, cacheUp, flights} {
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
	g.born(s)
	for _, n := range s.Nodes {
		gauge(nodeVRAM, float64(n.VRAM), n.Name)
		for _, model := range n.Models {
			if g.models.take(model.Name) {
				gauge(nodeHas, 1, n.Name, model.Name)
				gauge(nodeLoaded, one(model.Loaded), n.Name, model.Name)
			}
		}
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
	gauge(configInfo, 1, cacheWord(s.Cache), onOff(s.Coalesce), onOff(s.Batch))
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

// cacheWord is the outermost tier of a cache.
func cacheWord(s cache.Stats) string {
	switch {
	case !s.On:
		return "off"
	case s.Redis == "off":
		return cache.Memory
	}
	return cache.Redis
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// look has what the fleet has now begin at zero, unless it was looked at a moment ago.
func (m *Metrics) look() {
	now := time.Now().UnixNano()
	if last := m.met.Load(); now-last >= int64(time.Second) && m.met.CompareAndSwap(last, now) {
		m.born(m.state())
	}
}

// born has all that can be counted of the nodes and models of now begin at zero.
func (m *Metrics) born(s gateway.State) {
	m.nodes.meet(s.Nodes, time.Now())
	for i, model := range s.Models {
		if !m.models.take(model.Name) {
			continue
		}
		m.nodes.generatedBy(model.Name)
		m.caching.born(model.Name)
		if i >= bornLimit {
			continue
		}
		for endpoint, embeds := range gateway.Answering {
			if embeds == model.Embedding {
				m.requests.pairOf(endpoint, model.Name)
			}
		}
	}
}
