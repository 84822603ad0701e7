package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// What issue 7 calls faults, each by its name, on two clouds with something of
// nearly every kind: after the next run the target is right, or the object is
// named with its reason; nothing is lost, doubled, or deleted that was not ours.

// disaster is a pair of clouds and the records between them.
type disaster struct {
	t          *testing.T
	east, west site
	project    string // in the east
	box        string
	path       string // of the records
	clock      time.Time
}

func newDisaster(t *testing.T, from, to fakecloud.Options) *disaster {
	t.Helper()
	d := &disaster{t: t, east: newSite(t, "east", from), west: newSite(t, "west", to), path: filepath.Join(t.TempDir(), "sync.db"), clock: time.Now()}
	small(t, d.east)
	d.project = d.east.projectIn(t, "web")
	d.box = d.project + "/box"
	d.east.swiftCall(t, http.MethodPut, d.box, map[string]string{"X-Container-Meta-A": "b"}, nil)
	d.east.upload(t, d.box+"/obj", random(20_000), nil)
	zone := d.east.newZone(t, d.project, row{"name": "web.example.", "email": "hostmaster@example.org"})
	d.east.dns(t, http.MethodPost, "zones/"+zone+"/recordsets", row{"name": "www.web.example.", "type": "A", "records": []string{"192.0.2.7"}})
	d.east.make(t, cinder, "types", "volume_type", row{"name": "fast", "extra_specs": row{"tier": "1"}})
	return d
}

// run makes a run with the records; an hour is between two.
func (d *disaster) run(ctx context.Context, o syncer.Options, change func(*syncer.Config)) (*syncer.Result, error) {
	d.t.Helper()
	var r *syncer.Result
	err := d.with(change, func(e *syncer.Engine) (err error) {
		r, err = e.Run(ctx, o)
		return err
	})
	return r, err
}

func (d *disaster) with(change func(*syncer.Config), do func(*syncer.Engine) error) error {
	d.t.Helper()
	store, err := syncer.OpenStore(d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			d.t.Error(err)
		}
	}()
	d.clock = d.clock.Add(time.Hour)
	c := syncer.Config{Source: d.east, Target: d.west, Store: store, Attempts: 1, Now: func() time.Time { return d.clock }}
	if change != nil {
		change(&c)
	}
	e, err := syncer.New(c)
	if err != nil {
		d.t.Fatal(err)
	}
	return do(e)
}

