package demo

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/draasd/draas/measure"
	"github.com/draasd/draas/rto"
)

func TestCrowd(t *testing.T) {
	now := time.Date(2026, 11, 21, 0, 0, 0, 100e6, time.UTC)
	var out bytes.Buffer
	l := newTimeline(&out, false, now)
	c := newCrowd(l)
	// The clock of the line may be of the day before.
	c.hear("23:59:59.500 fresh: failures start, refused: dial tcp: no", now)
	c.hear("23:59:59.900 fresh: good again from dr, epoch 2", now)
	c.hear("23:59:59.910 fresh: failures start, timeout: slow", now)
	c.hear("23:59:59.920 fresh: good again from dr, epoch 2", now)
	c.hear("23:59:59.930 ttl: good again from dr, epoch 2", now)
	c.hear("00:00:00.060 fault marked", now)
	c.hear("fresh: 400 sent, 0 failed", now)
	c.hear("", now)
	c.hear("00:00:00.400 fresh: failures start, reset: gone", now)
	c.hear("00:00:00.410 fresh: good again from dr, epoch 2", now)
	c.end()
	l.flushAll()
	want := `   -0.600 s  users, fresh: failures start, refused
   -0.200 s  users, fresh: good again from dr, epoch 2
   -0.180 s  users, fresh: served, after 2 more changes in short order
   -0.170 s  users, ttl: good again from dr, epoch 2
    0.300 s  users, fresh: failures start, reset
    0.310 s  users, fresh: served, after 1 more changes in short order
`
	if out.String() != want {
		t.Errorf("wrote\n%s\nwant\n%s", out.String(), want)
	}
}

// What rtotest really says is understood.
func TestCrowdUnderstandsRTOTest(t *testing.T) {
	now := time.Now()
	c := newCrowd(newTimeline(&bytes.Buffer{}, false, now))
	var live measure.Live
	hear := func(ms int, err error) {
		at := time.Duration(ms) * time.Millisecond
		e := measure.Event{Client: "fresh", Start: now, Sample: rto.Sample{At: at, Sent: at, Done: at}, Site: "dr", Err: err}
		if err != nil {
			e.Sample.Class = rto.Timeout
		}
		if text := live.Add(e); text != "" {
			c.hear(text, now)
		}
	}
	after := func(ms int) time.Time { return now.Add(time.Duration(ms) * time.Millisecond) }
	if c.served(after(5000)) {
		t.Error("served before anybody was answered")
	}
	hear(0, nil)
	if c.served(after(1000)) || !c.served(after(1400)) {
		t.Error("served at once, or not after a while")
	}
	hear(1500, errors.New("no answer"))
	if c.served(after(9000)) {
		t.Error("served while requests fail")
	}
	hear(2500, nil)
	if c.served(after(2600)) || !c.served(after(4000)) {
		t.Error("served at once, or not a while after the recovery")
	}
}

func TestLineWriter(t *testing.T) {
	var got []string
	w := &lineWriter{line: func(s string) { got = append(got, s) }}
	for _, part := range []string{"on", "e\ntwo\r\n\nth", "ree\n", "rest"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	if len(got) != 3 || got[0] != "one" || got[1] != "two" || got[2] != "three" {
		t.Errorf("got %q", got)
	}
	got = nil
	_, _ = w.Write(append(bytes.Repeat([]byte("x"), 2*maxLine), '\n'))
	if len(got) != 1 || len(got[0]) != maxLine {
		t.Errorf("a long line has %d bytes", len(got[0]))
	}
}
