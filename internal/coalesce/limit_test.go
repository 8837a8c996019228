package coalesce

import (
	"fmt"
	"io"
	"math"
	"testing"
	"testing/synctest"

	"github.com/caddy-ollama/caddy-ollama/internal/recording"
)

func TestLimit_NewcomerLeadsPastItAndTakesThePlace(t *testing.T) {
	onStage(t, Options{MaxFollowers: math.MaxInt}, func(s *stage) {
		s.limit = 3
		a := s.ask(chat("a"))
		u := s.upstream()
		u.begin("12")
		b := s.ask(chat("a"))
		u.say("34")
		c, d := s.ask(chat("a")), s.ask(chat("a"))
		again := s.calls(2)[1]
		u.complete()
		again.begin("5")
		e := s.ask(chat("a"))
		again.complete()
		a.hears(t, "the leader", "1234.", io.EOF)
		b.hears(t, "who joined in time", "1234.", io.EOF)
		for _, k := range []*client{c, d, e} {
			k.hears(t, "who came past the limit", "5.", io.EOF)
		}
		s.calls(2)
	})
}

// A first frame above the limit cannot be forked: one has it, the others ask again, and all end.
func TestLimit_FirstFrameAboveItHangsNobody(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		s.limit = 1
		clients := []*client{s.ask(chat("a")), s.ask(chat("a")), s.ask(chat("a"))}
		for n := 1; n <= len(clients); n++ {
			u := s.calls(n)[n-1]
			u.begin("123")
			u.complete()
		}
		for i, k := range clients {
			k.hears(t, fmt.Sprintf("client %d", i), "123.", io.EOF)
		}
	})
}

func TestLimit_SlowFollowerIsCutAlone(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		s.limit = 10
		leader := s.ask(chat("a"))
		goOn := make(chan struct{})
		slow := s.asksAndReads(chat("a"), func(k *client, r *recording.Reader) {
			<-goOn
			k.read(r)
		})
		quick := s.ask(chat("a"))
		u := s.upstream()
		u.begin("0")
		want := "0"
		for i := range 30 {
			u.say(fmt.Sprintf("%d", i%10))
			want += fmt.Sprintf("%d", i%10)
		}
		u.complete()
		close(goOn)
		synctest.Wait()
		slow.hears(t, "the slow one", "", recording.ErrSlow)
		leader.hears(t, "the leader", want+".", io.EOF)
		quick.hears(t, "the quick one", want+".", io.EOF)
	})
}
