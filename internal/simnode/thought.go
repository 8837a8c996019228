package simnode

import "strings"

const (
	thinkOpen  = "<think>"
	thinkClose = "</think>"
)

// A splitter tells what a model thinks from what it says, as its tokens come.
type splitter struct {
	state splitState
	held  string // text that may belong to a tag
}

type splitState int

const (
	beforeThought splitState = iota
	openingThought
	inThought
	closingThought
	afterThought
)

// feed takes the next piece of text and returns what can be passed on. White space around the tags is dropped, but
// not that before the closing one.
func (s *splitter) feed(text string) (thought, content string) {
	s.held += text
	for {
		switch s.state {
		case beforeThought:
			trimmed := strings.TrimLeft(s.held, " \n\t")
			rest, ok := strings.CutPrefix(trimmed, thinkOpen)
			switch {
			case ok:
				s.held, s.state = rest, openingThought
			case strings.HasPrefix(thinkOpen, trimmed):
				return thought, content
			default:
				s.state = afterThought
			}
		case openingThought, closingThought:
			if s.held = strings.TrimLeft(s.held, " \n\t"); s.held == "" {
				return thought, content
			}
			s.state++
		case inThought:
			before, rest, ok := strings.Cut(s.held, thinkClose)
			if !ok {
				keep := overlap(s.held, thinkClose)
				thought += s.held[:len(s.held)-keep]
				s.held = s.held[len(s.held)-keep:]
				return thought, content
			}
			thought += before
			s.held, s.state = rest, closingThought
		default:
			content += s.held
			s.held = ""
			return thought, content
		}
	}
}

// rest returns text that was held back when the answer ended.
func (s *splitter) rest() string {
	held := s.held
	s.held = ""
	return held
}

// overlap is the length of the longest end of s that begins word.
func overlap(s, word string) int {
	for n := min(len(s), len(word)-1); n > 0; n-- {
		if strings.HasSuffix(s, word[:n]) {
			return n
		}
	}
	return 0
}
