package fleet

import (
	"encoding/json"
	"testing"
	"time"
)

func TestParseTags_LeavesOutWhatIsNoModel(t *testing.T) {
	got, err := parseTags([]byte(`{"models":[null,7,{"name":"a b"},{"name":""},{"name":"A","digest":"sha256:d1"},{"name":"a:latest","digest":"d2"},` +
		`{"model":"old","modified_at":"yesterday"},{"name":3}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.rows) != 2 || got.byKey[key("a")].digest != "d1" || !got.byKey[key("old")].modified.IsZero() {
		t.Errorf("%+v", got.rows)
	}
}

func TestParseTags_HostedModelsAreTold(t *testing.T) {
	got, err := parseTags([]byte(tagsOf(tagRow("big:120b-cloud", "d", day), tagRow("big:cloud", "d", day), tagRow("big", "d", day))))
	if err != nil || len(got.rows) != 3 || !got.rows[0].cloud || !got.rows[1].cloud || got.rows[2].cloud {
		t.Errorf("%+v %v", got, err)
	}
}

func FuzzTags(f *testing.F) {
	for _, s := range []string{
		`{"models":[]}`, `{"models":null}`, `{"Models":[{"name":"a"}]}`, `{"models":{}}`, `null`, `[]`, ``,
		tagsOf(tagRow("a:latest", "d", day), tagRow("ns/b:7b", "e", day)), `{"models":[{"name":"a","digest":null,"modified_at":""}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := parseTags(body)
		if err != nil {
			return
		}
		n := NewNode(NodeConfig{})
		n.listed(v)
		n.facts.Store(&facts{state: Up, checked: true, since: time.Now(), tags: v})
		models, listed := merge([]input{{n, true, v}}, nil)
		if len(models) != len(v.rows) || len(listed) != len(v.rows) {
			t.Errorf("%d rows, %d models", len(v.rows), len(models))
		}
		s := &Snapshot{Models: models, listed: listed}
		for _, b := range [][]byte{s.TagsBody(nil), s.ModelsBody(nil)} {
			if !json.Valid(b) {
				t.Errorf("not JSON: %q", b)
			}
		}
	})
}
