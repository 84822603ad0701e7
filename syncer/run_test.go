package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/syncertest"
)

func TestFirstRunAndNothingMore(t *testing.T) {
	l := newLab(t)
	l.seed()
	p := l.plan(syncer.Options{})
	if l.target.Ops()["create"] > 0 || p.Count(syncer.Create) != 15 || p.Count(syncer.Adopt) != 1 {
		t.Fatalf("planned %d creates, %d adoptions:\n%+v", p.Count(syncer.Create), p.Count(syncer.Adopt), p.Changes)
	}
	l.clean(syncer.Options{})
	l.same()
	before := l.target.Ops()
	res := l.clean(syncer.Options{})
	if len(res.Plan.Changes) > 0 || len(res.Kinds) > 0 {
		t.Errorf("changes of an unchanged source: %s", told(res))
	}
	after := l.target.Ops()
	for _, op := range []string{"create", "update", "delete", "read", "find"} {
		if after[op] != before[op] {
			t.Errorf("%d more calls of %s", after[op]-before[op], op)
		}
	}
	l.clean(syncer.Options{Audit: true})
	l.same()
	st, err := l.open().Status()
	if err != nil {
		t.Fatal(err)
	}
	lag := st.Lag(l.clock.Add(5 * time.Second))
	if !lag.Known || lag.Age != 5*time.Second || lag.Objects != 0 || lag.Bytes != 0 {
		t.Errorf("lag %+v of %+v", lag, st)
	}
}

func TestChangesAreCarried(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.clean(syncer.Options{})
	s := l.source
	l.put(s, "network", "n1", fields{"name": "front", "project": ref("project", "p1"), "mtu": 9000})
	l.put(s, "flavor", "f1", fields{"name": "small", "ram": 1024, "access": syncer.Set{ref("project", "p1")}}) // cannot be changed in place
	l.put(s, "object", "c1/0", fields{"name": "0"}, key{Kind: "container", ID: "c1"}, "line 0, longer")
	l.put(s, "group", "g3", fields{"name": "new", "project": ref("project", "p1"), "rules": syncer.Set{}})
	l.put(s, "group", "g1", fields{"name": "web", "project": ref("project", "p1"), "rules": syncer.Set{rule(80, ""), rule(1, "g3")}})
	res := l.clean(syncer.Options{})
	if got := res.Plan.Acts(); got != 5 {
		t.Errorf("%d acts: %s", got, told(res))
	}
	l.same()
	res = l.clean(syncer.Options{})
	if res.Plan.Acts() != 0 {
		t.Errorf("again: %s", told(res))
	}
}

// What cannot be changed in place stays, and is named by each run; the rest is
// carried.
func TestWhatCannotBeChangedIsNamed(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.clean(syncer.Options{})
	change := func(cidr, gateway string) {
		l.put(l.source, "subnet", "s1", fields{"cidr": cidr, "network": ref("network", "n1"), "gateway": gateway})
	}
	there := func(want string) {
		t.Helper()
		o, _ := l.target.Get(key{Kind: "subnet", ID: must(l, "subnet", "s1")})
		if got := fmt.Sprint(o.Fields["cidr"], " ", o.Fields["gateway"]); got != want {
			t.Errorf("the target has %s, wanted %s", got, want)
		}
	}
	change("10.1.0.0/24", "10.0.0.2")
	if res := l.clean(syncer.Options{}); !strings.Contains(told(res), "update subnet s1: changed at the source; cidr cannot be changed in place") {
		t.Errorf("%s", told(res))
	}
	there("10.0.0.0/24 10.0.0.2")
	for range 2 {
		if res := l.clean(syncer.Options{}); res.Plan.Acts() > 0 || !strings.Contains(told(res), "unsupported subnet s1: cidr cannot be changed in place") {
			t.Errorf("%s", told(res))
		}
	}
	change("10.1.0.0/24", "10.0.0.3")
	l.clean(syncer.Options{})
	there("10.0.0.0/24 10.0.0.3")
	change("10.0.0.0/24", "10.0.0.4")
	l.clean(syncer.Options{})
	l.same()
	if res := l.clean(syncer.Options{}); len(res.Plan.Changes) > 0 {
		t.Errorf("%s", told(res))
	}
}

// deaf is a side that does not take a field.
type deaf struct{ *syncertest.Side }

func (d deaf) Create(ctx context.Context, want object, body io.Reader) (object, error) {
	if want.Kind == "network" {
		want.Fields = fields{"name": want.Fields["name"], "project": want.Fields["project"], "mtu": 1280}
	}
	return d.Side.Create(ctx, want, body)
}

