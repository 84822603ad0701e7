package openstack

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

const objectRoute = "/AUTH_[0-9a-f]+/box/obj$"

// twoBoxes are two sites, of which the one has a container with an object.
func twoBoxes(t *testing.T, content string) (east, west site, in string) {
	t.Helper()
	east, west = newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	project, _ := customer(t, east, "acme")
	in = project + "/box"
	east.swiftCall(t, http.MethodPut, in, nil, nil)
	east.upload(t, in+"/obj", content, map[string]string{"X-Object-Meta-A": "1"})
	return east, west, in
}

// alike compares both sides' objects, with what their users get.
func alike(t *testing.T, east, west site, in, want string) {
	t.Helper()
	there := west.projectIn(t, "acme") + "/box"
	if got := west.content(t, there+"/obj"); got != want {
		t.Errorf("the copy has %d bytes, %d of them wrong", len(got), differing(got, want))
	}
	a, b := east.get(t, Object, in+"/obj"), west.get(t, Object, there+"/obj")
	if a.Content != b.Content || syncer.Diff(a.Fields, b.Fields) != nil {
		t.Errorf("the copy is %+v, and the source %+v", b, a)
	}
}

// What breaks on the way is mended within the run, and nothing is doubled or
// left half.
func TestObjectFaults(t *testing.T) {
	const size = 300_000
	for name, c := range map[string]struct {
		at      string // the site
		fault   fakecloud.Fault
		uploads int // at the target, with those that broke
	}{
		"the download is cut":    {"east", fakecloud.Fault{Method: "GET", Path: objectRoute, Times: 2, What: fakecloud.Drop, Download: 100_000}, 1},
		"the download is denied": {"east", fakecloud.Fault{Method: "GET", Path: objectRoute, Times: 1, What: fakecloud.Answer, Status: 401}, 1},
		"the upload is cut":      {"west", fakecloud.Fault{Method: "PUT", Path: objectRoute, Times: 2, What: fakecloud.Drop, Upload: 100_000}, 3},
		"a token expires in it":  {"west", fakecloud.Fault{Method: "PUT", Path: objectRoute, Times: 1, What: fakecloud.Answer, Status: 401, Upload: 100_000}, 2},
		"a token has expired":    {"west", fakecloud.Fault{Method: "PUT", Path: objectRoute, Times: 1, What: fakecloud.Answer, Status: 401}, 2},
		"too many requests":      {"west", fakecloud.Fault{Method: "PUT", Path: objectRoute, Times: 1, What: fakecloud.Answer, Status: 429, RetryAfter: "1"}, 2},
		"498":                    {"west", fakecloud.Fault{Method: "PUT", Path: objectRoute, Times: 1, What: fakecloud.Answer, Status: 498}, 2},
		"the service breaks":     {"west", fakecloud.Fault{Method: "PUT", Path: objectRoute, Times: 1, What: fakecloud.Answer, Status: 503, Upload: 200_000}, 2},
		"the answer is lost":     {"west", fakecloud.Fault{Method: "PUT", Path: objectRoute, Times: 1, What: fakecloud.Drop, Late: true}, 1},
		"the answer is 500":      {"west", fakecloud.Fault{Method: "PUT", Path: objectRoute, Times: 1, What: fakecloud.Answer, Status: 500, Late: true}, 1},
		"it cannot be looked at": {"west", fakecloud.Fault{Method: "HEAD", Path: "/box/obj", Times: 6, What: fakecloud.Drop}, 1},
		"the container's answer": {"west", fakecloud.Fault{Method: "PUT", Path: "/box$", Times: 1, What: fakecloud.Drop, Late: true}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content := random(size)
			east, west, in := twoBoxes(t, content)
			e := engine(t, east, west, onlyObjects)
			c.fault.Service = fakecloud.ObjectStore
			at := map[string]site{"east": east, "west": west}[c.at]
			f := at.fake.Inject(c.fault)
			run(t, e, syncer.Options{})
			if f.Hits() == 0 {
				t.Error("the fault did not strike")
			}
			if n := west.fake.Calls()[fakecloud.Call{Service: fakecloud.ObjectStore, Method: "PUT", Route: "/v1/{account}/{container}/{object}"}]; n != c.uploads {
				t.Errorf("%d uploads, want %d", n, c.uploads)
			}
			at.fake.Heal()
			alike(t, east, west, in, content)
			quiet(t, e)
		})
	}
}

