package failover

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/draasd/draas"
)

// Three of four entries of a quiet cluster's log are renewals, and each member
// reads each of them: they are written and read by hand, as encoding/json
// would. Anything but the usual form is left to encoding/json.

// encodeRenew writes a renewal, or reports that it is not of the usual form.
func encodeRenew(e *Event) ([]byte, bool) {
	if e.Kind != EventRenew || len(e.Permits) == 0 || !plain(string(e.By)) || e.Incarnation == 0 || e.ID == 0 ||
		e.Service != "" || e.Site != "" || e.Epoch != 0 || e.Hello != nil || e.Policy != nil || e.Observed != nil || e.Request != nil ||
		e.Timer != "" || e.Mark != 0 || e.Done != nil || e.Lag != nil || e.Version != 0 || e.Generation != 0 || e.Evidence != "" {
		return nil, false
	}
	if y := e.At.Year(); y < 1 || y > 9999 || e.At.Location() != time.UTC {
		return nil, false
	}
	b := make([]byte, 0, 128+32*len(e.Permits))
	b = append(b, `{"kind":"renew","by":"`...)
	b = append(b, e.By...)
	b = append(b, `","inc":`...)
	b = strconv.AppendUint(b, uint64(e.Incarnation), 10)
	b = append(b, `,"id":`...)
	b = strconv.AppendUint(b, e.ID, 10)
	b = append(b, `,"at":"`...)
	b = e.At.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","permits":{`...)
	for i, id := range slices.Sorted(maps.Keys(e.Permits)) {
		if !plain(string(id)) {
			return nil, false
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, id...)
		b = append(b, `":`...)
		b = strconv.AppendUint(b, uint64(e.Permits[id]), 10)
	}
	return append(b, '}', '}'), true
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

// decodeRenew reads what encodeRenew wrote, or reports that it did not.
func decodeRenew(data []byte) (Event, bool) {
	r := reader{data, true}
	e := Event{Kind: EventRenew}
	r.skip(`{"kind":"renew","by":"`)
	e.By = draas.MemberID(r.text())
	r.skip(`,"inc":`)
	e.Incarnation = draas.Incarnation(r.number())
	r.skip(`,"id":`)
	e.ID = r.number()
	r.skip(`,"at":"`)
	at := r.text()
	r.skip(`,"permits":{"`)
	if !r.ok {
		return Event{}, false
	}
	var err error
	if e.At, err = time.Parse(time.RFC3339Nano, at); err != nil {
		return Event{}, false
	}
	e.Permits = make(map[draas.ServiceID]draas.Epoch)
	for r.ok {
		id := draas.ServiceID(r.text())
		r.skip(`:`)
		e.Permits[id] = draas.Epoch(r.number())
		if string(r.rest) == "}}" {
			return e, r.ok && e.By != ""
		}
		r.skip(`,"`)
	}
	return Event{}, false
}

// reader takes known text from the front, until something is not as known.
type reader struct {
	rest []byte
	ok   bool
}

func (r *reader) skip(s string) {
	if !r.ok || len(r.rest) < len(s) || string(r.rest[:len(s)]) != s {
		r.ok = false
		return
	}
	r.rest = r.rest[len(s):]
}

// text reads up to the closing quote, and takes that too.
func (r *reader) text() string {
	for i, c := range r.rest {
		if c == '"' {
			s := string(r.rest[:i])
			r.rest = r.rest[i+1:]
			r.ok = r.ok && plain(s)
			return s
		}
	}
	r.ok = false
	return ""
}

func (r *reader) number() uint64 {
	i := 0
	for i < len(r.rest) && r.rest[i] >= '0' && r.rest[i] <= '9' {
		i++
	}
	n, err := strconv.ParseUint(string(r.rest[:i]), 10, 64)
	if err != nil || i > 1 && r.rest[0] == '0' {
		r.ok = false
	}
	r.rest = r.rest[i:]
	return n
}
