package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
)

// When pages are repeated, and how often alarms are looked at.
const (
	pageAgain = time.Minute // doubled with each page
	pageMost  = 4 * time.Hour
	pageRetry = 15 * time.Second // after the command failed
	watchAt   = time.Second
)

// pager keeps watch over the alarms: it logs each once when it comes and when
// it is over, and calls a person where one is needed. It belongs to one
// goroutine, which never waits for the command.
type pager struct {
	cluster string
	self    draas.MemberID
	log     *slog.Logger
	now     func() time.Time
	send    func(ctx context.Context, p config.Pager, page api.Page) error

	count *pagedCount

	causes map[string]*cause
	ended  chan sent // what became of the page under way
	busy   bool
}

// pagedCount counts runs of the pager's command.
type pagedCount struct{ sent, failed atomic.Uint64 }

// cause is an alarm from when it was first seen.
type cause struct {
	alarm
	since  time.Time
	next   time.Time // the next page is due
	paused time.Duration
	count  int  // pages that were sent
	over   bool // to be taken back
}

// sent is a page and what became of it.
type sent struct {
	page api.Page
	err  error
}

func newPager(cluster string, self draas.MemberID, log *slog.Logger) *pager {
	return &pager{cluster: cluster, self: self, log: log, now: time.Now, send: sendPage, count: &pagedCount{},
		causes: make(map[string]*cause), ended: make(chan sent, 1)}
}

// watch looks at the alarms until ctx ends.
func (d *Daemon) watch(ctx context.Context) {
	p := newPager(d.now().cfg.Cluster, d.self, d.log)
	p.count = &d.paged
	tick := time.NewTicker(watchAt)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if p.busy {
				<-p.ended // killed with ctx
			}
			return
		case s := <-p.ended:
			p.result(s)
		case <-tick.C:
			if _, alarms, err := d.overview(ctx, true); err == nil {
				p.see(alarms)
			}
		}
		p.page(ctx, d.now().cfg.Pager)
	}
}

// see takes the alarms as they are now.
func (p *pager) see(alarms []alarm) {
	now := p.now()
	standing := make(map[string]bool, len(alarms))
	for _, a := range alarms {
		standing[a.key] = true
		c := p.causes[a.key]
		if c == nil || c.over {
			c = &cause{since: now, next: now.Add(a.after)}
			p.causes[a.key] = c
			p.log.Warn("alarm: " + a.text)
		}
		if !c.page && a.page && c.count == 0 && c.next.Before(now) {
			c.next = now // only now it calls somebody
		}
		c.alarm = a
	}
	for key, c := range p.causes {
		if standing[key] || c.over {
			continue
		}
		p.log.Info("alarm is over: " + c.text)
		if c.count == 0 {
			delete(p.causes, key)
			continue
		}
		c.over, c.next = true, now
	}
}

// page sends the page that has been due for the longest, if none is under way.
func (p *pager) page(ctx context.Context, conf config.Pager) {
	if p.busy {
		return
	}
	if len(conf.Command) == 0 {
		maps.DeleteFunc(p.causes, func(_ string, c *cause) bool { return c.over })
		return
	}
	now := p.now()
	due := slices.SortedFunc(maps.Values(p.causes), func(a, b *cause) int {
		return cmp.Or(a.next.Compare(b.next), cmp.Compare(a.key, b.key))
	})
	i := slices.IndexFunc(due, func(c *cause) bool { return (c.page && (!c.once || c.count == 0) || c.over) && !c.next.After(now) })
	if i < 0 {
		return
	}
	c := due[i]
	page := api.Page{Event: api.PageAlarm, Key: c.key, Cluster: p.cluster, Member: p.self, Service: c.service, At: now.UTC(),
		Since: c.since.UTC(), Count: c.count + 1, Text: c.text, Reasons: c.reasons, Command: c.command}
	if c.over {
		page.Event, page.Reasons, page.Command = api.PageOver, nil, ""
	}
	p.busy = true
	go func() { p.ended <- sent{page, p.send(ctx, conf, page)} }()
}

// result takes what became of a page, and plans the next.
func (p *pager) result(s sent) {
	p.busy = false
	if s.err != nil {
		p.count.failed.Add(1)
	} else {
		p.count.sent.Add(1)
	}
	c := p.causes[s.page.Key]
	if c == nil || c.over != (s.page.Event == api.PageOver) {
		return // it came back or went meanwhile
	}
	if s.err != nil {
		p.log.Error("nobody could be paged; trying again", "about", s.page.Text, "err", s.err)
		c.next = p.now().Add(pageRetry)
		return
	}
	if c.over {
		delete(p.causes, s.page.Key)
		return
	}
	c.count++
	c.paused = min(max(2*c.paused, pageAgain), pageMost)
	c.next = p.now().Add(c.paused)
	p.log.Info("paged", "about", c.text, "count", c.count, "again_in", c.paused)
}

// sendPage runs the command.
func sendPage(ctx context.Context, p config.Pager, page api.Page) error {
	body, err := json.MarshalIndent(page, "", "  ")
	if err != nil {
		return fmt.Errorf("encode page: %w", err)
	}
	_, err = command{argv: p.Command, stdin: append(body, '\n'), timeout: p.Timeout}.run(ctx)
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	return err
}
