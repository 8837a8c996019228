package wire

import (
	"errors"
	"fmt"
)

// ErrNoRetelling says that the recording of one route cannot be told on another.
var ErrNoRetelling = errors.New("an answer of this route cannot be told on the other")

// A Retelling is how the recording of one request is told to another client.
type Retelling struct {
	From  Route  // what was recorded
	To    Route  // what this client asked: the same, or OpenAI's chat of a native one
	Model string // as this client spelt it

	// The client asked for OpenAI's usage chunk, or the told frames are to be folded: a single
	// answer always has usage.
	Usage bool
}

// A Told is a frame as it is told.
type Told struct {
	Data []byte // not to be changed: it may be the recorded frame itself
	Kind FrameKind
}

// A Reteller tells the frames of one recording in their order: with the model as this client
// spelt it and with ids of its own, the same for the same thing in all frames. Everything else
// stays byte for byte as it was recorded, other ids included: those of tool calls, which
// clients send back. It is not safe for concurrent use.
type Reteller struct {
	tell  func(t *Reteller, dst []Told, frame []byte, kind FrameKind) ([]Told, error)
	usage bool

	spots []spot
	respeller
	chat chatTranslator
}

// NewReteller begins to tell a recording. The error is ErrNoRetelling.
func NewReteller(r Retelling) (*Reteller, error) {
	t := &Reteller{usage: r.Usage}
	t.model = quoted(r.Model)
	switch from, to := r.From, r.To; {
	case from.Path == to.Path && from.Dialect == to.Dialect && from.Operation == to.Operation:
		t.tell, t.spots, t.ids = (*Reteller).same, spotsOf(to), idsOf(to)
		if to.Dialect == OpenAI && to.Operation == Generate && !r.Usage {
			t.spots = chunkSpotsWithoutUsage
		}
	case from.Dialect == Ollama && from.Operation == Chat && to.Dialect == OpenAI && to.Operation == Chat:
		t.tell = (*Reteller).translate
		t.ids = idsOf(to)
		t.chat.begin(t.ids.fresh(nil), t.model)
	default:
		return nil, fmt.Errorf("%w: %s on %s", ErrNoRetelling, from.Path, to.Path)
	}
	return t, nil
}

// Tell appends to dst what the client hears of the next recorded frame, which may be nothing:
// a usage chunk it did not ask for. It does not change the frame.
//
// The frame is one that a Judge has passed as that kind; the error wraps ErrFrame if it cannot
// be. A Fault is not told: ErrorRecord says it.
func (t *Reteller) Tell(dst []Told, frame []byte, kind FrameKind) ([]Told, error) {
	if kind == Fault || kind == Usage && !t.usage {
		return dst, nil
	}
	told, err := t.tell(t, dst, frame, kind)
	if err != nil {
		return dst, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return told, nil
}

// same tells a frame to a client of the recorded route.
func (t *Reteller) same(dst []Told, frame []byte, kind FrameKind) ([]Told, error) {
	data, err := t.respell(frame, t.spots)
	return append(dst, Told{data, kind}), err
}

// translate tells a native frame to a client of OpenAI's chat.
func (t *Reteller) translate(dst []Told, frame []byte, kind FrameKind) ([]Told, error) {
	return t.chat.tell(dst, frame, t.usage)
}

// Respell gives a single object, such as an answer to an embedding, with the model as this
// client spelt it. Where there is none it is the object itself. The error wraps ErrFrame.
func Respell(object []byte, model string) ([]byte, error) {
	r := respeller{model: quoted(model)}
	told, err := r.respell(object, modelSpot)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return told, nil
}

// quoted is a text in JSON with the escapes of a node.
func quoted(text string) []byte { return marshal(text) }