// What is changed while it is read arrives as it is then, never as half of each.
func TestObjectChangedWhileRead(t *testing.T) {
	old, content := random(300_000), random(300_001)[1:]
	for name, cut := range map[string]bool{"in mid-stream": true, "before": false} {
		t.Run(name, func(t *testing.T) {
			east, west, in := twoBoxes(t, old)
			fault := fakecloud.Fault{Service: fakecloud.ObjectStore, Method: "GET", Path: objectRoute, Times: 1, What: fakecloud.Drop,
				Do: func() { east.upload(t, in+"/obj", content, map[string]string{"X-Object-Meta-A": "2"}) }}
			if cut {
				fault.Download = 100_000
			} else {
				fault.What = fakecloud.Pass
			}
			f := east.fake.Inject(fault)
			e := engine(t, east, west, onlyObjects)
			run(t, e, syncer.Options{})
			if f.Hits() != 1 {
				t.Fatal("it was not changed")
			}
			alike(t, east, west, in, content)
			quiet(t, e)
		})
	}
	t.Run("deleted", func(t *testing.T) {
		east, west, in := twoBoxes(t, old)
		east.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Method: "GET", Path: objectRoute, Times: 1, What: fakecloud.Drop, Download: 100_000,
			Do: func() { east.swiftCall(t, http.MethodDelete, in+"/obj", nil, nil) }})
		r, err := engine(t, east, west, onlyObjects).Run(t.Context(), syncer.Options{})
		if err != nil || len(r.Failures) != 1 || !strings.Contains(r.Failures[0].Reason, "gone at the source meanwhile") {
			t.Errorf("%+v, %v", r.Failures, err)
		}
		west.missing(t, Object, west.projectIn(t, "acme")+"/box/obj")
	})
}

// A listing that is cut off deletes nothing, and says so.
func TestObjectListingsCutShort(t *testing.T) {
	for name, c := range map[string]struct {
		path    string
		what    fakecloud.What
		unknown bool
	}{
		"objects, an empty page":    {"/box\\?format", fakecloud.EmptyPage, true},
		"containers, an empty page": {"/AUTH_[0-9a-f]+\\?format", fakecloud.EmptyPage, true},
		"objects, a short page":     {"/box\\?format", fakecloud.ShortPage, false}, // the rest is asked for
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			east, west, in := twoBoxes(t, "content")
			for i := range 5 {
				east.upload(t, fmt.Sprintf("%s/more-%d", in, i), "more", nil)
			}
			e := engine(t, east, west, onlyObjects)
			run(t, e, syncer.Options{})
			for _, s := range []site{east, west} {
				f := s.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Method: "GET", Path: c.path, What: c.what})
				if c.what == fakecloud.ShortPage {
					f.Remove()
					f = s.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Method: "GET", Path: c.path, What: c.what, Nth: 1})
				}
				r, err := e.Run(t.Context(), syncer.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if f.Hits() == 0 || r.Plan.Acts() != 0 || r.Plan.Count(syncer.Held)+r.Plan.Count(syncer.Drift) != 0 {
					t.Errorf("%d hits: %+v", f.Hits(), r.Plan.Changes)
				}
				unknown := 0
				for _, k := range r.Plan.Kinds {
					unknown += len(k.Unknown)
				}
				if (unknown > 0) != c.unknown {
					t.Errorf("%d are said to be not known", unknown)
				}
				f.Remove()
			}
			quiet(t, e)
		})
	}
}

