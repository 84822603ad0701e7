package page

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/measure"
)

// The widths of a picture: of a page on a desk, and of one in the hand.
const (
	wide   = 920
	narrow = 350
	edge   = 8 // left free on both sides
)

// run is a report as it is drawn.
type run struct {
	*measure.Report
	kinds []measure.Kind
	sites []draas.SiteID // by colour
	names []draas.SiteID // asked directly
	zero  time.Time      // of the axis
	since string         // what happened at zero
	from  time.Duration  // of the window, since zero
	to    time.Duration
}

func newRun(r *measure.Report) *run {
	v := &run{Report: r, zero: r.Window.From, since: "the picture's left edge"}
	for _, k := range measure.Kinds() {
		if r.Clients[k] != nil {
			v.kinds = append(v.kinds, k)
		}
	}
	// The judged client comes first.
	if i := slices.Index(v.kinds, r.Client); i > 0 {
		v.kinds = slices.Insert(slices.Delete(v.kinds, i, i+1), 0, r.Client)
	}
	switch {
	case r.Fault != nil:
		v.zero, v.since = *r.Fault, "the fault"
	case r.FirstFailure != nil:
		v.zero, v.since = *r.FirstFailure, "the first failure"
	}
	v.from, v.to = r.Window.From.Sub(v.zero), r.Window.To.Sub(v.zero)
	for s := range r.Sites {
		v.names = append(v.names, s)
	}
	slices.Sort(v.names)
	v.color()
	return v
}

// color gives sites their colours, in the order in which they answered users.
func (v *run) color() {
	var first []measure.Served
	for _, k := range v.kinds {
		first = append(first, v.Clients[k].Served...)
	}
	slices.SortStableFunc(first, func(a, b measure.Served) int { return a.First.Compare(b.First) })
	for _, s := range first {
		if s.Site != "" && !slices.Contains(v.sites, s.Site) {
			v.sites = append(v.sites, s.Site)
		}
	}
	for _, s := range v.names {
		if !slices.Contains(v.sites, s) {
			v.sites = append(v.sites, s)
		}
	}
}

// siteClass is the class of a site's colour; the fourth is of all others.
func (v *run) siteClass(s draas.SiteID) string {
	i := slices.Index(v.sites, s)
	if i < 0 {
		return "s0"
	}
	return fmt.Sprintf("s%d", min(i, 3)+1)
}

func siteName(s draas.SiteID) string {
	if s == "" {
		return "a site that is not known"
	}
	return string(s)
}

// result is what a client saw, in a few words.
func result(o *measure.Outcome) string {
	switch {
	case o.FirstFailure == nil:
		return "served throughout"
	case !o.Recovered:
		return "down for more than " + span(time.Duration(o.Downtime)) + ", not over"
	}
	text := "down for " + span(time.Duration(o.Downtime))
	if n := len(o.Outages) - 1; n > 0 {
		text += fmt.Sprintf(", and %d more", n)
	}
	return text
}

// timeline draws what passed: the parts of the move, and how each kind of
// client and each site answered.
func (v *run) timeline(id string, width float64) drawing {
	d := drawing{ID: id, W: num(width), Title: "What passed, " + v.name(), Desc: v.inWords(), Narrow: width < wide}
	s := scale{from: v.from, to: v.to, x0: edge, x1: width - edge}
	y := 0.0
	grid := 0.0
	if parts := v.Clients[v.Client].Parts; len(parts) > 0 {
		y = v.move(&d, s, parts) + 12
	}
	for _, k := range v.kinds {
		o := v.Clients[k]
		d.text("lane", edge, y+14, string(k))
		d.text("result end", width-edge, y+14, result(o))
		v.strip(&d, s, o.Strip, y+20, 18, "failed")
		v.outages(&d, s, o.Outages, y+42)
		y += 56
	}
	for _, n := range v.names {
		d.text("lane", edge, y+14, siteLabel(n, d.Narrow))
		v.strip(&d, s, v.Sites[n].Strip, y+20, 9, "closed")
		y += 38
	}
	// What lies behind comes first.
	shapes := d.Shapes
	d.Shapes = nil
	d.axis(s, grid, y+2, "seconds since "+v.since)
	d.Shapes = append(d.Shapes, shapes...)
	d.H = num(y + 40)
	return d
}

