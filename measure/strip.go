package measure

import (
	"time"

	"github.com/draasd/draas/rto"
)

const (
	// maxPieces bounds a strip; it is about what a screen can show.
	maxPieces = 400
	// wholeRun is how short a run is drawn as a whole when nothing failed.
	wholeRun = time.Minute
)

// window is the part of the run worth drawing: from shortly before the fault,
// or the first failure of any client, until shortly after the last of the
// first outages that ended; what did not end runs out of the picture.
func (r *run) window(res *rto.Result, o rto.Options, end time.Duration) rto.Span {
	from, to := end, time.Duration(0)
	if o.Marked {
		from = o.Fault
	}
	for _, c := range res.Clients {
		if len(c.Outages) == 0 {
			continue
		}
		first := c.Outages[0]
		from = min(from, first.From)
		if first.Recovered {
			to = max(to, first.To)
		}
	}
	switch {
	case from == end && end <= wholeRun:
		from, to = 0, end
	case from == end:
		from, to = end-wholeRun, end
	case to == 0 && !anyOutage(res):
		to = min(end, from+wholeRun)
	case to == 0:
		to = end
	}
	pad := max((to-from)/8, 500*time.Millisecond)
	return rto.Span{From: max(0, from-pad), To: min(end, to+pad)}
}

func anyOutage(res *rto.Result) bool {
	for _, c := range res.Clients {
		if len(c.Outages) > 0 {
			return true
		}
	}
	return false
}

// strip draws a stream; a piece is no shorter than all users need for a turn,
// so that it shows how many of them failed.
func (r *run) strip(samples []rto.Sample, users int, window rto.Span) []Stretch {
	pieces := min(maxPieces, int(window.Len().Seconds()*r.config.Rate/float64(users)))
	out := []Stretch{}
	for _, s := range rto.Strip(samples, window, pieces) {
		out = append(out, Stretch{At: Millis(s.From - window.From), Length: Millis(s.Len()), Site: r.sites[s.Site], Sent: s.Sent, Failed: s.Failed})
	}
	return out
}