// What a service has not taken is named when it is written, and by each audit.
func TestWhatIsNotTakenIsNamed(t *testing.T) {
	l := newLab(t)
	l.config.Target = deaf{l.target}
	l.put(l.source, "project", "p1", fields{"name": "acme"})
	l.put(l.source, "network", "n1", fields{"name": "web", "project": ref("project", "p1"), "mtu": 1500}, func(o *object) { o.Lost = []string{"vlan"} })
	for _, audit := range []bool{false, true, true} {
		res := l.clean(syncer.Options{Audit: audit})
		if lost := res.Plan.Lost; len(lost) != 1 || lost[0].Name != "web" || strings.Join(lost[0].Parts, "; ") != "vlan; as it is at the target: mtu" {
			t.Errorf("audit %t: %+v", audit, lost)
		}
	}
	l.put(l.source, "network", "n1", fields{"name": "web", "project": ref("project", "p1"), "mtu": 1400})
	l.clean(syncer.Options{})
	l.same()
	if res := l.clean(syncer.Options{Audit: true}); len(res.Plan.Lost) > 0 {
		t.Errorf("%+v", res.Plan.Lost)
	}
}

// What is within an object that cannot be carried, or is another's, is not
// unknown: its holder is named.
func TestWithinWhatIsNamed(t *testing.T) {
	for name, change := range map[string]func(l *lab){
		"unsupported": func(l *lab) {
			o, _ := l.source.Get(key{Kind: "container", ID: "c1"})
			o.Unsupported = "a reason"
			if _, err := l.source.Put(o, nil); err != nil {
				t.Fatal(err)
			}
		},
		"conflict": func(l *lab) {
			l.put(l.target, "project", "q1", fields{"name": "acme"})
			l.put(l.target, "container", "theirs", fields{"name": "logs", "project": ref("project", "q1"), "note": "theirs"})
		},
	} {
		l := newLab(t)
		l.seed()
		change(l)
		res := l.run(syncer.Options{})
		if !strings.Contains(told(res), name+" container c1") || len(l.target.All("object")) > 0 || res.Outcome() == syncer.Failed {
			t.Errorf("%s: outcome %d: %s", name, res.Outcome(), told(res))
		}
	}
}

// An object of the operator's that nothing stands for keeps no kind back: what
// needs it is blocked, and is behind.
func TestOutsideIsNotBehind(t *testing.T) {
	l := newLab(t)
	l.seed()
	o, _ := l.source.Get(key{Kind: "network", ID: "n2"})
	o.Stance = syncer.Outside
	if _, err := l.source.Put(o, nil); err != nil {
		t.Fatal(err)
	}
	l.put(l.source, "subnet", "s2", fields{"cidr": "10.2.0.0/24", "network": ref("network", "n2")})
	if res := l.run(syncer.Options{}); res.Plan.Count(syncer.Blocked) != 2 || res.Outcome() != syncer.Failed {
		t.Errorf("%s", told(res))
	}
	st, err := l.open().Status()
	if err != nil {
		t.Fatal(err)
	}
	for kind, known := range map[syncer.Kind]bool{"network": true, "subnet": false, "project": true} {
		if k, _ := st.Of(kind); k.Lag(l.clock).Known != known || k.Pending != map[bool]int{false: 1}[known] {
			t.Errorf("%s: %+v", kind, k)
		}
	}
}

func TestSlowKindsAreLookedAtByAudits(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.clean(syncer.Options{})
	l.put(l.source, "user", "u1", fields{"name": "ann", "roles": syncer.Set{}, "default": ref("project", "p2")})
	if res := l.clean(syncer.Options{}); res.Plan.Acts() != 0 {
		t.Errorf("seen without an audit: %s", told(res))
	}
	st, err := l.open().Status()
	if err != nil {
		t.Fatal(err)
	}
	if k, _ := st.Of("user"); !k.Through.Before(k.Looked) {
		t.Errorf("a kind that was passed over counts as carried: %+v", k)
	}
	l.clean(syncer.Options{Audit: true})
	l.same()
}

func TestGoneAtTheSource(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{Missing: 2, Grace: 90 * time.Second} }
	l.clean(syncer.Options{})
	for _, k := range []key{{Kind: "object", ID: "c1/0"}, {Kind: "object", ID: "c1/1"}, {Kind: "object", ID: "c1/2"}, {Kind: "container", ID: "c1"}, {Kind: "subnet", ID: "s1"}, {Kind: "network", ID: "n1"}} {
		if err := l.source.Drop(k); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if res := l.clean(syncer.Options{}); res.Plan.Count(syncer.Held) != 6 || l.target.Ops()["delete"] > 0 {
			t.Fatalf("not held: %s", told(res))
		}
	}
	if res := l.clean(syncer.Options{}); res.Plan.Count(syncer.Delete) != 6 {
		t.Errorf("not deleted: %s", told(res))
	}
	l.same()
}

