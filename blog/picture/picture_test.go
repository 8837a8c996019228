package picture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/color/palette"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

const tenMiB = 10 << 20

func take(t *testing.T, content []byte) image.Image {
	t.Helper()
	out, err := NewIntake().Take(t.Context(), content, tenMiB)
	if err != nil {
		t.Fatal(err)
	}
	decoded, _, err := image.Decode(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

// quarters is red, green, blue and white, clockwise from the upper left.
func quarters(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.NRGBA{R: 255, A: 255}
			switch {
			case x >= w/2 && y < h/2:
				c = color.NRGBA{G: 255, A: 255}
			case x >= w/2:
				c = color.NRGBA{B: 255, A: 255}
			case y >= h/2:
				c = color.NRGBA{R: 255, G: 255, B: 255, A: 255}
			}
			img.SetNRGBA(x, y, c)
		}
	}
	return img
}

func pngOf(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func jpegOf(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gifOf(t testing.TB, frames, side int) []byte {
	t.Helper()
	g := &gif.GIF{LoopCount: 3}
	for i := range frames {
		frame := image.NewPaletted(image.Rect(0, 0, side, side), palette.Plan9)
		frame.SetColorIndex(0, 0, uint8(i))
		g.Image, g.Delay = append(g.Image, frame), append(g.Delay, 7)
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, g); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// segment is one of a JPEG, put behind its first two bytes.
func withSegment(photo []byte, marker byte, content string) []byte {
	out := append([]byte{}, photo[:2]...)
	out = append(out, 0xff, marker)
	out = binary.BigEndian.AppendUint16(out, uint16(len(content)+2))
	return append(append(out, content...), photo[2:]...)
}

// exif says an orientation, and where a photo was taken.
func exif(order binary.AppendByteOrder, mark string, orientation uint16) string {
	b := []byte("Exif\x00\x00" + mark)
	b = order.AppendUint16(b, 42)
	b = order.AppendUint32(b, 8)
	b = order.AppendUint16(b, 2)
	b = order.AppendUint16(b, 0x010f) // who made the camera
	b = order.AppendUint16(b, 2)
	b = order.AppendUint32(b, 4)
	b = append(b, "ACME"...)
	b = order.AppendUint16(b, 0x0112)
	b = order.AppendUint16(b, 3)
	b = order.AppendUint32(b, 1)
	b = order.AppendUint16(b, orientation)
	return string(b) + "\x00\x00\x00\x00\x00\x00 52.5200 N 13.4050 E"
}

func near(a, b color.Color) bool {
	ar, ag, ab, aa := a.RGBA()
	br, bg, bb, ba := b.RGBA()
	for _, d := range []int{int(ar) - int(br), int(ag) - int(bg), int(ab) - int(bb), int(aa) - int(ba)} {
		if d < -0x1000 || d > 0x1000 {
			return false
		}
	}
	return true
}

func TestTake_OnlyPixelsComeThrough(t *testing.T) {
	const secret = "<script>alert(1)</script>"
	chunk := func(kind, content string) string {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(content)))
		b = append(b, kind+content...)
		return string(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE([]byte(kind+content))))
	}
	plain := pngOf(t, quarters(8, 8))
	animation := gifOf(t, 2, 8)
	for name, content := range map[string][]byte{
		"JPEG, EXIF":              withSegment(jpegOf(t, quarters(8, 8)), 0xe1, exif(binary.BigEndian, "MM", 1)+secret),
		"JPEG, comment":           withSegment(jpegOf(t, quarters(8, 8)), 0xfe, secret),
		"JPEG, colour profile":    withSegment(jpegOf(t, quarters(8, 8)), 0xe2, "ICC_PROFILE\x00\x01\x01"+secret),
		"JPEG and HTML behind":    append(jpegOf(t, quarters(8, 8)), secret...),
		"PNG, text":               []byte(string(plain[:33]) + chunk("tEXt", "Comment\x00"+secret) + string(plain[33:])),
		"PNG and a ZIP behind":    append(bytes.Clone(plain), "PK\x03\x04"+secret...),
		"GIF, comment":            []byte(strings.Replace(string(animation), "!\xf9", "!\xfe"+string(rune(len(secret)))+secret+"\x00!\xf9", 1)),
		"GIF and a script behind": append(bytes.Clone(animation), secret...),
	} {
		out, err := NewIntake().Take(t.Context(), content, tenMiB)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, text := range []string{secret, "Exif", "ACME", "52.52", "ICC_PROFILE", "PK\x03\x04"} {
			if bytes.Contains(out, []byte(text)) {
				t.Errorf("%s: it still has %q", name, text)
			}
		}
		decoded, kind, err := image.Decode(bytes.NewReader(out))
		if err != nil || decoded.Bounds().Dx() != 8 || !strings.HasPrefix(name, strings.ToUpper(kind)) {
			t.Errorf("%s became %s of %v, %v", name, kind, decoded, err)
		}
	}
}

