package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/syncer"
)

// carried is what is known of the runs of a leg. carrier.mu guards it.
type carried struct {
	status  syncer.Status // the last that was read of the records
	running *api.SyncRun
	last    *api.SyncResult
	// narrower says that the records are of a file that carried something else,
	// and perhaps less: they do not say how far all of it is.
	narrower bool
	held     string // why; empty: it is not
	heldAt   uint64 // epoch of the last run that was not
	failure  string // of the last run; empty: it did not fail
	failures int    // in a row
	// notBefore is when what is due is run again after a failure; rested is when
	// the last run ended.
	notBefore, rested time.Time
	asked             bool // by a person, since the last run began
	// What the last run left, see api.SyncBrief.
	stuck, differ int
}

// begin begins a leg: what is known of runs of another says nothing of it.
func (c *carrier) begin(l leg) {
	c.mu.Lock()
	cfg := c.cfg
	c.carried = carried{status: c.status}
	c.mu.Unlock()
	c.reread(cfg, l.from)
	c.log.Info("this site's cloud follows another", "service", l.unit, "from", l.from, "epoch", l.epoch)
}

// reread takes what stands in the records, which others may have written. What
// was known stays where they cannot be read.
func (c *carrier) reread(cfg *config.Config, from draas.SiteID) {
	st, has, err := c.recall(cfg, from)
	if err != nil {
		c.log.Warn("what the last run has left cannot be read", "err", err)
	}
	if !has {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = st
}

// stillHeld reports whether nobody has accepted yet what the last run was held
// for: then neither cloud is asked.
func (c *carrier) stillHeld(cfg *config.Config, l leg) bool {
	c.mu.Lock()
	held, epoch := c.held != "", c.heldAt
	c.mu.Unlock()
	if !held {
		return false
	}
	st, has, err := c.recall(cfg, l.from)
	return err != nil || has && st.Meta.Epoch == epoch
}

// end ends it: its copy may be written by others from now on.
func (c *carrier) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sched, c.again, c.running, c.held, c.failure, c.failures = nil, nil, nil, "", "", 0
}

// recallStatus reads the records of a file, if there are any.
func recallStatus(cfg *config.Config, from draas.SiteID) (syncer.Status, bool, error) {
	path := cfg.Sync.StateOf(from)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return syncer.Status{}, false, nil
	}
	store, err := syncer.OpenStore(path)
	if err != nil {
		return syncer.Status{}, false, err
	}
	st, err := store.Status()
	err = errors.Join(err, store.Close())
	return st, err == nil, err
}

// Status is how far the target is, as it stands in the records.
func (r *Replication) Status() (syncer.Status, error) { return r.records.Status() }

// started notes a run, and says how it is made.
func (c *carrier) started(o outcome, l leg) syncer.Options {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = &api.SyncRun{Began: o.began.UTC(), Why: o.why}
	options := syncer.Options{Epoch: l.epoch, Audit: o.why == syncer.Audited, Retry: c.asked, Progress: c.progress}
	c.asked = false
	return options
}

// progress takes how far a run is.
func (c *carrier) progress(p syncer.Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		return
	}
	run := *c.running
	run.Done, run.ToDo, run.Bytes, run.Carry = 0, 0, 0, 0
	for _, k := range p.Kinds {
		run.Done += k.Done
		run.ToDo += k.ToDo
		run.Bytes += k.Bytes
		run.Carry += k.Carry
	}
	c.running = &run
}

// took takes what became of a run. It returns after how long it is to be tried
// again; 0: when it is due.
func (c *carrier) took(l leg, o outcome) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running, c.rested = nil, time.Now()
	if o.status != nil {
		c.status = *o.status
	}
	if o.result != nil {
		c.last = resultOf(o)
		c.stuck, c.differ = leftOf(o.result)
	}
	log := c.log.With("from", l.from, "epoch", l.epoch)
	ended := c.leg != l || errors.Is(o.cause, context.Canceled)
	c.count(o, ended)
	if ended {
		if o.result != nil {
			log.Info("a run of the replication was ended", "err", o.err)
		}
		return 0
	}
	if errors.Is(o.err, syncer.ErrHeld) && o.result != nil {
		held := o.result.Plan.Held
		if held != c.held {
			log.Warn("the replication waits for a person: draasd sync plan shows what differs", "why", held)
		}
		c.held, c.heldAt, c.failure, c.failures = held, c.status.Meta.Epoch, "", 0
		return 0
	}
	if o.err == nil {
		if c.failure != "" || c.held != "" {
			log.Info("the replication goes on", "after", c.failures)
		}
		c.held, c.failure, c.failures, c.notBefore, c.narrower = "", "", 0, time.Time{}, false
		logRun(log, o)
		return 0
	}
	reason := o.err
	if o.cause != nil {
		reason = o.cause
	}
	failure := oneLine(reason)
	if failure != c.failure {
		log.Warn("the replication does not go on", "err", failure)
	}
	c.failure = failure
	// Neither is the clouds' fault: somebody else has the records for a while, or
	// this member was alone.
	if errors.Is(o.err, syncer.ErrStoreBusy) || errors.Is(errors.Join(o.err, o.cause), errOutOfTouch) {
		return syncRetry
	}
	c.failures++
	retry := retryAfter(c.failures)
	c.notBefore = time.Now().Add(retry)
	return retry
}