func TestBrakeAndItsRelease(t *testing.T) {
	l := newLab(t)
	l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{} }
	for _, id := range strings.Split("abcdefghijklmnop", "") {
		l.put(l.source, "project", id, fields{"name": id})
	}
	l.clean(syncer.Options{})
	for _, id := range strings.Split("abcdefghijk", "") {
		if err := l.source.Drop(key{Kind: "project", ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	res := l.run(syncer.Options{})
	if res.Plan.Count(syncer.Held) != 11 || l.target.Ops()["delete"] != 0 || !strings.Contains(told(res), "11 of 16 would be deleted") {
		t.Errorf("not braked: %s", told(res))
	}
	l.clean(syncer.Options{Unbraked: []syncer.Kind{"project"}})
	l.same()
}

func TestTenAreNotBraked(t *testing.T) {
	l := newLab(t)
	l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{} }
	for _, id := range strings.Split("abcdefghij", "") {
		l.put(l.source, "project", id, fields{"name": id})
	}
	l.clean(syncer.Options{})
	for _, o := range l.source.All("project") {
		if err := l.source.Drop(o.Key); err != nil {
			t.Fatal(err)
		}
	}
	l.clean(syncer.Options{})
	l.same()
}

// What could not be read is not empty.
func TestUnknownIsNotEmpty(t *testing.T) {
	for name, fault := range map[string]syncertest.Fault{
		"error": {Err: errBroken}, "cut short": {Partial: true},
	} {
		for _, side := range []string{"source", "target"} {
			t.Run(side+" "+name, func(t *testing.T) {
				l := newLab(t)
				l.seed()
				l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{} }
				l.clean(syncer.Options{})
				l.put(l.source, "network", "n9", fields{"name": "nine", "project": ref("project", "p1")})
				l.put(l.source, "flavor", "f9", fields{"name": "nine", "ram": 1})
				if err := l.source.Drop(key{Kind: "image", ID: "i1"}); err != nil {
					t.Fatal(err)
				}
				broken := l.source
				if side == "target" {
					broken = l.target
				}
				broken.Fault = func(c syncertest.Call) syncertest.Fault {
					if c.Op == "list" && c.Key.Kind != "flavor" {
						return fault
					}
					return syncertest.Fault{}
				}
				before := l.target.Ops()
				res := l.run(syncer.Options{})
				if res.Outcome() != syncer.Failed {
					t.Errorf("outcome %d", res.Outcome())
				}
				after := l.target.Ops()
				if after["delete"] != before["delete"] {
					t.Errorf("something was deleted: %s", told(res))
				}
				if _, ok, err := l.open().Record(key{Kind: "flavor", ID: "f9"}); !ok || err != nil {
					t.Errorf("others do not go on: %s", told(res))
				}
				if side == "target" && after["create"] != before["create"]+1 {
					t.Errorf("created what may be there: %s", told(res))
				}
				st, err := l.open().Status()
				if err != nil {
					t.Fatal(err)
				}
				for kind, behind := range map[syncer.Kind]bool{"network": true, "image": true, "role": true} {
					if k, _ := st.Of(kind); k.Through.Before(k.Looked) != behind || (k.Error != "") != behind {
						t.Errorf("%s: %+v", kind, k)
					}
				}
				broken.Fault = nil
				l.clean(syncer.Options{Retry: true})
				l.same()
			})
		}
	}
}

func TestRepeatedRowsCountOnce(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.source.Fault = func(syncertest.Call) syncertest.Fault { return syncertest.Fault{Repeat: true} }
	l.target.Fault = l.source.Fault
	l.clean(syncer.Options{})
	l.clean(syncer.Options{})
	l.same()
}

func TestMissingKindBlocksWhatNeedsIt(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.target.Specs[4].Absent = "no endpoint"
	res := l.run(syncer.Options{})
	if !strings.Contains(told(res), "needs network n1 (two: no endpoint)") {
		t.Errorf("not said: %s", told(res))
	}
	if _, ok, _ := l.open().Record(key{Kind: "image", ID: "i1"}); !ok {
		t.Errorf("others do not go on: %s", told(res))
	}
	l.target.Specs[4].Absent = ""
	l.clean(syncer.Options{Retry: true})
	l.same()
}

type gate func() error

func (g gate) Allow() error { return g() }

// A site that may not write any more stops within one request.
func TestGateStopsWithinOneRequest(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.config.Workers = 1
	closed := errors.New("epoch 8 is another site's")
	l.config.Gate = gate(func() error {
		if l.target.Ops()["create"] >= 4 {
			return closed
		}
		return nil
	})
	_, err := l.engine().Run(context.Background(), syncer.Options{})
	if !errors.Is(err, closed) || l.target.Ops()["create"] != 4 {
		t.Fatalf("%v after %d creates", err, l.target.Ops()["create"])
	}
	l.config.Gate, l.config.Workers = nil, 0
	l.clean(syncer.Options{})
	l.same()
}