func TestTake_TurnsPhotosUpright(t *testing.T) {
	red, green := color.NRGBA{R: 255, A: 255}, color.NRGBA{G: 255, A: 255}
	blue, white := color.NRGBA{B: 255, A: 255}, color.NRGBA{R: 255, G: 255, B: 255, A: 255}
	// What is at the upper left, upper right, lower right, lower left, once it is upright.
	for orientation, want := range map[uint16][4]color.NRGBA{
		0: {red, green, blue, white},
		1: {red, green, blue, white},
		2: {green, red, white, blue},
		3: {blue, white, red, green},
		4: {white, blue, green, red},
		5: {red, white, blue, green},
		6: {white, red, green, blue},
		7: {blue, green, red, white},
		8: {green, blue, white, red},
		9: {red, green, blue, white},
	} {
		for _, exif := range []string{exif(binary.BigEndian, "MM", orientation), exif(binary.LittleEndian, "II", orientation)} {
			got := take(t, withSegment(jpegOf(t, quarters(64, 32)), 0xe1, exif))
			w, h := 64, 32
			if orientation >= 5 && orientation <= 8 {
				w, h = 32, 64
			}
			if got.Bounds() != image.Rect(0, 0, w, h) {
				t.Errorf("orientation %d: bounds %v", orientation, got.Bounds())
				continue
			}
			for i, at := range []image.Point{{4, 4}, {w - 5, 4}, {w - 5, h - 5}, {4, h - 5}} {
				if c := got.At(at.X, at.Y); !near(c, want[i]) {
					t.Errorf("orientation %d: at %v it is %v, want %v", orientation, at, c, want[i])
				}
			}
		}
	}
}

func TestTake_ScalesWideImagesDown(t *testing.T) {
	got := take(t, pngOf(t, quarters(3000, 500)))
	if got.Bounds() != image.Rect(0, 0, 2560, 426) {
		t.Fatalf("bounds %v", got.Bounds())
	}
	for _, c := range []struct {
		x, y int
		want color.Color
	}{
		{0, 0, color.NRGBA{R: 255, A: 255}},
		{2559, 0, color.NRGBA{G: 255, A: 255}},
		{2559, 425, color.NRGBA{B: 255, A: 255}},
		{0, 425, color.White},
		{1279, 100, color.NRGBA{R: 255, A: 255}},
		{1280, 100, color.NRGBA{G: 255, A: 255}},
	} {
		if at := got.At(c.x, c.y); !near(at, c.want) {
			t.Errorf("at %d, %d it is %v, want %v", c.x, c.y, at, c.want)
		}
	}
	if got := take(t, pngOf(t, quarters(2560, 20))); got.Bounds() != image.Rect(0, 0, 2560, 20) {
		t.Errorf("one that is not too wide has bounds %v", got.Bounds())
	}
	// On its side it is not wide.
	tall := withSegment(jpegOf(t, quarters(3000, 500)), 0xe1, exif(binary.BigEndian, "MM", 6))
	if got := take(t, tall); got.Bounds() != image.Rect(0, 0, 500, 3000) {
		t.Errorf("tall: bounds %v", got.Bounds())
	}
}

