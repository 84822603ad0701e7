package authority

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
)

// transfer is a zone, or what changed of it, on its way to a secondary. It is
// made from one table, which no decision changes.
type transfer struct {
	t      *table
	zone   int
	head   []byte    // header and question of the query
	signer *signer   // nil for none
	since  []*change // what to send of the journal, or nil for all
}

// maxTransferMessage bounds the messages of a transfer: between two of them
// queries get their turn.
const maxTransferMessage = 4 << 10

// transferFor answers AXFR and IXFR (RFC 5936, RFC 1995), and decides who gets
// any.
func (r *response) transferFor(c client) {
	q := &r.q
	zone := r.zoneNamed(q.name[:q.n])
	if zone < 0 || !r.listed(zone, c.addr) {
		r.a.stats.refusedTransfers.Add(1)
		r.rcode = mdns.RcodeRefused
		return
	}
	if reason := r.a.handed(r.t, zone, r.now.reading()); reason != "" {
		r.fail(reason)
		return
	}
	state := r.t.zones[zone]
	x := &transfer{t: r.t, zone: zone, head: slices.Clone(q.wire), signer: r.signer}
	switch {
	case q.qtype == mdns.TypeIXFR && !q.hasSerial:
		r.rcode = mdns.RcodeFormatError // RFC 1995, section 3
		return
	case q.qtype == mdns.TypeIXFR && (c.transfer == nil || !newer(state.serial, q.serial)):
		// Up to date; and by UDP the word to come by TCP (RFC 1995, section 2).
		r.aa = true
		r.an += r.put(state.soa, toQuestion)
		return
	case c.transfer == nil:
		r.rcode = mdns.RcodeRefused // RFC 5936, section 4.2
		return
	case q.qtype == mdns.TypeIXFR:
		x.since = since(state.journal, q.serial)
	}
	*c.transfer = x
}

// zoneNamed is the index of a zone by its own name, or -1.
func (r *response) zoneNamed(name []byte) int {
	n := r.t.nodes[string(name)]
	if n == nil || n != r.t.layout.zones[n.zone].apex {
		return -1
	}
	return n.zone
}

// listed reports whether a secondary of the zone asks.
func (r *response) listed(zone int, from netip.Addr) bool {
	var key *tsigKey
	if r.signer != nil {
		key = r.signer.key
	}
	return slices.ContainsFunc(r.t.layout.zones[zone].zone.secondaries, func(s *secondary) bool { return s.allows(from, key) })
}

// authenticate looks at the signature of a query (RFC 8945, section 5.2).
func (r *response) authenticate(msg []byte) (ok bool) {
	t, err := parseTSIG(msg, r.q.tsigAt)
	if err != nil {
		r.rcode = mdns.RcodeFormatError
		return false
	}
	var key *tsigKey
	if r.t != nil {
		key = r.t.keys[t.name]
	}
	bad := uint16(mdns.RcodeBadKey)
	if key == nil {
		key = &tsigKey{name: t.name, algorithm: t.algorithm}
	} else {
		bad = key.verify(msg, t, nil, wall(r.now.reading()))
	}
	r.signer = &signer{key: key, mac: slices.Clone(t.mac)}
	if bad == 0 {
		return true
	}
	t.rcode, t.other = bad, nil
	r.a.stats.badSignatures.Add(1)
	r.rcode, r.badTSIG = mdns.RcodeNotAuth, t
	return false
}

// seal signs the answer to a query that was signed, or says what was wrong with
// its signature.
func (r *response) seal() {
	msg, now := r.msg[r.start:], wall(r.now.reading())
	switch bad := r.badTSIG; {
	case bad == nil:
		msg = r.signer.sign(msg, now)
	case bad.rcode == mdns.RcodeBadTime:
		v := bad.variables
		v.other = append48(nil, uint64(now.Unix()))
		msg, _ = r.signer.key.seal(msg, r.signer.mac, false, v)
	default:
		v := signedAt(now)
		v.rcode = bad.rcode
		msg = r.signer.key.appendRecord(msg, nil, binary.BigEndian.Uint16(msg), v)
	}
	r.msg = append(r.msg[:r.start], msg...)
}

