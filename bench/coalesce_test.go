package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

// sharingFleet is one simulated node of a kind in this process, many times as fast as usual, and
// nothing before it.
func sharingFleet(t *testing.T, kind string) *fleet {
	t.Helper()
	options, err := sharingNode(kind)
	if err != nil {
		t.Fatal(err)
	}
	options.Admin, options.Scale = true, 0.001
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	node := simnode.New(options)
	server := simnode.Serve(ln.(*net.TCPListener), node, simnode.ServerOptions{})
	t.Cleanup(func() { server.Close(); node.Close() })
	return &fleet{
		setup: setup{counts: simnodeAccount},
		peers: []*peer{{name: direct, addrs: []string{server.Addr().String()}}},
	}
}

func TestChorus_AllAskTheSameAndTheNodeSaysHowOften(t *testing.T) {
	f := sharingFleet(t, storyNode)
	var asked uint64
	h := chorus{clients: 5, verses: 2, ask: askStory}
	s, err := h.play(t.Context(), f, f.peers[0], &asked)
	if err != nil || s.fault != nil {
		t.Fatal(err, s.fault)
	}
	// Nothing before the node shares them. The first one of a verse is not counted among the firsts.
	if s.answers != 10 || len(s.calls) != 10 || len(s.firsts) != 8 || s.upstream != 10 || asked != 2 {
		t.Errorf("%d answers, %d calls, %d firsts, %d upstream, %d questions", s.answers, len(s.calls), len(s.firsts), s.upstream, asked)
	}
	if s.gpuChats <= 0 || s.gpuVectors != 0 {
		t.Errorf("busy for %v with chats, %v with vectors", s.gpuChats, s.gpuVectors)
	}
}

func TestChorus_RecordsAreThoseOfAllAndTheLateDoNotCount(t *testing.T) {
	addr := servedNode(t)
	f := &fleet{setup: setup{counts: fastAccount}, peers: []*peer{{name: direct, addrs: []string{addr}}}}
	nonce := uint64(1) << 40
	h := chorus{clients: 3, verses: 1, stamped: true, late: 2, ask: askWords(6, 0, 0)}
	s, err := h.play(t.Context(), f, f.peers[0], &nonce)
	if err != nil || s.fault != nil {
		t.Fatal(err, s.fault)
	}
	if s.records != 3*7 || len(s.ages) != 3*4 || len(s.gaps) != 3*4 || s.upstream != 3 {
		t.Errorf("%d records, %d ages, %d gaps, %d upstream", s.records, len(s.ages), len(s.gaps), s.upstream)
	}
}

func TestChorus_WhoIsToldSomethingElseFailed(t *testing.T) {
	heard := func(sum uint64, err error, first time.Duration) *singer {
		return &singer{sum: sum, err: err, heard: observer{first: first}}
	}
	s := new(sample)
	chorus{}.add(s, []*singer{heard(1, nil, 9), heard(1, nil, 9), heard(2, nil, 9), heard(0, errors.New("refused"), 0)})
	if s.answers != 2 || s.failed != 2 || s.cut != 1 || s.fault == nil {
		t.Errorf("%d right, %d failed, %d cut: %v", s.answers, s.failed, s.cut, s.fault)
	}
}

func TestChorus_GapIsToTheFirstThatHasTheRecord(t *testing.T) {
	heard := func(ages ...time.Duration) *singer { return &singer{heard: observer{ages: ages}} }
	h := chorus{stamped: true, late: 1}
	broke := heard(0, 0, 0)
	broke.err = errors.New("cut")
	got := h.gaps([]*singer{heard(100, 5, 7), heard(1, 9, 4), broke})
	if want := []time.Duration{0, 4, 3, 0}; !slices.Equal(got, want) {
		t.Errorf("%d, want %d", got, want)
	}
}

func TestEmbedding_EachGetsTheVectorOfItsText(t *testing.T) {
	f := sharingFleet(t, batchNode)
	var nonce uint64
	s, err := embedding{clients: 7, verses: 2}.play(t.Context(), f, f.peers[0], &nonce)
	if err != nil || s.fault != nil {
		t.Fatal(err, s.fault)
	}
	if s.answers != 14 || len(s.calls) != 14 || s.upstream != 14 || s.gpuVectors <= 0 {
		t.Errorf("%d answers, %d calls, %d upstream, busy for %v", s.answers, len(s.calls), s.upstream, s.gpuVectors)
	}
}

func TestEmbedding_AnothersVectorFailed(t *testing.T) {
	f := sharingFleet(t, batchNode)
	one := `{"embeddings":[[1,2]]}`
	c := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n"+one)
	var nonce uint64
	s, err := embedding{clients: 1, verses: 1}.play(t.Context(), f, &peer{addrs: []string{c.addr}}, &nonce)
	if err != nil || s.failed != 1 || !errors.Is(s.fault, errVectors) {
		t.Errorf("%d failed: %v, %v", s.failed, s.fault, err)
	}
	c = answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n"+one)
	if _, err := c.askVectors([]string{"a", "b"}); !errors.Is(err, errVectors) {
		t.Errorf("one vector for two texts: %v", err)
	}
}

