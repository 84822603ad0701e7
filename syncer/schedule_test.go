package syncer_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas/syncer"
)

// scheduled runs a schedule for a time, in a bubble whose clock begins at
// midnight UTC of 1 January 2000, and tells when each run began and why.
func scheduled(t *testing.T, s syncer.Schedule, random float64, lasts time.Duration, takes func(n int) time.Duration, meanwhile func(*syncer.Scheduler)) []string {
	t.Helper()
	sc, err := syncer.NewScheduler(s, time.Now, func() float64 { return random })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	if meanwhile != nil {
		go meanwhile(sc)
	}
	var runs []string
	sc.Run(ctx, func(ctx context.Context, why string) {
		runs = append(runs, time.Now().UTC().Format("02 15:04:05 ")+why)
		select {
		case <-time.After(takes(len(runs))):
		case <-ctx.Done():
		}
	})
	synctest.Wait()
	return runs
}

func takes(d time.Duration) func(int) time.Duration {
	return func(int) time.Duration { return d }
}

func TestSchedule(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name      string
		s         syncer.Schedule
		random    float64
		lasts     time.Duration
		takes     func(int) time.Duration
		meanwhile func(*syncer.Scheduler)
		want      string
	}{
		{"every ten minutes", syncer.Schedule{Cron: "*/10 * * * *"}, 0, 25 * time.Minute, takes(time.Minute), nil,
			"01 00:10:00 due, 01 00:20:00 due"},
		{"with jitter", syncer.Schedule{Cron: "*/10 * * * *", Jitter: time.Minute}, 0.5, 25 * time.Minute, takes(time.Minute), nil,
			"01 00:10:30 due, 01 00:20:30 due"},
		{"no overlap", syncer.Schedule{Cron: "*/10 * * * *"}, 0, 45 * time.Minute, takes(11 * time.Minute), nil,
			"01 00:10:00 due, 01 00:30:00 due"},
		{"zone of the schedule", syncer.Schedule{Cron: "0 3 * * *", Zone: berlin}, 0, 25 * time.Hour, takes(time.Minute), nil,
			"01 02:00:00 due"},
		{"zone of the expression", syncer.Schedule{Cron: "CRON_TZ=America/New_York 0 3 * * *", Zone: berlin}, 0, 25 * time.Hour, takes(time.Minute), nil,
			"01 08:00:00 due"},
		{"continuous", syncer.Schedule{Pause: 10 * time.Second}, 0, 65 * time.Second, takes(20 * time.Second), nil,
			"01 00:00:10 due, 01 00:00:40 due"},
		{"audits besides", syncer.Schedule{Pause: time.Hour, Audit: "30 1 * * *"}, 0, 3 * time.Hour, takes(time.Minute), nil,
			"01 01:00:00 due, 01 01:30:00 audit, 01 02:31:00 due"},
		{"an audit that fell into a run", syncer.Schedule{Pause: time.Minute, Audit: "30 1 * * *"}, 0, 4 * time.Hour, takes(100 * time.Minute), nil,
			"01 00:01:00 due, 01 01:41:00 audit, 01 03:22:00 due"},
		{"an audit in place of a run", syncer.Schedule{Cron: "0 * * * *", Audit: "0 2 * * *"}, 0, 150 * time.Minute, takes(time.Minute), nil,
			"01 01:00:00 due, 01 02:00:00 audit"},
		{"on demand alone", syncer.Schedule{}, 0, time.Hour, takes(time.Minute), func(sc *syncer.Scheduler) {
			time.Sleep(5 * time.Minute)
			sc.Trigger(false)
		}, "01 00:05:00 triggered"},
		{"asked for twice while one goes on", syncer.Schedule{}, 0, time.Hour, takes(10 * time.Minute), func(sc *syncer.Scheduler) {
			time.Sleep(5 * time.Minute)
			sc.Trigger(false)
			time.Sleep(time.Minute)
			sc.Trigger(false)
			sc.Trigger(false)
		}, "01 00:05:00 triggered, 01 00:15:00 triggered"},
		{"an audit on demand", syncer.Schedule{}, 0, time.Hour, takes(time.Minute), func(sc *syncer.Scheduler) {
			time.Sleep(5 * time.Minute)
			sc.Trigger(true)
		}, "01 00:05:00 audit"},
		{"never", syncer.Schedule{}, 0, time.Hour, takes(0), nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := strings.Join(scheduled(t, tt.s, tt.random, tt.lasts, tt.takes, tt.meanwhile), ", "); got != tt.want {
					t.Errorf("%s\nwant %s", got, tt.want)
				}
			})
		})
	}
}

func TestScheduleThatMeansNothing(t *testing.T) {
	for want, s := range map[string]syncer.Schedule{
		"hourly please":  {Cron: "hourly please"},
		"never comes":    {Cron: "0 0 31 2 *"},
		"either":         {Cron: "@hourly", Pause: time.Minute},
		"below 0":        {Cron: "@hourly", Jitter: -1},
		"\"61 * * * *\"": {Audit: "61 * * * *"},
	} {
		if _, err := syncer.NewScheduler(s, time.Now, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestNextRunIsKnown(t *testing.T) {
	sc, err := syncer.NewScheduler(syncer.Schedule{Cron: "@every 90s", Audit: "0 3 * * 0"}, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) // a Sunday
	run, audit := sc.Next(noon)
	if !run.Equal(noon.Add(90*time.Second)) || !audit.Equal(time.Date(2026, 3, 8, 3, 0, 0, 0, time.UTC)) {
		t.Errorf("%s, %s", run, audit)
	}
}