func TestShrink_IsTheMean(t *testing.T) {
	// Black and white columns become grey, whatever the ratio; half of nothing stays see-through.
	src := image.NewNRGBA(image.Rect(5, 7, 5+600, 7+90))
	for y := range 90 {
		for x := range 600 {
			if x < 300 {
				c := color.NRGBA{A: 255}
				if x%2 == 1 {
					c.R, c.G, c.B = 255, 255, 255
				}
				src.SetNRGBA(5+x, 7+y, c)
			}
		}
	}
	got := shrink(src, 200, 30) // three columns each: a third or two are white
	var sum int
	for x := range 100 {
		sum += int(got.RGBAAt(x, 15).R)
		if a := got.RGBAAt(x, 15).A; a != 255 {
			t.Fatalf("at %d opacity is %d", x, a)
		}
	}
	if mean := sum / 100; mean < 126 || mean > 129 {
		t.Errorf("the mean is %d, want 127", mean)
	}
	if c := got.RGBAAt(150, 15); c != (color.RGBA{}) {
		t.Errorf("where nothing was it is %v", c)
	}
	if c := shrink(src, 1, 1).RGBAAt(0, 0); c.A != 128 && c.A != 127 {
		t.Errorf("all in one has opacity %d, want half", c.A)
	}
}

func TestTake_RefusesBombsBeforeDecodingThem(t *testing.T) {
	// Heads that announce much, with nothing behind: who decoded them would say that they are damaged.
	pngHead := func(w, h uint32, depth, kind byte) []byte {
		b := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d")
		head := binary.BigEndian.AppendUint32([]byte("IHDR"), w)
		head = append(binary.BigEndian.AppendUint32(head, h), depth, kind, 0, 0, 0)
		b = append(b, head...)
		return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(head))
	}
	jpegHead := func(sof byte, w, h uint16) []byte {
		photo := jpegOf(t, quarters(8, 8))
		at := bytes.Index(photo, []byte{0xff, 0xc0})
		photo[at+1] = sof
		binary.BigEndian.PutUint16(photo[at+5:], h)
		binary.BigEndian.PutUint16(photo[at+7:], w)
		return photo
	}
	// Go's decoder reads on behind a marker of zero, also what its length would skip: the head of a progressive
	// JPEG, and later a segment that carries one of another kind.
	hidden := jpegHead(0xc2, 5000, 4000)
	at := bytes.Index(hidden, []byte{0xff, 0xc2})
	length := int(binary.BigEndian.Uint16(hidden[at+2:])) + 2
	frame := slices.Clone(hidden[at : at+length])
	bait := slices.Clone(frame)
	bait[1] = 0xc0
	comment := binary.BigEndian.AppendUint16([]byte{0xff, 0xfe}, uint16(2+len(bait)))
	skipped := binary.BigEndian.AppendUint16([]byte{0xff, 0x00}, uint16(2+len(frame)+len(comment)))
	hidden = slices.Concat(hidden[:at], skipped, frame, comment, bait, hidden[at+length:])
	// A frame of a GIF with all pixels alike is a few hundred bytes.
	large := gifOf(t, 100, 700)
	wide := gifOf(t, 1, 8)
	binary.LittleEndian.PutUint16(wide[6:], 60000)
	for name, c := range map[string]struct {
		content []byte
		want    error
	}{
		"PNG, 41 million":                   {pngHead(41_000, 1000, 8, 2), ErrPixels},
		"PNG, a side as long as can be":     {pngHead(1<<31-1, 1, 1, 0), ErrPixels},
		"PNG, 36 million of 16 bits":        {pngHead(6000, 6000, 16, 6), ErrPixels},
		"PNG, 36 million":                   {pngHead(6000, 6000, 8, 6), ErrDamaged}, // it would be decoded
		"JPEG, 65,535 squared":              {jpegHead(0xc0, 65535, 65535), ErrPixels},
		"JPEG, progressive, 20 million":     {jpegHead(0xc2, 5000, 4000), ErrPixels},
		"JPEG, 20 million":                  {jpegHead(0xc0, 500, 400), ErrDamaged}, // it would be decoded
		"JPEG, progressive, after rubbish":  {append([]byte("\xff\xd8\xff\xfe\x00\x02rubbish"), jpegHead(0xc2, 5000, 4000)[2:]...), ErrPixels},
		"JPEG, progressive, behind a zero":  {hidden, ErrPixels},
		"GIF, many frames":                  {gifOf(t, FrameLimit+1, 1), ErrPixels},
		"GIF, 49 million in all its frames": {large, ErrPixels},
		"GIF, wide":                         {wide, ErrPixels},
	} {
		_, err := NewIntake().Take(t.Context(), c.content, tenMiB)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v, want %v", name, err, c.want)
		}
	}
	if len(large) > 1<<20 {
		t.Errorf("the bomb has %d bytes", len(large))
	}
}

