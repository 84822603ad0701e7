package frontend

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
)

// others is a proxy in memory that is driven.
type others struct {
	mu      sync.Mutex
	leading Leading
	count   int64
	acts    []Leading
	at      []time.Time
	looks   int
	cut     int           // acts that ended with their context
	takes   time.Duration // each act
	deaf    bool          // says that it follows, and does not
	lead    error
	see     error
}

func (o *others) Lead(ctx context.Context, _ *Spec, to Leading) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acts, o.at = append(o.acts, to), append(o.at, time.Now())
	if o.takes > 0 {
		wait := time.NewTimer(o.takes)
		defer wait.Stop()
		o.mu.Unlock()
		select {
		case <-wait.C:
			o.mu.Lock()
		case <-ctx.Done():
			o.mu.Lock()
			o.cut++
			return ctx.Err()
		}
	}
	if o.lead == nil && !o.deaf {
		o.leading = to
	}
	return o.lead
}

func (o *others) See(context.Context, *Spec) (Leading, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looks++
	return o.leading, o.see
}

func (o *others) Count(context.Context, *Spec, draas.SiteID) (int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count, o.see
}

// driven runs Drive in a synctest bubble.
type driven struct {
	*table
	*others
	log   bytes.Buffer
	told  Driven
	ended chan struct{}
	stop  context.CancelFunc
}

func drives(t *testing.T, outlives bool, found *others, o DriveOptions) *driven {
	d := &driven{table: newTable(outlives), others: found, ended: make(chan struct{})}
	o.Log = slog.New(slog.NewTextHandler(&d.log, nil))
	o.Tell = func(now Driven) { d.told = now }
	ctx, stop := context.WithCancel(context.Background())
	d.stop = func() { stop(); <-d.ended }
	go func() { Drive(ctx, d.Table, "shop", d.others, o); close(d.ended) }()
	t.Cleanup(d.stop)
	synctest.Wait()
	return d
}

// after lets time pass and wants where the proxy leads then.
func (d *driven) after(t *testing.T, pass time.Duration, want Leading) {
	t.Helper()
	time.Sleep(pass)
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.leading != want {
		t.Fatalf("it leads to %s, want %s", d.leading, want)
	}
}

var (
	nowhere = Leading{}
	atFirst = Leading{Site: "primary"}
	drains  = Leading{Site: "primary", Draining: true}
	atDR    = Leading{Site: "dr"}
)

const tick = lookEvery

func TestDriveStartsPassive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drives(t, true, &others{leading: atDR, lead: errors.New("no answer")}, DriveOptions{})
		_ = d.decide(Decision{Epoch: 1, Site: "primary", Permit: second})
		d.after(t, 10*second, atDR)
		if slices.Contains(d.acts, atFirst) {
			t.Errorf("led to a site before it was led nowhere: %v", d.acts)
		}
		if n := len(d.acts); n < 10 || n > 16 {
			t.Errorf("%d tries in 10 s", n)
		}
		if n := strings.Count(d.log.String(), "does not follow"); n != 1 {
			t.Errorf("said %d times that it does not follow:\n%s", n, d.log.String())
		}
		if d.told.Done || d.told.Err == nil || d.told.Failures != int64(len(d.acts)) {
			t.Errorf("told %+v", d.told)
		}
		d.mu.Lock()
		d.lead = nil
		d.mu.Unlock()
		d.after(t, lastRetry, atFirst)
		if !slices.Equal(d.acts[len(d.acts)-2:], []Leading{nowhere, atFirst}) {
			t.Errorf("acts %v", d.acts)
		}
		if d.told != (Driven{Service: "shop", Epoch: 1, Want: atFirst, Done: true, Changes: 1, Failures: d.told.Failures}) {
			t.Errorf("told %+v", d.told)
		}
		if n := strings.Count(d.log.String(), "follows"); n != 2 {
			t.Errorf("said %d times that it follows:\n%s", n, d.log.String())
		}
	})
}

func TestDriveFollowsDecisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drives(t, false, &others{leading: atDR}, DriveOptions{})
		d.after(t, 0, nowhere)
		for _, c := range []struct {
			d    Decision
			want Leading
		}{
			{Decision{}, nowhere},
			{Decision{Epoch: 1, Site: "primary", Permit: 9 * second}, atFirst},
			{Decision{Epoch: 1, Site: "primary", Permit: 9 * second, Moving: true}, drains},
			{Decision{Epoch: 1, Site: "primary", Permit: 9 * second, Moving: true, Released: true}, nowhere},
			{Decision{Epoch: 2, Site: "dr", Permit: 9 * second}, atDR},
			{Decision{Epoch: 3, Site: "primary", Permit: 9 * second}, atFirst},
		} {
			_ = d.decide(c.d)
			d.after(t, 0, c.want)
		}
		acts := len(d.acts)
		for range 10 { // renewals, and an epoch that changes nothing
			_ = d.decide(Decision{Epoch: 3, Site: "primary", Permit: 9 * second})
			d.after(t, tick, atFirst)
		}
		_ = d.decide(Decision{Epoch: 4, Site: "primary", Permit: 9 * second})
		d.after(t, tick, atFirst)
		if len(d.acts) != acts || d.told.Epoch != 4 || d.told.Changes != 5 {
			t.Errorf("%d acts for nothing, told %+v", len(d.acts)-acts, d.told)
		}
		d.Use([]Spec{{Service: "shop", Sites: map[draas.SiteID][]Server{"primary": {{"192.0.2.1:80"}}}}})
		d.after(t, tick, atFirst)
		if len(d.acts) != acts+1 {
			t.Errorf("%d acts for a file with other servers", len(d.acts)-acts)
		}
	})
}

func TestDrivePermitEnds(t *testing.T) {
	const ahead = 300 * time.Millisecond
	for name, c := range map[string]struct {
		o      DriveOptions
		moving bool
		lasts  time.Duration
	}{"to its end": {lasts: second}, "ahead": {o: DriveOptions{Ahead: ahead}, lasts: second - ahead}, "in a move": {moving: true, lasts: second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := drives(t, false, &others{}, c.o)
				_ = d.decide(Decision{Epoch: 1, Site: "primary", Permit: second, Moving: c.moving})
				want := Leading{Site: "primary", Draining: c.moving}
				d.after(t, c.lasts-time.Nanosecond, want)
				d.after(t, time.Nanosecond, nowhere)
				_ = d.decide(Decision{Epoch: 1, Site: "primary", Permit: second})
				d.after(t, tick, want)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		d := drives(t, true, &others{}, DriveOptions{Ahead: ahead})
		_ = d.decide(Decision{Epoch: 1, Site: "primary", Permit: second})
		d.after(t, time.Minute, atFirst)
	})
}

func TestDriveCountsAsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drives(t, false, &others{count: 3}, DriveOptions{})
		flights := func(want int64) {
			t.Helper()
			if n := d.Reports()[0].Flights; n != want {
				t.Errorf("%d are under way, want %d", n, want)
			}
		}
		set := func(n int64, err error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.count, d.see = n, err
		}
		flights(0)
		_ = d.decide(Decision{Epoch: 1, Site: "primary", Permit: time.Hour})
		d.after(t, tick, atFirst)
		flights(1)
		_ = d.decide(Decision{Epoch: 1, Site: "primary", Permit: time.Hour, Moving: true})
		d.after(t, 10*second, drains)
		flights(1)
		set(0, errors.New("no answer"))
		d.after(t, second, drains)
		flights(1) // unknown is not none
		set(0, nil)
		d.after(t, lastRetry+countEvery, drains)
		flights(0)
		_ = d.decide(Decision{Epoch: 2, Site: "primary", Permit: time.Hour})
		d.after(t, tick, atFirst)
		flights(1)
		set(3, nil)
		_ = d.decide(Decision{Epoch: 3, Site: "dr", Permit: time.Hour})
		d.after(t, tick, atDR)
		flights(1)
		_ = d.decide(Decision{Epoch: 3, Site: "dr", Released: true, Moving: true})
		d.after(t, tick, nowhere)
		flights(0)
	})
}

func TestDriveRepairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drives(t, true, &others{}, DriveOptions{Look: second})
		_ = d.decide(Decision{Epoch: 1, Site: "primary", Permit: second})
		d.after(t, tick, atFirst)
		tamper := func(l Leading, see error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.leading, d.see = l, see
		}
		for range 3 {
			tamper(atDR, nil)
			d.after(t, second+tick, atFirst)
		}
		if d.told.Repaired != 3 || d.told.Failures != 0 {
			t.Errorf("told %+v", d.told)
		}
		if n := strings.Count(d.log.String(), "others changed"); n != 1 {
			t.Errorf("said %d times that it was changed:\n%s", n, d.log.String())
		}
		acts := len(d.acts)
		tamper(atFirst, ErrTampered)
		time.Sleep(second + tick)
		synctest.Wait()
		if len(d.acts) == acts || d.told.Repaired != 4 {
			t.Errorf("not led again: told %+v", d.told)
		}
		// What is not known was not changed, but it is led there again.
		tamper(atFirst, nil)
		d.after(t, 2*second, atFirst)
		acts = len(d.acts)
		tamper(atDR, errors.New("no answer"))
		time.Sleep(3 * second)
		tamper(atDR, nil)
		d.after(t, 2*second, atFirst)
		if len(d.acts) == acts || d.told.Repaired != 4 || !d.told.Done {
			t.Errorf("told %+v", d.told)
		}
	})
}

func TestDriveReadsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drives(t, true, &others{}, DriveOptions{})
		d.mu.Lock()
		d.deaf = true
		d.mu.Unlock()
		_ = d.decide(Decision{Epoch: 1, Site: "primary", Permit: second})
		d.after(t, second, nowhere)
		if d.told.Done || d.told.Err == nil {
			t.Errorf("it says that it follows, and does not: told %+v", d.told)
		}
		d.mu.Lock()
		d.deaf = false
		d.mu.Unlock()
		d.after(t, lastRetry, atFirst)
	})
}

func TestDriveIsOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drives(t, true, &others{takes: second, leading: atDR}, DriveOptions{})
		d.after(t, second, nowhere)
		_ = d.decide(Decision{Epoch: 1, Site: "primary", Permit: second})
		d.after(t, second/2, nowhere)
		begin := time.Now()
		_ = d.decide(Decision{Epoch: 2, Site: "dr", Permit: second})
		d.after(t, second, atDR)
		if d.cut != 1 || d.at[len(d.at)-1] != begin || d.told.Failures != 0 {
			t.Errorf("%d acts were cut short, the last one began %v late, told %+v", d.cut, d.at[len(d.at)-1].Sub(begin), d.told)
		}
		// An act that hangs ends in time.
		d.mu.Lock()
		d.takes = time.Hour
		d.mu.Unlock()
		_ = d.decide(Decision{Epoch: 3, Site: "primary", Permit: second})
		d.after(t, defaultTimeout+tick, atDR)
		if d.told.Failures != 1 || !errors.Is(d.told.Err, context.DeadlineExceeded) {
			t.Errorf("told %+v", d.told)
		}
		d.mu.Lock()
		d.takes = 0
		d.mu.Unlock()
		d.after(t, defaultTimeout+lastRetry, atFirst)
	})
}

func TestDriveEnds(t *testing.T) {
	for _, outlives := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := drives(t, outlives, &others{}, DriveOptions{})
			_ = d.decide(Decision{Epoch: 1, Site: "primary", Permit: time.Hour})
			d.after(t, tick, atFirst)
			d.stop()
			want := nowhere
			if outlives {
				want = atFirst
			}
			d.after(t, 0, want)
			if d.Reports()[0].Flights != 0 {
				t.Error("something is still under way")
			}
		})
		synctest.Test(t, func(t *testing.T) {
			d := drives(t, outlives, &others{}, DriveOptions{})
			_ = d.decide(Decision{Epoch: 1, Site: "primary", Permit: time.Hour})
			d.after(t, tick, atFirst)
			d.Use(nil)
			d.after(t, tick, nowhere)
			<-d.ended
		})
	}
}