// right makes the next run, which has to make the target right; then there is
// nothing more to do, both sides are compared with what users get, and nothing
// stands there twice.
func (d *disaster) right() {
	d.t.Helper()
	for _, o := range []syncer.Options{{Retry: true}, {Audit: true}} {
		r, err := d.run(d.t.Context(), o, nil)
		if err != nil {
			d.t.Fatal(err)
		}
		if r.Outcome() != syncer.Clean || o.Audit && r.Plan.Acts() > 0 {
			d.t.Errorf("outcome %d of %+v:\n%s", r.Outcome(), o, said(r))
		}
	}
	err := d.with(nil, func(e *syncer.Engine) error {
		v, err := e.Verify(d.t.Context(), syncer.VerifyOptions{Bodies: true})
		if err == nil && v.Outcome() != syncer.Clean {
			d.t.Errorf("it is not right: %+v", v.Mismatches)
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	for _, kind := range []syncer.Kind{Project, User, Role, Network, Subnet, SecurityGroup, Router, Flavor, Image, VolumeType, Zone, RecordSet} {
		if a, b := len(d.east.all(d.t, kind, syncer.Key{})), len(d.west.all(d.t, kind, syncer.Key{})); a != b {
			d.t.Errorf("%d of kind %s in the east, and %d in the west", a, kind, b)
		}
	}
}

// said is what a run says of what it has not done.
func said(r *syncer.Result) string {
	var lines []string
	for _, f := range r.Failures {
		lines = append(lines, fmt.Sprintf("failed: %s %s: %s", f.Verb, f.Key, f.Reason))
	}
	for _, c := range r.Plan.Changes {
		lines = append(lines, fmt.Sprintf("%s %s %s: %s", c.Verb, c.Key, c.Name, c.Reason))
	}
	for _, k := range r.Plan.Kinds {
		for _, why := range k.Unknown {
			lines = append(lines, fmt.Sprintf("%s is not known: %s", k.Kind, why))
		}
	}
	return strings.Join(lines, "\n")
}

func TestNoDisaster(t *testing.T) {
	t.Parallel()
	newDisaster(t, fakecloud.Options{}, fakecloud.Options{}).right()
}

// Either cloud dies in mid-run, and comes back.
func TestCloudDies(t *testing.T) {
	for _, which := range []string{"source", "target"} {
		for _, at := range []int{5, 30, 50} {
			t.Run(fmt.Sprintf("%s at request %d", which, at), func(t *testing.T) {
				t.Parallel()
				d := newDisaster(t, fakecloud.Options{}, fakecloud.Options{})
				fake := map[string]*fakecloud.Cloud{"source": d.east.fake, "target": d.west.fake}[which]
				dead := make(chan struct{})
				ctx, end := context.WithCancel(t.Context())
				defer end()
				f := fake.Inject(fakecloud.Fault{Nth: at, Times: 1, What: fakecloud.Drop, Do: func() {
					go func() {
						defer close(dead)
						fake.Kill()
						if at < 50 { // the process ends soon, too
							time.AfterFunc(300*time.Millisecond, end)
						}
					}()
				}})
				r, err := d.run(ctx, syncer.Options{}, nil)
				if f.Hits() == 0 {
					t.Fatalf("there are no %d requests", at)
				}
				<-dead
				if err == nil && r.Outcome() != syncer.Failed {
					t.Errorf("it died, and nothing is said:\n%s", said(r))
				}
				fake.Heal()
				if err := fake.Revive(); err != nil {
					t.Fatal(err)
				}
				d.right()
			})
		}
	}
}

// A listing that ends too soon, without an error that anybody could see, deletes
// nothing: what is missed has to be missed again, later.
func TestListingCutShort(t *testing.T) {
	for what, name := range map[fakecloud.What]string{fakecloud.EmptyPage: "empty", fakecloud.ShortPage: "short"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDisaster(t, fakecloud.Options{}, fakecloud.Options{})
			d.right()
			before := d.west.fake.Dump(nil)
			f := d.east.fake.Inject(fakecloud.Fault{Method: http.MethodGet, Path: "(limit=1000|format=json)", What: what})
			r, err := d.run(t.Context(), syncer.Options{Audit: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if n := r.Plan.Count(syncer.Delete); f.Hits() < 10 || n > 0 {
				t.Errorf("%d listings were cut, and %d objects deleted:\n%s", f.Hits(), n, said(r))
			}
			if after := d.west.fake.Dump(nil); !slices.Equal(before, after) {
				t.Errorf("something was done:\n%s", said(r))
			}
			f.Remove()
			d.right()
		})
	}
}

// Tokens end while the run goes on, of both clouds, and in mid-upload.
func TestTokensEnd(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, fakecloud.Options{TokenLife: 2 * time.Minute}, fakecloud.Options{TokenLife: 2 * time.Minute})
	image := d.west.fake.Inject(fakecloud.Fault{Service: fakecloud.Image, Method: http.MethodPut, Path: "/file$", Upload: 10, Times: 1, What: fakecloud.Answer, Status: http.StatusUnauthorized})
	object := d.west.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Method: http.MethodPut, Path: "/obj$", Upload: 9_000, Times: 1, What: fakecloud.Answer, Status: http.StatusUnauthorized})
	// Behind those, for of two faults that meet one request the first strikes.
	for _, s := range []site{d.east, d.west} {
		s.fake.Inject(fakecloud.Fault{Every: 20, What: fakecloud.Pass, Do: sync.OnceFunc(func() { s.fake.Advance(3 * time.Minute) })})
	}
	r, err := d.run(t.Context(), syncer.Options{}, func(c *syncer.Config) { c.Attempts = 4 })
	if err != nil {
		t.Fatal(err)
	}
	if r.Outcome() != syncer.Clean || image.Hits() != 1 || object.Hits() != 1 {
		t.Errorf("%d and %d uploads met the end of a token:\n%s", image.Hits(), object.Hits(), said(r))
	}
	d.right()
}

