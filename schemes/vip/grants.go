package vip

import (
	"fmt"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// contactMax is how long ago a member may have been in touch with a majority of
// the others when it grants: until then it cannot be sure of who votes. It is
// far longer than an election takes.
const contactMax = 10 * time.Second

// Terms are those of one address by the file.
type Terms struct {
	Lease   draas.Lease
	Holders []string // the frontends that may have it
}

// Standing is how a member stands in the replicated log.
type Standing struct {
	Self       uint64 // raft id; 0: it has none, or no vote that counts
	Electorate Electorate
	Applied    uint64        // index of the log
	Contact    time.Duration // boot clock: in touch with a majority; 0: never
}

// Grants is a member's half: to whom it has granted what. It is kept in memory
// only, and is not safe for concurrent use.
type Grants struct {
	terms    map[string]Terms
	standing Standing
	tag      string
	drift    float64 // what two clocks may be apart in rate
	// quiet is, on the boot clock, until when nothing is granted but what is
	// granted already: there may be grants that this member does not know of.
	quiet  time.Duration
	grants map[string]*grant
	seen   map[asker]question
	news   chan struct{} // closed when an address may have become free
}

type grant struct {
	frontend string
	session  uint64
	seq      uint64        // of the question that was granted last
	until    time.Duration // boot clock
}

type asker struct{ vip, frontend string }

type question struct{ session, seq uint64 }

// NewGrants begins a member's half at its start.
func NewGrants(born draas.Reading, drift float64) *Grants {
	return &Grants{drift: drift, quiet: born.Boot + draas.Lease{Length: MaxLease, Drift: drift}.Wait(), grants: make(map[string]*grant),
		seen: make(map[asker]question), news: make(chan struct{})}
}

// Use takes over the terms of a file. What is granted stays granted.
func (g *Grants) Use(terms map[string]Terms) {
	g.terms = terms
	g.wake()
}

// Stand takes over how the member stands. When the voters have changed, those
// of before may have granted something, and may do so for as long as they do
// not hear of the change.
func (g *Grants) Stand(s Standing, now draas.Reading) {
	g.standing = s
	tag := s.Electorate.tag()
	if tag == g.tag {
		return
	}
	if g.tag != "" {
		g.quiet = max(g.quiet, now.Boot+draas.Lease{Length: contactMax + MaxLease, Drift: g.drift}.Wait())
	}
	g.tag = tag
	g.wake()
}

// News is closed when an address may have become free.
func (g *Grants) News() <-chan struct{} { return g.news }

func (g *Grants) wake() {
	close(g.news)
	g.news = make(chan struct{})
}

// Ask answers a frontend. The same question may be asked again, until it has been
// overtaken: the address may have become free.
func (g *Grants) Ask(a Ask, now draas.Reading) Answer {
	out := Answer{Member: g.standing.Self, Electorate: g.standing.Electorate, Applied: g.standing.Applied}
	terms, known := g.terms[a.VIP]
	if !known || !slices.Contains(terms.Holders, a.Frontend) {
		out.Reason = fmt.Sprintf("the file of this member has no [vip.%s] that frontend %s may have", a.VIP, a.Frontend)
		return out
	}
	from := asker{a.VIP, a.Frontend}
	if last := g.seen[from]; last.session == a.Session && a.Seq < last.seq {
		out.Reason = "a later question has overtaken this one"
		return out
	}
	g.seen[from] = question{a.Session, a.Seq}
	cur := g.current(a.VIP, now)
	mine := cur != nil && cur.frontend == a.Frontend && cur.session == a.Session
	if !a.Want {
		// Not what was granted to a question behind this one.
		if mine && a.Seq > cur.seq {
			delete(g.grants, a.VIP)
			g.wake()
		}
		if cur != nil && !mine {
			out.Holder, out.Left = cur.frontend, cur.until-now.Boot
		}
		return out
	}
	if out.Reason = g.unable(now); out.Reason != "" {
		return out
	}
	switch {
	case mine:
	case cur != nil:
		out.Holder, out.Left = cur.frontend, cur.until-now.Boot
		return out
	case now.Boot < g.quiet:
		out.Left, out.Reason = g.quiet-now.Boot, "this member may have granted it before it started, or the voters have changed"
		return out
	default:
		cur = &grant{frontend: a.Frontend, session: a.Session}
		g.grants[a.VIP] = cur
	}
	cur.seq = a.Seq
	cur.until = max(cur.until, now.Boot+terms.Lease.Wait())
	out.Granted, out.Lease = true, terms.Lease.Length
	return out
}

// unable says why this member grants nothing; empty: it may.
func (g *Grants) unable(now draas.Reading) string {
	s := g.standing
	switch {
	case s.Self == 0 || g.tag == "":
		return "this member has no vote"
	case s.Contact == 0 || now.Boot-s.Contact > contactMax:
		return "this member is out of touch with the others"
	}
	return ""
}

// current is the grant in force.
func (g *Grants) current(vip string, now draas.Reading) *grant {
	if cur := g.grants[vip]; cur != nil && now.Boot < cur.until {
		return cur
	}
	delete(g.grants, vip)
	return nil
}

// Holder is to whom an address is granted here; empty: to nobody.
func (g *Grants) Holder(vip string, now draas.Reading) string {
	if cur := g.current(vip, now); cur != nil {
		return cur.frontend
	}
	return ""
}
