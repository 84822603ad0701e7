package authority

import (
	"encoding/binary"

	mdns "github.com/miekg/dns"
)

// Sizes of messages in octets.
const (
	headerLen  = 12
	maxMessage = 65535
	// udpSize is the largest answer by UDP, and the size that is advertised:
	// it passes without fragments nearly everywhere (DNS flag day 2020).
	udpSize = 1232
	// plainSize bounds an answer to a query without EDNS (RFC 1035, section
	// 4.2.1).
	plainSize = 512
	// maxOPT is the largest OPT record that is sent: one extended error.
	maxOPT = 11 + 4 + 2 + 80
)

// Bits of the header's third and fourth octet.
const (
	bitQR = 0x80
	bitAA = 0x04
	bitTC = 0x02
	bitRD = 0x01

	opcodeMask = 0x78
)

// query is a parsed question.
type query struct {
	wire  []byte    // header and question of the query, as it came
	name  [256]byte // question name, lower case, wire form
	n     int       // its length
	qtype uint16
	class uint16

	tcp     bool
	edns    bool
	version uint8
	do      bool
	size    int // the largest answer that may be sent

	tsigAt    int // where its TSIG record stands, or 0
	hasSerial bool
	serial    uint32 // of the SOA in an IXFR query
}

// respond appends the response to a message, or nothing when the message
// deserves none. It never retains msg.
func (a *Authority) respond(dst, msg []byte, c client) []byte {
	// Too short for an id, or itself a response: to answer could make two
	// servers talk for ever.
	if len(msg) < headerLen || msg[2]&bitQR != 0 {
		a.stats.dropped.Add(1)
		return dst
	}
	a.stats.queries.Add(1)
	r := response{a: a, t: a.table.Load(), now: c.now, start: len(dst)}
	q := &r.q
	q.size = plainSize
	if c.tcp {
		q.tcp, q.size = true, maxMessage
	}
	switch {
	case msg[2]&opcodeMask != 0:
		q.wire = msg[:headerLen]
		r.rcode = mdns.RcodeNotImplemented
	case !q.parse(msg):
		*q = query{wire: msg[:headerLen], size: plainSize}
		r.rcode = mdns.RcodeFormatError
	}
	r.msg = append(dst, q.wire...)
	if len(q.wire) > headerLen && (q.tsigAt == 0 || r.authenticate(msg)) {
		r.answer(c)
	}
	if c.transfer != nil && *c.transfer != nil {
		return dst
	}
	return r.finish()
}

// finish writes OPT and the header.
func (r *response) finish() []byte {
	q := &r.q
	if r.unsigned != "" {
		r.fail(r.unsigned)
	}
	var opt [maxOPT]byte
	optLen := 0
	if q.edns {
		optLen = q.putOPT(opt[:], r.rcode, r.reason)
	}
	sealed := 0
	if r.signer != nil {
		sealed = maxTSIG
	}
	truncated := byte(0)
	switch {
	case r.rcode == mdns.RcodeServerFailure:
		r.clear() // what was written before it failed
	case len(r.msg)-r.start+optLen+sealed > q.size:
		// RFC 2181, section 9: nothing rather than a part that looks whole.
		r.clear()
		truncated = bitTC
		r.a.stats.truncated.Add(1)
	}
	if optLen > 0 {
		r.msg = append(r.msg, opt[:optLen]...)
		r.ar++
	}
	head := r.msg[r.start:]
	head[2] = bitQR | q.wire[2]&(opcodeMask|bitRD) | truncated
	if r.aa {
		head[2] |= bitAA
	}
	head[3] = r.rcode & 0x0f
	qd := uint16(0)
	if len(q.wire) > headerLen {
		qd = 1
	}
	binary.BigEndian.PutUint16(head[4:], qd)
	binary.BigEndian.PutUint16(head[6:], r.an)
	binary.BigEndian.PutUint16(head[8:], r.ns)
	binary.BigEndian.PutUint16(head[10:], r.ar)
	r.a.stats.rcode[r.rcode].Add(1)
	if r.signer != nil {
		r.seal()
	}
	return r.msg
}

// clear takes back all that was written behind the question.
func (r *response) clear() {
	r.msg = r.msg[:r.start+len(r.q.wire)]
	r.an, r.ns, r.ar = 0, 0, 0
}

