package failover

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/draasd/draas"
)

// What is written by hand is what encoding/json writes.
func TestWrittenAsJSON(t *testing.T) {
	at := time.Date(2026, 11, 21, 7, 0, 0, 123456000, time.UTC)
	full := Event{Kind: EventRenew, By: "primary", Incarnation: 1<<64 - 1, ID: 7, At: at, Permits: map[draas.ServiceID]draas.Epoch{"shop": 3, "bill": draas.EpochOf(2, 1), "a b": 0}}
	seen := Observation{Service: "shop", Site: "dr", Epoch: draas.EpochOf(1, 4), Verdict: draas.Suspect, Class: "refused", Detail: "dial: no"}
	observe := func(all ...Observation) func(*Event) {
		return func(e *Event) { e.Kind, e.Permits, e.Observed = EventObserved, nil, all }
	}
	for name, change := range map[string]func(*Event){
		"usual":           func(*Event) {},
		"full second":     func(e *Event) { e.At = at.Truncate(time.Second) },
		"no time":         func(e *Event) { e.At = time.Time{} },
		"escaped member":  func(e *Event) { e.By = "a\"b" },
		"escaped service": func(e *Event) { e.Permits = map[draas.ServiceID]draas.Epoch{"a<b": 1} },
		"not ASCII":       func(e *Event) { e.Permits = map[draas.ServiceID]draas.Epoch{"ä": 1} },
		"no permits":      func(e *Event) { e.Permits = nil },
		"no incarnation":  func(e *Event) { e.Incarnation = 0 },
		"more":            func(e *Event) { e.Evidence = "x" },
		"another zone":    func(e *Event) { e.At = at.In(time.FixedZone("x", 3600)) },
		"observed":        observe(seen),
		"of a peer":       observe(Observation{Peer: "dr", Verdict: draas.Unknown}, seen, Observation{Verdict: draas.Failed}),
		"of a frontend":   observe(Observation{Frontend: "east-1", Verdict: draas.Failed, Class: "silent"}, seen),
		"escaped name":    observe(Observation{Frontend: "a<b", Verdict: draas.Failed}),
		"found":           func(e *Event) { e.Finding = &Finding{Service: "shop"} },
		"both":            func(e *Event) { e.Observed = []Observation{seen} },
		"nothing seen":    observe(),
		"no verdict":      observe(Observation{Verdict: draas.Unknown}),
		"escaped detail":  observe(Observation{Service: "shop", Detail: "dial tcp: \"x\""}),
		"escaped class":   observe(Observation{Service: "shop", Class: "a&b"}),
		"escaped site":    observe(Observation{Service: "shop", Site: "a>b"}),
	} {
		e := full
		change(&e)
		got, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
	for _, change := range []func(*Event){func(*Event) {}, observe(seen, Observation{Peer: "dr"}, Observation{Frontend: "east-1"})} {
		e := full
		change(&e)
		data, byHand := encodeHand(&e)
		if !byHand {
			t.Errorf("%s: the usual form is not written by hand", e.Kind)
		}
		if got, byHand := decodeHand(data); !byHand || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: the usual form is not read by hand: %+v, want %+v", e.Kind, got, e)
		}
	}
}

// Whatever is read by hand is what encoding/json reads.
func FuzzDecodeHand(f *testing.F) {
	for _, s := range []string{
		`{"kind":"renew","by":"primary","inc":1,"id":9,"at":"2001-09-09T01:46:40Z","permits":{"shop":1}}`,
		`{"kind":"renew","by":"primary","inc":1,"id":9,"at":"2001-09-09T01:46:40.5Z","permits":{"shop":1,"bill":18446744073709551615}}`,
		`{"kind":"renew","by":"primary","inc":01,"id":9,"at":"2001-09-09T01:46:40Z","permits":{"shop":1}}`,
		`{"kind":"renew","by":"primary","inc":1,"id":9,"at":"2001-09-09T01:46:40Z","permits":{"shop":1},"x":2}`,
		`{"kind":"renew","by":"primary","inc":1,"id":9,"at":"2001-09-09t01:46:40Z","permits":{"shop":1,"shop":2}}`,
		`{"kind":"observed","by":"primary","inc":1,"id":9,"at":"2001-09-09T01:46:40Z","observed":[{"service":"shop","site":"dr","epoch":7,"verdict":"failed","class":"refused","detail":"x"},{"peer":"dr","verdict":"healthy"}]}`,
		`{"kind":"observed","by":"primary","inc":1,"id":9,"at":"2001-09-09T01:46:40Z","observed":[{"verdict":"unknown"},{}]}`,
		`{"kind":"observed","by":"primary","inc":1,"id":9,"at":"2001-09-09T01:46:40Z","observed":[{"frontend":"east-1","verdict":"failed"}]}`,
		`{"kind":"observed","by":"primary","inc":1,"id":9,"at":"2001-09-09T01:46:40Z","observed":[{"verdict":"unknown"}],"permits":{"a":1}}`,
		`{"kind":"renew","by":"","inc":1,"id":9,"at":"0000-01-01T00:00:00Z","permits":{"":1}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, byHand := decodeHand(data)
		if !byHand {
			return
		}
		var want Event
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("%q is read by hand and not by encoding/json: %v", data, err)
		}
		if !got.At.Equal(want.At) {
			t.Fatalf("%q: %v, want %v", data, got.At, want.At)
		}
		got.At, want.At = time.Time{}, time.Time{}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %+v, want %+v", data, got, want)
		}
	})
}
