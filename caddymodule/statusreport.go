package caddymodule

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/status"
)

// statusPath is where the admin API tells what the status page shows.
const statusPath = "/ollama/status"

// serveReport answers GET /ollama/status.
func serveReport(w http.ResponseWriter, r *http.Request) error {
	e, err := engineFor(w, r, http.MethodGet)
	if err != nil {
		return err
	}
	return answerJSON(w, reportOf(e))
}

// currentReport is what the running gateway does, if there is one.
func currentReport() (status.Report, bool) {
	e, ok := currentEngine()
	if !ok {
		return status.Report{}, false
	}
	return reportOf(e), true
}

func reportOf(e *engine) status.Report {
	state := e.State()
	r := status.Report{
		At: time.Now().Round(0), Since: e.history.Began().Round(0), Ready: e.Ready() && !caddy.Exiting(),
		Queue: status.Queue{Waiting: state.Waiting, Limit: state.QueueLimit},
		Cache: status.Cache{
			On: state.Cache.On, Entries: state.Cache.Entries, Bytes: state.Cache.Bytes, Limit: state.Cache.Limit,
			Redis: state.Cache.Redis, Flights: state.Flights,
		},
		Nodes: reportedNodes(nodeStatuses(e.Fleet().Snapshot(), e.Queue())),
	}
	r.History, r.Minutes, r.Saved = e.history.Read()
	return r
}

// reportedNodes leaves out addresses: the page may be opened to who is not to know them.
func reportedNodes(nodes []nodeStatus) []status.Node {
	reported := make([]status.Node, len(nodes))
	for i, n := range nodes {
		reported[i] = status.Node{
			Name: n.Name, State: n.State, Reason: n.Reason, Since: n.Since, Until: n.Until, Usable: n.Usable,
			Version: n.Version, Slots: n.Slots, InFlight: n.InFlight, Models: n.Models, Runners: make([]status.Runner, len(n.Runners)),
		}
		for j, r := range n.Runners {
			reported[i].Runners[j] = status.Runner{
				Model: untagged(r.Model), ContextLength: r.ContextLength, Size: r.Size, SizeVRAM: r.SizeVRAM,
				PromptRate: r.PromptRate, DecodeRate: r.DecodeRate,
			}
		}
	}
	return reported
}

// waitingIn counts the requests of all classes that wait.
func waitingIn(q *schedule.Queue) int {
	n := 0
	for _, c := range call.Classes {
		n += q.Waiting(c)
	}
	return n
}