func TestTextOf_IsTheTokensThatItIsSaidToBe(t *testing.T) {
	f := sharingFleet(t, serialNode)
	c := &client{ctx: t.Context(), addr: f.peers[0].addrs[0]}
	defer c.close()
	c.request = []byte(`{"model":"` + vectorModel + `","input":"` + textOf(7) + `"}`)
	if _, err := c.send(embedPath, time.Minute); err != nil {
		t.Fatal(err)
	}
	if line, err := c.body.next(); err != nil || !strings.Contains(string(line), `"prompt_eval_count":12}`) || tokensOfText != 12 {
		t.Errorf("%s, %v", line, err)
	}
}

func TestRepetition_EachPeerIsToSayTheSame(t *testing.T) {
	r := newRepetition()
	for _, c := range []struct {
		sum uint64
		ok  bool
	}{{1, true}, {1, true}, {2, false}} {
		if err := r.same("a", c.sum); (err == nil) != c.ok {
			t.Errorf("%d: %v", c.sum, err)
		}
	}
	f := sharingFleet(t, mixedNode)
	r.requests = []workload.Request{{Chat: r.requests[0].Chat}, {Inputs: []string{"b", "c"}}, {At: time.Millisecond, Inputs: []string{"c"}}}
	s, err := r.play(t.Context(), f, f.peers[0], nil)
	if err != nil || s.answers != 3 || s.failed != 0 || len(s.firsts) != 1 || len(s.embeds) != 2 || s.upstream != 3 {
		t.Errorf("%d answers, %d failed (%v), %d firsts, %d embeds, %d upstream: %v", s.answers, s.failed, s.fault, len(s.firsts), len(s.embeds), s.upstream, err)
	}
}

func TestPlainCaddyfile_HasTheWordsOfThePeer(t *testing.T) {
	for _, c := range []struct {
		fields caddyfileFields
		want   bool
	}{
		{caddyfileFields{Gateway: true, Words: []string{coalesceWord, batchWord}}, true},
		{caddyfileFields{Gateway: true}, false},
		{caddyfileFields{Words: []string{coalesceWord, batchWord}}, false},
	} {
		var text strings.Builder
		if err := plainCaddyfile.Execute(&text, c.fields); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text.String(), "\n\t\tcoalesce\n\t\tbatch embed\n\t}") != c.want {
			t.Errorf("%+v:\n%s", c.fields, text.String())
		}
	}
}

func TestSharingScenarios_AreOneGroup(t *testing.T) {
	s := everything(settings{lasting: time.Second, words: 8})
	if err := s.choose("coalesce,batch"); err != nil || len(s.names()) != len(s.sharings) || len(s.sharings) != len(sharingScenarios(settings{})) {
		t.Errorf("-scenarios coalesce,batch leaves %q: %v", s.names(), err)
	}
	for _, sc := range s.sharings {
		if sc.play == nil || sc.setup.counts == nil {
			t.Errorf("%s: nobody plays it, or nobody counts", sc.name)
		}
		for _, name := range sc.rows {
			if name != direct && !slices.Contains(sc.setup.proxies, name) {
				t.Errorf("%s: %s is measured and not started", sc.name, name)
			}
		}
		for _, f := range sc.figures {
			if !f.plain && !slices.Contains(sc.rows, f.against()) {
				t.Errorf("%s: %s is a ratio to %s, which is not measured", sc.name, f.name, f.against())
			}
		}
		if kind := slices.Index(sc.setup.node, "-sharing"); kind >= 0 {
			if _, err := sharingNode(sc.setup.node[kind+1]); err != nil {
				t.Errorf("%s: %v", sc.name, err)
			}
		}
	}
}

func TestScenario_TurnIsPlayedOrItsLoadIsRun(t *testing.T) {
	played := &sample{answers: 7}
	sc := scenario{play: func(context.Context, *fleet, *peer, *uint64) (*sample, error) { return played, nil }}
	if s, err := sc.turn(t.Context(), new(fleet), new(peer), new(uint64)); s != played || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
	sc = scenario{load: load{clients: 1, words: 1, answers: 3}}
	if s, err := sc.turn(t.Context(), new(fleet), &peer{addrs: []string{servedNode(t)}}, new(uint64)); err != nil || s.answers != 3 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestTellSaved_IsOfTheGatewayThatSharesNothing(t *testing.T) {
	busy := func(chats, vectors time.Duration) *sample {
		return &sample{account: account{gpuChats: chats, gpuVectors: vectors}}
	}
	got := tellSaved([]round{{alone: busy(60, 40), coalesce: busy(50, 40), gateway: busy(50, 10)}})
	if want := "Of the GPU seconds `coalesce` saved 10 %, and `gateway`, which batches too, 40 %."; got != want {
		t.Errorf("%s", got)
	}
}
