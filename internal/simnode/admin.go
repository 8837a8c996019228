package simnode

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// adminPath is where clients read and change the faults, if Options.Admin lets them.
const adminPath = "/_faults"

// A Report is the answer of the admin route: the faults that are set, and what the node counted.
type Report struct {
	Faults []Fault `json:"faults"`
	Stats  Stats   `json:"stats"`
}

// admin has the methods of the admin route: GET tells the faults, PUT replaces them by a list or by one, POST adds to
// them, DELETE heals the node. A fault is an object or, as a string, the words of ParseFault. All answer a Report.
func (n *Node) admin() map[string]http.HandlerFunc {
	change := func(keep func() []Fault) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			faults, err := readFaults(r.Body)
			if err == nil {
				err = n.SetFaults(append(keep(), faults...)...)
			}
			if err != nil {
				sendError(w, http.StatusBadRequest, err.Error())
				return
			}
			n.report(w)
		}
	}
	return map[string]http.HandlerFunc{
		http.MethodGet:  func(w http.ResponseWriter, _ *http.Request) { n.report(w) },
		http.MethodPut:  change(func() []Fault { return nil }),
		http.MethodPost: change(n.Faults),
		http.MethodDelete: func(w http.ResponseWriter, _ *http.Request) {
			_ = n.SetFaults() // no faults are never wrong
			n.report(w)
		},
	}
}

func (n *Node) report(w http.ResponseWriter) {
	sendJSON(w, http.StatusOK, Report{n.Faults(), n.Stats()})
}

// readFaults reads one fault or a list. It refuses those that would shut out who wants to end them.
func readFaults(body io.Reader) ([]Fault, error) {
	var raw json.RawMessage
	if err := json.NewDecoder(body).Decode(&raw); err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		list = []json.RawMessage{raw}
	}
	faults := make([]Fault, 0, len(list))
	for _, one := range list {
		var text string
		if json.Unmarshal(one, &text) != nil {
			text = string(one)
		}
		f, err := ParseFault(text)
		if err != nil {
			return nil, err
		}
		if f.onConnections() && f.For == 0 {
			return nil, errors.New("a fault of connections would shut you out, too: say how long it shall be there, as \"for\":\"30s\"")
		}
		faults = append(faults, f)
	}
	return faults, nil
}
