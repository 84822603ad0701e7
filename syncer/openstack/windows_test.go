package openstack

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// planned is a plan as text, without its time.
func planned(t *testing.T, e *syncer.Engine) string {
	t.Helper()
	p, err := e.Plan(t.Context(), syncer.Options{Unbraked: []syncer.Kind{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	p.At = time.Time{}
	text, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A container that is looked at in windows of a few objects gives the plan that
// it gives as a whole, whatever has become of both sides, and also when a listing
// is cut short.
func TestWindowsSeeWhatTheWholeSees(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			east, west, in := twoBoxes(t, "content")
			whole := engine(t, east, west, func(c *syncer.Config) { onlyObjects(c); c.Window = -1 })
			few := engine(t, east, west, func(c *syncer.Config) { onlyObjects(c); c.Store, c.Window = whole.Store, 1+int(seed) })
			name := func(i int) string { return fmt.Sprintf("o-%02d", i) }
			for i := range 30 {
				east.upload(t, in+"/"+name(2*i), "first", nil)
			}
			if a, b := planned(t, whole), planned(t, few); a != b {
				t.Fatalf("the first plan as a whole, and in windows:\n%s", differ(a, b))
			}
			run(t, few, syncer.Options{})
			there := west.projectIn(t, "acme") + "/box"
			for round := range 3 {
				for range 12 {
					id := name(r.IntN(60))
					switch r.IntN(5) {
					case 0:
						east.upload(t, in+"/"+id, fmt.Sprint("changed in ", round), nil)
					case 1:
						east.drop(t, in+"/"+id)
					case 2:
						west.drop(t, there+"/"+id)
					case 3:
						west.upload(t, there+"/"+id, "by others", nil)
					case 4:
						east.upload(t, in+"/"+id, "by others", nil)
						west.upload(t, there+"/"+id, "by others", nil)
					}
				}
				if a, b := planned(t, whole), planned(t, few); a != b {
					t.Fatalf("as a whole, and in windows:\n%s", differ(a, b))
				}
				for _, s := range []site{east, west} {
					a, b := cutShort(t, s, whole), cutShort(t, s, few)
					if a != b {
						t.Fatalf("cut short at %s, as a whole, and in windows:\n%s", s.Site(), differ(a, b))
					}
				}
				if _, err := few.Run(t.Context(), syncer.Options{Unbraked: []syncer.Kind{"*"}}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// cutShort is a plan by a listing of the objects at one site that shows half of
// them, and then that there are no more.
func cutShort(t *testing.T, s site, e *syncer.Engine) string {
	t.Helper()
	half := fakecloud.Fault{Service: fakecloud.ObjectStore, Method: "GET", Path: "/box\\?format", What: fakecloud.ShortPage, Nth: 1}
	none := half
	none.What = fakecloud.EmptyPage // of the next
	f, g := s.fake.Inject(half), s.fake.Inject(none)
	defer f.Remove()
	defer g.Remove()
	text := planned(t, e)
	if f.Hits() == 0 || g.Hits() == 0 {
		t.Errorf("no listing was cut short: %d, %d", f.Hits(), g.Hits())
	}
	return text
}

// differ names the lines that only one of two texts has.
func differ(a, b string) string {
	var out []string
	for _, two := range [][2]string{{a, b}, {b, a}} {
		for line := range strings.Lines(two[0]) {
			if !strings.Contains(two[1], line) {
				out = append(out, strings.TrimSpace(line))
			}
		}
		out = append(out, "--")
	}
	return strings.Join(out, "\n")
}

// drop deletes an object, if it is there.
func (s site) drop(t *testing.T, id string) {
	t.Helper()
	a, address, err := s.at(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.ask(t.Context(), http.MethodDelete, address, nil); err != nil && statusOf(err) != http.StatusNotFound {
		t.Fatal(err)
	}
}
