package measure

import (
	"bufio"
	"fmt"
	"io"
	"strings"

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
	fmt.Fprintf(b, "  own lateness   p50 %v, p99 %v, max %v\n", r.LatenessP50, r.LatenessP99, r.LatenessMax)
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
			fmt.Fprintf(w, "  downtime       %v (%d failed)\n", u.Length, u.Failed)
		} else {
			fmt.Fprintf(w, "  downtime       at least %v (%d failed): no lasting good answer before the end\n", u.Length, u.Failed)
		}
	}
	fmt.Fprintf(w, "  largest gap    %v from %s\n", o.LargestGap, o.LargestGapFrom.Format(Clock))
	if o.Wrong > 0 {
		fmt.Fprintf(w, "  wrong site     %d answers\n", o.Wrong)
	}
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
