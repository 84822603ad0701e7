package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
)

// A site that is stopped in order hands over and leaves; the other goes on
// alone. Started again it comes back by itself, first to learn and then to
// vote. A standby leaves as well, and nobody notices.
func TestGoodbye(t *testing.T) {
	t.Parallel()
	l := newTwoLab(t, "cautious", 0)
	l.startBoth()
	if err := l.stop("daemon primary"); err != nil {
		t.Fatalf("primary ended with %v", err)
	}
	delete(l.kills, "primary")
	l.awaitVoters("dr", "dr")
	l.awaitAt("dr", "dr")
	stop := l.served("dr")
	if _, err := os.Stat(filepath.Join(l.dir, "primary", "data", "leaving")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mark of its leaving: %v", err)
	}
	if s := l.status("dr"); s.Generation != 0 || s.Services[0].Epoch != 2 || !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "decides alone") }) {
		t.Errorf("generation %d, epoch %v, warnings %q", s.Generation, s.Services[0].Epoch, s.Warnings)
	}
	l.startMember("primary")
	l.awaitVoters("dr", "dr", "primary")
	l.awaitAt("primary", "dr")
	if err := l.stop("daemon primary"); err != nil {
		t.Fatalf("the standby ended with %v", err)
	}
	delete(l.kills, "primary")
	l.awaitVoters("dr", "dr")
	if err := l.stop("daemon dr"); err != nil {
		t.Fatalf("the last one ended with %v", err)
	}
	if asked, failed := stop(); failed > asked/10 {
		t.Errorf("%d of %d users were not served", failed, asked)
	}
}

// What is paused stays, and so does the member; the same when the other is out
// of reach. Both are back where they were when it is started again.
func TestNoGoodbye(t *testing.T) {
	t.Parallel()
	l := newTwoLab(t, "balanced", 0)
	l.startBoth()
	if a := l.request("dr", api.Request{Request: failover.Request{Ask: failover.AskPause, For: time.Hour, Reason: "upgrade", Operator: "ada"}}); !a.Accepted {
		t.Fatalf("pause: %+v", a.Record)
	}
	l.await("primary knows of the pause", 5*time.Second, func() bool { sv := l.service("primary"); return sv != nil && sv.Pause != nil })
	if err := l.stop("daemon primary"); err != nil {
		t.Fatal(err)
	}
	l.await("dr has no leader", 10*time.Second, func() bool { s := l.status("dr"); return s != nil && s.Leader == "" })
	if err := l.stop("daemon dr"); err != nil {
		t.Fatal(err)
	}
	l.startMember("primary")
	l.startMember("dr")
	l.awaitVoters("dr", "dr", "primary")
	l.awaitAt("dr", "primary")
	if sv := l.service("dr"); sv.Epoch != 1 || sv.Pause == nil {
		t.Errorf("epoch %v, pause %+v", sv.Epoch, sv.Pause)
	}
}

