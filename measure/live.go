package measure

import (
	"fmt"
	"strings"
	"time"

	"github.com/draasd/draas"
)

// Live follows the events of a run: a line per change, and a line of status.
// The zero value is ready. Events of direct probers are passed over: a
// passive site fails by right.
type Live struct {
	order   []string
	clients map[string]*liveClient
}

type liveClient struct {
	sent, failed int
	site         draas.SiteID
	epoch        draas.Epoch
	good         time.Time     // latest arrival of a good answer
	gap          time.Duration // between the good answers around the last failures
	failing      bool
	users        map[uint16]bool // that the latest answer failed of
	many         bool            // there is more than one
	since        time.Time       // scheduled time of the first of the present failures
	row          int             // failures in a row
}

// Add returns the line that the event makes, or "".
func (l *Live) Add(e Event) string {
	if e.Direct {
		return ""
	}
	c := l.clients[e.Client]
	if c == nil {
		c = &liveClient{}
		if l.clients == nil {
			l.clients = make(map[string]*liveClient)
		}
		l.clients[e.Client] = c
		l.order = append(l.order, e.Client)
	}
	c.sent++
	c.many = c.many || e.Sample.User > 0
	change := c.answered
	if e.Err != nil {
		c.failed++
		change = c.broke
	}
	text := change(e)
	if text == "" {
		return ""
	}
	return fmt.Sprintf("%s %s: %s", e.Arrived().UTC().Format(Clock), e.Client, text)
}

func (c *liveClient) broke(e Event) string {
	c.row++
	if c.users == nil {
		c.users = make(map[uint16]bool)
	}
	c.users[e.Sample.User] = true
	if c.failing {
		return ""
	}
	c.failing, c.row, c.since = true, 1, e.Start.Add(e.Sample.At)
	return fmt.Sprintf("failures start, %v: %v", e.Sample.Class, e.Err)
}

func (c *liveClient) answered(e Event) string {
	first, moved := c.good.IsZero(), e.Site != c.site || e.Sample.Epoch != c.epoch
	gap := e.Arrived().Sub(c.good)
	c.site, c.epoch = e.Site, e.Sample.Epoch
	if gap > 0 {
		c.good = e.Arrived()
	}
	if !c.failing || e.Start.Add(e.Sample.At).After(c.since) {
		delete(c.users, e.Sample.User)
	}
	switch {
	case c.failing && len(c.users) > 0: // of some users only: it is not over
		return ""
	case c.failing && c.many:
		c.failing = false
		return fmt.Sprintf("good again for all users%s, %d failed since %s", by(" from ", c.site, c.epoch), c.row, c.since.UTC().Format(Clock))
	case c.failing && e.Start.Add(e.Sample.At).After(c.since):
		c.failing = false
		if first {
			return fmt.Sprintf("first good answer%s, %d failed before it", by(" from ", c.site, c.epoch), c.row)
		}
		c.gap = gap
		return fmt.Sprintf("good again%s, %d failed, gap %v", by(" from ", c.site, c.epoch), c.row, gap.Round(time.Millisecond))
	case first:
		return "first good answer" + by(" from ", c.site, c.epoch)
	case moved && !c.many:
		return "now answered" + by(" by ", c.site, c.epoch)
	}
	return ""
}

// Status sums up where every client stands, in one line.
func (l *Live) Status() string {
	parts := make([]string, 0, len(l.order))
	for _, name := range l.order {
		c := l.clients[name]
		text := fmt.Sprintf("%s: %d sent, %d failed%s", name, c.sent, c.failed, by(", site ", c.site, c.epoch))
		if c.gap > 0 {
			text += fmt.Sprintf(", last gap %v", c.gap.Round(time.Millisecond))
		}
		if c.failing {
			text += ", FAILING"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " | ")
}
