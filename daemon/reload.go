package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
)

// files are the wirings of a running member beside the one in use. It belongs
// to the main loop.
type files struct {
	// offered is of the file that was read last, when it is not in force yet.
	offered *wiring
	// read are those of files read before: the log may yet put one in force
	// that this member does not offer any more.
	read []*wiring
	// refused says what is wrong with the file that was read last.
	refused []string
	readAt  time.Time // zero: not read since the start
}

// hangups reads the file again at each hangup, until ctx ends.
func (d *Daemon) hangups(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.hangup:
			_, _ = d.reload(ctx) // it logs what became of it
		}
	}
}

// reload reads the file again. A good one is offered to the log: every member
// goes by it from the entry on that puts it in force. With a bad one nothing
// changes.
func (d *Daemon) reload(ctx context.Context) (*api.Reload, error) {
	w, err := d.load()
	if err == nil {
		err = switchable(d.now(), w)
	}
	if err != nil {
		return d.refuse(ctx, err)
	}
	var out *api.Reload
	err = d.loop.call(ctx, func(l *loop) {
		s := l.replica.State()
		if err = homeless(s, w); err != nil {
			return
		}
		d.keep(w)
		if w.policy.Digest == s.Policy.Digest || w.policy.Digest == d.now().policy.Digest {
			// The files that it names may have changed.
			d.adopt(w)
			l.changed(s)
		} else {
			d.files.offered = w
		}
		l.replica.Offer(w.policy)
		out = d.reloadStatus(s)
	})
	if err != nil {
		w.close()
		return d.refuse(ctx, err)
	}
	d.log.Info("file read again", "file", d.path, "digest", short(w.policy.Digest), "in_force", out.InForce, "waiting", out.Waiting)
	return out, nil
}

// keptFiles is how many files read before are remembered.
const keptFiles = 4

// keep takes a file just read, nil for a bad one, and withdraws the offer of
// the one before.
func (d *Daemon) keep(w *wiring) {
	read := d.files.read
	if w != nil {
		read = append(slices.DeleteFunc(read, func(o *wiring) bool { return o.policy.Digest == w.policy.Digest }), w)
	}
	if len(read) > keptFiles {
		read[0].close()
		read = read[1:]
	}
	d.files = files{read: read, readAt: time.Now()}
}

// refuse keeps the file in use and says what is wrong with the other one.
func (d *Daemon) refuse(ctx context.Context, why error) (*api.Reload, error) {
	problems := problemsOf(why)
	d.log.Error("file refused, the one in use stays", "file", d.path, "problems", problems)
	var out *api.Reload
	err := d.loop.call(ctx, func(l *loop) {
		d.keep(nil)
		d.files.refused = problems
		l.replica.Offer(d.now().policy) // takes back what was offered before
		out = d.reloadStatus(l.replica.State())
	})
	return out, err
}

// problemsOf lists what is wrong, each by itself.
func problemsOf(err error) []string {
	var problems config.Problems
	var joined interface{ Unwrap() []error }
	var out []string
	switch {
	case errors.As(err, &problems):
		for _, p := range problems {
			out = append(out, p.String())
		}
	case errors.As(err, &joined):
		for _, e := range joined.Unwrap() {
			out = append(out, e.Error())
		}
	default:
		out = []string{err.Error()}
	}
	return out
}

// homeless reports services that are active at a site where the file does not
// have them: the log would refuse such a file.
func homeless(s failover.State, w *wiring) error {
	var errs []error
	for _, id := range s.ServiceIDs() {
		p, kept := w.policy.Services[id]
		if sv := s.Services[id]; kept && sv.Active != "" && !slices.Contains(p.Sites, sv.Active) {
			errs = append(errs, fmt.Errorf("%s is active at %s, where the file does not have it: move it first", id, sv.Active))
		}
	}
	return errors.Join(errs...)
}

// decided switches to the file that the log has put in force, before anything
// else follows from the new state. It is called by the main loop.
func (d *Daemon) decided(s failover.State) {
	d.acts.decided(s, d.clock.Now())
	d.entrances.decided(s)
	if s.Policy.Digest == d.now().policy.Digest {
		return
	}
	i := slices.IndexFunc(d.files.read, func(w *wiring) bool { return w.policy.Digest == s.Policy.Digest })
	if i < 0 {
		return
	}
	w := d.files.read[i]
	if d.files.offered == w {
		d.files.offered = nil
	}
	d.adopt(w)
	d.log.Info("another file is in force", "digest", short(w.policy.Digest), "services", len(w.cfg.Services))
}

// reloadStatus is what became of the file that was read last.
func (d *Daemon) reloadStatus(s failover.State) *api.Reload {
	f := d.files
	if f.readAt.IsZero() {
		return nil
	}
	out := &api.Reload{File: d.path, At: f.readAt.UTC(), Refused: f.refused}
	digest := d.now().policy.Digest
	if f.offered != nil {
		digest = f.offered.policy.Digest
	}
	out.Digest = digest
	out.InForce = len(f.refused) == 0 && digest == s.Policy.Digest
	if !out.InForce && len(f.refused) == 0 {
		out.Waiting = without(s, digest)
	}
	return out
}

// without lists the members that have started and not read the file.
func without(s failover.State, digest string) []draas.MemberID {
	var out []draas.MemberID
	for _, m := range s.Policy.Members {
		if st := s.Members[m.ID]; st != nil && st.Digest != digest {
			out = append(out, m.ID)
		}
	}
	return out
}

// short is as much of a digest as people compare.
func short(digest string) string { return digest[:min(len(digest), 12)] }
