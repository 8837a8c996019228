package wire

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestBody_ReadersAreIndependent(t *testing.T) {
	for _, body := range []Body{nil, {[]byte("one")}, {[]byte("one"), nil, []byte("two")}} {
		first := body.Reader()
		if _, err := io.CopyN(io.Discard, first, 1); err != nil && len(body) > 0 {
			t.Fatal(err)
		}
		if err := iotest.TestReader(body.Reader(), body.Bytes()); err != nil {
			t.Errorf("%q: %v", body, err)
		}
		if body.Len() != int64(len(body.Bytes())) {
			t.Errorf("%q: length %d", body, body.Len())
		}
	}
}

func TestAssemble_CopiesOnlyWhatIsShort(t *testing.T) {
	long := strings.Repeat("x", pieceGap)
	source := []byte(`["` + long + `",1,"` + long + `",2,3]`)
	one, two := bytes.IndexByte(source, '1'), bytes.IndexByte(source, '2')
	body := assemble(source, 0, len(source), []patch{{one, one + 1, "one"}, {two, two + 1, "two"}}, true)
	if got, want := string(body.Bytes()), `["`+long+`",one,"`+long+`",two,3]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(body) != 4 || &body[0][0] != &source[0] || &body[2][0] != &source[one+1] {
		t.Errorf("got %d pieces, want the long parts of the source and the patches between them", len(body))
	}
}

func TestAssemble_KeepsItsPiecesFewAndWhole(t *testing.T) {
	source := bytes.Repeat([]byte("\xff "), 200_000)
	body := assemble(source, 0, len(source), nil, false)
	if got := body.Bytes(); !bytes.Equal(got, bytes.ToValidUTF8(source, []byte("\ufffd"))) {
		t.Errorf("%d bytes came out, not the source with each bad byte replaced", len(got))
	}
	if most := 4*len(source)/pieceFull + 1; len(body) > most {
		t.Errorf("%d pieces, want %d at most", len(body), most)
	}
}