// A body that is shorter, longer or other than was said is never visible.
func TestDamagedBodies(t *testing.T) {
	west := newSite(t, "west", fakecloud.Options{})
	project := west.session.Identity().ProjectID
	west.swiftCall(t, http.MethodPut, project+"/box", nil, nil)
	content := random(100_000)
	sum := md5.Sum([]byte(content))
	want := syncer.Object{Key: syncer.Key{Kind: Object, ID: "x/y/obj"}, Within: syncer.Key{Kind: Container, ID: project + "/box"},
		Content: syncer.Content{Size: 100_000, Sum: "md5:" + hex.EncodeToString(sum[:])}, Fields: syncer.Fields{"name": "obj"}}
	want.Natural = []any{syncer.Ref{Key: want.Within}, "obj"}
	for name, body := range map[string]string{"short": content[:99_999], "empty": "", "long": content + "x", "other": "x" + content[1:]} {
		_, err := west.Create(t.Context(), want, strings.NewReader(body))
		var uncertain *syncer.Uncertain
		if err == nil || errors.As(err, &uncertain) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "other" && !errors.Is(err, syncer.ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
		west.missing(t, Object, project+"/box/obj")
	}
	if _, err := west.Find(t.Context(), want); !errors.Is(err, syncer.ErrGone) {
		t.Errorf("found: %v", err)
	}
	made, err := west.Create(t.Context(), want, strings.NewReader(content))
	if err != nil || made.Content != want.Content {
		t.Fatalf("%+v, %v", made, err)
	}
	if _, err := west.Create(t.Context(), want, strings.NewReader(content)); !errors.Is(err, syncer.ErrTaken) {
		t.Errorf("over another: %v", err)
	}
	// Who wrote since it was looked at is not overwritten.
	west.upload(t, project+"/box/obj", "by hand", nil)
	if _, err := west.Update(t.Context(), made, want, []string{""}, strings.NewReader(content)); !errors.Is(err, syncer.ErrChanged) {
		t.Errorf("over what was written meanwhile: %v", err)
	}
	if got := west.content(t, project+"/box/obj"); got != "by hand" {
		t.Errorf("%d bytes", len(got))
	}
	// A container that is not there does not come by itself.
	want.Within.ID = project + "/none"
	want.Natural = []any{syncer.Ref{Key: want.Within}, "obj"}
	if _, err := west.Create(t.Context(), want, strings.NewReader(content)); err == nil || !strings.Contains(err.Error(), "the container is not there") {
		t.Errorf("without a container: %v", err)
	}
	west.missing(t, Container, project+"/none")
}

const segmentRoute = "/box_draas_segments/"

// segmentPuts counts the segments that were sent to a site.
func segmentPuts(s site) int {
	n := 0
	for _, r := range s.fake.Log() {
		if r.Method == "PUT" && strings.Contains(r.Path, segmentRoute) {
			n++
		}
	}
	return n
}

// largeBoxes are twoBoxes of which the one cuts objects.
func largeBoxes(t *testing.T, content string) (east, west site, in string, e *syncer.Engine) {
	t.Helper()
	east, west, in = twoBoxes(t, content)
	west.options.SegmentAbove, west.options.SegmentSize = 4000, 1000
	west.fake.Record(true)
	return east, west, in, engine(t, east, west, onlyObjects)
}

// duringSegments does something while the first segments arrive: no segment
// arrives before, so that those behind them are read after it.
func duringSegments(west site, do func()) *fakecloud.Injected {
	return west.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Method: "PUT", Path: segmentRoute, What: fakecloud.Pass, Do: sync.OnceFunc(do)})
}

// again is the same cloud for somebody else, whose requests wait for none of
// ours.
func (s site) again(t *testing.T) site {
	t.Helper()
	return site{openSide(t, s.Site(), s.fake.YAML(s.Site()), Options{Site: s.Site()}), s.fake}
}

