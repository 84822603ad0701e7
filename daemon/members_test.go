package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
)

// voters lists who votes as a member knows it.
func (l *lab) voters(member string) []draas.MemberID {
	s := l.status(member)
	if s == nil || s.Leader == "" {
		return nil
	}
	var out []draas.MemberID
	for _, m := range s.Log {
		if m.Role == api.LogVoter && m.Quarantine == "" {
			out = append(out, m.ID)
		}
	}
	slices.Sort(out)
	return out
}

func (l *lab) awaitVoters(member string, want ...draas.MemberID) {
	l.t.Helper()
	l.await("voters at "+member, 20*time.Second, func() bool { return slices.Equal(l.voters(member), want) })
}

func (l *lab) join(member string, discard bool) (Joined, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return Join(ctx, JoinOptions{ConfigPath: l.file(member), Discard: discard})
}

// A member that has lost its disk comes back under its name and another raft
// id; nobody else notices.
func TestLostDisk(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "cautious")
	l.startAll()
	l.activate()
	stop := l.served("primary")
	if err := l.stop("daemon dr"); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(l.dir, "dr", "data")
	for _, pattern := range []string{"meta", "log-*", "snap*"} {
		files, err := filepath.Glob(filepath.Join(data, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
	}
	j, err := l.join("dr", false)
	if err != nil || j.Member != "dr" || j.Data != data {
		t.Fatalf("join: %+v, %v", j, err)
	}
	if _, err := l.join("dr", false); err == nil || !strings.Contains(err.Error(), "draasd join --discard") {
		t.Errorf("a second join: %v", err)
	}
	l.startDaemon("dr")
	l.await("dr votes under another raft id", 20*time.Second, func() bool {
		s := l.status("witness")
		return s != nil && len(s.Log) == 3 && slices.ContainsFunc(s.Log, func(m api.LogMember) bool {
			return m.ID == "dr" && m.RaftID > 3 && m.Role == api.LogVoter
		})
	})
	l.await("dr knows the decision", 10*time.Second, func() bool {
		sv := l.service("dr")
		return sv != nil && sv.Active == "primary" && sv.Epoch == 1
	})
	if asked, failed := stop(); failed > 0 {
		t.Errorf("%d of %d users were not served meanwhile", failed, asked)
	}
}

// A member that leaves is not counted any more; one that serves is not let go
// before it has handed over; started again, it comes back.
func TestLeave(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "balanced")
	l.startAll()
	l.activate()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := l.client("primary").Leave(ctx); err == nil || !strings.Contains(err.Error(), "web is active here") {
		t.Errorf("the active site may leave: %v", err)
	}
	if _, err := l.client("dr").Leave(ctx); err != nil {
		t.Fatal(err)
	}
	l.awaitVoters("witness", "primary", "witness")
	l.mu.Lock()
	ended := l.parts["daemon dr"].ended
	l.mu.Unlock()
	if err := <-ended; !errors.Is(err, ErrLeft) {
		t.Fatalf("its daemon ended with %v", err)
	}
	ended <- nil // for stop
	if err := l.stop("daemon dr"); err != nil {
		t.Fatal(err)
	}
	l.startDaemon("dr")
	l.awaitVoters("witness", "dr", "primary", "witness")
	if l.answer("primary") != "primary" {
		t.Error("the service is not served any more")
	}
}