// logRun tells of a run that has done something.
func logRun(log *slog.Logger, o outcome) {
	if o.result == nil || len(o.result.Kinds) == 0 {
		return
	}
	done, failed, bytes := 0, 0, int64(0)
	for _, k := range o.result.Kinds {
		for _, n := range k.Done {
			done += n
		}
		failed += k.Failed
		bytes += k.Bytes
	}
	log.Info("replicated", "why", o.why, "objects", done, "failed", failed, "bytes", bytes, "took", o.result.Took)
}

// lagAt is how far the copy of a site's cloud was behind at a time, under the
// epoch of a run. c.mu is held.
func (c *carrier) lagAt(from draas.SiteID, of func(epoch uint64) bool, at time.Time) syncer.Lag {
	m := c.status.Meta
	if c.narrower || m.Source != string(from) || m.Target != string(c.site) || !of(m.Epoch) {
		return syncer.Lag{}
	}
	conf, st := &c.cfg.Sync, syncer.Status{Meta: m}
	for _, k := range c.status.Kinds {
		if (len(conf.Kinds) == 0 || slices.Contains(conf.Kinds, string(k.Kind))) && !slices.Contains(conf.Without, string(k.Kind)) {
			st.Kinds = append(st.Kinds, k)
		}
	}
	return st.Lag(at)
}

func (c *carrier) lag(l leg, now time.Time) syncer.Lag {
	return c.lagAt(l.from, func(epoch uint64) bool { return epoch == l.epoch }, now)
}

// tellOn tells how far this site is behind, until ctx ends: from then on it is
// not known.
func (c *carrier) tellOn(ctx context.Context, l leg) {
	tick := time.NewTicker(syncTell)
	defer tick.Stop()
	for {
		c.mu.Lock()
		lag := c.lag(l, time.Now())
		c.mu.Unlock()
		told := failover.Lag{Known: lag.Known}
		if lag.Known {
			told.Behind = (lag.Age + time.Second - 1).Truncate(time.Second)
		}
		c.tell(l.unit, told)
		select {
		case <-ctx.Done():
			c.tell(l.unit, failover.Lag{})
			return
		case <-tick.C:
		}
	}
}

// loss is a move whose loss is to be told.
type loss struct {
	unit  draas.ServiceID
	from  draas.SiteID
	epoch draas.Epoch
	run   uint64 // epoch of a run after it
	at    time.Time
}

// lossOf looks whether a move that has made this site active is to be told of, and
// reports it. c.mu is held.
func (c *carrier) lossOf(s failover.State) bool {
	conf := &c.cfg.Sync
	sv := s.Services[conf.Follows]
	if sv == nil || conf.Clouds[c.site] == "" {
		return false
	}
	m, times := c.tookOver(sv)
	if m == nil || m.From == c.site || conf.Clouds[m.From] == "" || m.Epoch <= c.lost { // it came back before anybody took it: nothing is lost
		return false
	}
	c.lost = m.Epoch
	if inHistory(s, conf.Follows, m.Epoch, api.LossStep, api.LossCode) {
		return false
	}
	at := times.Decided
	if !m.Kind.Planned() && !times.Suspected.IsZero() {
		at = times.Suspected // what the source has taken since then is not known
	}
	c.loss = &loss{unit: conf.Follows, from: m.From, epoch: m.Epoch, run: ReplicationEpoch(uint64(s.Generation), m.Epoch), at: at}
	return true
}

// inHistory reports whether the history has a finding already.
func inHistory(s failover.State, unit draas.ServiceID, epoch draas.Epoch, step string, code failover.FindingCode) bool {
	begins := fmt.Sprintf("%s (%s)", code, step)
	return slices.ContainsFunc(s.History, func(r failover.Record) bool {
		return r.Kind == failover.RecordFinding && r.Service == unit && r.Epoch == epoch && strings.HasPrefix(r.Text, begins)
	})
}

// tellLoss tells the history how far the copy was behind when this site took
// over, if that is to be told.
func (c *carrier) tellLoss() {
	c.mu.Lock()
	l, cfg := c.loss, c.cfg
	c.loss = nil
	c.mu.Unlock()
	if l == nil {
		return
	}
	c.reread(cfg, l.from)
	c.mu.Lock()
	lag := c.lagAt(l.from, func(epoch uint64) bool { return epoch < l.run }, l.at)
	c.mu.Unlock()
	text := api.Loss{From: l.from, Known: lag.Known, Behind: lag.Age, Objects: lag.Objects, Bytes: lag.Bytes}.InWords()
	c.find(failover.Finding{Service: l.unit, Epoch: l.epoch, Step: api.LossStep, Code: api.LossCode, Text: text})
}