// Go's decoder does not read all extensions by the lengths of their blocks: what it takes for a frame must not be
// what the count takes for the inside of an extension.
func TestMeasureGIF_CountsWhatTheDecoderReads(t *testing.T) {
	var b bytes.Buffer
	if err := gif.Encode(&b, image.NewPaletted(image.Rect(0, 0, 8, 8), color.Palette{color.Black, color.White}), nil); err != nil {
		t.Fatal(err)
	}
	plain := b.Bytes()
	begin := 13 + colourTable(plain[10])
	head, frame := plain[:begin], plain[begin:len(plain)-1]
	// A comment for the decoder; for who is still inside a block up to its length, the end of that, and then a comment.
	rejoin := []byte("\x21\xfe\x03\x00\x21\xfe\x00")
	filler := make([]byte, 31)
	for name, hidden := range map[string][]byte{
		"none":                         nil,
		"in a comment":                 slices.Concat([]byte{0x21, 0xfe, byte(len(frame))}, frame, []byte{0}),
		"behind a text":                slices.Concat([]byte{0x21, 0x01, byte(12 + 1 + len(frame) + 3)}, filler[:12], []byte{0}, frame, rejoin),
		"behind an application's none": slices.Concat([]byte{0x21, 0xff, 0, 0x21, 0xfe, byte(31 + 1 + len(frame) + 3)}, filler, []byte{0}, frame, rejoin),
	} {
		content := slices.Concat(head, hidden, frame, []byte{0x3b})
		decoded, err := gif.DecodeAll(bytes.NewReader(content))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if frames, pixels := measureGIF(content); frames != len(decoded.Image) || pixels != 64*frames {
			t.Errorf("a frame %s: counted %d frames, %d pixels; the decoder reads %d", name, frames, pixels, len(decoded.Image))
		}
	}
}

func TestTake_RefusesWhatIsNoImage(t *testing.T) {
	photo, drawing := jpegOf(t, quarters(64, 64)), pngOf(t, quarters(64, 64))
	for name, c := range map[string]struct {
		content string
		want    error
	}{
		"empty":          {"", ErrType},
		"SVG":            {`<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`, ErrType},
		"SVG with XML":   {`<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>`, ErrType},
		"HTML":           {"<!doctype html><script>alert(1)</script>", ErrType},
		"WebP":           {"RIFF\x24\x00\x00\x00WEBPVP8 ", ErrType},
		"BMP":            {"BM\x00\x00\x00\x00", ErrType},
		"PDF":            {"%PDF-1.7", ErrType},
		"GIF and JS":     {"GIF89a/*\x00\x00\x00*/=alert(1)//", ErrDamaged},
		"half a JPEG":    {string(photo[:len(photo)/2]), ErrDamaged},
		"half a PNG":     {string(drawing[:len(drawing)/2]), ErrDamaged},
		"a PNG's mark":   {"\x89PNG\r\n\x1a\n", ErrDamaged},
		"a JPEG's mark":  {"\xff\xd8\xff", ErrDamaged},
		"a GIF's mark":   {"GIF89a", ErrDamaged},
		"no pixels, GIF": {"GIF89a\x00\x00\x00\x00\x00\x00\x00;", ErrDamaged},
	} {
		if _, err := NewIntake().Take(t.Context(), []byte(c.content), tenMiB); !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v, want %v", name, err, c.want)
		}
	}
}