// Segments that break are sent again, and no others.
func TestSegmentFaults(t *testing.T) {
	content := random(10_500)
	for name, fault := range map[string]fakecloud.Fault{
		"cut":       {Upload: 500, What: fakecloud.Drop},
		"refused":   {What: fakecloud.Answer, Status: 503},
		"forgotten": {What: fakecloud.Drop, Late: true},
		"token":     {What: fakecloud.Answer, Status: 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			east, west, in, e := largeBoxes(t, content)
			fault.Service, fault.Method, fault.Path, fault.Every, fault.Times = fakecloud.ObjectStore, "PUT", segmentRoute, 3, 3
			f := west.fake.Inject(fault)
			run(t, e, syncer.Options{})
			if f.Hits() != 3 || segmentPuts(west) != 14 {
				t.Errorf("%d faults and %d uploads of 11 segments", f.Hits(), segmentPuts(west))
			}
			alike(t, east, west, in, content)
		})
	}
}

// Those that arrived before a run broke off are not sent again; of a source that
// changes or goes none are left.
func TestSegmentsBreakOff(t *testing.T) {
	content := random(10_500)
	t.Run("resumed", func(t *testing.T) {
		east, west, in, e := largeBoxes(t, content)
		f := west.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Method: "PUT", Path: segmentRoute + ".*/00000007$", What: fakecloud.Answer, Status: 403})
		r, err := e.Run(t.Context(), syncer.Options{})
		if err != nil || len(r.Failures) != 1 {
			t.Fatalf("%+v, %v", r.Failures, err)
		}
		there := west.projectIn(t, "acme")
		west.missing(t, Object, there+"/box/obj")
		arrived := len(west.segments(t, there))
		f.Remove()
		west.fake.ResetCounters()
		run(t, e, syncer.Options{Retry: true})
		if n := segmentPuts(west); arrived < 4 || n != 11-arrived {
			t.Errorf("%d segments of 11 had arrived, and %d were sent again", arrived, n)
		}
		alike(t, east, west, in, content)
	})
	t.Run("left behind", func(t *testing.T) {
		east, west, in, e := largeBoxes(t, content)
		f := west.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Method: "PUT", Path: segmentRoute + ".*/00000007$", What: fakecloud.Answer, Status: 403})
		if r, err := e.Run(t.Context(), syncer.Options{}); err != nil || len(r.Failures) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		f.Remove()
		other := random(10_501)[1:]
		east.upload(t, in+"/obj", other, nil)
		run(t, e, syncer.Options{Retry: true})
		alike(t, east, west, in, other)
		if n := len(west.segments(t, west.projectIn(t, "acme"))); n != 11 {
			t.Errorf("%d segments are left", n)
		}
	})
	t.Run("gone", func(t *testing.T) {
		east, west, in, e := largeBoxes(t, content)
		by := east.again(t)
		duringSegments(west, func() { by.swiftCall(t, http.MethodDelete, in+"/obj", nil, nil) })
		if r, err := e.Run(t.Context(), syncer.Options{}); err != nil || len(r.Failures) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		there := west.projectIn(t, "acme")
		west.missing(t, Object, there+"/box/obj")
		if n := len(west.segments(t, there)); n != 0 {
			t.Errorf("%d segments are left of what is gone", n)
		}
	})
	t.Run("changed", func(t *testing.T) {
		east, west, in, e := largeBoxes(t, content)
		other := random(10_501)[1:]
		by := east.again(t)
		f := duringSegments(west, func() { by.upload(t, in+"/obj", other, nil) })
		run(t, e, syncer.Options{})
		if f.Hits() == 0 {
			t.Fatal("it was not changed")
		}
		alike(t, east, west, in, other)
		if n := len(west.segments(t, west.projectIn(t, "acme"))); n != 11 {
			t.Errorf("%d segments are left", n)
		}
	})
}

