package web

import (
	"bytes"
)

// request is the head of a request. Its spans lie in buf.
type request struct {
	buf            []byte
	method, target span
	host           span // without a port's colon check; empty if there is none
	fields         []field
	minor          byte  // of HTTP/1.x
	length         int64 // of the body; chunked
	keepAlive      bool
	expects        bool // 100-continue
	upgrade        span // the protocol that is asked for
	cookie         span // the first
	keyed          bool // it has an idempotency key
}

func (r *request) reset() {
	*r = request{fields: r.fields[:0]}
}

// parseRequest reads a request's head from b[at:end], where headEnd has found
// its end.
func (r *request) parse(b []byte, at, end int) error {
	r.reset()
	r.buf = b
	l, at := line(b, at)
	if err := r.start(l); err != nil {
		return err
	}
	var err error
	if r.fields, err = parseFields(r.fields, b, at, end); err != nil {
		return err
	}
	return r.judge()
}

// start reads the request line: three words with one space between them.
func (r *request) start(l span) error {
	b := l.of(r.buf)
	first, last := bytes.IndexByte(b, ' '), bytes.LastIndexByte(b, ' ')
	if first <= 0 || last == first {
		return faultStart
	}
	r.method = span{l.at, l.at + first}
	r.target = span{r.method.end + 1, l.at + last}
	version := b[last+1:]
	switch {
	case first > 24 || !all(r.method.of(r.buf), inToken):
		return faultMethod
	case r.target.empty() || !all(r.target.of(r.buf), inTarget):
		return faultTarget
	case len(version) != 8 || string(version[:5]) != "HTTP/" || version[6] != '.':
		return faultStart
	case version[5] != '1' || version[7] != '0' && version[7] != '1':
		return faultVersion
	}
	r.minor = version[7] - '0'
	return nil
}

// judge checks what the fields say together.
func (r *request) judge() error {
	b := r.buf
	hosts := 0
	var expect, upgrade int
	for i := range r.fields {
		f := &r.fields[i]
		if f.known == other {
			continue
		}
		if underscored(f, b) && f.known != fieldContentLength && f.known != fieldTransferEncoding {
			f.drop = true
			continue
		}
		switch f.known {
		case fieldHost:
			hosts++
			r.host, f.drop = f.value, true
		case fieldContentLength, fieldTransferEncoding, fieldConnection, fieldKeepAlive, fieldProxyConnection,
			fieldHTTP2Settings, fieldTE:
			f.drop = true
		case fieldUpgrade:
			f.drop = true
			r.upgrade = f.value
			upgrade++
		case fieldExpect:
			f.drop = true
			expect++
			if expect > 1 || !foldEqual(f.value.of(b), "100-continue") {
				return faultExpect
			}
			r.expects = r.minor > 0
		case fieldCookie:
			if r.cookie.empty() {
				r.cookie = f.value
			}
		case fieldIdempotencyKey:
			r.keyed = !f.value.empty()
		}
	}
	if hosts > 1 || hosts == 0 && r.minor > 0 || !goodHost(r.host.of(b)) {
		return faultHost
	}
	if err := r.route(); err != nil {
		return err
	}
	n, _, err := framing(r.fields, b)
	switch {
	case err != nil:
		return err
	case n == chunked && r.minor == 0:
		return faultEncoding // RFC 9112, 6.1: the framing is faulty
	}
	r.length = n
	o, err := connection(r.fields, b)
	if err != nil {
		return err
	}
	r.keepAlive = !o.close && (r.minor > 0 || o.keepAlive)
	return r.upgradable(o, upgrade)
}

// upgradable keeps an upgrade that was asked for rightly. One to HTTP/2 is as
// if it had not been asked for: a back end that took it would speak past us.
func (r *request) upgradable(o options, fields int) error {
	if v := r.upgrade.of(r.buf); r.minor == 0 || !o.upgrade || fields != 1 || !all(v, inToken|inHost) ||
		len(v) >= 2 && foldEqual(v[:2], "h2") || len(v) >= 4 && foldEqual(v[:4], "http") || bytes.IndexByte(v, ',') >= 0 {
		r.upgrade = span{}
	}
	if !r.upgrade.empty() && r.length != 0 {
		return faultUpgrade
	}
	return nil
}