func TestTake_KeepsAnimations(t *testing.T) {
	out, err := NewIntake().Take(t.Context(), gifOf(t, 5, 16), tenMiB)
	if err != nil {
		t.Fatal(err)
	}
	got, err := gif.DecodeAll(bytes.NewReader(out))
	if err != nil || len(got.Image) != 5 || got.LoopCount != 3 || got.Delay[4] != 7 || got.Image[4].ColorIndexAt(0, 0) != 4 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestTake_LargePhotoAsPNGBecomesJPEG(t *testing.T) {
	noise := image.NewNRGBA(image.Rect(0, 0, 64, 64))
	rand.NewChaCha8([32]byte{1}).Read(noise.Pix)
	see := bytes.Clone(noise.Pix)
	for i := 3; i < len(noise.Pix); i += 4 {
		noise.Pix[i] = 255
	}
	out, err := NewIntake().Take(t.Context(), pngOf(t, noise), 5000)
	if err != nil || !bytes.HasPrefix(out, []byte("\xff\xd8")) {
		t.Errorf("opaque: %.4q, %v", out, err)
	}
	noise.Pix = see
	out, err = NewIntake().Take(t.Context(), pngOf(t, noise), 5000)
	if err != nil || !bytes.HasPrefix(out, []byte("\x89PNG")) {
		t.Errorf("see-through: %.4q, %v", out, err)
	}
}

func TestTake_WaitsForItsTurnAsLongAsItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		intake := NewIntake()
		intake.one <- struct{}{} // another is being decoded
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { // ends with ctx
			_, err := intake.Take(ctx, pngOf(t, quarters(8, 8)), tenMiB)
			done <- err
		}()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("two are decoded at once: %v", err)
		default:
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v", err)
		}
		<-intake.one
		if _, err := intake.Take(t.Context(), pngOf(t, quarters(8, 8)), tenMiB); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func FuzzTake(f *testing.F) {
	small := quarters(8, 8)
	f.Add(pngOf(f, small))
	f.Add(jpegOf(f, small))
	f.Add(gifOf(f, 3, 8))
	f.Add(withSegment(jpegOf(f, small), 0xe1, exif(binary.BigEndian, "MM", 6)))
	f.Add(withSegment(jpegOf(f, small), 0xe1, exif(binary.LittleEndian, "II", 8)))
	intake := NewIntake()
	f.Fuzz(func(t *testing.T, content []byte) {
		out, err := intake.Take(t.Context(), content, tenMiB)
		if err != nil {
			if !errors.Is(err, ErrType) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrPixels) {
				t.Fatalf("an error of our own: %v", err)
			}
			return
		}
		c, kind, err := image.DecodeConfig(bytes.NewReader(out))
		if err != nil || c.Width > WidthLimit {
			t.Fatalf("made %d x %d, %v", c.Width, c.Height, err)
		}
		if _, _, err := image.Decode(bytes.NewReader(out)); err != nil {
			t.Fatalf("made what cannot be read: %v", err)
		}
		if kind != "gif" {
			return
		}
		frames, pixels := measureGIF(content)
		decoded, err := gif.DecodeAll(bytes.NewReader(content))
		if err != nil || len(decoded.Image) != frames {
			t.Fatalf("counted %d frames of %d, %v", frames, len(decoded.Image), err)
		}
		for _, frame := range decoded.Image {
			pixels -= len(frame.Pix)
		}
		if pixels != 0 {
			t.Fatalf("counted %d pixels too many", pixels)
		}
	})
}
