package web

import (
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// guard counts the frames of a client that cost it nothing and us something:
// resets, settings, pings, priorities, and frames that say nothing. One that
// sends too many of them is cut off (CVE-2023-44487 and its kin).
type guard struct {
	net.Conn
	s       *Server
	stall   time.Duration
	writeBy atomic.Int64 // when the client must have taken what is written; 0: nothing is
	skip    int          // bytes that belong to what was seen already
	head    [9]byte      // of the next frame
	have    int
	budget  float64
	since   time.Time
	flooded atomic.Bool
}

// guardTLS lets http2 see what was agreed on.
type guardTLS struct {
	*guard
	t *tls.Conn
}

// ConnectionState is that of the connection below.
func (g *guardTLS) ConnectionState() tls.ConnectionState { return g.t.ConnectionState() }

// A client may send so many idle frames at once, and so many a second.
const (
	floodBurst = 1000
	floodRate  = 200
)

var errFlood = errors.New("too many frames that say nothing")

func (g *guard) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	idle := g.scan(p[:n])
	if idle > 0 {
		now := time.Now()
		g.budget = min(floodBurst, g.budget+now.Sub(g.since).Seconds()*floodRate) - float64(idle)
		g.since = now
		if g.budget < 0 {
			g.flooded.Store(true)
			return 0, errFlood
		}
	}
	return n, err
}

func (g *guard) Write(p []byte) (int, error) {
	g.writeBy.Store(g.s.after(g.stall))
	defer g.writeBy.Store(0)
	return g.Conn.Write(p)
}

// scan goes over frames and counts the idle ones.
func (g *guard) scan(p []byte) (idle int) {
	for len(p) > 0 {
		if g.skip > 0 {
			n := min(g.skip, len(p))
			g.skip -= n
			p = p[n:]
			continue
		}
		n := copy(g.head[g.have:], p)
		g.have += n
		p = p[n:]
		if g.have < len(g.head) {
			return idle
		}
		g.have = 0
		size := int(g.head[0])<<16 | int(g.head[1])<<8 | int(g.head[2])
		g.skip = size
		switch http2.FrameType(g.head[3]) {
		case http2.FrameRSTStream, http2.FrameSettings, http2.FramePing, http2.FramePriority, http2.FrameContinuation:
			idle++
		case http2.FrameData:
			if size == 0 && http2.Flags(g.head[4])&http2.FlagDataEndStream == 0 {
				idle++
			}
		}
	}
	return idle
}