// The clocks of the clouds and ours are apart by an hour, either way.
func TestClocksApart(t *testing.T) {
	for _, skew := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			t.Parallel()
			d := newDisaster(t, fakecloud.Options{}, fakecloud.Options{})
			d.east.fake.SetSkew(skew)
			d.west.fake.SetSkew(-skew)
			d.right()
			began := d.clock
			d.east.upload(t, d.box+"/obj", random(20_001), nil)
			d.east.network(t, "later")
			d.right()
			err := d.with(nil, func(e *syncer.Engine) error {
				st, err := e.Store.Status()
				for _, k := range st.Kinds {
					if k.Missing == "" && (k.Through.Before(began) || k.Lag(d.clock).Age > 4*time.Hour) {
						t.Errorf("%s is carried through %s", k.Kind, k.Through)
					}
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A permission is missing at either site: what it is for is named, and the rest
// is carried.
func TestPermissionMissing(t *testing.T) {
	for name, c := range map[string]struct {
		at    string
		fault fakecloud.Fault
		says  string
	}{
		"listing":         {"east", fakecloud.Fault{Service: fakecloud.Network, Method: http.MethodGet, Path: "/routers"}, "router is not known: at east: list router"},
		"target listing":  {"west", fakecloud.Fault{Service: fakecloud.Compute, Method: http.MethodGet, Path: "/flavors/detail"}, "flavor is not known: at west: list flavor"},
		"creation":        {"west", fakecloud.Fault{Service: fakecloud.Network, Method: http.MethodPost, Path: "/networks$"}, "failed: create network"},
		"accounts":        {"west", fakecloud.Fault{Service: fakecloud.ObjectStore, Method: http.MethodPut}, "ResellerAdmin"},
		"content":         {"east", fakecloud.Fault{Service: fakecloud.Image, Method: http.MethodGet, Path: "/file$"}, "failed: create image"},
		"half of a group": {"west", fakecloud.Fault{Service: fakecloud.Network, Method: http.MethodPost, Path: "/security-group-rules$"}, "failed: create security-group"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDisaster(t, fakecloud.Options{}, fakecloud.Options{})
			c.fault.What, c.fault.Status = fakecloud.Answer, http.StatusForbidden
			f := map[string]site{"east": d.east, "west": d.west}[c.at].fake.Inject(c.fault)
			r, err := d.run(t.Context(), syncer.Options{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if text := said(r); f.Hits() == 0 || r.Outcome() != syncer.Failed || !strings.Contains(text, c.says) || !strings.Contains(text, "403") {
				t.Errorf("outcome %d:\n%s", r.Outcome(), text)
			}
			d.west.projectIn(t, "web")
			d.west.objectNamed(t, VolumeType, "fast")
			f.Remove()
			d.right()
		})
	}
}

// Names that stand twice, at the source and at the target, where services let
// them.
func TestNamesTwice(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, fakecloud.Options{}, fakecloud.Options{})
	for _, text := range []string{"one", "two"} {
		d.east.make(t, neutron, "networks", "network", row{"name": "twin", "project_id": d.project, "description": text})
		d.east.make(t, neutron, "security-groups", "security_group", row{"name": "twin", "project_id": d.project, "description": text})
		makeImage(t, d.east, "twin", text, row{"owner": d.project, "visibility": "private"})
	}
	d.right()
	var got []string
	for _, o := range d.west.all(t, Network, syncer.Key{}) {
		if whole, err := d.west.Read(t.Context(), o); err == nil && strings.HasSuffix(o.Name, "/twin") {
			got = append(got, fmt.Sprint(whole.Fields["description"]))
		}
	}
	if slices.Sort(got); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("the twins are %q", got)
	}
	// Another's of the same name stays as it is, and the new one is not made.
	there := d.west.projectIn(t, "web")
	theirs := d.west.make(t, neutron, "networks", "network", row{"name": "new", "project_id": there, "description": "theirs"})
	d.east.make(t, neutron, "networks", "network", row{"name": "new", "project_id": d.project, "description": "ours"})
	for range 2 {
		r, err := d.run(t.Context(), syncer.Options{Retry: true}, nil)
		if err != nil || r.Outcome() != syncer.Differs || !strings.Contains(said(r), "the name belongs to "+theirs) {
			t.Fatalf("%v:\n%s", err, said(r))
		}
	}
	if text := d.west.row(t, neutron, "networks/"+theirs, "network").text("description"); text != "theirs" {
		t.Errorf("it is overwritten: %q", text)
	}
}

// Objects change, come and go while the run goes on: the next has all of it.
func TestChangesDuringARun(t *testing.T) {
	for _, at := range []int{3, 15, 30, 45} {
		t.Run(fmt.Sprint("at request ", at), func(t *testing.T) {
			t.Parallel()
			d := newDisaster(t, fakecloud.Options{}, fakecloud.Options{})
			net := d.east.objectNamed(t, Network, "web/net")
			f := d.east.fake.Inject(fakecloud.Fault{Nth: at, What: fakecloud.Pass, Do: sync.OnceFunc(func() {
				hand := d.east.fake.Hand()
				if err := hand.Change("network", net.ID, fakecloud.Fields{"description": "changed meanwhile"}); err != nil {
					t.Error(err)
				}
				for _, group := range []string{"late", "web"} {
					hand.Make("security_group", fakecloud.Fields{"name": group, "project_id": d.project})
				}
			})})
			if _, err := d.run(t.Context(), syncer.Options{}, nil); err != nil || f.Hits() == 0 {
				t.Fatalf("struck %d times, %v", f.Hits(), err)
			}
			d.right()
			if copied := d.west.objectNamed(t, Network, "web/net"); copied.Fields["description"] != "changed meanwhile" {
				t.Errorf("the copy: %v", copied.Fields)
			}
		})
	}
}

// Somebody alters the target by hand: it is named and left, object by object,
// and put right where the policy says so.
func TestTargetAlteredByHand(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, fakecloud.Options{}, fakecloud.Options{})
	d.right()
	there := d.west.projectIn(t, "web")
	d.west.upload(t, there+"/box/obj", "by hand", nil)
	d.west.swiftCall(t, http.MethodPost, there+"/box", map[string]string{"X-Container-Meta-A": "by hand"}, nil)
	hand := d.west.fake.Hand()
	for kind, o := range map[string]syncer.Object{"network": d.west.objectNamed(t, Network, "web/net"), "router": d.west.objectNamed(t, Router, "web/gate")} {
		if err := hand.Change(kind, o.ID, fakecloud.Fields{"description": "by hand"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := hand.Remove("flavor", d.west.objectNamed(t, Flavor, "small").ID); err != nil {
		t.Fatal(err)
	}
	before := d.west.fake.Dump(nil)
	for range 2 {
		r, err := d.run(t.Context(), syncer.Options{}, nil)
		if err != nil || r.Outcome() != syncer.Differs || r.Plan.Count(syncer.Drift) != 5 || r.Plan.Acts() > 0 {
			t.Fatalf("outcome %d, %v:\n%s", r.Outcome(), err, said(r))
		}
	}
	if after := d.west.fake.Dump(nil); !slices.Equal(before, after) {
		t.Error("something was written")
	}
	r, err := d.run(t.Context(), syncer.Options{}, func(c *syncer.Config) {
		c.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{Overwrite: true} }
	})
	if err != nil || r.Outcome() != syncer.Clean {
		t.Fatalf("%v:\n%s", err, said(r))
	}
	d.right()
}

// The records are lost: they are made anew from the clouds, and nothing is made
// or deleted.
func TestRecordsOfAllKindsLost(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, fakecloud.Options{}, fakecloud.Options{})
	d.right()
	before := d.west.fake.Dump(nil)
	d.path += ".new"
	if r, err := d.run(t.Context(), syncer.Options{}, nil); err != nil || r.Outcome() != syncer.Clean || r.Plan.Acts() > 0 {
		t.Errorf("%v:\n%s", err, said(r))
	}
	if after := d.west.fake.Dump(nil); !slices.Equal(before, after) {
		t.Error("the west is not as it was")
	}
	d.right()
}

// A service that one of the clouds does not have is reported; the others' objects
// are carried.
func TestServiceMissing(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, fakecloud.Options{}, fakecloud.Options{Without: []string{fakecloud.BlockStorage, fakecloud.DNS}})
	for range 2 {
		r, err := d.run(t.Context(), syncer.Options{Audit: true}, nil)
		if err != nil || r.Outcome() != syncer.Clean {
			t.Fatalf("%v:\n%s", err, said(r))
		}
		var missing []string
		for _, k := range r.Plan.Kinds {
			if k.Missing != "" {
				missing = append(missing, string(k.Kind))
				if !strings.HasPrefix(k.Missing, "west: the cloud has no service") {
					t.Errorf("%s: %s", k.Kind, k.Missing)
				}
			}
		}
		if want := []string{"backend", "volume-qos", "volume-type", "volume-quota", "zone", "recordset"}; !slices.Equal(missing, want) {
			t.Errorf("missing are %q", missing)
		}
	}
	d.west.objectNamed(t, Router, "web/gate")
}

// closing is a gate that shuts after so many writes.
type closing struct{ left atomic.Int64 }

var errOtherSite = errors.New("another site is active")

func (c *closing) Allow() error {
	if c.left.Add(-1) < 0 {
		return errOtherSite
	}
	return nil
}

// A site that is not the active one any more is no source: the standby's gate
// shuts in mid-run, within one write of each object under way, and its records
// refuse a run of an older epoch.
func TestStaleSource(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, fakecloud.Options{}, fakecloud.Options{})
	gate := &closing{}
	gate.left.Store(10)
	_, err := d.run(t.Context(), syncer.Options{Epoch: 3}, func(c *syncer.Config) { c.Gate = gate })
	if !errors.Is(err, errOtherSite) {
		t.Fatal(err)
	}
	if n := len(d.west.all(t, Network, syncer.Key{})) + len(d.west.all(t, Image, syncer.Key{})); n > 10 {
		t.Errorf("%d objects were made behind the gate", n)
	}
	before := d.west.fake.Dump(nil)
	for range 2 {
		if _, err := d.run(t.Context(), syncer.Options{Epoch: 2}, nil); !errors.Is(err, syncer.ErrStale) {
			t.Fatalf("a run of an older epoch: %v", err)
		}
	}
	if after := d.west.fake.Dump(nil); !slices.Equal(before, after) {
		t.Error("it has written")
	}
	if r, err := d.run(t.Context(), syncer.Options{Epoch: 3, Retry: true}, nil); err != nil || r.Outcome() != syncer.Clean {
		t.Fatalf("%v:\n%s", err, said(r))
	}
	st := syncer.Status{}
	err = d.with(nil, func(e *syncer.Engine) (err error) {
		st, err = e.Store.Status()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// Of every kind it is known how far it is, without an audit.
	for _, k := range st.Kinds {
		if k.Missing == "" && !k.Through.Equal(k.Looked) {
			t.Errorf("%s was looked at at %s and is carried through %s", k.Kind, k.Looked, k.Through)
		}
	}
	if lag := st.Lag(d.clock); !lag.Known || lag.Age > 2*time.Hour || len(st.Kinds) != len(d.west.order) {
		t.Errorf("lag %+v of %d kinds", lag, len(st.Kinds))
	}
}
