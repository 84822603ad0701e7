package matrix

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/draasd/draas/api"
)

// Loss is what a move has cost of the copy of the cloud: as the history tells it,
// and as those know it who wrote.
type Loss struct {
	Told        string  `json:"told"` // in words; empty: nothing is told
	Known       bool    `json:"known"`
	ToldS       float64 `json:"told_s"`
	ToldObjects int     `json:"told_objects"`
	// TrueS is the age, when the site was first suspected, of the last look of
	// which everything came across, in seconds, and MostS that of the login for
	// the look before it. What is told is between the two, for a run that was cut
	// off at its very end is not known to have carried all.
	TrueS float64 `json:"true_s"`
	MostS float64 `json:"most_s"`
	// Objects did not come across, the oldest of which was OldestS old. Unseen were
	// written after the last look that surely came to a plan: nobody knew of them.
	Objects int     `json:"objects"`
	OldestS float64 `json:"oldest_s"`
	Unseen  int     `json:"unseen"`
}

// underWay bounds the objects that were written at the target when the answer to
// that was lost: they are counted as missing.
const underWay = 4 // streams of a file that says nothing

// errNotTold says that the history has no expected loss of the last move.
var errNotTold = errors.New("the history tells no expected loss")

// loss compares what the history tells of the last move with what is missing.
func (w *world) loss(ctx context.Context) (*Loss, error) {
	var told api.Loss
	var at time.Time
	err := await(ctx, startLimit, func(ctx context.Context) (err error) {
		told, at, err = w.told(ctx)
		return err
	})
	if errors.Is(err, errNotTold) {
		return &Loss{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the expected loss: %w", err)
	}
	return w.feed.against(told, at), nil
}

// told is what the history tells of the last move, and up to when it counts.
func (w *world) told(ctx context.Context) (l api.Loss, at time.Time, err error) {
	s, err := w.status(ctx, witness)
	if err != nil {
		return l, at, err
	}
	sv := find(s)
	if sv.Last == nil || sv.Last.Epoch != sv.Epoch {
		return l, at, errors.New("the move is not complete")
	}
	asking, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	records, err := w.clients[witness].History(asking, service, historyLimit)
	if err != nil {
		return l, at, err
	}
	at = sv.Last.Times.Suspected
	if at.IsZero() {
		at = sv.Last.Times.Decided
	}
	for _, r := range records {
		if l, ok := api.LossOf(r); ok && r.Epoch == sv.Epoch {
			return l, at, nil
		}
	}
	return l, at, errNotTold
}

// historyLimit is how far back the history is read: much farther than one run.
const historyLimit = 200

// against sets beside each other what is told up to an instant, and what is
// missing.
func (f *feed) against(told api.Loss, at time.Time) *Loss {
	age := func(t time.Time) float64 {
		return float64(at.Sub(t).Round(100*time.Microsecond)) / float64(time.Second)
	}
	l := &Loss{Told: told.InWords(), Known: told.Known, ToldS: told.Behind.Seconds(), ToldObjects: told.Objects}
	missing, complete := f.missing(), f.complete()
	f.mu.Lock()
	defer f.mu.Unlock()
	l.Objects = len(missing)
	if len(missing) > 0 {
		l.OldestS = age(missing[0].at)
	}
	if complete >= 2 {
		l.TrueS, l.MostS = age(f.looks[complete-1].listed), age(f.looks[complete-2].login)
	}
	// The last look may have come to nothing, the one before it has not.
	if n := max(f.planned, len(f.looks)-1); n > 0 {
		for _, x := range f.written {
			if !x.at.Before(f.looks[n-1].listed) {
				l.Unseen++
			}
		}
	}
	return l
}

// hold says what of it is told wrongly.
func (l *Loss) hold() []string {
	if l.Told == "" {
		return []string{errNotTold.Error()}
	}
	if !l.Known {
		return []string{"told of the loss: " + l.Told}
	}
	var all []string
	wrong := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	words := 0.051 // what they are rounded by, in seconds
	if l.ToldS >= 60 {
		words = 0.501
	}
	if l.ToldS < l.TrueS-words || l.ToldS > l.MostS+words {
		wrong("told is a loss of %.1f s, it is from %.2f s to %.2f s", l.ToldS, l.TrueS, l.MostS)
	}
	if l.ToldS < l.OldestS-words {
		wrong("told is a loss of %.1f s, and what is lost is up to %.2f s old", l.ToldS, l.OldestS)
	}
	if l.ToldObjects > l.Objects+underWay || l.ToldObjects < l.Objects-l.Unseen {
		wrong("told are at least %d lost objects, there are %d, of which %d may not have been seen", l.ToldObjects, l.Objects, l.Unseen)
	}
	return all
}