// A member that was let go and died before it knew finds out when it is
// started, and comes back by itself.
func TestGoodbyeNotHeard(t *testing.T) {
	t.Parallel()
	l := newTwoLab(t, "balanced", 0)
	l.startBoth()
	l.kill("primary")
	before := filepath.Join(l.dir, "before")
	copyDir(t, filepath.Join(l.dir, "dr", "data"), before)
	l.startMember("primary")
	l.awaitVoters("dr", "dr", "primary")
	if err := l.stop("daemon dr"); err != nil {
		t.Fatal(err)
	}
	l.awaitVoters("primary", "primary")
	// As if the disk had not been written any more since it asked.
	data := filepath.Join(l.dir, "dr", "data")
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	copyDir(t, before, data)
	if err := os.WriteFile(filepath.Join(data, "leaving"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.startMember("dr")
	l.awaitVoters("primary", "dr", "primary")
}

// A cut link moves nothing where no device can tell it from a lost site: the
// active site closes, a person is to be called, and all is as before when the
// link is back.
func TestCutLink(t *testing.T) {
	t.Parallel()
	l := newTwoLab(t, "balanced", 0)
	l.startBoth()
	l.cut(true)
	l.await("primary has closed", 20*time.Second, func() bool { return l.answer("primary") == "" })
	var page alarm
	l.await("dr says that web is lost", 20*time.Second, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, all, err := l.daemons["dr"].overview(ctx, true)
		i := slices.IndexFunc(all, func(a alarm) bool { return a.key == "leader:dr" && len(a.reasons) > 0 })
		if err != nil || i < 0 {
			return false
		}
		page = all[i]
		return true
	})
	if !page.page || page.command != "draasd takeover --old-site-is-off" || !slices.ContainsFunc(page.reasons, func(r failover.Reason) bool { return !r.OK && r.Code == failover.ReasonProof }) {
		t.Errorf("%+v", page)
	}
	l.keeps(3*time.Second, func() error {
		if got := l.answer("dr"); got != "" {
			return fmt.Errorf("dr serves %q", got)
		}
		return nil
	})
	l.cut(false)
	l.awaitAt("dr", "primary")
	if s := l.status("dr"); s.Generation != 0 || s.Services[0].Epoch != 1 {
		t.Errorf("generation %d, epoch %v", s.Generation, s.Services[0].Epoch)
	}
}

// keeps wants a condition to hold for a while.
func (l *twoLab) keeps(d time.Duration, check func() error) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for ctx.Err() == nil {
		if err := check(); err != nil {
			l.t.Fatal(err)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func (l *twoLab) notTaken() error {
	if s := l.status("dr"); s != nil && (s.Generation != 0 || s.Services[0].Epoch != 1) {
		return fmt.Errorf("generation %d, epoch %v", s.Generation, s.Services[0].Epoch)
	}
	return nil
}

// awaitTaken waits until dr has started anew, has taken web, once, and serves.
// Nobody is there to look from outside: its own look completes the move.
func (l *twoLab) awaitTaken() {
	l.t.Helper()
	l.await("web taken by dr", 40*time.Second, func() bool {
		sv := l.service("dr")
		return sv != nil && sv.Active == "dr" && !sv.Phase.Moving() && l.answer("dr") == "dr"
	})
	s := l.status("dr")
	if s.Generation != 1 || s.Services[0].Epoch.Generation() != 1 {
		l.t.Errorf("generation %d, %+v", s.Generation, s.Services[0])
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	why, err := l.client("dr").Why(ctx, "web")
	if err != nil {
		l.t.Fatal(err)
	}
	if len(why.Decisions) == 0 || !strings.Contains(why.Decisions[0].Text, "by device fence: primary off, confirmed: web: /usr/bin/touch") {
		l.t.Errorf("decisions: %+v", why.Decisions)
	}
}

// A lost site is switched off by all its devices, and only then taken over,
// also by a survivor that crashed meanwhile.
// When its member comes back it is shut out, and joins anew.
func TestLostSite(t *testing.T) {
	t.Parallel()
	l := newTwoLab(t, "fast", 2)
	l.startBoth()
	l.kill("primary")
	l.await("the devices are asked", 30*time.Second, func() bool { return l.asked("primary", 1) && l.asked("primary", 2) })
	l.off("primary", 1)
	l.keeps(3*time.Second, l.notTaken)
	// A crash on the way: it begins again.
	l.kill("dr")
	for i := range 2 {
		if err := os.Remove(l.power(fmt.Sprintf("primary-%d-asked", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	l.startMember("dr")
	l.await("the devices are asked again", 30*time.Second, func() bool { return l.asked("primary", 1) && l.asked("primary", 2) })
	if s := l.status("dr"); !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "devices are asked") }) {
		t.Errorf("warnings %q", s.Warnings)
	}
	if err := l.stop("guard primary"); err != nil {
		t.Fatal(err)
	}
	l.off("primary", 2)
	l.awaitTaken()

	l.startMember("primary")
	if err := l.ended("primary"); !errors.Is(err, quorum.ErrGeneration) || !strings.Contains(err.Error(), "draasd join") {
		t.Fatalf("the old member ended with %v", err)
	}
	if _, err := l.join("primary", true); err != nil {
		t.Fatal(err)
	}
	l.startGuard("primary")
	l.startMember("primary")
	l.awaitVoters("dr", "dr", "primary")
	l.awaitAt("primary", "dr")
}

// A member that is back before all devices have confirmed is not taken over.
func TestLostSiteIsBack(t *testing.T) {
	t.Parallel()
	l := newTwoLab(t, "fast", 1)
	l.startBoth()
	l.kill("primary")
	l.await("the device is asked", 30*time.Second, func() bool { return l.asked("primary", 1) })
	l.startMember("primary")
	l.awaitVoters("dr", "dr", "primary")
	l.awaitAt("dr", "primary")
	l.off("primary", 1)
	l.keeps(2*time.Second, l.notTaken)
}

// A crash of the survivor while it starts anew, or after it has, leads to the
// same place.
func TestLostSiteCrashes(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(*testing.T, *twoLab){
		"the generation was begun": func(t *testing.T, l *twoLab) {
			l.kill("dr")
			if err := l.forceWith(func(quorum.Generation) ([]byte, error) { return nil, errors.New("power is gone") }); err == nil {
				t.Fatal("it was not interrupted")
			}
		},
		"the generation stands": func(t *testing.T, l *twoLab) {
			l.kill("dr")
			if err := l.forceWith(func(g quorum.Generation) ([]byte, error) {
				return failover.NewGeneration("dr", uint32(g.Number), time.Now())
			}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newTwoLab(t, "fast", 1)
			l.startBoth()
			l.kill("primary")
			crash(t, l)
			l.startMember("dr")
			l.await("the device is asked", 30*time.Second, func() bool { return l.asked("primary", 1) })
			l.keeps(time.Second, func() error {
				if sv := l.service("dr"); sv != nil && sv.Epoch != 1 {
					return fmt.Errorf("taken over without a proof: epoch %v", sv.Epoch)
				}
				return nil
			})
			l.off("primary", 1)
			l.awaitTaken()
		})
	}
}

func (l *twoLab) forceWith(entry func(quorum.Generation) ([]byte, error)) (err error) {
	disk, err := quorum.OpenOSDisk(filepath.Join(l.dir, "dr", "data"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	_, err = quorum.ForceGeneration(disk, quorum.ForceOptions{Entry: entry})
	return err
}