// route checks the target's form (RFC 9112, 3.2). The authority of an absolute
// target stands above the field Host.
func (r *request) route() error {
	b := r.buf
	t := r.target.of(b)
	switch {
	case string(r.method.of(b)) == "CONNECT":
		return faultConnect
	case t[0] == '/':
		return nil
	case string(t) == "*" && string(r.method.of(b)) == "OPTIONS":
		return nil
	}
	skip := 0
	switch {
	case len(t) > 7 && foldEqual(t[:7], "http://"):
		skip = 7
	case len(t) > 8 && foldEqual(t[:8], "https://"):
		skip = 8
	default:
		return faultTarget
	}
	slash := bytes.IndexAny(t[skip:], "/?")
	if slash < 0 || t[skip+slash] == '?' {
		return faultTarget // a proxy would have to write a path of its own
	}
	r.host = span{r.target.at + skip, r.target.at + skip + slash}
	r.target.at += skip + slash
	if r.host.empty() || !goodHost(r.host.of(b)) {
		return faultHost
	}
	return nil
}

// goodHost checks a host with or without a port.
func goodHost(h []byte) bool {
	if !all(h, inHost) {
		return false
	}
	name, port := splitHost(h)
	if len(h) > 0 && (len(name) == 0 || len(name) > 255) {
		return false
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
	}
	if len(port) > 5 {
		return false
	}
	if len(name) > 0 && name[0] == '[' {
		return name[len(name)-1] == ']' && bytes.IndexByte(name[1:], '[') < 0
	}
	return !bytes.ContainsAny(name, "[]:")
}

// splitHost takes the port off.
func splitHost(h []byte) (name, port []byte) {
	i := bytes.LastIndexByte(h, ':')
	if i < 0 || bytes.IndexByte(h[i:], ']') >= 0 {
		return h, nil
	}
	return h[:i], h[i+1:]
}

// answer is the head of an answer. Its spans lie in buf.
type answer struct {
	buf       []byte
	status    int
	reason    span
	fields    []field
	length    int64 // of the body; chunked; untilEOF
	keepAlive bool  // the connection may be used again
	streams   bool  // server-sent events: it may never end
}

func (a *answer) reset() { *a = answer{fields: a.fields[:0]} }

// parse reads an answer's head from b[at:end], where headEnd has found its
// end. head says that the request was HEAD.
func (a *answer) parse(b []byte, at, end int, head bool) error {
	a.reset()
	a.buf = b
	l, at := line(b, at)
	v := l.of(b)
	// RFC 9112, 4: the space behind the code is there even without a reason;
	// servers that leave it out are common enough.
	if len(v) < 12 || string(v[:7]) != "HTTP/1." || v[7] != '0' && v[7] != '1' || v[8] != ' ' || len(v) > 12 && v[12] != ' ' {
		return faultStatus
	}
	for _, c := range v[9:12] {
		if c < '0' || c > '9' {
			return faultStatus
		}
		a.status = a.status*10 + int(c-'0')
	}
	if a.status < 100 || a.status > 599 {
		return faultStatus
	}
	if len(v) > 12 {
		a.reason = span{l.at + 13, l.end}
		if !all(a.reason.of(b), inValue) {
			return faultStatus
		}
	}
	var err error
	if a.fields, err = parseFields(a.fields, b, at, end); err != nil {
		return err
	}
	return a.judge(v[7] == '1', head)
}

func (a *answer) judge(eleven, head bool) error {
	n, present, err := framing(a.fields, a.buf)
	if err != nil {
		return err
	}
	o, err := connection(a.fields, a.buf)
	if err != nil {
		return err
	}
	a.keepAlive = !o.close && (eleven || o.keepAlive)
	for i := range a.fields {
		f := &a.fields[i]
		switch f.known {
		case fieldTransferEncoding, fieldConnection, fieldKeepAlive, fieldProxyConnection, fieldHTTP2Settings, fieldTE:
			f.drop = true
		case fieldContentLength:
			// It is said of what is not sent, in answers to HEAD and in 304.
			f.drop = !(head || a.status == 304)
		case fieldUpgrade:
			f.drop = a.status != 101 && a.status != 426
		case fieldContentType:
			a.streams = bytes.HasPrefix(a.fields[i].value.of(a.buf), []byte("text/event-stream"))
		}
	}
	switch {
	case n == chunked && !eleven:
		return faultEncoding
	case (a.status < 200 || a.status == 204) && present && n != 0:
		return faultLength // RFC 9112, 6.1 and RFC 9110, 8.6: there must be none
	case head || a.status < 200 || a.status == 204 || a.status == 304:
		n = 0
	case !present:
		n = untilEOF
	}
	a.length = n
	return nil
}
