package web

import (
	"bytes"
	"errors"
)

// Heads of requests and answers, as RFC 9112 has them and no laxer: what two
// parsers could read in two ways is refused, since a back end reads it too.

// span is a piece of the buffer that a head was read into.
type span struct{ at, end int }

func (s span) of(b []byte) []byte { return b[s.at:s.end] }
func (s span) empty() bool        { return s.at == s.end }

// field is one header field.
type field struct {
	name, value span
	known       known
	drop        bool // it is not handed on
}

// known are the fields that mean something to a proxy.
type known uint8

const (
	other known = iota
	fieldHost
	fieldContentLength
	fieldTransferEncoding
	fieldConnection
	fieldKeepAlive
	fieldProxyConnection
	fieldUpgrade
	fieldHTTP2Settings
	fieldTE
	fieldTrailer
	fieldExpect
	fieldCookie
	fieldIdempotencyKey
	fieldForwarded
	fieldForwardedFor
	fieldForwardedProto
	fieldForwardedHost
	fieldContentType
)

var knownNames = [...]string{
	fieldHost: "host", fieldContentLength: "content-length", fieldTransferEncoding: "transfer-encoding",
	fieldConnection: "connection", fieldKeepAlive: "keep-alive", fieldProxyConnection: "proxy-connection",
	fieldUpgrade: "upgrade", fieldHTTP2Settings: "http2-settings", fieldTE: "te", fieldTrailer: "trailer",
	fieldExpect: "expect", fieldCookie: "cookie", fieldIdempotencyKey: "idempotency-key",
	fieldForwarded: "forwarded", fieldForwardedFor: "x-forwarded-for", fieldForwardedProto: "x-forwarded-proto",
	fieldForwardedHost: "x-forwarded-host", fieldContentType: "content-type",
}

// byLength finds the known names of a length without looking at the others.
var byLength = func() (out [20][]known) {
	for k := fieldHost; int(k) < len(knownNames); k++ {
		n := len(knownNames[k])
		out[n] = append(out[n], k)
	}
	return out
}()

// knownOf tells which field a name is. An underscore counts as a hyphen: many
// applications cannot tell the two apart, so that X_Forwarded_For would be
// ours to them.
func knownOf(name []byte) known {
	if len(name) >= len(byLength) {
		return other
	}
	for _, k := range byLength[len(name)] {
		if sameName(name, knownNames[k]) {
			return k
		}
	}
	return other
}

