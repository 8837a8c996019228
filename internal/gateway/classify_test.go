package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

func TestFault_AModelThatDoesNotFitIsAnsweredElsewhereAndIsNoIllness(t *testing.T) {
	const full = `path=/api/chat,status=500,body={"error":"model requires more system memory (9.1 GiB) than is available (2.0 GiB)"}`
	row{fault: full, forms: forms[:1], code: 200, outcome: OK, tries: "no_memory ok", state: fleet.Up}.hold(t)
	row{
		fault: full, other: full, forms: forms[:1], code: 500, outcome: UpstreamError, tries: "no_memory no_memory",
		says: "requires more system memory", state: fleet.Up,
	}.hold(t)
}

func TestFault_ARouteThatNoNodeKnowsIsNotFound(t *testing.T) {
	onStand(t, standSetup{}, func(s *stand) {
		for n := range s.sim {
			s.fail(n, "path=/v1/messages,status=404,body=404 page not found")
		}
		code, answer, _ := s.rig.ask("/v1/messages", forms[4].body)
		if code != 404 || answer != "404 page not found" {
			s.Errorf("%d %s, want what a node says of unknown routes", code, answer)
		}
		if got := s.last(s.T); got.Outcome != ClientError || len(got.Tries) != 2 {
			s.Errorf("outcome %s after %d tries", got.Outcome, len(got.Tries))
		}
	})
}

func TestFault_A500ThatSpeaksOfTheRequestIsTheClients(t *testing.T) {
	row{
		fault: `path=/api/chat,status=500,body={"error":"option \"stop\" must be of type array"}`, forms: forms[:1],
		code: 500, outcome: ClientError, tries: "refused", says: "must be of type array", state: fleet.Up,
	}.hold(t)
}

func TestFault_AllBusyForAMomentIsWaitedFor(t *testing.T) {
	onStand(t, standSetup{}, func(s *stand) {
		s.fail(0, "busy")
		s.fail(1, "busy")
		time.AfterFunc(1500*time.Millisecond, func() { _ = s.sim[1].SetFaults() })
		began := time.Now()
		code, answer, _ := s.rig.ask("/api/chat", forms[0].body)
		if code != 200 || !strings.Contains(answer, forms[0].whole) || time.Since(began) > 3*time.Second {
			s.Errorf("%d %s after %v", code, answer, time.Since(began))
		}
	})
}
