package wire

import (
	"bytes"
	"errors"
)

// A spot is a field that a retelling changes, or that holds such fields.
type spot struct {
	name  string // in quotes
	what  whatIsSpelt
	inner []spot
}

// whatIsSpelt is what stands in a spot.
type whatIsSpelt uint8

const (
	further   whatIsSpelt = iota // an object with further spots, or a list of such objects
	modelName                    // the model, as the client spelt it
	answerID                     // an id that a node mints for each answer
	leftOut                      // a field that the client did not ask for
)

// Where the dialects have the model and their ids. Single objects have them where the frames
// of their dialect or, in Anthropic's and the responses, the objects in those have them.
var (
	usageSpot              = []spot{{`"usage"`, leftOut, nil}}
	modelSpot              = []spot{{`"model"`, modelName, nil}}
	chunkSpots             = []spot{{`"id"`, answerID, nil}, {`"model"`, modelName, nil}}
	chunkSpotsWithoutUsage = append(usageSpot[:1:1], chunkSpots...)
	eventsSpots            = append([]spot{{`"message"`, further, chunkSpots}}, chunkSpots...)

	itemSpots      = []spot{{`"id"`, answerID, nil}}
	responseSpots  = append([]spot{{`"output"`, further, itemSpots}}, chunkSpots...)
	responsesSpots = append([]spot{
		{`"item"`, further, itemSpots}, {`"item_id"`, answerID, nil}, {`"response"`, further, responseSpots},
	}, responseSpots...)
)

// spotsOf gives the spots of the frames and objects of a route.
func spotsOf(r Route) []spot {
	switch {
	case r.Dialect == Anthropic:
		return eventsSpots
	case r.Dialect == OpenAI && (r.Operation == Chat || r.Operation == Generate):
		return chunkSpots
	case r.Dialect == OpenAI && r.Operation == Responses:
		return responsesSpots
	}
	return modelSpot
}

// A respeller writes what stands in the spots of a frame anew.
type respeller struct {
	model []byte // in quotes
	ids   ids
	edits []edit
}

// An edit puts text in the place of what stands between two offsets.
type edit struct {
	from, to int
	text     []byte
}

var errShape = errors.New("JSON of another shape")

// respell gives a frame with its spots spelt anew. It is the frame itself if nothing changes.
func (r *respeller) respell(frame []byte, spots []spot) ([]byte, error) {
	from, ok := dataOf(frame)
	if !ok { // several lines of data, which no node writes: one of the same meaning
		line, err := oneLine(frame)
		if err != nil {
			return nil, err
		}
		frame = line
		from, _ = dataOf(frame)
	}
	if bytes.HasPrefix(frame[from:], []byte("[DONE]")) {
		return frame, nil
	}
	r.edits = r.edits[:0]
	s := scanner{src: frame, at: from}
	r.object(&s, spots)
	if s.broken {
		return nil, errShape
	}
	return r.edited(frame), nil
}

// object finds the edits of the object that s is before, and leaves s behind it, or within it
// if no spot can follow: a name stands only once in an object.
func (r *respeller) object(s *scanner, spots []spot) {
	left := len(spots)
	s.enter('{')
	for begin, before := s.at, s.at; s.more('}'); before = s.at {
		spot := spotOf(spots, s.name())
		if spot == nil {
			s.skip()
			continue
		}
		switch from := s.at; spot.what {
		case further:
			r.within(s, spot.inner)
		case leftOut:
			s.skip()
			to := s.at
			if before == begin {
				to = s.comma() // the first field has its comma behind it
			}
			r.edits = append(r.edits, edit{before, to, nil})
		case modelName:
			if s.skip(); s.isText(from) {
				r.edits = append(r.edits, edit{from, s.at, r.model})
			}
		case answerID:
			if s.skip(); s.isText(from) {
				if from, to := r.ids.part(s.src, from+1, s.at-1); from < to {
					r.edits = append(r.edits, edit{from, to, r.ids.mint(s.src[from:to])})
				}
			}
		}
		if left--; left == 0 && s.depth == 1 {
			return
		}
	}
}

// within finds the edits of the value that s is before.
func (r *respeller) within(s *scanner, spots []spot) {
	switch s.peek() {
	case '{':
		r.object(s, spots)
	case '[':
		for s.enter('['); s.more(']'); {
			if s.peek() == '{' {
				r.object(s, spots)
			} else {
				s.skip()
			}
		}
	default:
		s.skip()
	}
}

func spotOf(spots []spot, name []byte) *spot {
	for i := range spots {
		if string(name) == spots[i].name {
			return &spots[i]
		}
	}
	return nil
}

// edited applies the edits, which are in order.
func (r *respeller) edited(frame []byte) []byte {
	more, changed := 0, false
	for _, e := range r.edits {
		more += len(e.text) - (e.to - e.from)
		changed = changed || string(frame[e.from:e.to]) != string(e.text)
	}
	if !changed {
		return frame
	}
	told, end := make([]byte, 0, len(frame)+more), 0
	for _, e := range r.edits {
		told = append(append(told, frame[end:e.from]...), e.text...)
		end = e.to
	}
	return append(told, frame[end:]...)
}

// dataOf finds where the JSON of a frame begins: at the value of an event's only line of data,
// or where an object begins that is no event. ok is false if there is not exactly one.
func dataOf(frame []byte) (from int, ok bool) {
	if len(frame) > 0 && frame[0] == '{' {
		return 0, true
	}
	at := -1
	for i := 0; i < len(frame); {
		end := len(frame)
		if n := bytes.IndexByte(frame[i:], '\n'); n >= 0 {
			end = i + n
		}
		if line := frame[i:end]; bytes.HasPrefix(line, []byte("data:")) {
			if at >= 0 {
				return 0, false
			}
			at = i + len("data:")
			if at < end && frame[at] == ' ' {
				at++
			}
		} else if string(bytes.TrimSuffix(line, []byte("\r"))) == "data" {
			return 0, false
		}
		i = end + 1
	}
	if at < 0 && len(frame) > 0 && (frame[0] == ' ' || frame[0] == '\t') {
		return 0, true // an object behind white space
	}
	return max(at, 0), at >= 0
}

// oneLine gives an event with all its data in one line, which is white space to JSON.
func oneLine(event []byte) ([]byte, error) {
	data, err := eventData(event)
	if err != nil {
		return nil, err
	}
	var line []byte
	for other := range bytes.Lines(event) {
		text := bytes.TrimRight(other, "\r\n")
		if name, _, _ := bytes.Cut(text, []byte(":")); len(text) > 0 && string(name) != "data" {
			line = append(append(line, text...), '\n')
		}
	}
	line = append(append(line, "data: "...), bytes.ReplaceAll(data, []byte("\n"), []byte(" "))...)
	return append(line, "\n\n"...), nil
}
