package syncer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// recordVersion begins each record in the store. JSON would be ten times as
// slow to read, and a run reads all of them.
const recordVersion = 1

const (
	flagIntent = 1 << iota
	flagCreated
	flagRenamed
	flagLeft
	flagsKnown = flagIntent | flagCreated | flagRenamed | flagLeft
)

// zeroTime stands for a time that is not set, in nanoseconds since 1970.
const zeroTime = math.MinInt64

func encodeRecord(r Record) ([]byte, error) {
	if r.Key.Kind == "" || r.Key.ID == "" {
		return nil, fmt.Errorf("a record without kind or id: %q", r.Key)
	}
	for _, s := range []string{string(r.Key.Kind), r.Key.ID, string(r.Within.Kind), r.Within.ID, r.Target} {
		if !utf8.ValidString(s) {
			return nil, fmt.Errorf("%q is no text in UTF-8", s)
		}
	}
	var flags byte
	for flag, set := range map[byte]bool{flagIntent: r.Intent, flagCreated: r.Created, flagRenamed: r.Renamed, flagLeft: r.Left} {
		if set {
			flags |= flag
		}
	}
	b := append(make([]byte, 0, 256), recordVersion, flags)
	for _, s := range []string{
		string(r.Key.Kind), r.Key.ID, string(r.Within.Kind), r.Within.ID, r.Target, r.Name,
		r.SourceHash, r.SourceRevision, r.TargetHash, r.TargetRevision, r.Bound, r.Natural,
		r.Content.Sum, r.Landed.Sum, r.Error,
	} {
		b = appendText(b, s)
	}
	for _, n := range []int64{
		r.Content.Size, r.Landed.Size, int64(r.Missed), int64(r.Attempts), nanos(r.Applied), nanos(r.Gone), nanos(r.Next),
	} {
		b = binary.AppendVarint(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Needs)))
	for _, k := range r.Needs {
		b = appendText(appendText(b, string(k.Kind)), k.ID)
	}
	return b, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return zeroTime
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == zeroTime {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

var errRecord = errors.New("decode record: it is cut off or damaged")

func decodeRecord(raw []byte, r *Record) error {
	if len(raw) < 2 || raw[0] != recordVersion || raw[1]&^flagsKnown != 0 {
		return errRecord
	}
	d := decoder{left: string(raw[2:])} // one copy for all texts
	var key, within string
	for _, to := range []*string{
		&key, &r.Key.ID, &within, &r.Within.ID, &r.Target, &r.Name,
		&r.SourceHash, &r.SourceRevision, &r.TargetHash, &r.TargetRevision, &r.Bound, &r.Natural,
		&r.Content.Sum, &r.Landed.Sum, &r.Error,
	} {
		*to = d.text()
	}
	r.Key.Kind, r.Within.Kind = Kind(key), Kind(within)
	r.Intent, r.Created = raw[1]&flagIntent != 0, raw[1]&flagCreated != 0
	r.Renamed, r.Left = raw[1]&flagRenamed != 0, raw[1]&flagLeft != 0
	r.Content.Size, r.Landed.Size = d.number(), d.number()
	r.Missed, r.Attempts = int(d.number()), int(d.number())
	r.Applied, r.Gone, r.Next = fromNanos(d.number()), fromNanos(d.number()), fromNanos(d.number())
	n := d.count()
	r.Needs = nil
	if n > 0 && !d.bad {
		r.Needs = make([]Key, n)
	}
	for i := range r.Needs {
		kind := d.text()
		r.Needs[i] = Key{Kind(kind), d.text()}
	}
	if d.bad || d.left != "" {
		return errRecord
	}
	return nil
}

// decoder takes a record apart. bad: there was less than was said.
type decoder struct {
	left string
	bad  bool
}

func (d *decoder) count() uint64 {
	var n uint64
	for i := 0; i < len(d.left) && i < binary.MaxVarintLen64; i++ {
		c := d.left[i]
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			d.left = d.left[i+1:]
			// Whatever is counted takes a byte at least.
			if n > uint64(len(d.left)) {
				break
			}
			return n
		}
	}
	d.bad, d.left = true, ""
	return 0
}

func (d *decoder) text() string {
	n := d.count()
	s := d.left[:n]
	d.left = d.left[n:]
	return s
}

func (d *decoder) number() int64 {
	n, size := binary.Varint([]byte(d.left[:min(len(d.left), binary.MaxVarintLen64)]))
	if size <= 0 {
		d.bad, d.left = true, ""
		return 0
	}
	d.left = d.left[size:]
	return n
}
