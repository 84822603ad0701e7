package soak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/internal/lab"
)

// chore is what operators do to a cluster that works. Nobody is to notice: no
// permit is lost and nothing moves.
type chore struct {
	name   string
	do     func(context.Context) error
	file   int  // that it brings, unless that of before
	closes bool // the fences are made anew, and shut until the next renewal
}

// lullLimit is how long users outside may go without a good answer meanwhile.
// It is more than a question's time-out on a busy machine, and less than it
// takes to find a failure out and to move.
const lullLimit = time.Second

// permitLasts is how long a permit lasts that was renewed just before a chore:
// who is not renewed any more notices only then.
const permitLasts = 2 * time.Second

// shutLimit is how long fences that are made anew may be shut beside that: a
// renewal and what it takes to open.
const shutLimit = time.Second

// The first round of upkeep, and how many rounds there are to the next.
const (
	upkeepFirst = 2
	upkeepEvery = 10
)

// What an operator asks for before trouble, and after it.
var (
	quiet  = failover.Request{Ask: failover.AskPause, Operator: "soak", Reason: "upkeep", For: time.Minute}
	resume = failover.Request{Ask: failover.AskResume, Operator: "soak"}
)

// upkeep is a round without faults. All is well as it begins.
func (r *soak) upkeep(ctx context.Context, n int) error {
	r.book.begin(fmt.Sprintf("round %d: upkeep", n))
	if err := r.reload(0); err != nil { // from any other: the fences may close
		return err
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	for _, c := range r.chores() {
		if err := r.unnoticed(ctx, c); err != nil {
			return err
		}
	}
	if err := r.paused(ctx); err != nil {
		return err
	}
	return r.conclude(ctx, n)
}

func (r *soak) chores() []chore {
	all := []chore{
		{name: "a bad file", do: r.badFile},
		{name: "new certificates", do: r.renew},
		{name: "a new CA", do: r.newCA},
		{name: "a member leaves and comes back", do: r.comeBack},
	}
	for file := 1; file < len(files); file++ {
		all = append(all, chore{name: fmt.Sprintf("file %d", file), file: file, closes: file >= sameFences,
			do: func(ctx context.Context) error { return r.otherFile(ctx, file, file >= sameFences) }})
	}
	return all
}

// choreTries is how often a chore is done that somebody noticed on a machine
// which let nobody run: that proves nothing.
const choreTries = 3

// unnoticed does a chore that nobody may notice.
func (r *soak) unnoticed(ctx context.Context, c chore) error {
	for try := 1; ; try++ {
		r.calm.Mark()
		noticed, err := r.attempt(ctx, c)
		upset := r.calm.Upset()
		switch {
		case err != nil:
			return err
		case len(noticed) == 0:
			r.result.Chores++
			return nil
		case upset == "":
			for _, what := range noticed {
				r.book.violate("upkeep: %s: %s", c.name, what)
			}
			return nil
		case try == choreTries:
			r.result.Unjudged++
			r.book.note("upkeep: %s: not judged: %s: %s", c.name, upset, strings.Join(noticed, "; "))
			return nil
		}
		r.book.note("upkeep: %s: once more: %s: %s", c.name, upset, strings.Join(noticed, "; "))
		if err := r.again(ctx, c); err != nil {
			return err
		}
	}
}

// again makes things as they were before the chore.
func (r *soak) again(ctx context.Context, c chore) error {
	if c.file > 0 {
		if err := r.switchTo(ctx, 0); err != nil {
			return err
		}
	}
	return r.settle(ctx)
}

// switchTo gives everybody another file, and waits until all daemons go by it.
func (r *soak) switchTo(ctx context.Context, file int) error {
	before, err := r.operators.policy(ctx)
	if err != nil {
		return err
	}
	if err := r.reload(file); err != nil {
		return err
	}
	return await(ctx, settleLimit, func(ctx context.Context) error {
		now, err := r.operators.policy(ctx)
		if err == nil && now == before {
			err = errors.New("the file from before is in force")
		}
		return err
	})
}

// attempt does a chore and finds out who noticed.
func (r *soak) attempt(ctx context.Context, c chore) (noticed []string, err error) {
	r.book.note("upkeep: %s", c.name)
	if err := r.grown(ctx); err != nil {
		return nil, err
	}
	before, err := r.operators.reigns(ctx)
	if err != nil {
		return nil, err
	}
	said, err := r.listen()
	if err != nil {
		return nil, err
	}
	r.book.mark()
	err = c.do(ctx)
	if err == nil {
		err = r.well(ctx)
	}
	if err == nil {
		pause(ctx, permitLasts)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.book.violate("upkeep: %s: %v", c.name, err)
		}
		return nil, err
	}
	after, err := r.operators.reigns(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range fenced {
		if before[s] != after[s] {
			noticed = append(noticed, fmt.Sprintf("%s was active as %+v and is as %+v", s, before[s], after[s]))
		}
		d, most := r.book.lull(s), lullLimit
		if c.closes {
			most += shutLimit
		}
		r.book.note("upkeep: %s: users of %s waited %v", c.name, s, d.Round(time.Millisecond))
		if d > most {
			noticed = append(noticed, fmt.Sprintf("users of %s had no good answer for %v", s, d))
		} else if !c.closes {
			r.result.Lull = max(r.result.Lull, d)
		}
	}
	words, err := said()
	if err != nil {
		return nil, err
	}
	for _, s := range fenced {
		if line := closing(words[before[s].site], s); !c.closes && line != "" {
			noticed = append(noticed, fmt.Sprintf("the permit of %s was lost: %s", s, line))
		}
	}
	return noticed, nil
}

// closing is the line in which a guard says that it closed a service's fence.
func closing(said, service string) string {
	for line := range strings.Lines(said) {
		if strings.Contains(line, `msg="fence closed"`) && strings.Contains(line, "service="+service+" ") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// grown waits until everybody is old enough to know SIGHUP.
func (s *stage) grown(ctx context.Context) error {
	return await(ctx, settleLimit, func(context.Context) error {
		for _, h := range s.hosts {
			for _, p := range h.processes() {
				if _, _, age := p.Present(); age <= lab.DeafAge {
					return fmt.Errorf("%s is %v old", p.Name, age)
				}
			}
		}
		return nil
	})
}

// listen returns what tells what each guard has said from now on.
func (s *stage) listen() (said func() (map[string]string, error), err error) {
	from := make(map[string]int64)
	for _, site := range sites {
		info, err := os.Stat(s.hosts[site].guard.LogPath)
		if err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
		from[site] = info.Size()
	}
	return func() (map[string]string, error) {
		words := make(map[string]string)
		for _, site := range sites {
			text, err := lab.ReadFrom(s.hosts[site].guard.LogPath, from[site])
			if err != nil {
				return nil, err
			}
			words[site] = text
		}
		return words, nil
	}, nil
}

// guardsSay waits until both guards have said the words.
func guardsSay(ctx context.Context, said func() (map[string]string, error), words string) error {
	return await(ctx, settleLimit, func(context.Context) error {
		all, err := said()
		for site, text := range all {
			if !strings.Contains(text, words) {
				err = errors.Join(err, fmt.Errorf("the guard of %s has not said %q", site, words))
			}
		}
		return err
	})
}

// otherFile gives everybody another file: the daemons switch together, and the
// guards say that they follow. If fences are to close over it nothing is to
// move: that is what a pause is for.
func (r *soak) otherFile(ctx context.Context, file int, closes bool) error {
	if closes {
		for _, s := range fenced {
			if err := r.operators.insist(ctx, witness, s, quiet); err != nil {
				return err
			}
		}
	}
	said, err := r.listen()
	if err != nil {
		return err
	}
	err = r.switchTo(ctx, file)
	err = errors.Join(err, guardsSay(ctx, said, "file read again, the fences follow it"))
	if err != nil || !closes {
		return err
	}
	if err := r.well(ctx); err != nil {
		return err
	}
	if err := await(ctx, settleLimit, r.operators.healthy); err != nil {
		return err
	}
	for _, s := range fenced {
		if err := r.operators.insist(ctx, witness, s, resume); err != nil {
			return err
		}
	}
	return nil
}

// badFile gives everybody a file that is no good, which all refuse, and then
// the good one back.
func (r *soak) badFile(ctx context.Context) error {
	for _, step := range []struct {
		text, guards string
		refused      bool
	}{
		{badTOML(), "file refused, the fences stay as they are", true},
		{failoverTOML(0), "file read again, the fences follow it", false},
	} {
		said, err := r.listen()
		if err != nil {
			return err
		}
		if err := r.spread(step.text); err != nil {
			return err
		}
		err = await(ctx, settleLimit, func(ctx context.Context) error { return r.operators.refusals(ctx, step.refused) })
		if err = errors.Join(err, guardsSay(ctx, said, step.guards)); err != nil {
			return err
		}
	}
	return nil
}

// awayFor is how long who has left stays away.
const awayFor = 2 * time.Second

// comeBack lets a member go that serves nothing and whom nothing spares. Its
// daemon is started again, and asks to be let in by itself.
func (r *soak) comeBack(ctx context.Context) error {
	reigns, err := r.operators.reigns(ctx)
	if err != nil {
		return err
	}
	for _, name := range members {
		serves := slices.ContainsFunc(services, func(s string) bool { return reigns[s].site == name })
		if serves || name == r.result.Spared {
			continue
		}
		h := r.hosts[name]
		if err := r.letGo(ctx, h); err != nil {
			return err
		}
		return down(ctx, awayFor, h.daemon)
	}
	r.book.note("nobody can leave: who serves nothing is spared")
	return nil
}

// paused shows that paused is paused, and resumed is resumed. Both services
// die where they are active: one moves, the other does not until an operator
// ends its pause.
func (r *soak) paused(ctx context.Context) (err error) {
	r.book.note("upkeep: automatic moves of %s are paused, and both services die", byPath)
	before, err := r.operators.reigns(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			r.book.violate("upkeep: paused: %v", err)
		}
	}()
	if err := r.operators.insist(ctx, witness, byPath, quiet); err != nil {
		return err
	}
	for _, s := range fenced {
		p := r.hosts[before[s].site].services[s]
		p.Hold(syscall.SIGKILL, time.Minute)
		defer p.Release()
	}
	moved := func(s string) error {
		return await(ctx, settleLimit, func(ctx context.Context) error {
			now, err := r.operators.reigns(ctx)
			if err == nil && now[s].epoch == before[s].epoch {
				err = fmt.Errorf("%s is still active as %+v", s, before[s])
			}
			return err
		})
	}
	if err := moved(byKernel); err != nil {
		return err
	}
	if err := await(ctx, settleLimit, r.operators.heldByPause); err != nil {
		return err
	}
	now, err := r.operators.reigns(ctx)
	if err != nil {
		return err
	}
	if now[byPath] != before[byPath] {
		return fmt.Errorf("%s was active as %+v and is as %+v", byPath, before[byPath], now[byPath])
	}
	if err := r.operators.insist(ctx, dr, byPath, resume); err != nil {
		return err
	}
	return moved(byPath)
}
