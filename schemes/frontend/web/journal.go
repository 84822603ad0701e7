package web

import (
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// journal is the access log: lines are kept in memory and written by a
// goroutine of its own. What its writer does not take in time is dropped.
type journal struct {
	// dropped counts lines that were not written.
	dropped atomic.Int64
	on      atomic.Bool

	mu      sync.Mutex
	w       io.Writer
	pending []byte
	spare   []byte
	lines   int64
	done    chan struct{}
}

// journalBytes is how much is kept of lines that are not written yet, and
// journalEvery how often they are written.
const (
	journalBytes = 1 << 20
	journalEvery = 100 * time.Millisecond
)

func newJournal() *journal {
	return &journal{done: make(chan struct{})}
}

// to sets where lines go.
func (j *journal) to(w io.Writer) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.w = w
	j.on.Store(w != nil)
}

// run writes lines until stop.
func (j *journal) run() {
	tick := time.NewTicker(journalEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-j.done:
			j.write()
			return
		}
		j.write()
	}
}

func (j *journal) write() {
	j.mu.Lock()
	w, lines, n := j.w, j.pending, j.lines
	j.pending, j.spare, j.lines = j.spare[:0], nil, 0
	j.mu.Unlock()
	if len(lines) > 0 && w != nil {
		if _, err := w.Write(lines); err != nil {
			j.dropped.Add(n)
		}
	}
	j.mu.Lock()
	j.spare = lines[:0]
	j.mu.Unlock()
}

func (j *journal) stop() { close(j.done) }

// note adds the line of an exchange.
func (j *journal) note(x *exchange) {
	if !j.on.Load() {
		return
	}
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.pending) >= journalBytes {
		j.dropped.Add(1)
		return
	}
	j.lines++
	j.pending = appendLine(j.pending, x, now)
}

// maxLogged bounds what a line has of a client's text, in bytes.
const maxLogged = 1024

// appendLine writes an exchange as one line of JSON. Times are in
// milliseconds, the start is UTC.
func appendLine(b []byte, x *exchange, now time.Time) []byte {
	r := x.req
	b = append(b, `{"time":"`...)
	b = x.start.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, `","service":`...)
	b = appendText(b, []byte(x.host.Service.ID))
	b = append(b, `,"client":"`...)
	b = append(b, x.from.text...)
	b = append(b, `","proto":"`...)
	b = append(b, x.protocol...)
	b = append(b, `","tls":`...)
	b = strconv.AppendBool(b, x.from.scheme == "https")
	if !r.method.empty() {
		b = append(b, `,"method":`...)
		b = appendText(b, r.method.of(r.buf))
		b = append(b, `,"host":`...)
		b = appendText(b, r.host.of(r.buf))
		b = append(b, `,"target":`...)
		b = appendText(b, r.target.of(r.buf))
	}
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(x.status), 10)
	b = append(b, `,"in":`...)
	b = strconv.AppendInt(b, x.in, 10)
	b = append(b, `,"out":`...)
	b = strconv.AppendInt(b, x.out, 10)
	b = append(b, `,"ms":`...)
	b = appendMillis(b, now.Sub(x.start))
	if x.tries > 0 {
		b = append(b, `,"first_ms":`...)
		b = appendMillis(b, x.first)
		b = append(b, `,"site":`...)
		b = appendText(b, []byte(x.where.Site))
		b = append(b, `,"epoch":`...)
		b = strconv.AppendUint(b, uint64(x.where.Epoch), 10)
		b = append(b, `,"tries":`...)
		b = strconv.AppendInt(b, int64(x.tries), 10)
	}
	if x.heldFor > 0 {
		b = append(b, `,"held_ms":`...)
		b = appendMillis(b, x.heldFor)
	}
	if x.reason != "" {
		b = append(b, `,"reason":`...)
		b = appendText(b, []byte(x.reason))
	}
	return append(b, "}\n"...)
}

func appendMillis(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, float64(d.Microseconds())/1000, 'f', 3, 64)
}

// appendText writes a JSON string. What is not UTF-8 becomes U+FFFD.
func appendText(b, text []byte) []byte {
	if len(text) > maxLogged {
		text = text[:maxLogged]
	}
	b = append(b, '"')
	for len(text) > 0 {
		c, n := utf8.DecodeRune(text)
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c < ' ' || c == 0x7f || c == 0x2028 || c == 0x2029:
			b = append(b, `\u`...)
			for shift := 12; shift >= 0; shift -= 4 {
				b = append(b, hexDigits[c>>shift&15])
			}
		default:
			b = utf8.AppendRune(b, c)
		}
		text = text[n:]
	}
	return append(b, '"')
}

// Unlogged is how many lines of the access log were dropped, as its writer did
// not take them in time.
func (s *Server) Unlogged() int64 { return s.journal.dropped.Load() }
