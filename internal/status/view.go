package status

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// A view is a report in the words of the page and of a terminal.
type view struct{ *Report }

// words are what the template has beside a view's methods.
var words = template.FuncMap{
	"bytes": Bytes, "count": Count, "seconds": Seconds, "span": Span, "state": StateText, "share": Share,
}

// A Notice is a sentence on what an operator should know.
type Notice struct {
	Level string // ok, warn or bad
	Text  string
}

// Notices tell how it goes, the worst first; there is always one.
func (r *Report) Notices() []Notice {
	var all []Notice
	say := func(level, format string, args ...any) {
		all = append(all, Notice{level, fmt.Sprintf(format, args...)})
	}
	if !r.Ready {
		say("bad", "No node can be used. Requests are refused.")
	}
	now := r.Now()
	if now.Overloaded > 0 {
		say("bad", "%s refused for want of room in the last minute.", counted(now.Overloaded, "request was", "requests were"))
	}
	if now.Failed > 0 {
		say("bad", "%s in the last minute.", counted(now.Failed, "request failed", "requests failed"))
	}
	var out []string
	for _, n := range r.Nodes {
		if n.State == "up" {
			continue
		}
		text := n.Name + " is " + StateText(n.State)
		if n.State == "probation" {
			text = n.Name + " is on probation"
		}
		if n.Reason != "" {
			text += " (" + n.Reason + ")"
		}
		out = append(out, text)
	}
	const most = 3
	if more := len(out) - most; more > 0 {
		out = append(out[:most], counted(more, "more is not up", "more are not up"))
	}
	if len(out) > 0 {
		say("warn", "%s.", strings.Join(out, ", "))
	}
	if n := r.Queue.Length(); n > 0 && r.Ready && r.queued() {
		say("warn", "%s for a slot.", counted(n, "request waits", "requests wait"))
	}
	if len(all) == 0 {
		say("ok", "All is well: %s.", counted(len(r.Nodes), "node is up", "nodes are up"))
	}
	return all
}

// queued tells whether somebody has waited all the time lately: that one request waits a moment is
// no news.
func (r *Report) queued() bool {
	const lately = 2 // steps
	w := r.History.Waiting
	if len(w) < lately {
		return false
	}
	for _, n := range w[len(w)-lately:] {
		if n == 0 {
			return false
		}
	}
	return true
}

// Now is the last minute.
func (r *Report) Now() Minute {
	if len(r.Minutes) == 0 {
		return Minute{}
	}
	return r.Minutes[len(r.Minutes)-1]
}

// Up counts the nodes that may be given requests.
func (r *Report) Up() int {
	n := 0
	for _, node := range r.Nodes {
		if node.Usable {
			n++
		}
	}
	return n
}

// InFlight counts the slots that are held.
func (r *Report) InFlight() int {
	n := 0
	for _, node := range r.Nodes {
		n += node.InFlight
	}
	return n
}

// Room is how many slots there are: those of each loaded model of a usable node, of one model where
// none is loaded.
func (r *Report) Room() int {
	n := 0
	for _, node := range r.Nodes {
		if node.Usable {
			n += node.Room()
		}
	}
	return n
}

// Room is how many slots a node has for the models it has loaded.
func (n Node) Room() int { return n.Slots * max(1, len(n.Runners)) }

// Busy is how much of the room is taken, in percent.
func (n Node) Busy() int { return min(100, 100*n.InFlight/max(1, n.Room())) }

// Worst is the level of the worst notice.
func (v view) Worst() string { return v.Notices()[0].Level }

// Full is how much of the queue is taken, in percent.
func (v view) Full() int { return min(100, 100*v.Queue.Length()/max(1, v.Queue.Limit)) }

// FullMemory is how much of the cache's memory is taken, in percent.
func (v view) FullMemory() int { return int(min(100, 100*v.Cache.Bytes/max(1, v.Cache.Limit))) }

// Classes are the classes of the queue, first come first.
func (v view) Classes() []string { return []string{"interactive", "background", "batch"} }

// Waiting is how many of a class wait.
func (v view) Waiting(class string) int { return v.Queue.Waiting[class] }

// Ago says how long ago t was.
func (v view) Ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return Span(max(0, v.At.Sub(t)).Seconds())
}

// MinutesBack are the minutes with the newest first, as they are read, from when there was a gateway.
func (v view) MinutesBack() []Minute {
	lived := int(v.At.Sub(v.Since)/time.Minute) + 1
	back := make([]Minute, 0, len(v.Minutes))
	for i := len(v.Minutes) - 1; i >= 0 && len(back) < lived; i-- {
		back = append(back, v.Minutes[i])
	}
	return back
}

// HitShare is of the last minute: requests that were answered from the cache.
func (m Minute) HitShare() float64 {
	if m.FromCache == 0 {
		return 0
	}
	return float64(m.FromCache) / float64(m.FromCache+m.Answered)
}

// StateText is the word for a node's state as people read it.
func StateText(state string) string { return strings.ReplaceAll(state, "_", " ") }

// Bytes says how much memory that is.
func Bytes(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// Count writes a number with commas.
func Count(n int) string { return humanize.Comma(int64(n)) }

// Share writes a part of 1 as percent.
func Share(x float64) string { return fmt.Sprintf("%.0f%%", 100*x) }

// Seconds writes a measured time; "–" if there is none.
func Seconds(s *float64) string {
	switch {
	case s == nil:
		return "–"
	case *s < 0.001:
		return "< 1 ms"
	case *s < 1:
		return fmt.Sprintf("%.0f ms", *s*1000)
	case *s < 10:
		return fmt.Sprintf("%.1f s", *s)
	}
	return fmt.Sprintf("%.0f s", *s)
}

// Span says how long something takes, in the largest units that say enough.
func Span(seconds float64) string {
	s := int64(seconds)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min", s/60)
	case s < 48*3600:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%d days", s/86400)
}

func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(n) + " " + more
}
