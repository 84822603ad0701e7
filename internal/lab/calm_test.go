package lab

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What is noticed on a machine that lets nobody run is no proof; on any other
// it is.
func TestCalm(t *testing.T) {
	var c Calm
	c.Mark()
	c.woken(calmLate)
	c.at = time.Now().Add(-time.Hour) // whatever waits meanwhile is little of that
	if why := c.Upset(); why != "" {
		t.Errorf("upset on a calm machine: %s", why)
	}
	c.woken(calmLate + time.Millisecond)
	if why := c.Upset(); !strings.Contains(why, "151ms") {
		t.Errorf("a stall is said to be %q", why)
	}
	c.Mark()
	c.at, c.psi = time.Now().Add(-time.Second), pressure()-time.Second
	if why := c.Upset(); !strings.Contains(why, "waited for a processor") {
		t.Errorf("processes that wait all the time are said to be %q", why)
	}
}

func TestCalmWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Calm
		go c.Watch(t.Context())
		time.Sleep(time.Second)
		synctest.Wait()
		if c.late != 0 {
			t.Errorf("woken late by %v", c.late)
		}
	})
}

// An experiment that a standstill met is not judged, however it went.
func TestCalmly(t *testing.T) {
	stood := []time.Duration{time.Second, 101 * time.Millisecond, 100 * time.Millisecond}
	made, judged := 0, 0
	calmly(t, 100*time.Millisecond, func() func() {
		n := made
		made++
		return func() { judged = n }
	}, func(do func()) time.Duration {
		do()
		return stood[made-1]
	})
	if made != 3 || judged != 2 {
		t.Errorf("%d made, number %d is judged", made, judged)
	}
	synctest.Test(t, func(t *testing.T) {
		if late := Late(func() { time.Sleep(time.Second) }); late != 0 {
			t.Errorf("woken late by %v", late)
		}
	})
}

func TestReadPressure(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"some avg10=0.01 avg60=15.23 avg300=40.94 total=15783406877\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n": 15783406877 * time.Microsecond,
		"full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n":                                                             0,
		"some total=x\n": 0,
		"":               0,
	} {
		if got := readPressure(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
