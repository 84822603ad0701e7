package measure

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/rto"
)

// Clock is how reports write an instant of the day.
const Clock = "15:04:05.000"

// WriteText writes the report for people, times in UTC.
func (r *Report) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s: %g requests/s per client for %v from %s\n",
		r.URL, r.Rate, r.Duration, r.Started.Format("2006-01-02 "+Clock+"Z07:00"))
	if r.Void {
		fmt.Fprintf(b, "VOID: this run proves nothing: %s\n", r.VoidReason)
	}
	if r.Fault != nil {
		fmt.Fprintf(b, "  fault          %s\n", r.Fault.Format(Clock))
	}
	for _, k := range r.order() {
		fmt.Fprintf(b, "client %s\n", k)
		r.Clients[k].write(b)
	}
	for _, n := range r.names {
		fmt.Fprintf(b, "site %s, asked directly\n", n)
		r.Sites[n].write(b)
	}
	fmt.Fprintf(b, "all together\n")
	fmt.Fprintf(b, "  wrong site     %d answers over %v\n", r.WrongSite, r.WrongSiteTime)
	fmt.Fprintf(b, "  dual-active    %v\n", r.DualActive)
	for i, s := range r.DualActiveSpans {
		if i == 5 {
			fmt.Fprintf(b, "                 and %d more\n", len(r.DualActiveSpans)-i)
			break
		}
		fmt.Fprintf(b, "                 %s to %s\n", s.From.Format(Clock), s.To.Format(Clock))
	}
	if w := r.Writes; w != nil {
		fmt.Fprintf(b, "  writes         %d sent, %d acknowledged\n", w.Sent, w.Acked)
		fmt.Fprintf(b, "  lost           %s\n", w.InWords())
	}
	fmt.Fprintf(b, "  own lateness   p50 %v, p99 %v, max %v\n", r.LatenessP50, r.LatenessP99, r.LatenessMax)
	if r.Daemon != nil {
		r.Daemon.write(b)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (o *Outcome) write(w io.Writer) {
	o.Counts.write(w)
	if o.FirstFailure == nil {
		fmt.Fprintf(w, "  downtime       none\n")
	}
	for i, u := range o.Outages {
		if i == 5 {
			fmt.Fprintf(w, "  and %d more outages\n", len(o.Outages)-i)
			break
		}
		fmt.Fprintf(w, "  first failure  %s\n", u.From.Format(Clock))
		if u.Recovered {
			fmt.Fprintf(w, "  first good     %s%s\n", u.To.Format(Clock), by(" from ", u.Site, u.Epoch))
			fmt.Fprintf(w, "  downtime       %v (%d failed)%s\n", u.Length, u.Failed, ofWhich(i, o.Parts))
			if i == 0 {
				o.writeParts(w)
				if o.Loss != nil {
					fmt.Fprintf(w, "  expected loss  %s\n", o.Loss.InWords())
				}
			}
		} else {
			fmt.Fprintf(w, "  downtime       at least %v (%d failed): no lasting good answer before the end\n", u.Length, u.Failed)
		}
	}
	fmt.Fprintf(w, "  largest gap    %v from %s\n", o.LargestGap, o.LargestGapFrom.Format(Clock))
	if o.Wrong > 0 {
		fmt.Fprintf(w, "  wrong site     %d answers\n", o.Wrong)
	}
}

func ofWhich(i int, parts []Part) string {
	if i == 0 && len(parts) > 0 {
		return ", of which"
	}
	return ""
}

func (c *Counts) write(w io.Writer) {
	var errs []string
	for _, class := range rto.Failures() {
		if n := c.Errors[class.String()]; n > 0 {
			errs = append(errs, fmt.Sprintf("%s %d", class, n))
		}
	}
	failed := ""
	if len(errs) > 0 {
		failed = " (" + strings.Join(errs, ", ") + ")"
	}
	fmt.Fprintf(w, "  requests       %d sent, %d failed%s\n", c.Sent, c.Failed, failed)
	for i, s := range c.Served {
		if i == 10 {
			fmt.Fprintf(w, "                 and %d more\n", len(c.Served)-i)
			break
		}
		fmt.Fprintf(w, "  answered       %d%s, %s to %s\n", s.Answers, by(" by ", s.Site, s.Epoch),
			s.First.Format(Clock), s.Last.Format(Clock))
	}
	if c.Sent > c.Failed {
		l := c.Latency
		fmt.Fprintf(w, "  latency        p50 %v, p90 %v, p99 %v, p99.9 %v, max %v\n", l.P50, l.P90, l.P99, l.P999, l.Max)
	}
}

// by names a site and its epoch, as far as known.
func by(word string, site draas.SiteID, epoch draas.Epoch) string {
	switch {
	case site == "":
		return ""
	case epoch == 0:
		return word + string(site)
	}
	return fmt.Sprintf("%s%s, epoch %d", word, site, epoch)
}

// seconds writes a duration for a table.
func seconds(m Millis) string { return fmt.Sprintf("%.2f s", time.Duration(m).Seconds()) }

// writeParts says what a downtime was spent on.
func (o *Outcome) writeParts(w io.Writer) {
	for _, p := range o.Parts {
		if p.Length > 0 {
			fmt.Fprintf(w, "    %-12s %9s  %s\n", p.Name, seconds(p.Length), meaning(p.Name))
		}
	}
}

// meaning is what passes in a part of a downtime.
func meaning(part string) string {
	switch part {
	case "detect":
		return "until a member suspected the service"
	case "agree":
		return "until enough of them saw that it had failed"
	case "confirm":
		return "until the move was decided and the old permit revoked"
	case "release":
		return "until the old site had closed and released its permit"
	case "fence":
		return "until the old permit was surely over: lease or device"
	case "activate":
		return "until the new site was active"
	case "act":
		return "until the move's steps were done"
	case Propagate:
		return "until users got there: what resolvers and clients keep"
	}
	return ""
}

// Meaning is what passes in the part.
func (p Part) Meaning() string { return meaning(p.Name) }

// write writes what the daemons said.
func (d *Daemon) write(w io.Writer) {
	fmt.Fprintf(w, "draasd, service %s\n", d.Service)
	if d.Problem != "" {
		fmt.Fprintf(w, "  problem        %s\n", d.Problem)
	}
	for _, c := range d.Members {
		fmt.Fprintf(w, "  clock          %s\n", c.InWords())
	}
	for _, m := range d.Moves {
		fmt.Fprintf(w, "  move           %s\n", m.InWords())
		for _, t := range m.Turns {
			fmt.Fprintf(w, "    %-12s %s%s\n", t.Name, t.At.Format(Clock), t.sure())
		}
		if m.Loss != nil {
			fmt.Fprintf(w, "    expected loss: %s\n", m.Loss.InWords())
		}
		for _, s := range m.Steps {
			fmt.Fprintf(w, "    step %s: %s %s\n", s.Name, s.Outcome, s.Evidence)
		}
	}
	if len(d.Moves) == 0 && d.Problem == "" {
		fmt.Fprintf(w, "  move           none in this time\n")
	}
}

func (t Turn) sure() string {
	by := ""
	if t.By != "" {
		by = ", by the clock of " + string(t.By)
	}
	if !t.Shifted {
		return by + ", which is not known here"
	}
	return fmt.Sprintf(" +-%v%s", t.Error, by)
}

// InWords is a move in one line.
func (m Move) InWords() string {
	text := m.Kind
	if m.From != "" {
		text += " from " + string(m.From)
	}
	if m.To != "" {
		text += " to " + string(m.To)
	}
	text = strings.TrimSpace(fmt.Sprintf("%s, epoch %s", text, m.Epoch))
	if !m.Complete {
		text += ", not complete: " + m.Reason
	}
	if m.Evidence != "" {
		text += "; " + m.Evidence
	}
	return strings.TrimPrefix(text, ", ")
}

// InWords is the loss in one line, with who says so.
func (l *Loss) InWords() string {
	text := "not known"
	if l.Known {
		text = seconds(l.Behind)
	}
	by := "draasd's history"
	if l.By != "" {
		by = fmt.Sprintf("%s in %s", l.By, by)
	}
	return fmt.Sprintf("%s, told by %s: %s", text, by, l.Text)
}

// InWords is a clock in one line.
func (c MemberClock) InWords() string {
	switch {
	case !c.Known:
		return fmt.Sprintf("%s not known: %s", c.Member, c.Problem)
	case c.Problem != "":
		return fmt.Sprintf("%s %+.1f ms +-%v, and does not answer any more", c.Member, inMillis(c.Offset), c.Error)
	}
	return fmt.Sprintf("%s %+.1f ms +-%v", c.Member, inMillis(c.Offset), c.Error)
}

func inMillis(m Millis) float64 { return float64(m) / float64(time.Millisecond) }

// InWords is what was lost, in one line.
func (w *Writes) InWords() string {
	if !w.Known {
		return fmt.Sprintf("lost writes NOT KNOWN: %s", w.Unread)
	}
	text := fmt.Sprintf("%d of %d acknowledged writes lost", w.Lost, w.Acked)
	if w.Lost > 0 {
		text += fmt.Sprintf(", RPO %s", seconds(w.RPO))
	}
	for _, more := range []struct {
		n    int
		what string
	}{{w.Duplicates, "stored twice"}, {w.Disordered, "out of order"}, {w.Foreign, "never sent"}} {
		if more.n > 0 {
			text += fmt.Sprintf(", %d %s", more.n, more.what)
		}
	}
	return text
}

// InWords is a summary in one line.
func (s Summary) InWords() string {
	text := fmt.Sprintf("%d recovered", s.Recovered)
	if s.NotEnded > 0 {
		text += fmt.Sprintf(", %d NOT", s.NotEnded)
	}
	if s.Void > 0 {
		text += fmt.Sprintf(", %d void", s.Void)
	}
	if c := s.Clients[s.Client]; c != nil && len(c.Quantiles) > 0 && c.Quantiles[0].Value != nil {
		text += fmt.Sprintf(", p50 %v", c.Quantiles[0].Value)
	}
	return text
}

// InWords is a percentile with its bounds: what there are too few runs for is
// said to be so.
func (q Quantile) InWords(runs int) string {
	text := fmt.Sprintf("%v", q.Value)
	if q.Value == nil {
		text = fmt.Sprintf("not from %d runs, needs %d", runs, q.Need)
	}
	switch {
	case q.Lower != nil && q.Upper != nil:
		text += fmt.Sprintf(", between %s and %s", q.Lower.bound(), q.Upper.bound())
	case q.Lower != nil && q.Lower.Recovered:
		text += fmt.Sprintf(", more than %s; a bound from above needs %d runs", q.Lower.bound(), q.NeedUpper)
	case q.Upper == nil:
		text += fmt.Sprintf("; a bound from above needs %d runs", q.NeedUpper)
	}
	return text
}

// WriteText writes the series for people.
func (s *Series) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	sum := &s.Summary
	if len(s.Runs) == 1 { // then there is nothing to sum up
		if err := s.Runs[0].WriteText(b); err != nil {
			return err
		}
	}
	for _, r := range s.Runs {
		fmt.Fprintf(b, "run %d at %s: ", r.Number, r.Started.Format("2006-01-02 "+Clock+"Z07:00"))
		switch {
		case r.Void:
			fmt.Fprintf(b, "VOID: %s", r.VoidReason)
		case r.Recovered:
			fmt.Fprintf(b, "down for %v", r.Downtime)
		default:
			fmt.Fprintf(b, "down for more than %v, NOT OVER", r.Downtime)
		}
		if r.Writes != nil {
			fmt.Fprintf(b, "; %s", r.Writes.InWords())
		}
		fmt.Fprintln(b)
		if len(s.Runs) > 1 {
			r.writeParts(b)
			if r.Loss != nil {
				fmt.Fprintf(b, "    expected loss %s\n", r.Loss.InWords())
			}
		}
		if d := r.Daemon; d != nil && d.Problem != "" {
			fmt.Fprintf(b, "    draasd: %s\n", d.Problem)
		}
		for _, a := range []*Action{r.Inject, r.Restore} {
			if a != nil && a.Problem != "" {
				fmt.Fprintf(b, "    %s: %s\n", a.Command, a.Problem)
				for line := range strings.Lines(a.Output) {
					fmt.Fprintf(b, "    | %s\n", strings.TrimRight(line, "\n"))
				}
			}
		}
	}
	fmt.Fprintf(b, "%d of %d runs: %d recovered, %d did not, %d void\n", sum.Runs, s.Wanted, sum.Recovered, sum.NotEnded, sum.Void)
	if s.Problem != "" {
		fmt.Fprintf(b, "ENDED EARLY: %s\n", s.Problem)
	}
	for _, k := range s.order() {
		c := sum.Clients[k]
		if len(c.Downtimes) < 2 {
			continue
		}
		fmt.Fprintf(b, "downtime of client %s (bounds hold with 95 %% each)\n", k)
		for _, q := range c.Quantiles {
			fmt.Fprintf(b, "  p%-13g %s\n", q.Percent, q.InWords(len(c.Downtimes)))
		}
	}
	if sum.LossKnown+sum.LossUnknown > 0 {
		fmt.Fprintf(b, "lost writes: %d in %d runs, RPO at worst %s; not known of %d runs\n", sum.Lost, sum.LossKnown, seconds(sum.WorstRPO), sum.LossUnknown)
	}
	if sum.Told > 0 {
		fmt.Fprintf(b, "expected loss: told of %d runs", sum.Told)
		if sum.Told > sum.ToldUnknown {
			fmt.Fprintf(b, ", at worst %s", seconds(sum.WorstTold))
		}
		if sum.ToldUnknown > 0 {
			fmt.Fprintf(b, "; not known of %d", sum.ToldUnknown)
		}
		fmt.Fprintln(b)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// order lists the kinds of client that any run counted for.
func (s *Series) order() []Kind {
	var kinds []Kind
	for _, r := range s.Runs {
		for _, k := range r.order() {
			if s.Summary.Clients[k] != nil && !slices.Contains(kinds, k) {
				kinds = append(kinds, k)
			}
		}
	}
	return kinds
}
