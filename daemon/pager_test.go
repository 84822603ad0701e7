package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
)

// switchboard runs a pager in a synctest bubble, second by second.
type switchboard struct {
	*pager
	sent []api.Page
	fail error
	slow time.Duration
	conf config.Pager
}

func newSwitchboard() *switchboard {
	b := &switchboard{pager: newPager("acme", "dr", slog.New(slog.DiscardHandler)), conf: config.Pager{Command: []string{"page"}, Timeout: time.Second}}
	b.send = func(ctx context.Context, _ config.Pager, p api.Page) error {
		pause(ctx, b.slow)
		b.sent = append(b.sent, p)
		return b.fail
	}
	return b
}

// run lets the alarms stand for a time.
func (b *switchboard) run(ctx context.Context, d time.Duration, alarms ...alarm) {
	for end := b.now().Add(d); b.now().Before(end); time.Sleep(watchAt) {
		select {
		case s := <-b.ended:
			b.result(s)
		default:
		}
		b.see(alarms)
		b.page(ctx, b.conf)
		synctest.Wait()
	}
}

func (b *switchboard) said() (out []string) {
	for _, p := range b.sent {
		out = append(out, string(p.Event)+" "+p.Key)
	}
	return out
}

// A page is repeated at growing pauses until its cause is over, and then taken
// back once.
func TestPagerRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSwitchboard()
		a := alarm{key: "stuck:shop", service: "shop", text: "shop has failed", page: true, command: "draasd failover shop"}
		b.run(t.Context(), 10*time.Minute, a)
		if len(b.sent) != 4 { // at once, after 1, 3 and 7 minutes
			t.Errorf("%d pages in 10 minutes: %v", len(b.sent), b.sent)
		}
		if p := b.sent[3]; p.Count != 4 || p.Command != a.command || p.Service != "shop" || p.Cluster != "acme" || p.Member != "dr" || !p.At.After(p.Since) {
			t.Errorf("page %+v", p)
		}
		b.run(t.Context(), time.Minute)
		if got := b.said(); len(got) != 5 || got[4] != "over stuck:shop" {
			t.Errorf("said %q", got)
		}
		b.run(t.Context(), 10*time.Second, a)
		if got := b.said(); len(got) != 6 || b.sent[5].Count != 1 {
			t.Errorf("it is not paged anew when it comes back: %q", got)
		}
	})
}

// What passes soon, what calls nobody and what was acknowledged is not paged.
func TestPagerKeepsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSwitchboard()
		brief := alarm{key: "leader:dr", text: "no leader", page: true, after: 30 * time.Second}
		b.run(t.Context(), 20*time.Second, brief, alarm{key: "config:dr", text: "another file"})
		b.run(t.Context(), time.Minute)
		if len(b.sent) != 0 {
			t.Errorf("paged %q", b.said())
		}
		b.run(t.Context(), 40*time.Second, brief)
		if len(b.sent) != 1 {
			t.Errorf("paged %q", b.said())
		}
		b.run(t.Context(), time.Hour, alarm{key: "upset:shop:dr:1", text: "it was flushed", page: true, once: true})
		if got := b.said(); len(got) != 3 || got[1] != "over leader:dr" && got[2] != "over leader:dr" {
			t.Errorf("what is over and worth knowing was paged %q", got)
		}
		b.run(t.Context(), time.Minute)
		b.sent = nil
		b.run(t.Context(), 40*time.Second, brief)
		acknowledged := brief
		acknowledged.page = false
		b.run(t.Context(), time.Hour, acknowledged)
		if len(b.sent) != 1 {
			t.Errorf("paged after somebody knew: %q", b.said())
		}
	})
}

// One command runs at a time; one that fails is run again, and holds up
// nothing.
func TestPagerOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSwitchboard()
		b.slow, b.fail = 5*time.Second, errors.New("no route")
		first, second := alarm{key: "a", text: "a", page: true}, alarm{key: "b", text: "b", page: true}
		b.run(t.Context(), 30*time.Second, first, second)
		time.Sleep(b.slow)
		synctest.Wait()
		got := b.said()
		if len(got) < 3 || !slices.Equal(got[:3], []string{"alarm a", "alarm b", "alarm a"}) {
			t.Errorf("said %q", got)
		}
		if b.sent[2].Count != 1 {
			t.Errorf("a page that reached nobody was counted: %+v", b.sent[2])
		}
	})
}

// The command gets the page as JSON; one that does not end is killed with all
// that it started.
func TestSendPage(t *testing.T) {
	out := filepath.Join(t.TempDir(), "page")
	page := api.Page{Event: api.PageAlarm, Key: "stuck:shop", Text: "shop has failed", Count: 2}
	if err := sendPage(t.Context(), config.Pager{Command: []string{"/bin/sh", "-c", "cat > " + out}, Timeout: 5 * time.Second}, page); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var got api.Page
	if err := json.Unmarshal(data, &got); err != nil || got.Text != page.Text || got.Count != 2 {
		t.Errorf("it got %s (%v)", data, err)
	}
	err = sendPage(t.Context(), config.Pager{Command: []string{"/bin/sh", "-c", "echo busy >&2; exit 3"}, Timeout: 5 * time.Second}, page)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), `"busy"`) {
		t.Errorf("a failed command: %v", err)
	}
	start := time.Now()
	err = sendPage(t.Context(), config.Pager{Command: []string{"/bin/sh", "-c", "sleep 60 & wait"}, Timeout: 100 * time.Millisecond}, page)
	if err == nil || !strings.Contains(err.Error(), "killed after") || time.Since(start) > 10*time.Second {
		t.Errorf("a command that does not end: %v after %v", err, time.Since(start))
	}
}
