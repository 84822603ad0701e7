package web

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// prefixBytes is how much of a body goes with the head.
const prefixBytes = 16 << 10

// cookieName binds a client to a server, with affinity by cookie.
const cookieName = "DRAAS"

// tag is the server that the client's cookie names.
func (x *exchange) tag() string {
	rest := x.req.cookie.of(x.req.buf)
	for len(rest) > 0 {
		var one []byte
		one, rest, _ = bytes.Cut(rest, []byte{';'})
		if name, value, ok := bytes.Cut(bytes.TrimSpace(one), []byte{'='}); ok && string(name) == cookieName {
			return string(value)
		}
	}
	return ""
}

// bind has the client come back to the server, unless it does already.
func (x *exchange) bind(u *upstream) {
	if x.tag() == u.server.Tag {
		return
	}
	x.boundTo = cookieName + "=" + u.server.Tag + "; Path=/; HttpOnly; SameSite=Lax"
	if x.from.scheme == "https" {
		x.boundTo += "; Secure"
	}
	x.cookie = []byte("Set-Cookie: " + x.boundTo + "\r\n")
}

// send writes the head, and as much of the body as is there. The rest of the
// body is sent by a pump.
func (x *exchange) send(u *upstream) error {
	if err := x.prefix(); err != nil {
		x.clientErr = err
		return errBodyAborted
	}
	out := x.appendHead(x.w.out[:0])
	kept := x.w.kept
	inChunks := x.req.length == chunked
	if len(kept) > 0 {
		if inChunks {
			out = appendSize(out, len(kept))
		}
		if len(kept) > prefixBytes {
			if err := x.write(u, out); err != nil {
				return err
			}
			if err := x.write(u, kept); err != nil {
				return err
			}
			out = out[:0]
		} else {
			out = append(out, kept...)
		}
		if inChunks {
			out = append(out, "\r\n"...)
		}
	}
	if x.asked && inChunks {
		b, fields := x.down.trailer()
		out = appendLast(out, b, fields)
	}
	x.w.out = out[:0]
	if x.asked && len(out) > 0 {
		x.unsent = out // goes with the wait for the answer
		return nil
	}
	if len(out) > 0 {
		if err := x.write(u, out); err != nil {
			return err
		}
	}
	if x.asked {
		x.whole()
	} else {
		x.startPump(u)
	}
	return nil
}

// write sends to the back end. A server that takes nothing in stops it.
func (x *exchange) write(u *upstream, p []byte) error {
	if len(p) > 64<<10 {
		if err := u.writeBy(time.Now().Add(x.set.Limits.Answer)); err != nil {
			return err
		}
		defer func() { _ = u.writeBy(time.Time{}) }()
	}
	n, err := u.nc.Write(p)
	if n > 0 {
		x.sent = true
		x.copied(p[:n])
	}
	return err
}

// prefix keeps what is there of the body, to go with the head. What is kept is
// sent again when the request has to be.
func (x *exchange) prefix() error {
	if x.req.length == 0 {
		x.asked = true
	}
	for !x.asked && !x.streamed && len(x.w.kept) < prefixBytes && x.down.ready() {
		p, err := x.down.more()
		if errors.Is(err, io.EOF) {
			x.asked = true
			break
		}
		if err != nil {
			return err
		}
		x.in += int64(len(p))
		x.keep(p)
	}
	return nil
}

// keep adds to what is kept.
func (x *exchange) keep(p []byte) {
	x.host.origin.kept.Add(int64(len(p)))
	x.kept += int64(len(p))
	x.w.kept = append(x.w.kept, p...)
}

// room reports whether so much more may be kept: of this request, and of all
// of the service's together.
func (x *exchange) room(n int) bool {
	most := x.host.Service.Spec().Hold.Bytes
	return int64(len(x.w.kept)+n) <= min(most, KeptBytes) && x.host.origin.kept.Load()+int64(n) <= most
}