// putOPT writes the response's OPT record (RFC 6891, section 6.1.2), for a
// SERVFAIL with an extended error that says why (RFC 8914), and returns its
// length.
func (q *query) putOPT(b []byte, rcode uint8, reason string) int {
	b[0] = 0 // root
	binary.BigEndian.PutUint16(b[1:], mdns.TypeOPT)
	binary.BigEndian.PutUint16(b[3:], udpSize)
	b[5] = rcode >> 4 // extended rcode
	b[6] = 0          // version
	b[7], b[8] = 0, 0
	if q.do {
		b[7] = 0x80 // RFC 3225, section 3: copied
	}
	rdata := 0
	if reason != "" {
		text := reason[:min(len(reason), maxOPT-11-4-2)]
		binary.BigEndian.PutUint16(b[11:], mdns.EDNS0EDE)
		binary.BigEndian.PutUint16(b[13:], uint16(2+len(text)))
		binary.BigEndian.PutUint16(b[15:], mdns.ExtendedErrorCodeNotReady)
		rdata = 4 + 2 + copy(b[17:], text)
	}
	binary.BigEndian.PutUint16(b[9:], uint16(rdata))
	return 11 + rdata
}

// parse reads the question and looks for EDNS. It reports whether the message
// is well formed.
func (q *query) parse(msg []byte) bool {
	if binary.BigEndian.Uint16(msg[4:]) != 1 { // RFC 9619
		return false
	}
	off := headerLen
	for { // one label a turn; ends with the name or the message
		if off >= len(msg) {
			return false
		}
		l := int(msg[off])
		if l > 63 || off+1+l > len(msg) || off-headerLen+1+l > 255 {
			return false // also a pointer: there is nothing to point to
		}
		at := off - headerLen
		q.name[at] = msg[off]
		for i := 1; i <= l; i++ {
			c := msg[off+i]
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			q.name[at+i] = c
		}
		off += 1 + l
		if l == 0 {
			break
		}
	}
	if off+4 > len(msg) {
		return false
	}
	q.n = off - headerLen
	q.qtype = binary.BigEndian.Uint16(msg[off:])
	q.class = binary.BigEndian.Uint16(msg[off+2:])
	off += 4
	q.wire = msg[:off]
	return q.parseRest(msg, off)
}

// parseRest walks the records behind the question for OPT, TSIG, and the SOA of
// an IXFR query.
func (q *query) parseRest(msg []byte, off int) bool {
	before := int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:]))
	records := before + int(binary.BigEndian.Uint16(msg[10:]))
	for i := range records { // bounded by the message: a record takes 11 octets
		owner := off
		if off = skipName(msg, off); off < 0 || off+10 > len(msg) {
			return false
		}
		rr := msg[off:]
		rdlen := int(binary.BigEndian.Uint16(rr[8:]))
		if off += 10 + rdlen; off > len(msg) {
			return false
		}
		switch binary.BigEndian.Uint16(rr) {
		case mdns.TypeOPT:
		case mdns.TypeTSIG:
			if i < before || i != records-1 { // RFC 8945, section 5.1
				return false
			}
			q.tsigAt = owner
			continue
		case mdns.TypeSOA:
			if data := skipName(msg, skipName(msg, off-rdlen)); i < before && data >= 0 && data+20 <= off {
				q.hasSerial, q.serial = true, binary.BigEndian.Uint32(msg[data:])
			}
			continue
		default:
			continue
		}
		// RFC 6891, section 6.1.1: one, at the root, in the additional part.
		if q.edns || i < before || msg[owner] != 0 || !validOptions(rr[10:10+rdlen]) {
			return false
		}
		q.edns = true
		if !q.tcp {
			q.size = min(max(int(binary.BigEndian.Uint16(rr[2:])), plainSize), udpSize)
		}
		q.version = rr[5]
		q.do = rr[6]&0x80 != 0
	}
	return true
}

// skipName returns the offset behind a name that may be compressed, or -1.
func skipName(msg []byte, off int) int {
	for off >= 0 && off < len(msg) { // one label a turn
		switch l := int(msg[off]); {
		case l == 0:
			return off + 1
		case l >= 0xc0:
			if off+2 > len(msg) {
				return -1
			}
			return off + 2
		case l > 63:
			return -1
		default:
			off += 1 + l
		}
	}
	return -1
}

// validOptions walks EDNS options; what they say is ignored (RFC 6891,
// section 6.1.2).
func validOptions(b []byte) bool {
	for len(b) > 0 { // four octets or more a turn
		if len(b) < 4 {
			return false
		}
		l := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if l > len(b) {
			return false
		}
		b = b[l:]
	}
	return true
}
