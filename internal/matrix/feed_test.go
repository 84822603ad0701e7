package matrix

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// copier copies as the daemon does, by the file that the members have.
func copier(t *testing.T, clouds map[string]*fakecloud.Cloud) (run func() syncer.Lag) {
	t.Helper()
	dir := t.TempDir()
	cfg, err := config.Parse("failover.toml", []byte(column{Name: "dns", Scheme: schemeDNS, Lease: 2 * time.Second}.failoverTOML()))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Sync.CloudsFile, cfg.Sync.State = filepath.Join(dir, "clouds.yaml"), filepath.Join(dir, "sync.db")
	entries := "clouds:\n"
	for _, s := range sites {
		entries += clouds[cloudHost(s)].YAMLEntry(s)
	}
	if err := os.WriteFile(cfg.Sync.CloudsFile, []byte(entries), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() syncer.Lag {
		r, err := daemon.OpenReplication(t.Context(), cfg, primary, dr, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		result, err := r.Run(t.Context(), syncer.Options{Epoch: 1})
		st, failed := r.Status()
		if err := errors.Join(err, failed, r.Close()); err != nil || len(result.Failures) > 0 {
			t.Fatal(err, result.Failures)
		}
		return st.Lag(time.Now())
	}
}

// Looks of the real copier are seen, and what it says of its lag is within the
// bounds that its loss is held to.
func TestFeedIsCopied(t *testing.T) {
	t.Parallel()
	w := &world{clouds: map[string]*fakecloud.Cloud{cloudHost(primary): fakecloud.New(t, fakecloud.Options{Seed: 1}), cloudHost(dr): fakecloud.New(t, fakecloud.Options{Seed: 2})}}
	w.clouds[cloudHost(primary)].Hand().Make("project", fakecloud.Fields{"name": customer})
	run := copier(t, w.clouds)
	if err := w.startFeed(); err != nil {
		t.Fatal(err)
	}
	defer w.endFeed()
	f := w.feed
	some := func() {
		t.Helper()
		before := len(f.missing())
		until(t, "something is written", func() bool { return len(f.missing()) > before+2 })
	}
	var through time.Time
	for i := range feedLooks {
		some()
		copied := make(chan error, 1)
		go func() { copied <- w.midRun(t.Context()) }()
		lag := run()
		through = time.Now().Add(-lag.Age)
		if err := <-copied; err != nil {
			t.Error(err)
		}
		if n := f.complete(); n != i+1 || len(f.looks) != n {
			t.Errorf("after %d runs %d of %d looks are complete", i+1, n, len(f.looks))
		}
		if !lag.Known || lag.Objects != 0 {
			t.Errorf("the copier says %+v", lag)
		}
	}
	some()
	f.stop()
	at := time.Now()
	told := api.Loss{From: primary, Known: true, Behind: at.Sub(through)}
	l := f.against(told, at)
	if wrong := l.hold(); len(wrong) > 0 || l.Objects < 3 || l.Objects > l.Unseen {
		t.Errorf("%+v: %q", l, wrong)
	}
	told.Behind = 0
	if wrong := strings.Join(f.against(told, at).hold(), "; "); !strings.Contains(wrong, "told is a loss of 0.0 s") {
		t.Errorf("told is nothing, and found was %q", wrong)
	}
}