// appendHead writes the request's head as the back end gets it.
func (x *exchange) appendHead(b []byte) []byte {
	r := x.req
	b = append(append(b, r.method.of(r.buf)...), ' ')
	b = append(append(b, r.target.of(r.buf)...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, r.host.of(r.buf)...), "\r\n"...)
	trusted := x.from.trusted(x.host.Trusted)
	var forwarded, forwardedFor, proto, host []byte
	for i := range r.fields {
		f := &r.fields[i]
		value := f.value.of(r.buf)
		switch {
		case f.drop:
		case f.known == fieldForwarded:
			if trusted && len(value) > 0 {
				forwarded = join(forwarded, value)
			}
		case f.known == fieldForwardedFor:
			if trusted && len(value) > 0 {
				forwardedFor = join(forwardedFor, value)
			}
		case f.known == fieldForwardedProto:
			if trusted {
				proto = value
			}
		case f.known == fieldForwardedHost:
			if trusted {
				host = value
			}
		default:
			b = appendField(b, f.name.of(r.buf), value)
		}
	}
	b = x.appendForwarded(b, forwarded, forwardedFor, proto, host)
	if r.expects {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	if !r.upgrade.empty() {
		b = append(b, "Connection: Upgrade\r\n"...)
		b = appendField(b, []byte("Upgrade"), r.upgrade.of(r.buf))
	}
	switch {
	case r.length == chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.length > 0 || x.sized():
		b = append(b, "Content-Length: "...)
		b = appendDecimal(b, r.length)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// sized reports whether an empty body is said to be empty: by methods that
// have a body as a rule (RFC 9110, 8.6).
func (x *exchange) sized() bool {
	switch string(x.req.method.of(x.req.buf)) {
	case "POST", "PUT", "PATCH":
		return true
	}
	return false
}

func join(to, value []byte) []byte {
	if len(to) == 0 {
		return value
	}
	return append(append(append(make([]byte, 0, len(to)+2+len(value)), to...), ", "...), value...)
}

// appendForwarded writes who asks, by X-Forwarded-* and by RFC 7239, behind
// what a trusted proxy said.
func (x *exchange) appendForwarded(b, forwarded, forwardedFor, proto, host []byte) []byte {
	r := x.req
	b = append(b, "X-Forwarded-For: "...)
	if len(forwardedFor) > 0 {
		b = append(append(b, forwardedFor...), ", "...)
	}
	b = append(append(b, x.from.text...), "\r\nX-Forwarded-Proto: "...)
	if len(proto) > 0 {
		b = append(b, proto...)
	} else {
		b = append(b, x.from.scheme...)
	}
	b = append(b, "\r\nX-Forwarded-Host: "...)
	if len(host) > 0 {
		b = append(b, host...)
	} else {
		b = append(b, r.host.of(r.buf)...)
	}
	b = append(b, "\r\nForwarded: "...)
	if len(forwarded) > 0 {
		b = append(append(b, forwarded...), ", "...)
	}
	if bytes.IndexByte(x.from.text, ':') >= 0 {
		b = append(append(append(b, `for="[`...), x.from.text...), `]"`...)
	} else {
		b = append(append(b, "for="...), x.from.text...)
	}
	if !r.host.empty() {
		b = append(append(append(b, `;host="`...), r.host.of(r.buf)...), '"')
	}
	b = append(append(append(b, ";proto="...), x.from.scheme...), "\r\n"...)
	if x.set.Via != "" {
		b = append(append(append(b, "Via: 1.1 "...), x.set.Via...), "\r\n"...)
	}
	return b
}

func appendDecimal(b []byte, n int64) []byte {
	var digits [20]byte
	i := len(digits)
	for first := true; first || n > 0; first = false {
		i--
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	return append(b, digits[i:]...)
}

// startPump sends the rest of the body in a goroutine of its own: the back end
// may answer before it has all of it.
func (x *exchange) startPump(u *upstream) {
	p := &pump{done: make(chan struct{})}
	x.pump = p
	keep := x.replayable && !x.streamed
	if !keep {
		x.streamed = true
	}
	go func() {
		defer close(p.done)
		err := errBodyAborted
		x.s.shield(func() { err = x.pumpBody(u, keep) })
		switch {
		case err == nil:
			p.over.Store(true)
		case errors.Is(err, errBodyAborted) || x.clientErr != nil && !errors.Is(x.clientErr, errKicked):
			_ = u.nc.Close() // the back end must not take a part for the whole
		}
	}()
}

func (x *exchange) pumpBody(u *upstream, keep bool) error {
	inChunks := x.req.length == chunked
	var frame []byte
	for {
		p, err := x.down.more()
		switch {
		case errors.Is(err, io.EOF):
			x.asked = true
			if inChunks {
				b, fields := x.down.trailer()
				frame = appendLast(frame[:0], b, fields)
				if _, err := u.nc.Write(frame); err != nil {
					return err
				}
				x.copied(frame)
			}
			x.whole()
			return nil
		case err != nil:
			x.clientErr = err
			return err
		}
		x.in += int64(len(p))
		switch {
		case keep && x.room(len(p)):
			x.keep(p)
		case keep:
			keep, x.streamed = false, true
		}
		if inChunks {
			frame = append(append(appendSize(frame[:0], len(p)), p...), "\r\n"...)
			p = frame
		}
		if err := x.stands(u); err != nil {
			return err
		}
		if err := u.writeBy(time.Now().Add(x.set.Limits.Answer)); err != nil {
			return err
		}
		if _, err := u.nc.Write(p); err != nil {
			return err
		}
		x.copied(p)
	}
}

// endPump stops a pump that is under way and waits for it. It reports whether
// it had sent everything; if not, the back end's connection is closed.
func (x *exchange) endPump() bool {
	p := x.pump
	if p == nil {
		return true
	}
	x.pump = nil
	select {
	case <-p.done:
	default:
		_ = x.up.nc.Close()
		x.down.kick()
		<-p.done
		x.down.unkick()
	}
	if errors.Is(x.clientErr, errKicked) {
		x.clientErr = nil
	}
	return p.over.Load()
}

var past = time.Unix(1, 0)