func sameName(name []byte, lower string) bool {
	for i, c := range name {
		if c == '_' {
			c = '-'
		} else if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// foldEqual compares with a word in small letters.
func foldEqual(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// classes of bytes.
const (
	inToken  = 1 << iota // RFC 9110, 5.6.2
	inValue              // RFC 9110, 5.5: VCHAR, obs-text, space and tab
	inTarget             // printable ASCII but "#", which begins what is never sent
	inHost               // of a name, an address, or a port
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		if c == '\t' || c >= ' ' && c != 0x7f {
			t[c] |= inValue
		}
		if c > ' ' && c < 0x7f && c != '#' {
			t[c] |= inTarget
		}
		if '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			t[c] |= inToken | inHost
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= inToken
	}
	for _, c := range "-._~%!$&'()*+,;=:[]" {
		t[c] |= inHost
	}
	return t
}()

func all(b []byte, in uint8) bool {
	for _, c := range b {
		if class[c]&in == 0 {
			return false
		}
	}
	return true
}

// fault is why a message is not taken, with the status that a client gets.
type fault struct {
	status int
	text   string
}

func (f *fault) Error() string { return f.text }

var errShort = errors.New("more of the head is to come")

var (
	faultLine      = &fault{400, "a line does not end as lines end"}
	faultStart     = &fault{400, "malformed start line"}
	faultMethod    = &fault{400, "malformed method"}
	faultTarget    = &fault{400, "malformed target"}
	faultVersion   = &fault{505, "HTTP version not supported"}
	faultField     = &fault{400, "malformed header field"}
	faultFold      = &fault{400, "folded header field"}
	faultMany      = &fault{431, "too many header fields"}
	faultLong      = &fault{431, "header too long"}
	faultHost      = &fault{400, "malformed or missing host"}
	faultLength    = &fault{400, "malformed content length"}
	faultEncoding  = &fault{400, "malformed transfer encoding"}
	faultCoding    = &fault{501, "transfer encoding not supported"}
	faultExpect    = &fault{417, "expectation not supported"}
	faultConnect   = &fault{405, "method not allowed"}
	faultNominated = &fault{400, "connection option names a field that must stay"}
	faultUpgrade   = &fault{400, "upgrade of a request with a body"}
	faultTooLarge  = &fault{413, "content too large"}
	faultStatus    = &fault{502, "malformed status line"}
	faultChunk     = &fault{400, "malformed chunk"}
	faultTrailer   = &fault{400, "malformed trailer"}
)

// maxFields is how many fields a head may have.
const maxFields = 128

// headEnd looks for the end of a head: the index behind its empty line. scan
// is where to go on, at a line's beginning, when there is more to come.
func headEnd(b []byte, scan int) (end, next int, err error) {
	for {
		i := bytes.IndexByte(b[scan:], '\n')
		if i < 0 {
			return 0, scan, errShort
		}
		if i == 0 || b[scan+i-1] != '\r' {
			return 0, scan, faultLine
		}
		scan += i + 1
		if i == 1 {
			return scan, scan, nil
		}
	}
}

// line takes the line at b[at:], which has an end.
func line(b []byte, at int) (span, int) {
	i := bytes.IndexByte(b[at:], '\n')
	return span{at, at + i - 1}, at + i + 1
}

// parseFields reads header fields from b[at:end], which ends with an empty
// line. What it yields is appended to to.
func parseFields(to []field, b []byte, at, end int) ([]field, error) {
	for at < end-2 {
		l, next := line(b, at)
		at = next
		if c := b[l.at]; c == ' ' || c == '\t' {
			return to, faultFold
		}
		colon := bytes.IndexByte(b[l.at:l.end], ':')
		if colon <= 0 {
			return to, faultField
		}
		name := span{l.at, l.at + colon}
		if !all(name.of(b), inToken) {
			return to, faultField // a space before the colon, too
		}
		value := trim(b, span{name.end + 1, l.end})
		if !all(value.of(b), inValue) {
			return to, faultField
		}
		if len(to) == maxFields {
			return to, faultMany
		}
		to = append(to, field{name: name, value: value, known: knownOf(name.of(b))})
	}
	return to, nil
}

func trim(b []byte, s span) span {
	for s.at < s.end && (b[s.at] == ' ' || b[s.at] == '\t') {
		s.at++
	}
	for s.at < s.end && (b[s.end-1] == ' ' || b[s.end-1] == '\t') {
		s.end--
	}
	return s
}

// options are what the fields Connection of a message say.
type options struct {
	close, keepAlive, upgrade bool
}

// connection goes over the fields Connection and marks those they name, which
// are for the next hop only. A field that framing or routing rests on cannot
// be named.
func connection(fields []field, b []byte) (o options, err error) {
	for i := range fields {
		if fields[i].known != fieldConnection {
			continue
		}
		rest := fields[i].value.of(b)
		for len(rest) > 0 {
			var word []byte
			word, rest, _ = bytes.Cut(rest, []byte{','})
			switch word = bytes.Trim(word, " \t"); {
			case len(word) == 0:
			case !all(word, inToken):
				return o, faultField
			case foldEqual(word, "close"):
				o.close = true
			case foldEqual(word, "keep-alive"):
				o.keepAlive = true
			case foldEqual(word, "upgrade"):
				o.upgrade = true
			default:
				if err := nominate(fields, b, word); err != nil {
					return o, err
				}
			}
		}
	}
	return o, nil
}

func nominate(fields []field, b, word []byte) error {
	switch knownOf(word) {
	case fieldHost, fieldContentLength, fieldTransferEncoding, fieldForwarded, fieldForwardedFor,
		fieldForwardedProto, fieldForwardedHost, fieldCookie, fieldIdempotencyKey, fieldExpect, fieldTrailer:
		return faultNominated
	}
	for i := range fields {
		if bytes.EqualFold(fields[i].name.of(b), word) {
			fields[i].drop = true
		}
	}
	return nil
}

// underscored reports whether a known field is written with an underscore: it
// is one to some applications and not to others, and is not handed on.
func underscored(f *field, b []byte) bool {
	return f.known != other && bytes.IndexByte(f.name.of(b), '_') >= 0
}

// Framing of a body.
const (
	chunked  = -1 // in chunks
	untilEOF = -2 // until the connection ends; answers only
)

// length reads a Content-Length: digits and nothing else.
func length(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// framing says how long a body is, by the fields of its head: -1 for chunks.
// present is false when no field says anything.
func framing(fields []field, b []byte) (n int64, present bool, err error) {
	encoded, sized := false, false
	for i := range fields {
		f := &fields[i]
		switch f.known {
		case fieldTransferEncoding:
			switch {
			case encoded || sized || underscored(f, b):
				return 0, false, faultEncoding
			case !foldEqual(f.value.of(b), "chunked"):
				return 0, false, faultCoding
			}
			encoded, n = true, chunked
		case fieldContentLength:
			v, ok := length(f.value.of(b))
			if encoded || sized || !ok || underscored(f, b) {
				return 0, false, faultLength
			}
			sized, n = true, v
		}
	}
	return n, encoded || sized, nil
}
