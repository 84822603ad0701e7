package web

import (
	"io"
	"net"
	"net/http"
)

// Of the downstream that speaks HTTP/1.1: the answer.

func statusText(status int) string {
	if t := http.StatusText(status); t != "" {
		return t
	}
	return "Unknown"
}

func appendStatus(b []byte, a *answer) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = appendDecimal(b, int64(a.status))
	return append(append(append(b, ' '), goodReason(a)...), "\r\n"...)
}

func appendFields(b []byte, a *answer) []byte {
	for i := range a.fields {
		if f := &a.fields[i]; !f.drop {
			b = appendField(b, f.name.of(a.buf), f.value.of(a.buf))
		}
	}
	return b
}

func (c *conn) interim(a *answer) error {
	c.out = appendFields(appendStatus(c.w.out[:0], a), a)
	c.out = append(c.out, "\r\n"...)
	return c.flush()
}

// begin decides on the framing: what the back end's length says, chunks when
// there is none, or the connection's end for those who know no chunks.
func (c *conn) begin(x *exchange, a *answer, close bool) error {
	b := appendFields(appendStatus(c.w.out[:0], a), a)
	bodyless := x.isHead() || a.status == 204 || a.status == 304
	c.inChunks, c.flushed = false, false
	switch {
	case bodyless:
	case a.length >= 0:
		b = append(b, "Content-Length: "...)
		b = append(appendDecimal(b, a.length), "\r\n"...)
	case x.req.minor > 0:
		c.inChunks = true
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	default:
		close = true
	}
	b = append(b, x.cookie...)
	c.last = close || !x.req.keepAlive || c.s.draining.Load()
	switch {
	case c.last:
		b = append(b, "Connection: close\r\n"...)
	case x.req.minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	if x.set.Via != "" {
		b = append(append(append(b, "Via: 1.1 "...), x.set.Via...), "\r\n"...)
	}
	c.out = append(b, "\r\n"...)
	return nil
}

func (c *conn) data(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if c.inChunks {
		c.out = append(append(appendSize(c.out, len(p)), p...), "\r\n"...)
		return nil
	}
	if len(c.out) == 0 && len(p) >= bufferBytes/2 {
		return c.write(p)
	}
	c.out = append(c.out, p...)
	return nil
}

func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	err := c.write(c.out)
	c.w.out = c.out[:0]
	c.out = c.out[:0]
	return err
}

func (c *conn) write(p []byte) error {
	c.flushed = true
	c.writeBy.Store(c.s.after(c.set.Limits.Stall))
	_, err := c.nc.Write(p)
	c.writeBy.Store(0)
	return err
}

func (c *conn) finish(b []byte, fields []field) error {
	if c.inChunks {
		c.out = appendLast(c.out, b, fields)
	}
	return c.flush()
}

// refuse answers by ourselves, and ends the connection: of the rest of a
// request that was not understood nobody knows where the next begins.
func (c *conn) refuse(x *exchange, status int, text string) {
	a := &answer{status: status}
	b := appendStatus(c.w.out[:0], a)
	if status == 503 {
		b = append(b, "Retry-After: "...)
		b = append(appendDecimal(b, retryAfter), "\r\n"...)
	}
	if status == 405 {
		b = append(b, "Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n"...)
	}
	c.last = x.broken || !x.req.keepAlive || c.s.draining.Load() || !c.ended || status < 500
	if c.last {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: "...)
	b = appendDecimal(b, int64(len(text)+1))
	b = append(b, "\r\n\r\n"...)
	if !x.isHead() {
		b = append(append(b, text...), '\n')
	}
	c.out = b
	if c.flush() != nil {
		x.broken = true
	}
}

// retryAfter is what a client is told to wait, in seconds.
const retryAfter = 1

func (c *conn) retract() bool {
	if c.flushed {
		return false
	}
	c.out = c.out[:0]
	return true
}

// spliced is how much is copied by the kernel at once, in bytes: a client that
// takes it slower than in Limits.Stall is given up.
const spliced = 64 << 10

func (c *conn) splices() bool { return c.rc != nil }

func (c *conn) splice(from *net.TCPConn, n int64) (int64, error) {
	c.writeBy.Store(c.s.after(c.set.Limits.Stall + lookEvery))
	defer c.writeBy.Store(0)
	k, err := c.tcp.ReadFrom(&io.LimitedReader{R: from, N: min(n, spliced)})
	if c.stuck.Load() {
		return k, errGone
	}
	return k, err
}
