package gateway

import (
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A telling gives the frames of a recording as one client asked for them.
type telling struct {
	model string // as the client spelt it
	own   bool   // the recording is of the client's own request

	// retell is for the recording of another request: a stored one, or that of an equal call.
	retell *wire.Reteller
	told   []wire.Told

	// What the gateway asked for and the client did not, in a recording of the client's own.
	withoutUsage, withoutField bool
}

// newTelling tells what reader follows to the client of a call. usage: OpenAI's counts are told.
// The error is that the recording is of another kind of answer.
func newTelling(q *request, c *call.Call, reader *recording.Reader, usage bool) (*telling, error) {
	t := &telling{model: c.Request.Model.Spelling}
	from, request := reader.Of()
	if t.own = request == c.Request; t.own {
		t.withoutUsage = q.route.Dialect == wire.OpenAI && !usage
		t.withoutField = t.withoutUsage && q.route.Operation == wire.Generate
		return t, nil
	}
	if q.route.Operation == wire.Embed {
		return t, nil // one object, told whole
	}
	var err error
	t.retell, err = wire.NewReteller(wire.Retelling{From: from, To: q.route, Model: t.model, Usage: usage})
	return t, err
}

// each yields frames as they are told. The error wraps wire.ErrFrame.
func (t *telling) each(frames []recording.Frame, yield func([]byte) bool) error {
	for _, f := range frames {
		switch {
		case t.retell != nil:
			var err error
			if t.told, err = t.retell.Tell(t.told[:0], f.Data, f.Kind); err != nil {
				return err
			}
			for _, told := range t.told {
				if !yield(told.Data) {
					return nil
				}
			}
		case t.withoutUsage && f.Kind == wire.Usage:
		case t.withoutField:
			if !yield(wire.WithoutUsage(f.Data)) {
				return nil
			}
		case !yield(f.Data):
			return nil
		}
	}
	return nil
}

// frames gives frames as they are told. More than one are joined in buffer, which costs less than
// to pass each through the writers of a server.
func (t *telling) frames(frames []recording.Frame, buffer *[]byte) ([]byte, error) {
	var only []byte
	said := 0
	err := t.each(frames, func(data []byte) bool {
		switch said++; said {
		case 1:
			only = data
			return true
		case 2:
			*buffer = append((*buffer)[:0], only...)
		}
		*buffer = append(*buffer, data...)
		return true
	})
	if said > 1 {
		return *buffer, err
	}
	return only, err
}

// object gives a recording that is one object as it is told.
func (t *telling) object(body []byte) ([]byte, error) {
	if t.own {
		return body, nil
	}
	return wire.Respell(body, t.model)
}

// single gives the single answer of a replay as it is told.
func (t *telling) single(body []byte) ([]byte, error) {
	told, err := t.retell.Tell(t.told[:0], body, wire.Part) // it has what it changes where frames have it
	if err != nil || len(told) == 0 {
		return nil, err
	}
	return told[0].Data, nil
}
