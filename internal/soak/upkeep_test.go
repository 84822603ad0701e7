package soak

import (
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/config"
)

// The files are good ones, differ, and have the fences that they are said to.
func TestFiles(t *testing.T) {
	var all []*config.Config
	for file := range files {
		c, err := config.Parse("failover.toml", []byte(failoverTOML(file)))
		if err != nil {
			t.Fatal(err)
		}
		for before, was := range all {
			if reflect.DeepEqual(was.Services, c.Services) {
				t.Errorf("files %d and %d are the same", before, file)
			}
			same := true
			for i := range c.Services {
				same = same && reflect.DeepEqual(was.Services[i].Fence, c.Services[i].Fence)
			}
			if want := before < sameFences && file < sameFences; same != want {
				t.Errorf("files %d and %d have the same fences (%v), want %v", before, file, same, want)
			}
		}
		all = append(all, c)
	}
	if _, err := config.Parse("failover.toml", []byte(badTOML())); err == nil || !strings.Contains(err.Error(), "turbo") {
		t.Errorf("the bad file is refused with %v", err)
	}
}

// How long users waited counts from the last good answer before the mark.
func TestLull(t *testing.T) {
	b := newBook(io.Discard)
	if b.lull(byPath) < time.Hour {
		t.Error("who never had an answer waited for ever")
	}
	good := func(after time.Duration) {
		b.outages[byPath].last = time.Now().Add(-after)
		b.named(near(outside), byPath, true)
	}
	b.named(near(outside), byPath, true)
	good(time.Hour)
	b.mark()
	if d := b.lull(byPath); d > time.Minute {
		t.Errorf("%v, all of it before the mark", d)
	}
	good(2 * time.Minute)
	good(0)
	if d := b.lull(byPath); d < 2*time.Minute || d > 3*time.Minute {
		t.Errorf("%v, want 2 minutes", d)
	}
	b.mark()
	b.outages[byPath].last = time.Now().Add(-time.Minute)
	if d := b.lull(byPath); d < time.Minute {
		t.Errorf("%v, and the last good answer was a minute ago", d)
	}
}

func TestClosing(t *testing.T) {
	const said = `time=x level=INFO msg="fence opened" service=kern kind=kernel
time=y level=INFO msg="fence closed" member=dr service=kern kind=kernel took=1ms
`
	if line := closing(said, byKernel); !strings.HasPrefix(line, "time=y") {
		t.Errorf("found %q", line)
	}
	if line := closing(said, byPath); line != "" {
		t.Errorf("found %q of another service", line)
	}
}