func siteLabel(n draas.SiteID, narrow bool) string {
	if narrow {
		return "site " + string(n)
	}
	return "site " + string(n) + ", asked directly"
}

// name tells a run from others.
func (v *run) name() string {
	if v.Number > 0 {
		return fmt.Sprintf("run %d", v.Number)
	}
	return "as users and draasd saw it"
}

// letter is the width of a letter, about.
const letter = 7.2

// move draws the parts of the judged downtime, each with its number in the
// table, and its name where there is room.
func (v *run) move(d *drawing, s scale, parts []measure.Part) float64 {
	title := "draasd"
	if m := v.lastMove(); m != nil {
		title = strings.TrimSpace(fmt.Sprintf("draasd: %s %s", m.Kind, arrow(m)))
	}
	d.text("lane", edge, 12, clip(title, int(float64(d.W-2*edge)/letter)))
	for i, p := range parts {
		from := p.From.Sub(v.zero)
		x, end := s.at(from), s.at(from+time.Duration(p.Length))
		if end-x < 0.5 {
			continue
		}
		d.rect(fmt.Sprintf("part p%d", i%2), x, 26, end-x, 24, fmt.Sprintf("%d %s: %s, %s", i+1, p.Name, span(time.Duration(p.Length)), p.Meaning()))
		label := strings.TrimSpace(fmt.Sprintf("%d %s", i+1, p.Name))
		if with := label + " " + span(time.Duration(p.Length)); end-x > letter*float64(len(with))+6 {
			label = with
		} else if end-x < letter*float64(len(label))+6 {
			label = fmt.Sprint(i + 1)
		}
		if end-x >= letter*float64(len(label))+2 {
			d.text("in", (x+end)/2, 42, label)
		}
	}
	if m := v.lastMove(); m != nil {
		for _, t := range m.Turns {
			at := t.At.Sub(v.zero)
			if at < v.from || at > v.to {
				continue
			}
			x := s.at(at)
			d.Shapes = append(d.Shapes, shape{Class: "turn", D: fmt.Sprintf("M%s 25L%s 19L%s 19Z", num(x), num(x-3), num(x+3)), Title: t.Name + " at " + span(at)})
		}
	}
	return 50
}

func arrow(m *measure.Move) string {
	switch {
	case m.To == "":
		return ""
	case m.From == "":
		return "to " + string(m.To)
	}
	return string(m.From) + " to " + string(m.To)
}

// lastMove is the move by which the downtime is divided.
func (v *run) lastMove() *measure.Move {
	if v.Daemon == nil || len(v.Clients[v.Client].Outages) == 0 {
		return nil
	}
	return measure.MoveOf(v.Daemon.Moves, v.Clients[v.Client].Outages[0])
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:max(n-1, 0)]) + "…"
}

// strip draws how requests ended: in a site's colour, and hatched as far as
// they failed.
func (v *run) strip(d *drawing, s scale, strip []measure.Stretch, y, h float64, failed string) {
	for _, p := range strip {
		from := time.Duration(p.At) + v.from
		x, end := s.at(from), s.at(from+time.Duration(p.Length))
		if end <= x || p.Sent == 0 {
			continue
		}
		title := fmt.Sprintf("%s to %s: %d requests, %d failed", span(from), span(from+time.Duration(p.Length)), p.Sent, p.Failed)
		if p.Failed < p.Sent {
			d.rect(v.siteClass(p.Site), x, y, end-x, h, title+", answered by "+siteName(p.Site))
		}
		if p.Failed > 0 {
			part := h * float64(p.Failed) / float64(p.Sent)
			d.rect(failed, x, y+h-part, end-x, part, title)
		}
	}
}