// A member that dies after the others have let it go, and before it has heard of
// that, ends as it was asked to when it runs again, and can come back then.
func TestLeaveWithoutHearingOfIt(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "balanced")
	l.startAll()
	l.activate()
	for _, part := range []string{"daemon dr", "guard dr"} {
		if err := l.stop(part); err != nil {
			t.Fatal(err)
		}
	}
	data, before := filepath.Join(l.dir, "dr", "data"), filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(before, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	l.startDaemon("dr")
	left := func(why string) {
		t.Helper()
		l.mu.Lock()
		ended := l.parts["daemon dr"].ended
		l.mu.Unlock()
		select {
		case err := <-ended:
			if !errors.Is(err, ErrLeft) {
				t.Fatalf("%s: its daemon ended with %v", why, err)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: its daemon has not ended", why)
		}
		ended <- nil // for stop
		if err := l.stop("daemon dr"); err != nil {
			t.Fatal(err)
		}
	}
	l.await("it leaves", 20*time.Second, func() bool { _, err := l.client("dr").Leave(t.Context()); return err == nil })
	left("asked to leave")
	if err := errors.Join(os.RemoveAll(data), os.CopyFS(data, os.DirFS(before)), os.WriteFile(filepath.Join(data, "leaving"), []byte(markAsked), 0o600)); err != nil {
		t.Fatal(err)
	}
	l.startDaemon("dr")
	left("it had not heard that it was let go")
	l.startDaemon("dr")
	l.awaitVoters("witness", "dr", "primary", "witness")
	// Nobody is left to let it go: the mark waits.
	for _, part := range []string{"daemon witness", "daemon primary"} {
		if err := l.stop(part); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.client("dr").Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if how, err := os.ReadFile(filepath.Join(data, "leaving")); err != nil || string(how) != markAsked {
		t.Errorf("the mark says %q, %v", how, err)
	}
}

// The survivor of a lost majority starts the cluster anew, on somebody's word
// and not while a majority lives. What it grants is above all that the old
// cluster may have granted, and a member of the old one is shut out until it
// joins.
func TestStartAnew(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "balanced")
	l.startAll()
	l.activate()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if _, err := l.client("dr").Force(ctx, api.Force{OldSiteIsOff: true}); err == nil || !strings.Contains(err.Error(), "a majority lives") {
		t.Errorf("while a majority lives: %v", err)
	}
	for _, part := range []string{"daemon witness", "daemon primary", "guard primary"} {
		if err := l.stop(part); err != nil {
			t.Fatal(err)
		}
	}
	l.await("no leader", 10*time.Second, func() bool { s := l.status("dr"); return s != nil && s.Leader == "" })
	if _, err := l.client("dr").Force(ctx, api.Force{}); err == nil || !strings.Contains(err.Error(), "old_site_is_off") {
		t.Errorf("without a word: %v", err)
	}
	if _, err := l.client("dr").Force(ctx, api.Force{OldSiteIsOff: true, Operator: "ada", Reason: "flood"}); err != nil {
		t.Fatal(err)
	}
	l.awaitVoters("dr", "dr")
	if s := l.status("dr"); s.Generation != 1 || s.Services[0].Active != "primary" {
		t.Fatalf("generation %d, web active at %q", s.Generation, s.Services[0].Active)
	}
	l.await("dr ready", 10*time.Second, func() bool {
		sv := l.service("dr")
		return sv != nil && slices.ContainsFunc(sv.Views, func(v api.View) bool { return v.Vantage == "dr" && v.Site == "dr" && v.Verdict == draas.Healthy })
	})
	if a := l.request("dr", api.Request{Site: "dr", Request: failover.Request{Move: failover.MoveFailover, Vouch: true}}); !a.Accepted {
		t.Fatalf("failover refused: %+v", a.Record)
	}
	l.await("active at dr", 20*time.Second, func() bool {
		sv := l.service("dr")
		return sv != nil && sv.Active == "dr" && !sv.Phase.Moving()
	})
	l.await("dr serves", 10*time.Second, func() bool { return l.answer("dr") == "dr" })
	if sv := l.service("dr"); sv == nil || sv.Epoch.Generation() != 1 {
		t.Errorf("under no epoch of the new generation: %+v", sv)
	}

	l.startDaemon("witness")
	l.mu.Lock()
	ended := l.parts["daemon witness"].ended
	l.mu.Unlock()
	if err := <-ended; !errors.Is(err, quorum.ErrGeneration) {
		t.Fatalf("a member of the old generation ended with %v", err)
	}
	ended <- nil
	if err := l.stop("daemon witness"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.join("witness", true); err != nil {
		t.Fatal(err)
	}
	l.startDaemon("witness")
	l.awaitVoters("dr", "dr", "witness")
}
