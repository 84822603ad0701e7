package page

import (
	"fmt"
	"time"

	"github.com/draasd/draas/measure"
)

// spread draws how the downtime spreads over the runs: the share that was
// over after each time, with its band, and a dot for each run below.
func spread(id string, width float64, s *measure.Series) (drawing, bool) {
	sum := &s.Summary
	c := sum.Clients[sum.Client]
	d := drawing{ID: id, W: num(width), Title: fmt.Sprintf("Downtime of client %s over the runs", sum.Client), Narrow: width < wide}
	if c == nil || len(c.Distribution) == 0 || len(c.Downtimes) < 2 {
		return d, false
	}
	longest := time.Duration(c.Distribution[len(c.Distribution)-1].At)
	shortest := time.Duration(c.Distribution[0].At)
	x := scale{to: max(longest+longest/10, time.Millisecond), x0: 46, x1: width - edge}
	if shortest > longest/2 { // then what is before it says little
		x.from = max(0, shortest-(longest-shortest)/2-longest/50)
		x.to = longest + (longest-shortest)/2 + longest/50
	}
	const top, bottom = 10.0, 190.0
	y := func(share float64) float64 { return bottom - (bottom-top)*share }
	for _, p := range []int{0, 25, 50, 75, 100} {
		d.path("grid", x.x0, y(float64(p)/100), x.x1, y(float64(p)/100))
		d.text("tick end", x.x0-6, y(float64(p)/100)+4, fmt.Sprintf("%d %%", p))
	}
	d.axis(x, top, bottom+16, "seconds without service; a dot for each run")
	d.closed("band", band(c.Distribution, x, y)...)
	line := []float64{x.x0, y(0)}
	share := 0.0
	for _, p := range c.Distribution {
		at := x.at(time.Duration(p.At))
		line = append(line, at, y(share), at, y(p.Share))
		share = p.Share
	}
	d.path("curve", append(line, x.x1, y(share))...)
	for i, t := range c.Downtimes {
		if t.Recovered {
			at := x.at(time.Duration(t.Downtime))
			d.rect("dot", at-2.5, bottom+5, 5, 5, fmt.Sprintf("%d: %s", i+1, span(time.Duration(t.Downtime))))
		}
	}
	quantiles(&d, x, y, c.Quantiles)
	d.Desc = seriesWords(s)
	d.H = bottom + 56
	return d, true
}

// quantiles marks the percentiles that are known, and how far they may lie off.
func quantiles(d *drawing, x scale, y func(float64) float64, qs []measure.Quantile) {
	for _, q := range qs {
		if q.Value == nil || !q.Value.Recovered {
			continue
		}
		level, at := y(q.Percent/100), x.at(time.Duration(q.Value.Downtime))
		from, to := x.x0, x.x1
		if q.Lower != nil {
			from = x.at(time.Duration(q.Lower.Downtime))
		}
		if q.Upper != nil && q.Upper.Recovered {
			to = x.at(time.Duration(q.Upper.Downtime))
		}
		d.path("whisker", from, level, to, level)
		d.rect("mark", at-4, level-4, 8, 8, fmt.Sprintf("p%g: %s", q.Percent, span(time.Duration(q.Value.Downtime))))
		label, class, dx := fmt.Sprintf("p%g %s", q.Percent, span(time.Duration(q.Value.Downtime))), "point", 9.0
		if at > x.x1-90 {
			class, dx = "point end", -9
		}
		d.text(class, at+dx, level+15, label)
	}
}

// band is the outline of the band in which the true curve lies.
func band(points []measure.Share, x scale, y func(float64) float64) []float64 {
	if len(points) == 0 {
		return nil
	}
	// Before the first run the curve may be as high as a band's width.
	width := points[0].High - points[0].Share
	for _, p := range points {
		width = max(width, p.High-p.Share)
	}
	out := []float64{x.x0, y(0), x.x0, y(min(1, width))}
	level := min(1, width)
	for _, p := range points {
		at := x.at(time.Duration(p.At))
		out = append(out, at, y(level), at, y(p.High))
		level = p.High
	}
	out = append(out, x.x1, y(level), x.x1, y(points[len(points)-1].Low))
	for i := len(points) - 1; i >= 0; i-- {
		at := x.at(time.Duration(points[i].At))
		low := 0.0
		if i > 0 {
			low = points[i-1].Low
		}
		out = append(out, at, y(points[i].Low), at, y(low))
	}
	return out
}

// seriesWords says what a series found.
func seriesWords(s *measure.Series) string {
	sum := &s.Summary
	text := fmt.Sprintf("%d runs: %d recovered, %d did not, %d void. ", sum.Runs, sum.Recovered, sum.NotEnded, sum.Void)
	if c := sum.Clients[sum.Client]; c != nil {
		for _, q := range c.Quantiles {
			text += fmt.Sprintf("p%g: %s. ", q.Percent, q.InWords(len(c.Downtimes)))
		}
	}
	return text
}
