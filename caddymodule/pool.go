package caddymodule

import (
	"context"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/status"
	"github.com/caddy-ollama/caddy-ollama/internal/telemetry"
)

// engineKey is the only key of engines: there is one engine a process.
const engineKey = "engine"

// engines outlives configurations. Each one that was provisioned holds a reference, so the
// engine ends with the last configuration that has the app, once its last request is out.
var engines = caddy.NewUsagePool()

// An engine is the pooled gateway.Engine and the logger it was made with.
type engine struct {
	*gateway.Engine
	log     *logRelay
	metrics *telemetry.Metrics
	history *status.History
}

// An observer counts what happens for scrapes, and remembers the last minutes of it for the status
// page. What only metrics want to know goes to them alone.
type observer struct {
	*telemetry.Metrics
	history *status.History
}

func (o observer) Chosen(reason string) {
	o.Metrics.Chosen(reason)
	o.history.Chosen()
}

func (o observer) Ended(r *gateway.Record) {
	o.Metrics.Ended(r)
	o.history.Ended(r)
}

// loadEngine takes a reference on the engine; it makes the engine if there is none.
func loadEngine() (*engine, error) {
	e, _, err := engines.LoadOrNew(engineKey, func() (caddy.Destructor, error) {
		log := newLogRelay()
		e := gateway.NewEngine(log.logger())
		metrics := telemetry.New(e.State)
		history := status.NewHistory(func() int { return waitingIn(e.Queue()) })
		e.Observe(observer{metrics, history})
		return &engine{Engine: e, log: log, metrics: metrics, history: history}, nil
	})
	if err != nil {
		return nil, err
	}
	return e.(*engine), nil
}

// currentEngine is the engine, if any configuration holds it. No reference is taken.
func currentEngine() (e *engine, ok bool) {
	engines.Range(func(_, value any) bool {
		e, ok = value.(*engine)
		return false
	})
	return e, ok
}

// Destruct implements caddy.Destructor. It returns at once; the engine ends with the last
// request that is on its way.
func (e *engine) Destruct() error {
	e.Close()
	return nil
}

// leaving empties the queue when the process is about to exit. Caddy tells of a reload with
// the same event, and then nothing may be lost.
type leaving struct{ engine *engine }

func (l leaving) Handle(context.Context, caddy.Event) error {
	if caddy.Exiting() {
		l.engine.Stop()
	}
	return nil
}

// MarshalJSON keeps the event app's debug log from looking inside.
func (leaving) MarshalJSON() ([]byte, error) { return []byte(`"ollama"`), nil }
