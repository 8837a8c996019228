// Package picture makes an uploaded image one that may be served: it is decoded and encoded anew.
//
// Only pixels come through. What else a file may carry does not: the place where a photo was taken,
// colour profiles, comments, scripts behind the last byte. What an image would take of memory is
// computed from its head before it is decoded, and one is decoded at a time.
// picture knows nothing of HTTP, stores or posts.
package picture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"net/http"
)

const (
	// WidthLimit is the most pixels of a line; wider images are scaled down to it: a column of text on
	// a screen with two pixels a point is not wider.
	WidthLimit = 2560
	// PixelLimit is the most pixels of an image, and of all frames of an animation together.
	PixelLimit = 40_000_000
	// FrameLimit is the most frames of an animation.
	FrameLimit = 1000

	sideLimit   = 1<<16 - 1
	memoryLimit = 240 << 20 // bytes of one decoded image
	quality     = 85        // of JPEG
)

// Errors of Take. Each is something that a person can change.
var (
	ErrType    = errors.New("not a PNG, JPEG or GIF image")
	ErrDamaged = errors.New("the image is damaged")
	ErrPixels  = fmt.Errorf("the image has too many pixels: the most are %d million, %d million in a progressive JPEG, %d frames, and in a GIF %d in width and height",
		PixelLimit/1_000_000, memoryLimit/progressiveBytes/1_000_000, FrameLimit, WidthLimit)
)

// An Intake takes images. Safe for concurrent use.
type Intake struct{ one chan struct{} }

// NewIntake is an intake that decodes one image at a time; others wait.
func NewIntake() *Intake { return &Intake{one: make(chan struct{}, 1)} }

// Take makes a clean image of what was uploaded, upright, at most WidthLimit wide. What a PNG would
// need more than limit bytes for becomes a JPEG if it is opaque; the result may still be longer. The
// error is one of those above, or that of ctx, which ends only the wait for others.
func (i *Intake) Take(ctx context.Context, content []byte, limit int) ([]byte, error) {
	// Asked first, so that of nothing else any decoder sees a byte.
	kind := http.DetectContentType(content)
	if kind != "image/png" && kind != "image/jpeg" && kind != "image/gif" {
		return nil, ErrType
	}
	select {
	case i.one <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-i.one }()
	var out bytes.Buffer
	var err error
	switch kind {
	case "image/png":
		err = takePNG(&out, content, limit)
	case "image/jpeg":
		err = takeJPEG(&out, content)
	default:
		err = takeGIF(&out, content)
	}
	return out.Bytes(), err
}

func takePNG(out *bytes.Buffer, content []byte, limit int) error {
	config, err := png.DecodeConfig(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	// With 16 bits a channel it takes 8 bytes a pixel, with 8 bits 4, with a palette 1.
	bytesOfPixel := 4
	if config.ColorModel == color.NRGBA64Model || config.ColorModel == color.RGBA64Model {
		bytesOfPixel = 8
	}
	if err := affordable(config, bytesOfPixel); err != nil {
		return err
	}
	decoded, err := png.Decode(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	upright := fit(decoded, 1)
	if err := png.Encode(out, upright); err != nil {
		return err
	}
	if o, ok := upright.(interface{ Opaque() bool }); out.Len() > limit && ok && o.Opaque() {
		out.Reset()
		return jpeg.Encode(out, upright, &jpeg.Options{Quality: quality})
	}
	return nil
}

// progressiveBytes is what a pixel of a progressive JPEG takes: three coefficients of four bytes are
// kept until its last scan, and then three bytes.
const progressiveBytes = 15

func takeJPEG(out *bytes.Buffer, content []byte) error {
	config, err := jpeg.DecodeConfig(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	head := readJPEGHead(content)
	bytesOfPixel := 4
	switch {
	case head.progressive:
		bytesOfPixel = progressiveBytes
	case config.ColorModel == color.CMYKModel:
		bytesOfPixel = 12 // it is three images on its way
	}
	if err := affordable(config, bytesOfPixel); err != nil {
		return err
	}
	decoded, err := jpeg.Decode(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return jpeg.Encode(out, fit(decoded, head.orientation), &jpeg.Options{Quality: quality})
}

// affordable is ErrPixels for an image that would take too much.
func affordable(c image.Config, bytesOfPixel int) error {
	if c.Width < 1 || c.Height < 1 {
		return ErrDamaged
	}
	if c.Width > sideLimit || c.Height > sideLimit || c.Width*c.Height > min(PixelLimit, memoryLimit/bytesOfPixel) {
		return ErrPixels
	}
	return nil
}

// takeGIF keeps an animation one. It is not scaled: its frames are patches of each other.
func takeGIF(out *bytes.Buffer, content []byte) error {
	frames, pixels := measureGIF(content)
	config, err := gif.DecodeConfig(bytes.NewReader(content))
	switch {
	case err != nil || frames == 0:
		return ErrDamaged
	case frames > FrameLimit, pixels > PixelLimit, config.Width > WidthLimit, config.Height > WidthLimit:
		return ErrPixels
	}
	if err := affordable(config, 1); err != nil {
		return err
	}
	decoded, err := gif.DecodeAll(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := gif.EncodeAll(out, decoded); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}
