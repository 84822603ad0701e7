package web

// reader is a buffer that is read into at w and taken from at r. Nothing below
// base is moved or overwritten.
type reader struct {
	buf        []byte
	base, r, w int
}

func (b *reader) reset(base int) { b.base, b.r, b.w = base, base, base }

func (b *reader) empty() bool { return b.r == b.w }

// space is where to read to: at least one byte. What was taken makes room, and
// where that is not enough the buffer grows: whoever reads bounds it.
func (b *reader) space() []byte {
	if b.r == b.w {
		b.r, b.w = b.base, b.base
	}
	if b.w == len(b.buf) && b.r > b.base {
		n := copy(b.buf[b.base:], b.buf[b.r:b.w])
		b.r, b.w = b.base, b.base+n
	}
	if b.w == len(b.buf) {
		b.grow(2 * len(b.buf))
	}
	return b.buf[b.w:]
}

func (b *reader) grow(n int) {
	next := make([]byte, n)
	copy(next, b.buf[:b.w])
	b.buf = next
}

// pin keeps what was taken so far where it is, and makes room behind it.
func (b *reader) pin(room int) {
	b.base = b.r
	if len(b.buf)-b.base < room {
		b.grow(b.base + room)
	}
}

// bufferBytes is the size of each of a work's buffers.
const bufferBytes = 16 << 10

// work is what a request needs while it is under way: an idle connection has
// none. What only an exchange with a back end needs is added by arm.
type work struct {
	in     reader
	kept   []byte
	req    request
	res    answer
	chunks chunks // of the answer
	body   chunks // of the request
	x      exchange

	*pair
	ans reader
	out []byte
}

// pair are the buffers of an exchange: what comes from a back end, and what is
// written to either side, with room for a head and a buffer full of body.
type pair struct{ ans, out []byte }

func newWork() *work { return &work{in: reader{buf: make([]byte, bufferBytes)}} }

func newPair() *pair {
	return &pair{ans: make([]byte, bufferBytes), out: make([]byte, 0, bufferBytes+bufferBytes/4)}
}

// getWork and putWork share works between connections. One that has grown is
// left to the collector.
func (s *Server) getWork() *work { return s.works.Get().(*work) }

func (s *Server) putWork(w *work) {
	s.disarm(w)
	if len(w.in.buf) != bufferBytes || cap(w.kept) > 2*bufferBytes {
		return
	}
	w.in.reset(0)
	w.x = exchange{}
	w.kept = w.kept[:0]
	s.works.Put(w)
}

// arm gives a work the buffers of an exchange, and disarm takes them.
func (s *Server) arm(w *work) {
	if w.pair == nil {
		w.pair = s.pairs.Get().(*pair)
		w.ans.buf, w.out = w.pair.ans, w.pair.out
	}
}

func (s *Server) disarm(w *work) {
	p := w.pair
	if p == nil {
		return
	}
	if len(w.ans.buf) == bufferBytes && cap(w.out) <= 2*bufferBytes {
		p.ans, p.out = w.ans.buf, w.out[:0]
		s.pairs.Put(p)
	}
	w.pair, w.ans.buf, w.out = nil, nil, nil
}

// shrink leaves a work that waits no more than what it needs to go on, and
// gives its buffers to others. grow undoes it.
func (s *Server) shrink(w *work) {
	s.disarm(w)
	spare := &work{in: reader{buf: w.in.buf}}
	w.in.buf = append([]byte(nil), w.in.buf[:w.in.w]...)
	w.req.buf = w.in.buf
	s.putWork(spare)
}

func (s *Server) grow(w *work) {
	spare := s.getWork()
	if len(w.in.buf) <= len(spare.in.buf) {
		copy(spare.in.buf, w.in.buf)
		w.in.buf = spare.in.buf
		w.req.buf = w.in.buf
	}
}
