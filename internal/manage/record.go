package manage

import (
	"encoding/json"
	"errors"
)

// What is taken of a node's progress. A model has some ten layers, and few of Ollama's have a
// thousand; what is beyond is not told, and changes nothing about the end.
const (
	lineLimit   = 64 << 10 // bytes of a line
	statusLimit = 200      // bytes of a status or digest
	itemsLimit  = 4096     // statuses and layers of one node, and of all together
	sizeLimit   = 1 << 50  // bytes of a layer: a petabyte, so that sums stay far from overflow
)

// success is the status by which a node says that it has done it all.
const success = "success"

// A Record is a step of a node's, or of all nodes together. Where Digest is not empty it is about a
// layer: Completed of Total bytes of it are there.
type Record struct {
	Status    string `json:"status"`
	Digest    string `json:"digest,omitempty"`
	Total     int64  `json:"total,omitempty"`
	Completed int64  `json:"completed,omitempty"`
}

var errLine = errors.New("a line is not a record of progress")

// parseLine reads a line of progress. said is not empty where the node tells of an error.
func parseLine(line []byte) (r Record, said string, err error) {
	var v struct {
		Record
		Error *json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return Record{}, "", errLine
	}
	if v.Error != nil && string(*v.Error) != "null" {
		if json.Unmarshal(*v.Error, &said) != nil || said == "" {
			return Record{}, "", errLine
		}
		return Record{}, said, nil
	}
	r = v.Record
	if r.Status == "" {
		return Record{}, "", errLine
	}
	r.Status, r.Digest = clip(Scrub(r.Status), statusLimit), clip(Scrub(r.Digest), statusLimit)
	r.Total = min(max(r.Total, 0), sizeLimit)
	r.Completed = min(max(r.Completed, 0), r.Total)
	return r, "", nil
}
