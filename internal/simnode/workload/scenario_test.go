package workload_test

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

func all() []workload.Scenario {
	return []workload.Scenario{workload.Multimodel(), workload.Multiturn(), workload.Mixed(), workload.Hetero()}
}

func TestTrace_IsMadeByItsSeed(t *testing.T) {
	for _, s := range all() {
		one, again, other := s.Trace(1), s.Trace(1), s.Trace(2)
		if !reflect.DeepEqual(one, again) || reflect.DeepEqual(one, other) {
			t.Errorf("%s: equal seeds, equal loads? %v; other seeds, equal loads? %v", s.Name, reflect.DeepEqual(one, again), reflect.DeepEqual(one, other))
		}
		if !slices.IsSortedFunc(one, func(a, b workload.Conversation) int { return int(a.At - b.At) }) {
			t.Errorf("%s: not in the order of the beginnings", s.Name)
		}
	}
}

func TestRequests_AreMadeByTheirSeedAndRepeat(t *testing.T) {
	r := workload.Repeats()
	one, again, other := r.Requests(1), r.Requests(1), r.Requests(2)
	if !reflect.DeepEqual(one, again) || reflect.DeepEqual(one, other) {
		t.Errorf("equal seeds, equal loads? %v; other seeds, equal loads? %v", reflect.DeepEqual(one, again), reflect.DeepEqual(one, other))
	}
	chats, distinct, texts, known := 0, map[string]bool{}, 0, map[string]bool{}
	for _, q := range one {
		if q.Chat != nil {
			chats++
			distinct[q.Chat.Messages[0].Content] = true
		}
		for _, text := range q.Inputs {
			texts++
			known[text] = true
		}
	}
	if chats < 4*len(distinct) || texts < 4*len(known) {
		t.Errorf("%d chats of %d questions, %d texts of which %d are distinct", chats, len(distinct), texts, len(known))
	}
}

// No answer can come from a cache of answers, or the same call would be measured twice.
func TestTrace_NoTwoConversationsBeginAlike(t *testing.T) {
	for _, s := range all() {
		known := map[string]bool{}
		for _, c := range s.Trace(1) {
			if known[c.Model+c.Turns[0].Says] {
				t.Errorf("%s: twice %q", s.Name, c.Turns[0].Says)
			}
			known[c.Model+c.Turns[0].Says] = true
		}
	}
}

func TestTrace_PopularityIsZipfs(t *testing.T) {
	count := map[string]int{}
	for seed := range uint64(50) {
		for _, c := range workload.Multimodel().Trace(seed) {
			count[c.Model]++
		}
	}
	// Of 10000, the first has 1/H(8) = 0.368 and the last an eighth of that.
	if m := count["m0"]; m < 3500 || m > 3850 {
		t.Errorf("the first model was asked for %d times of 10000", m)
	}
	if m := count["m7"]; m < 400 || m > 520 {
		t.Errorf("the last model was asked for %d times of 10000", m)
	}
}

func TestHold_SendsAllThatWasSaid(t *testing.T) {
	c := workload.Conversation{
		At: time.Second, Model: "chat", System: "be kind",
		Turns: []workload.Turn{{Says: "one"}, {Think: time.Minute, Says: "two", Most: 5}, {Says: "three"}, {Says: "never"}},
	}
	var waited time.Duration
	var asked []workload.Chat
	c.Hold(func(d time.Duration) { waited += d }, func(b workload.Chat) (string, error) {
		b.Messages = slices.Clone(b.Messages)
		if asked = append(asked, b); len(asked) == 3 {
			return "", errors.New("no more")
		}
		return "ah", nil
	})
	if waited != time.Second+time.Minute || len(asked) != 3 {
		t.Fatalf("waited %v, asked %d times", waited, len(asked))
	}
	want := []workload.Message{{Role: "system", Content: "be kind"}, {Role: "user", Content: "one"}, {Role: "assistant", Content: "ah"}, {Role: "user", Content: "two"}}
	if !slices.Equal(asked[1].Messages, want) || asked[1].Options["num_predict"] != 5 || asked[0].Options["num_predict"] != nil {
		t.Errorf("asked %v", asked)
	}
}
