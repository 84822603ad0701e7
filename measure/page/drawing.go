package page

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// num is a coordinate, written to a tenth.
type num float64

func (n num) String() string {
	s := strconv.FormatFloat(float64(n), 'f', 1, 64)
	s = strings.TrimSuffix(s, ".0")
	if s == "-0" {
		return "0"
	}
	return s
}

// shape is one element of a drawing: what it is follows from what is set.
type shape struct {
	Class      string // of the style sheet, never from outside
	X, Y, W, H num
	D          string // of a path, made of numbers
	Text       string // of a text, at X, Y
	Title      string // shown when pointed at
}

// drawing is a picture, and what it shows in words.
type drawing struct {
	ID, Title, Desc string
	W, H            num
	Narrow          bool // for a telephone
	Shapes          []shape
}

func (d *drawing) rect(class string, x, y, w, h float64, title string) {
	d.Shapes = append(d.Shapes, shape{Class: class, X: num(x), Y: num(y), W: num(w), H: num(h), Title: title})
}

func (d *drawing) text(class string, x, y float64, text string) {
	d.Shapes = append(d.Shapes, shape{Class: class, X: num(x), Y: num(y), Text: text})
}

func (d *drawing) path(class string, points ...float64) {
	var b strings.Builder
	for i := 0; i+1 < len(points); i += 2 {
		b.WriteByte("ML"[min(i, 1)])
		b.WriteString(num(points[i]).String() + " " + num(points[i+1]).String())
	}
	d.Shapes = append(d.Shapes, shape{Class: class, D: b.String()})
}

// closed is a path whose end is its beginning.
func (d *drawing) closed(class string, points ...float64) {
	d.path(class, points...)
	d.Shapes[len(d.Shapes)-1].D += "Z"
}

// scale puts durations on a line.
type scale struct {
	from, to time.Duration
	x0, x1   float64
}

// at is where a duration lies, held within the line.
func (s scale) at(d time.Duration) float64 {
	if s.to <= s.from {
		return s.x0
	}
	d = min(max(d, s.from), s.to)
	return s.x0 + (s.x1-s.x0)*float64(d-s.from)/float64(s.to-s.from)
}

// ticks are round durations, as many as have room for their labels.
func (s scale) ticks() []time.Duration {
	length := (s.to - s.from).Seconds()
	if length <= 0 {
		return nil
	}
	rough := length / math.Max(2, (s.x1-s.x0)/70)
	step := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, m := range []float64{1, 2, 5, 10} {
		if step*m >= rough {
			step *= m
			break
		}
	}
	var out []time.Duration
	for k := math.Ceil(s.from.Seconds()/step - 1e-9); k*step <= s.to.Seconds()+1e-9; k++ {
		out = append(out, time.Duration(math.Round(k*step*1e6))*time.Microsecond)
	}
	return out
}

// axis draws the line below a picture; its grid begins at top.
func (d *drawing) axis(s scale, top, y float64, caption string) {
	for _, t := range s.ticks() {
		x := s.at(t)
		d.path("grid", x, top, x, y)
		class := "tick"
		if x > float64(d.W)-20 {
			class = "tick end"
		} else if x < 20 {
			class = "tick start"
		}
		d.text(class, x, y+15, tick(t))
	}
	d.path("axis", s.x0, y, s.x1, y)
	d.text("caption", s.x0, y+32, caption)
}

func tick(t time.Duration) string {
	return strconv.FormatFloat(t.Seconds(), 'f', -1, 64) + " s"
}

// hard is a space at which no line ends.
const hard = "\u00a0"

// span writes a duration for people.
func span(d time.Duration) string {
	switch s := d.Seconds(); {
	case d < 0:
		return "-" + span(-d)
	case s < 10:
		return strconv.FormatFloat(s, 'f', 2, 64) + hard + "s"
	case s < 120:
		return strconv.FormatFloat(s, 'f', 1, 64) + hard + "s"
	}
	return d.Round(time.Second).String()
}