func TestStaleEpochIsRefused(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.clean(syncer.Options{Epoch: 5})
	if _, err := l.engine().Run(context.Background(), syncer.Options{Epoch: 4}); !errors.Is(err, syncer.ErrStale) {
		t.Errorf("%v", err)
	}
}

func TestDriftIsReportedOrOverwritten(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.clean(syncer.Options{})
	rec, _, _ := l.open().Record(key{Kind: "network", ID: "n1"})
	mtu := func(n int) {
		l.put(l.target, "network", rec.Target, fields{"name": "web", "project": ref("project", must(l, "project", "p1")), "mtu": n})
	}
	mtu(1)
	if res := l.run(syncer.Options{}); res.Outcome() != syncer.Differs || res.Plan.Count(syncer.Drift) != 1 {
		t.Errorf("outcome %d: %s", res.Outcome(), told(res))
	}
	l.put(l.source, "network", "n1", fields{"name": "web", "project": ref("project", "p1"), "mtu": 2})
	if res := l.run(syncer.Options{}); res.Outcome() != syncer.Differs || res.Plan.Count(syncer.Conflict) != 1 {
		t.Errorf("outcome %d: %s", res.Outcome(), told(res))
	}
	l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{Overwrite: true} }
	l.clean(syncer.Options{})
	l.same()
}

func must(l *lab, kind syncer.Kind, id string) string {
	l.tb.Helper()
	r, ok, err := l.open().Record(key{Kind: kind, ID: id})
	if !ok || err != nil {
		l.tb.Fatalf("%s %s: %t, %v", kind, id, ok, err)
	}
	return r.Target
}

func TestLostAnswers(t *testing.T) {
	l := newLab(t)
	l.seed()
	lost := make(map[syncer.Key]bool)
	l.target.Fault = func(c syncertest.Call) syncertest.Fault {
		if c.Writes() && !lost[c.Key] {
			lost[c.Key] = true
			return syncertest.Fault{Lose: true}
		}
		return syncertest.Fault{}
	}
	l.config.Workers = 1
	l.clean(syncer.Options{})
	l.same()
	if len(lost) < 15 {
		t.Errorf("only %d answers were lost", len(lost))
	}
}

// What is to be done counts as lag while it is done.
func TestLagWhileItIsDone(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.config.Workers = 1
	var most syncer.Lag
	l.target.Fault = func(c syncertest.Call) syncertest.Fault {
		if c.Writes() {
			st, err := l.open().Status()
			if err != nil {
				t.Error(err)
			}
			if lag := st.Lag(l.clock); lag.Objects > most.Objects {
				most = lag
			}
		}
		return syncertest.Fault{}
	}
	l.clean(syncer.Options{})
	if most.Objects != 15 || most.Bytes != 39 || most.Known {
		t.Errorf("%+v", most)
	}
	l.put(l.source, "network", "n1", fields{"name": "front", "project": ref("project", "p1"), "mtu": 9000})
	most = syncer.Lag{}
	l.clean(syncer.Options{})
	if most.Objects != 1 || !most.Known || most.Age != time.Minute {
		t.Errorf("%+v", most)
	}
}

func TestWhatIsNotCarriedAnyMoreHasNoLag(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.clean(syncer.Options{})
	l.config.Filter.Without = []syncer.Kind{"image", "user"}
	l.clean(syncer.Options{Filter: syncer.Filter{Without: []syncer.Kind{"group"}}})
	st, err := l.open().Status()
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[syncer.Kind]bool{"image": false, "user": false, "group": true, "network": true} {
		if _, ok := st.Of(kind); ok != want {
			t.Errorf("%s: %t", kind, ok)
		}
	}
}

func TestDeletionsComeLast(t *testing.T) {
	l := newLab(t)
	l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{} }
	l.config.Workers = 1
	l.put(l.source, "role", "old", fields{"name": "old"})
	l.clean(syncer.Options{})
	if err := l.source.Drop(key{Kind: "role", ID: "old"}); err != nil {
		t.Fatal(err)
	}
	l.seed()
	var writes []string
	l.target.Fault = func(c syncertest.Call) syncertest.Fault {
		if c.Writes() {
			writes = append(writes, c.Op)
		}
		return syncertest.Fault{}
	}
	l.clean(syncer.Options{})
	if n := len(writes); n < 15 || writes[n-1] != "delete" || strings.Count(strings.Join(writes, " "), "delete") != 1 {
		t.Errorf("%q", writes)
	}
	l.same()
}