// wall is the time of day of a reading.
func wall(now draas.Reading) time.Time { return time.Unix(0, int64(now.Wall)) }

// transferWriter cuts a transfer into messages.
type transferWriter struct {
	x     *transfer
	clock func() draas.Reading
	send  func([]byte) error
	zone  string // wire form
	buf   []byte // the length, and the message so far
	count uint16
}

// run sends the whole transfer; send gets each message with its length before
// it and does not keep it.
func (x *transfer) run(clock func() draas.Reading, send func([]byte) error) error {
	w := &transferWriter{x: x, clock: clock, send: send, zone: x.t.layout.zones[x.zone].name}
	state := x.t.zones[x.zone]
	var err error
	if x.since != nil {
		err = w.changes(state)
	} else {
		err = w.all(state)
	}
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return fmt.Errorf("transfer %s: %w", x.name(), err)
	}
	return nil
}

// name is the zone's.
func (x *transfer) name() string { return x.t.layout.zones[x.zone].zone.name }

// busy is the answer when too many transfers run.
func (x *transfer) busy(now draas.Reading) []byte {
	msg := slices.Clone(x.head)
	msg[2], msg[3] = bitQR, mdns.RcodeServerFailure
	clear(msg[6:headerLen])
	if x.signer != nil {
		msg = x.signer.sign(msg, wall(now))
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
}

// all sends the zone between two SOA records (RFC 5936, section 2.2).
func (w *transferWriter) all(state *zoneState) error {
	if err := w.set(w.zone, state.soa); err != nil {
		return err
	}
	for _, n := range w.x.t.layout.zones[w.x.zone].order {
		for _, s := range n.sets {
			if err := w.set(n.name, s); err != nil {
				return err
			}
		}
		if n.moving < 0 {
			continue
		}
		for _, s := range w.x.t.data[n.moving].sets {
			if err := w.set(n.name, s); err != nil {
				return err
			}
		}
	}
	return w.set(w.zone, state.soa)
}

// changes sends one difference after the other (RFC 1995, section 4).
func (w *transferWriter) changes(state *zoneState) error {
	if err := w.set(w.zone, state.soa); err != nil {
		return err
	}
	for _, c := range w.x.since {
		parts := slices.Concat([]owned{{w.zone, c.before}}, c.deleted, []owned{{w.zone, c.soa}}, c.add)
		for _, o := range parts {
			if err := w.set(o.owner, o.set); err != nil {
				return err
			}
		}
	}
	return w.set(w.zone, state.soa)
}

// set writes the records of a set, and sends messages as they become full.
func (w *transferWriter) set(owner string, s *set) error {
	for wire := s.wire; len(wire) > 0; {
		l := 12 + int(binary.BigEndian.Uint16(wire[10:]))
		if len(w.buf) > 0 && len(w.buf)+len(owner)+l > maxTransferMessage-maxTSIG {
			if err := w.flush(); err != nil {
				return err
			}
		}
		if len(w.buf) == 0 {
			w.buf = append(append(w.buf, 0, 0), w.x.head...)
		}
		w.buf = append(w.buf, owner[:len(owner)-len(w.zone)]...)
		w.buf = append(w.buf, wire[:l]...) // the pointer to the question is one to the zone's name
		w.count++
		wire = wire[l:]
	}
	return nil
}

// flush sends the message.
func (w *transferWriter) flush() error {
	msg := w.buf[2:]
	msg[2], msg[3] = bitQR|bitAA, 0
	binary.BigEndian.PutUint16(msg[4:], 1)
	binary.BigEndian.PutUint16(msg[6:], w.count)
	clear(msg[8:headerLen])
	if w.x.signer != nil {
		msg = w.x.signer.sign(msg, wall(w.clock()))
		w.buf = append(w.buf[:2], msg...)
	}
	binary.BigEndian.PutUint16(w.buf, uint16(len(w.buf)-2))
	err := w.send(w.buf)
	w.buf, w.count = w.buf[:0], 0
	runtime.Gosched() // queries first
	return err
}
