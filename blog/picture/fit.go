package picture

import (
	"image"
	"image/draw"
)

// fit turns an image upright and scales it down to WidthLimit if it is wider.
func fit(src image.Image, orientation int) image.Image {
	width, height := src.Bounds().Dx(), src.Bounds().Dy()
	wide := width
	if orientation >= 5 {
		wide = height // it lies on its side
	}
	if wide > WidthLimit {
		src = shrink(src, max(1, width*WidthLimit/wide), max(1, height*WidthLimit/wide))
	}
	if orientation == 1 {
		return src
	}
	return turn(src, orientation)
}

// shrink makes each pixel the mean of those that it covers, in part too. It holds a line of the
// source at a time; colours are weighted by their opacity, as RGBA has them multiplied by it.
func shrink(src image.Image, width, height int) *image.RGBA {
	from := src.Bounds()
	out := image.NewRGBA(image.Rect(0, 0, width, height))
	line := image.NewRGBA(image.Rect(0, 0, from.Dx(), 1))
	row := make([]float32, 4*width)
	sum := make([]float32, 4*width)
	// A line of the source is height units high, one of the result from.Dy(): whole numbers, so that
	// no rounding adds up.
	need, y := from.Dy(), 0
	for sy := range from.Dy() {
		draw.Draw(line, line.Bounds(), src, image.Pt(from.Min.X, from.Min.Y+sy), draw.Src)
		shrinkLine(row, line.Pix, from.Dx(), width)
		for have := height; have > 0; {
			part := min(have, need)
			for i, v := range row {
				sum[i] += v * float32(part)
			}
			have -= part
			if need -= part; need > 0 {
				continue
			}
			for i, v := range sum {
				out.Pix[y*out.Stride+i] = uint8(min(v/float32(from.Dy())+0.5, 255))
			}
			clear(sum)
			need, y = from.Dy(), y+1
		}
	}
	return out
}

// shrinkLine does with the pixels of a line what shrink does with lines.
func shrinkLine(row []float32, pix []uint8, from, to int) {
	var sum [4]float32
	need, x := from, 0
	for sx := range from {
		p := pix[4*sx : 4*sx+4]
		for have := to; have > 0; {
			part := min(have, need)
			for c := range sum {
				sum[c] += float32(p[c]) * float32(part)
			}
			have -= part
			if need -= part; need > 0 {
				continue
			}
			for c := range sum {
				row[4*x+c] = sum[c] / float32(from)
			}
			sum = [4]float32{}
			need, x = from, x+1
		}
	}
}

// turn undoes an orientation of EXIF, a line of the source at a time.
func turn(src image.Image, orientation int) *image.RGBA {
	from := src.Bounds()
	w, h := from.Dx(), from.Dy()
	size := image.Rect(0, 0, w, h)
	if orientation >= 5 {
		size = image.Rect(0, 0, h, w)
	}
	out := image.NewRGBA(size)
	line := image.NewRGBA(image.Rect(0, 0, w, 1))
	for sy := range h {
		draw.Draw(line, line.Bounds(), src, image.Pt(from.Min.X, from.Min.Y+sy), draw.Src)
		for sx := range w {
			x, y := sx, sy
			switch orientation {
			case 2:
				x = w - 1 - sx
			case 3:
				x, y = w-1-sx, h-1-sy
			case 4:
				y = h - 1 - sy
			case 5:
				x, y = sy, sx
			case 6:
				x, y = h-1-sy, sx
			case 7:
				x, y = h-1-sy, w-1-sx
			case 8:
				x, y = sy, w-1-sx
			}
			copy(out.Pix[out.PixOffset(x, y):][:4], line.Pix[4*sx:])
		}
	}
	return out
}