// Objects of another's stay: what is alike is taken for the copy, what is not is
// a conflict.
func TestObjectsOfOthers(t *testing.T) {
	east, west, in := twoBoxes(t, "content")
	east.upload(t, in+"/same", "same", nil)
	boxes := engine(t, east, west, func(c *syncer.Config) { c.Filter.Kinds = []syncer.Kind{Domain, Project, Container} })
	run(t, boxes, syncer.Options{})
	there := west.projectIn(t, "acme") + "/box"
	west.upload(t, there+"/obj", "another", nil)
	west.upload(t, there+"/same", "same", nil)
	west.upload(t, there+"/only", "here", nil)
	e := engine(t, east, west, onlyObjects)
	r := run(t, e, syncer.Options{}, syncer.Conflict)
	if r.Plan.Count(syncer.Conflict) != 1 {
		t.Errorf("planned: %+v", r.Plan.Changes)
	}
	east.swiftCall(t, http.MethodDelete, in+"/same", nil, nil)
	run(t, e, syncer.Options{}, syncer.Conflict, syncer.Forget)
	for name, want := range map[string]string{"obj": "another", "same": "same", "only": "here"} {
		if got := west.content(t, there+"/"+name); got != want {
			t.Errorf("%s is %q now", name, got)
		}
	}
}

// Credentials without the right name the role that is missing.
func TestAccountDenied(t *testing.T) {
	east := newSite(t, "east", fakecloud.Options{})
	project, _ := customer(t, east, "acme")
	east.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, What: fakecloud.Answer, Status: 403})
	_, err := east.List(t.Context(), Container, syncer.Key{Kind: Project, ID: project}, func(syncer.Object) error { return nil })
	if !errors.Is(err, syncer.ErrDenied) || !strings.Contains(err.Error(), "ResellerAdmin") || !strings.Contains(err.Error(), project) {
		t.Errorf("%v", err)
	}
}

// A run that ends at any request is ended by the next: nothing is doubled, and
// all of it arrives.
func TestObjectsEndAnywhere(t *testing.T) {
	t.Parallel()
	content := random(5_000)
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	west.options.SegmentAbove, west.options.SegmentSize = 4000, 1000
	project, _ := customer(t, east, "acme")
	in := project + "/box"
	east.swiftCall(t, http.MethodPut, in, map[string]string{"X-Container-Meta-A": "b"}, nil)
	prepared := engine(t, east, west, func(c *syncer.Config) { c.Filter.Kinds = []syncer.Kind{Domain, Project} })
	run(t, prepared, syncer.Options{})
	there := west.projectIn(t, "acme")
	east.upload(t, in+"/small", content[:100], nil)
	east.upload(t, in+"/large", content, nil)
	for n := 1; ; n++ {
		e := engine(t, east, west, onlyObjects)
		ctx, cancel := context.WithCancel(t.Context())
		var seen atomic.Int64
		stop := west.fake.OnRequest(func(r fakecloud.Request) {
			if r.Service == fakecloud.ObjectStore && seen.Add(1) == int64(n) {
				cancel()
			}
		})
		_, err := e.Run(ctx, syncer.Options{})
		ended := ctx.Err() == nil
		cancel()
		stop()
		if ended && err != nil {
			t.Fatal(err)
		}
		if !ended {
			run(t, e, syncer.Options{Retry: true})
		}
		for _, name := range []string{"small", "large"} {
			if got, want := west.content(t, there+"/box/"+name), east.content(t, in+"/"+name); got != want {
				t.Errorf("after the end at request %d %s differs in %d bytes", n, name, differing(got, want))
			}
		}
		if k := len(west.segments(t, there)); k != 5 {
			t.Errorf("after the end at request %d there are %d segments", n, k)
		}
		if t.Failed() || ended {
			t.Logf("%d requests", n)
			return
		}
		west.wipe(t, there)
	}
}

// wipe deletes what is in a project.
func (s site) wipe(t *testing.T, project string) {
	t.Helper()
	for _, box := range s.all(t, Container, syncer.Key{Kind: Project, ID: project}) {
		for _, o := range s.all(t, Object, box.Key) {
			if err := s.Delete(t.Context(), s.get(t, Object, o.ID)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Delete(t.Context(), box); err != nil {
			t.Fatal(err)
		}
	}
}
