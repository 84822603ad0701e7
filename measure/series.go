package measure

import (
	"fmt"
	"time"

	"github.com/draasd/draas/rto"
)

// Tool says what measured, and how it was called.
type Tool struct {
	Version string   `json:"version"`
	Go      string   `json:"go"`
	Command []string `json:"command"`
}

// Action is a command that was run, and what became of it.
type Action struct {
	Command  string    `json:"command"`
	Started  time.Time `json:"started"`
	Took     Millis    `json:"took_ms"`
	ExitCode int       `json:"exit_code"` // -1 when it was killed or did not start
	Output   string    `json:"output"`    // the last 16 KiB, both streams
	Problem  string    `json:"problem,omitempty"`
}

// Series is a disaster that was made several times over.
type Series struct {
	Tool    *Tool     `json:"tool,omitempty"`
	Wanted  int       `json:"runs_wanted"`
	Summary Summary   `json:"summary"`
	Runs    []*Report `json:"runs"`
	// Problem says why there are fewer runs than were wanted.
	Problem string `json:"problem,omitempty"`
}

// Summary is what the runs say together. A run that is void proves nothing,
// and is in no figure but Void. One that was not seen to end counts as longer
// than all that were.
type Summary struct {
	Runs      int              `json:"runs"`
	Recovered int              `json:"recovered"`
	NotEnded  int              `json:"not_recovered"`
	Void      int              `json:"void"`
	Client    Kind             `json:"client"` // that is judged, and counted here
	Clients   map[Kind]*Spread `json:"clients"`
	// LossKnown counts the runs whose lost writes are known, LossUnknown those
	// in which they could not be read back; WorstRPO and Lost are of the
	// former.
	LossKnown   int    `json:"loss_known"`
	LossUnknown int    `json:"loss_unknown"`
	WorstRPO    Millis `json:"worst_rpo_ms"`
	Lost        int    `json:"lost_writes"`
	// Told counts the runs of which draasd told an expected loss, ToldUnknown
	// those of them in which it was not known; WorstTold is of the others.
	Told        int    `json:"expected_loss_told"`
	ToldUnknown int    `json:"expected_loss_unknown"`
	WorstTold   Millis `json:"worst_expected_loss_ms"`
}

// Spread is how the downtime of one kind of client spreads over the runs.
type Spread struct {
	Quantiles []Quantile `json:"quantiles"`
	// Distribution is the share of the runs that were over after each time,
	// with a band that holds the whole of the true curve with 95 %.
	Distribution []Share `json:"distribution"`
	Downtimes    []Trial `json:"downtimes"` // in the order of the runs
}

// Trial is the downtime of a run; when it is not Recovered, at least.
type Trial struct {
	Downtime  Millis `json:"downtime_ms"`
	Recovered bool   `json:"recovered"`
}

// Quantile is a percentile with its bounds: each of them holds with 95 %,
// whatever the distribution. What there are too few runs for is null.
type Quantile struct {
	Percent   float64 `json:"percent"`
	Value     *Trial  `json:"value"`
	Lower     *Trial  `json:"lower_95"`
	Upper     *Trial  `json:"upper_95"`
	Need      int     `json:"runs_needed"`           // for Value
	NeedUpper int     `json:"runs_needed_for_upper"` // for Upper
}

// Share is a point of a distribution.
type Share struct {
	At    Millis  `json:"at_ms"`
	Share float64 `json:"share"`
	Low   float64 `json:"low_95"`
	High  float64 `json:"high_95"`
}

// Percents are the percentiles of a summary.
func Percents() []float64 { return []float64{50, 90, 99} }

// Sum works the summary out. All reports are of the same configuration.
func Sum(runs []*Report) Summary {
	s := Summary{Runs: len(runs), Clients: make(map[Kind]*Spread)}
	trials := make(map[Kind][]rto.Trial)
	for _, r := range runs {
		s.Client = r.Client
		s.addLoss(r.Writes)
		s.addTold(r.Loss)
		switch {
		case r.Void:
			s.Void++
			continue
		case r.Recovered:
			s.Recovered++
		default:
			s.NotEnded++
		}
		for k, o := range r.Clients {
			trials[k] = append(trials[k], rto.Trial{Downtime: time.Duration(o.Downtime), Over: !o.Recovered})
		}
	}
	for k, t := range trials {
		s.Clients[k] = spread(t)
	}
	return s
}

func (s *Summary) addLoss(w *Writes) {
	switch {
	case w == nil:
	case !w.Known:
		s.LossUnknown++
	default:
		s.LossKnown++
		s.Lost += w.Lost
		s.WorstRPO = max(s.WorstRPO, w.RPO)
	}
}

func (s *Summary) addTold(l *Loss) {
	switch {
	case l == nil:
		return
	case !l.Known:
		s.ToldUnknown++
	default:
		s.WorstTold = max(s.WorstTold, l.Behind)
	}
	s.Told++
}

func spread(trials []rto.Trial) *Spread {
	s := &Spread{Distribution: []Share{}}
	for _, t := range trials {
		s.Downtimes = append(s.Downtimes, *trial(&t))
	}
	for _, q := range rto.Quantiles(trials, Percents()...) {
		s.Quantiles = append(s.Quantiles, Quantile{Percent: q.Percent, Value: trial(q.Value),
			Lower: trial(q.Lower), Upper: trial(q.Upper), Need: q.Need, NeedUpper: q.NeedUpper})
	}
	for _, p := range rto.Distribution(trials) {
		s.Distribution = append(s.Distribution, Share{At: Millis(p.At), Share: p.Share, Low: p.Low, High: p.High})
	}
	return s
}

func trial(t *rto.Trial) *Trial {
	if t == nil {
		return nil
	}
	return &Trial{Downtime: Millis(t.Downtime), Recovered: !t.Over}
}

// String is the downtime, "> 5s" when it was not seen to end and "-" when
// there are too few runs to say.
func (t *Trial) String() string {
	switch {
	case t == nil:
		return "-"
	case !t.Recovered:
		return "> " + t.Downtime.String()
	}
	return t.Downtime.String()
}

// bound is the downtime as the bound of a percentile: a run that was not over
// counts as longer than any.
func (t *Trial) bound() string {
	if t != nil && !t.Recovered {
		return "not over"
	}
	return t.String()
}

// Check judges the runs, each as Report.Judge does: the worst finding is
// returned, with the number of its run.
func (s *Series) Check(maxRTO time.Duration, maxRPO *time.Duration) error {
	var void error
	for i, r := range s.Runs {
		err := r.Judge(maxRTO, maxRPO)
		if err == nil {
			continue
		}
		err = fmt.Errorf("run %d: %w", i+1, err)
		if !isVoid(err) {
			return err
		}
		if void == nil {
			void = err
		}
	}
	if void == nil {
		void = s.Whole()
	}
	return void
}

// Whole returns an ErrVoid when there are fewer runs than were wanted.
func (s *Series) Whole() error {
	if len(s.Runs) < s.Wanted {
		return fmt.Errorf("%w: %d of %d runs were made: %s", ErrVoid, len(s.Runs), s.Wanted, s.Problem)
	}
	return nil
}