// outages draws a bracket below each outage.
func (v *run) outages(d *drawing, s scale, outages []measure.Outage, y float64) {
	for _, o := range outages {
		from, to := o.From.Sub(v.zero), o.To.Sub(v.zero)
		if from > v.to {
			continue
		}
		x, end := s.at(from), s.at(to)
		if !o.Recovered {
			d.path("bracket", x, y, x, y+5, s.x1, y+5)
			continue
		}
		d.path("bracket", x, y, x, y+5, end, y+5, end, y)
	}
}

// inWords says what a picture shows.
func (v *run) inWords() string {
	var b strings.Builder
	for _, k := range v.kinds {
		fmt.Fprintf(&b, "Client %s: %s. ", k, result(v.Clients[k]))
	}
	for i, p := range v.Clients[v.Client].Parts {
		if i == 0 {
			fmt.Fprintf(&b, "The downtime of client %s: ", v.Client)
		}
		fmt.Fprintf(&b, "%s %s; ", p.Name, span(time.Duration(p.Length)))
	}
	return strings.TrimSpace(b.String())
}

// stale draws which share of each kind's users was still sent to the old site.
func (v *run) stale(id string, width float64) (drawing, bool) {
	d := drawing{ID: id, W: num(width), Title: "Users still sent to the old site", Narrow: width < wide}
	if v.StaleFrom == nil {
		return d, false
	}
	from := v.StaleFrom.Sub(v.zero)
	s := scale{from: v.from, to: v.to, x0: edge, x1: width - edge}
	var said []string
	y := 0.0
	for _, k := range v.kinds {
		tail := v.Clients[k].Stale
		if len(tail) == 0 || tail[len(tail)-1].Users == 0 {
			continue
		}
		words := tailWords(tail)
		said = append(said, string(k)+": "+words)
		d.text("lane", edge, y+14, string(k))
		d.text("result end", width-edge, y+14, words)
		d.rect("field", s.at(from), y+20, s.x1-s.at(from), 26, "")
		area(&d, s, v.siteClass(v.before()), tail, from, y+20, 26)
		y += 58
	}
	shapes := d.Shapes
	d.Shapes = nil
	d.axis(s, 0, y-4, "seconds since "+v.since+"; height: share of the users, 0 to 100 %")
	if d.Narrow {
		d.Shapes[len(d.Shapes)-1].Text = "seconds since " + v.since + "; height: 0 to 100 %"
	}
	d.Shapes = append(d.Shapes, shapes...)
	d.H = num(y + 34)
	d.Desc = strings.Join(said, ". ")
	return d, len(said) > 0
}

// before is the site that answered first.
func (v *run) before() draas.SiteID {
	if len(v.sites) == 0 {
		return ""
	}
	return v.sites[0]
}

// area draws a tail as a falling area.
func area(d *drawing, s scale, class string, tail []measure.Stale, from time.Duration, y, h float64) {
	level := func(p measure.Stale) float64 { return y + h - h*float64(p.Old)/float64(max(p.Users, 1)) }
	points := []float64{s.at(from), y + h}
	for i, p := range tail {
		at := from + time.Duration(p.At)
		if at > s.to {
			break
		}
		x := s.at(at)
		if i > 0 {
			points = append(points, x, level(tail[i-1]))
		}
		points = append(points, x, level(p))
	}
	last := points[len(points)-1]
	points = append(points, s.x1, last, s.x1, y+h)
	d.closed(class, points...)
}

// tailWords says when the last user was sent on.
func tailWords(tail []measure.Stale) string {
	last := tail[len(tail)-1]
	if last.Old > 0 {
		return fmt.Sprintf("%d of %d never sent on", last.Old, last.Users)
	}
	for i := len(tail) - 1; i > 0; i-- {
		if tail[i-1].Old > 0 {
			return "all sent on after " + span(time.Duration(tail[i].At))
		}
	}
	return "sent on at once"
}
