package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddy-ollama/caddy-ollama/internal/manage"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// does gives an order and what was told last of each node.
func (r *rig) does(o Order) (ends map[string]string, err error) {
	ends = map[string]string{}
	err = r.engine.Manage(r.Context(), o, func(updates []manage.Update) error {
		for _, u := range updates {
			switch {
			case u.Failure != nil:
				ends[u.Node] = string(u.Failure.Reason)
			case u.Done:
				ends[u.Node] = "done"
			default:
				ends[u.Node] = u.Status
			}
		}
		return nil
	})
	return ends, err
}

func TestOrder_TellsTheEndOfEachNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := []*manager{newManager(t, pulls("new")), newManager(t, dies(manifest)), newManager(t, pulls("new"))}
		r := managingRig(t, ManageConfig{}, nodes...)
		log := audited(r.engine)
		ends, err := r.does(Order{Operation: wire.Pull, Model: "new", Who: "admin"})
		if err != nil || fmt.Sprint(ends) != "map[n0:done n1:lost n2:done]" {
			t.Errorf("%v, %v", ends, err)
		}
		if !r.listed("new:latest") {
			t.Error("it is not listed")
		}
		if lines := log.take(); len(lines) != 1 || lines[0]["who"] != "admin" || lines[0]["outcome"] != "upstream_error" {
			t.Errorf("audited %v", lines)
		}

		nodes[1].script = pulls("new")
		ends, err = r.does(Order{Operation: wire.Pull, Model: "new", Lacking: true})
		if err != nil || fmt.Sprint(ends) != "map[n1:done]" {
			t.Errorf("a sync: %v, %v", ends, err)
		}
		ends, err = r.does(Order{Operation: wire.Pull, Model: "new", Lacking: true})
		if err != nil || len(ends) != 0 {
			t.Errorf("a second sync: %v, %v", ends, err)
		}
		ends, err = r.does(Order{Operation: wire.Delete, Model: "new", Nodes: []string{"n2"}})
		if err != nil || fmt.Sprint(ends) != "map[n2:done]" || !r.listed("new:latest") {
			t.Errorf("a delete on one node: %v, %v", ends, err)
		}
		ends, err = r.does(Order{Operation: wire.Delete, Model: "new"})
		if err != nil || fmt.Sprint(ends) != "map[n0:done n1:done]" || r.listed("new:latest") {
			t.Errorf("a delete: %v, %v", ends, err)
		}
		synctest.Wait()
		r.idle()
	})
}

func TestOrder_WhoLeavesCancelsThePull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newManager(t, hangs(manifest))
		r := managingRig(t, ManageConfig{}, node)
		log := audited(r.engine)
		gone := errors.New("gone")
		err := r.engine.Manage(t.Context(), Order{Operation: wire.Pull, Model: "new"}, func([]manage.Update) error { return gone })
		if !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if node.canceled() != 1 {
			t.Error("the node goes on")
		}
		if lines := log.take(); len(lines) != 1 || lines[0]["outcome"] != "client_canceled" || lines[0]["nodes"] != "[n0]" {
			t.Errorf("audited %v", lines)
		}
		r.idle()
	})
}

func TestOrder_RefusesWhatCannotBeMeant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := newManager(t, nil)
		r := managingRig(t, ManageConfig{}, node)
		var bad *wire.BadRequest
		if _, err := r.does(Order{Operation: wire.Pull, Model: "../x"}); !errors.As(err, &bad) {
			t.Errorf("a bad name: %v", err)
		}
		if _, err := r.does(Order{Operation: wire.Pull, Model: "x", Nodes: []string{"n0", "nobody"}}); !errors.Is(err, ErrOrderNode) {
			t.Errorf("an unknown node: %v", err)
		}
		if _, err := r.does(Order{Operation: wire.Push, Model: "x"}); !errors.Is(err, ErrNoOrder) {
			t.Errorf("a push: %v", err)
		}
		if err := r.engine.fleet.Drain("n0"); err != nil {
			t.Fatal(err)
		}
		if ends, err := r.does(Order{Operation: wire.Pull, Model: "x", Nodes: []string{"n0"}}); err != nil || ends["n0"] != "unreachable" {
			t.Errorf("a node that is drained: %v, %v", ends, err)
		}
		if asked := slices.Concat(node.requests()); len(asked) != 0 {
			t.Errorf("asked %q", asked)
		}
	})
}

// What is done right after a reload is done on the nodes that it has brought, too.
func TestManage_ReachesTheNodesThatAReloadHasJustBrought(t *testing.T) {
	for name, c := range map[string]struct {
		does func(r *rig) string
		ends string
		asks string
	}{
		"pull by an operator": {func(r *rig) string {
			ends, err := r.does(Order{Operation: wire.Pull, Model: "new"})
			return fmt.Sprint(ends, err)
		}, "map[n0:done n1:done] <nil>", "POST /api/pull"},
		"pull by an operator who names it": {func(r *rig) string {
			ends, err := r.does(Order{Operation: wire.Pull, Model: "new", Nodes: []string{"n1"}})
			return fmt.Sprint(ends, err)
		}, "map[n1:done] <nil>", "POST /api/pull"},
		"delete by an operator": {func(r *rig) string {
			ends, err := r.does(Order{Operation: wire.Delete, Model: "tiny"})
			return fmt.Sprint(ends, err)
		}, "map[n0:done n1:done] <nil>", "DELETE /api/delete"},
		"pull by a client": {func(r *rig) string {
			code, _, _ := r.ask("/api/pull", `{"model":"new","stream":false}`)
			return fmt.Sprint(code)
		}, "200", "POST /api/pull"},
		"copy by a client": {func(r *rig) string {
			code, _, _ := r.ask("/api/copy", `{"source":"tiny","destination":"new"}`)
			return fmt.Sprint(code)
		}, "200", "POST /api/copy"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nodes := []*manager{newManager(t, pulls("new")), newManager(t, pulls("new"))}
				r := managingRig(t, ManageConfig{}, nodes...)
				config := r.settings.config
				config.Nodes = config.Nodes[:1]
				NewSettings(r.engine, config).Attach()
				r.settings.Attach()
				if got := c.does(r); got != c.ends {
					t.Errorf("%s, want %s", got, c.ends)
				}
				if asked := fmt.Sprint(nodes[1].requests()); !strings.Contains(asked, c.asks) {
					t.Errorf("the new node was asked %s, want %s", asked, c.asks)
				}
			})
		})
	}
}
