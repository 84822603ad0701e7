package matrix

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/internal/lab/fakecloud"
)

// fed is a feed that wrote an object every 100 ms for three seconds, looked at
// every second, 50 ms behind the login; what was written in the first so many
// came across.
func fed(t *testing.T, across int, began time.Time) *feed {
	t.Helper()
	c := fakecloud.New(t, fakecloud.Options{Seed: 1})
	to := c.Hand().In(c.Hand().Make("project", fakecloud.Fields{"name": customer}))
	f := &feed{to: c}
	for n := range 30 {
		x := written{fmt.Sprint(n), began.Add(time.Duration(n) * 100 * time.Millisecond)}
		f.written = append(f.written, x)
		if n < across {
			to.Object(feedInto, x.name, fakecloud.Bytes([]byte("x")), nil)
		}
		if n%10 == 0 {
			f.looks = append(f.looks, look{x.at.Add(-55 * time.Millisecond), x.at.Add(-5 * time.Millisecond)})
		}
	}
	return f
}

// What is missing is known by who wrote, and up to which look all came across.
func TestLossIsKnown(t *testing.T) {
	began := time.Unix(1000, 0)
	at := began.Add(4 * time.Second)
	for _, c := range []struct {
		across              int
		told                api.Loss
		truth, most, oldest float64
		objects             int
		want                string // part of what is wrong; empty: nothing
	}{
		// Of the looks at 0, 1 and 2 s the last is complete.
		{24, api.Loss{Known: true, Behind: 2040 * time.Millisecond}, 2.005, 3.055, 1.6, 6, ""},
		{24, api.Loss{Known: true, Behind: 3 * time.Second, Objects: 10}, 2.005, 3.055, 1.6, 6, ""},
		{24, api.Loss{Known: true, Behind: 1900 * time.Millisecond}, 2.005, 3.055, 1.6, 6, "told is a loss of 1.9 s, it is from 2.00 s to 3.06 s"},
		{24, api.Loss{Known: true, Behind: 3200 * time.Millisecond}, 2.005, 3.055, 1.6, 6, "told is a loss of 3.2 s"},
		{24, api.Loss{Known: true, Behind: 2040 * time.Millisecond, Objects: 11}, 2.005, 3.055, 1.6, 6, "told are at least 11 lost objects, there are 6"},
		{24, api.Loss{}, 2.005, 3.055, 1.6, 6, "is not known"},
		// The last one was cut off: the look before it is.
		{15, api.Loss{Known: true, Behind: 3040 * time.Millisecond, Objects: 5}, 3.005, 4.055, 2.5, 15, ""},
		{15, api.Loss{Known: true, Behind: 2040 * time.Millisecond, Objects: 5}, 3.005, 4.055, 2.5, 15, "up to 2.50 s old"},
		{30, api.Loss{Known: true, Behind: 2040 * time.Millisecond}, 2.005, 3.055, 0, 0, ""},
	} {
		c.told.From = primary
		l := fed(t, c.across, began).against(c.told, at)
		if l.TrueS != c.truth || l.MostS != c.most || l.OldestS != c.oldest || l.Objects != c.objects || l.Unseen != 20 {
			t.Errorf("%d came across: %+v", c.across, l)
		}
		if got := strings.Join(l.hold(), "; "); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%d came across, told %q: found %q, want %q", c.across, l.Told, got, c.want)
		}
	}
	few := Loss{Told: "so", Known: true, ToldS: 2, TrueS: 1.9, MostS: 3, Objects: 30, Unseen: 20}
	if got := few.hold(); len(got) != 1 || !strings.Contains(got[0], "told are at least 0 lost objects, there are 30") {
		t.Errorf("what every look has seen is not told: %q", got)
	}
	f := fed(t, 24, began)
	f.put()
	if l := f.against(api.Loss{Known: true}, at); l.Unseen != 10 {
		t.Errorf("something was copied after the last look, and %d objects were written since", l.Unseen)
	}
	if got := (&Loss{}).hold(); len(got) != 1 {
		t.Errorf("nothing is told: %q", got)
	}
}

// The first listing behind a login is a look; what else is asked is none.
func TestLooks(t *testing.T) {
	f := &feed{}
	ask := func(method, path string) { f.asked(fakecloud.Request{Method: method, Path: path}, "/c") }
	ask(http.MethodGet, "/c")
	ask(http.MethodPost, "/identity/v3/auth/tokens")
	login := f.login
	ask(http.MethodPost, "/identity/v3/auth/tokens")
	ask(http.MethodGet, "/c/o")
	ask(http.MethodPut, "/c")
	if len(f.looks) != 0 {
		t.Errorf("%d looks", len(f.looks))
	}
	ask(http.MethodGet, "/c")
	ask(http.MethodGet, "/c")
	if len(f.looks) != 1 || !f.looks[0].login.Equal(login) || f.looks[0].listed.Before(login) || !f.login.IsZero() {
		t.Errorf("%+v", f.looks)
	}
}
