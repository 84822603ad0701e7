package failover

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/draasd/draas"
)

// Nine of ten entries of a log are renewals and observations, and each member
// reads each of them: they are written and read by hand, as encoding/json
// would. Anything but the usual form is left to encoding/json.

// encodeHand writes an event, or reports that it is not of the usual form.
func encodeHand(e *Event) ([]byte, bool) {
	if !plain(string(e.By)) || e.Incarnation == 0 || e.ID == 0 ||
		e.Service != "" || e.Site != "" || e.Epoch != 0 || e.Hello != nil || e.Policy != nil || e.Request != nil ||
		e.Timer != "" || e.Mark != 0 || e.Done != nil || e.Lag != nil || e.Version != 0 || e.Generation != 0 || e.Evidence != "" || e.Finding != nil {
		return nil, false
	}
	if y := e.At.Year(); y < 1 || y > 9999 || e.At.Location() != time.UTC {
		return nil, false
	}
	renews, observes := len(e.Permits) > 0, len(e.Observed) > 0
	switch {
	case e.Kind == EventRenew && renews && !observes:
		return appendPermits(appendStart(make([]byte, 0, 128+32*len(e.Permits)), e), e.Permits)
	case e.Kind == EventObserved && observes && !renews:
		return appendObserved(appendStart(make([]byte, 0, 128+128*len(e.Observed)), e), e.Observed)
	}
	return nil, false
}

func appendStart(b []byte, e *Event) []byte {
	b = appendText(b, `{"kind":`, string(e.Kind))
	b = appendText(b, `,"by":`, string(e.By))
	b = appendNumber(b, `,"inc":`, uint64(e.Incarnation))
	b = appendNumber(b, `,"id":`, e.ID)
	b = append(b, `,"at":"`...)
	return append(e.At.AppendFormat(b, time.RFC3339Nano), '"')
}

func appendText(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, '"')
	b = append(b, value...)
	return append(b, '"')
}

func appendNumber(b []byte, name string, value uint64) []byte {
	return strconv.AppendUint(append(b, name...), value, 10)
}

func appendPermits(b []byte, permits map[draas.ServiceID]draas.Epoch) ([]byte, bool) {
	b = append(b, `,"permits":{`...)
	for i, id := range slices.Sorted(maps.Keys(permits)) {
		if !plain(string(id)) {
			return nil, false
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, "", string(id))
		b = appendNumber(b, ":", uint64(permits[id]))
	}
	return append(b, '}', '}'), true
}

func appendObserved(b []byte, all []Observation) ([]byte, bool) {
	b = append(b, `,"observed":[`...)
	for i, o := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '{')
		for _, f := range [...]struct{ name, value string }{
			{`"service":`, string(o.Service)}, {`"site":`, string(o.Site)}, {`"peer":`, string(o.Peer)}, {`"frontend":`, o.Frontend},
		} {
			if f.value == "" {
				continue
			}
			if !plain(f.value) {
				return nil, false
			}
			b = append(appendText(b, f.name, f.value), ',')
		}
		if o.Epoch != 0 {
			b = append(appendNumber(b, `"epoch":`, uint64(o.Epoch)), ',')
		}
		if o.Verdict > draas.Failed || o.Class != "" && !plain(o.Class) || o.Detail != "" && !plain(o.Detail) {
			return nil, false
		}
		b = appendText(b, `"verdict":`, o.Verdict.String())
		if o.Class != "" {
			b = appendText(b, `,"class":`, o.Class)
		}
		if o.Detail != "" {
			b = appendText(b, `,"detail":`, o.Detail)
		}
		b = append(b, '}')
	}
	return append(b, ']', '}'), true
}

// plain reports whether encoding/json writes the text as it is.
func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return s != ""
}

// decodeHand reads what encodeHand wrote, or reports that it did not.
func decodeHand(data []byte) (Event, bool) {
	r := reader{data, true}
	var e Event
	r.skip(`{"kind":"`)
	switch {
	case r.has(string(EventRenew) + `"`):
		e.Kind = EventRenew
	case r.has(string(EventObserved) + `"`):
		e.Kind = EventObserved
	default:
		return Event{}, false
	}
	r.skip(`,"by":"`)
	e.By = draas.MemberID(r.text())
	r.skip(`,"inc":`)
	e.Incarnation = draas.Incarnation(r.number())
	r.skip(`,"id":`)
	e.ID = r.number()
	r.skip(`,"at":"`)
	if at := r.quoted(); !r.ok || e.By == "" || e.At.UnmarshalText(at) != nil {
		return Event{}, false
	}
	if e.Kind == EventRenew {
		r.permits(&e)
	} else {
		r.observed(&e)
	}
	return e, r.ok && len(r.rest) == 0
}

func (r *reader) permits(e *Event) {
	r.skip(`,"permits":{"`)
	e.Permits = make(map[draas.ServiceID]draas.Epoch)
	for r.ok {
		id := draas.ServiceID(r.text())
		r.skip(`:`)
		e.Permits[id] = draas.Epoch(r.number())
		if r.has(`}}`) {
			return
		}
		r.skip(`,"`)
	}
}

func (r *reader) observed(e *Event) {
	r.skip(`,"observed":[{`)
	for r.ok {
		e.Observed = append(e.Observed, r.observation())
		if r.has(`}]}`) {
			return
		}
		r.skip(`},{`)
	}
}

func (r *reader) observation() (o Observation) {
	if r.has(`"service":"`) {
		o.Service = draas.ServiceID(r.text())
		r.skip(`,`)
	}
	if r.has(`"site":"`) {
		o.Site = draas.SiteID(r.text())
		r.skip(`,`)
	}
	if r.has(`"peer":"`) {
		o.Peer = draas.MemberID(r.text())
		r.skip(`,`)
	}
	if r.has(`"frontend":"`) {
		o.Frontend = r.text()
		r.skip(`,`)
	}
	if r.has(`"epoch":`) {
		o.Epoch = draas.Epoch(r.number())
		r.skip(`,`)
	}
	r.skip(`"verdict":"`)
	if err := o.Verdict.UnmarshalText([]byte(r.text())); err != nil {
		r.ok = false
	}
	if r.has(`,"class":"`) {
		o.Class = r.text()
	}
	if r.has(`,"detail":"`) {
		o.Detail = r.text()
	}
	return o
}

// reader takes known text from the front, until something is not as known.
type reader struct {
	rest []byte
	ok   bool
}

// has takes a text if it comes next.
func (r *reader) has(s string) bool {
	if !r.ok || len(r.rest) < len(s) || string(r.rest[:len(s)]) != s {
		return false
	}
	r.rest = r.rest[len(s):]
	return true
}

func (r *reader) skip(s string) { r.ok = r.has(s) }

// quoted reads up to the closing quote, and takes that too.
func (r *reader) quoted() []byte {
	i := bytes.IndexByte(r.rest, '"')
	if i < 0 {
		r.ok = false
		return nil
	}
	b := r.rest[:i]
	r.rest = r.rest[i+1:]
	return b
}

func (r *reader) text() string {
	s := string(r.quoted())
	r.ok = r.ok && plain(s)
	return s
}

func (r *reader) number() uint64 {
	i := 0
	for i < len(r.rest) && r.rest[i] >= '0' && r.rest[i] <= '9' {
		i++
	}
	n, err := strconv.ParseUint(string(r.rest[:i]), 10, 64) // makes no copy
	if err != nil || i > 1 && r.rest[0] == '0' {
		r.ok = false
	}
	r.rest = r.rest[i:]
	return n
}
