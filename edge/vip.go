package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/schemes/vip"
	"github.com/draasd/draas/schemes/vip/lan"
)

// addresses is what sets the addresses of a virtual IP on this host: lan.Host,
// or what tells keepalived.
type addresses interface {
	Fit() error
	Take(ctx context.Context, until draas.Deadline) error
	Extend(until draas.Deadline) error
	Drop() error
	Events() <-chan lan.Event
	Status() lan.Status
	Close() error
}

// granter is a member that is asked for its grant, as api.Client asks it.
type granter interface {
	Hold(context.Context, api.Hold) (*api.Granted, error)
}

const (
	// fitEvery is how often it is looked at whether this host could have the
	// addresses, beside what the host tells by itself.
	fitEvery = 500 * time.Millisecond
	// troublePause is how long, at the most, a host that could not take the
	// addresses, or keep them, leaves them to others: it doubles up to that with
	// each time in a row.
	troublePause = 2 * time.Second
	// handOver is how long somebody else is given to take what this one gives
	// up.
	handOver = 3 * time.Second
	// waitForIt is how long a question waits at a member for the address.
	waitForIt = time.Second
	// giveBackLimit bounds telling the members that grants are given back.
	giveBackLimit = 300 * time.Millisecond
)

// keeper is this frontend's side of one virtual IP: it asks the members for it,
// and has the addresses while a majority has granted them.
type keeper struct {
	v        config.VIP
	frontend string
	session  uint64
	clock    func() draas.Reading
	log      *slog.Logger
	open     func(*keeper) (addresses, error)
	host     addresses // nil: it could not be opened yet
	members  map[draas.MemberID]granter
	news     chan struct{} // a token when something has changed
	asks     sync.WaitGroup

	mu       sync.Mutex
	claim    *vip.Claim
	has      bool
	until    draas.Deadline // as the host knows it
	since    time.Time      // of has
	back     time.Duration  // boot clock: it does not want before
	failed   int            // how often in a row the host could not have it
	trouble  string
	warning  string                  // of what happened on the network
	said     map[draas.MemberID]said // what each member answered last
	stations map[string][]string
	own      []string
	moved    chan struct{} // closed when has, back or trouble changes
}

func newKeeper(v config.VIP, frontend string, clock func() draas.Reading, log *slog.Logger, members map[draas.MemberID]granter, open func(*keeper) (addresses, error)) *keeper {
	k := &keeper{v: v, frontend: frontend, open: open, trouble: "it is just starting", session: rand.Uint64(), clock: clock, log: log.With("vip", v.ID), members: members,
		news: make(chan struct{}, 1), since: time.Now(), moved: make(chan struct{}), stations: make(map[string][]string), said: make(map[draas.MemberID]said)}
	k.claim = vip.NewClaim(vip.ClaimConfig{VIP: v.ID, Frontend: frontend, Session: k.session, Drift: config.Drift,
		Margin: v.Lease.Margin, Patience: v.Lease.Length})
	return k
}

// run keeps the virtual IP until ctx ends, and has given it up then.
func (k *keeper) run(ctx context.Context) {
	k.fit()
	asking, stop := context.WithCancel(ctx)
	for id, m := range k.members {
		k.asks.Go(func() { k.ask(asking, id, m) })
	}
	defer func() {
		stop()
		k.asks.Wait()
		// Nobody asks any more: what is given back now stays given back.
		k.giveUp(0)
		k.asks.Wait()
		if k.host != nil {
			if err := k.host.Close(); err != nil {
				k.log.Error("cannot take the virtual IP's addresses away", "err", err)
			}
		}
	}()
	look := time.NewTicker(fitEvery)
	defer look.Stop()
	over := time.NewTimer(time.Hour)
	defer over.Stop()
	for {
		var events <-chan lan.Event
		if k.host != nil {
			events = k.host.Events()
		}
		select {
		case <-ctx.Done():
			return
		case <-k.news:
		case <-over.C:
		case <-look.C:
			k.fit()
		case e := <-events:
			k.happened(e)
		}
		over.Reset(k.turn(ctx))
	}
}

func (k *keeper) nudge() {
	select {
	case k.news <- struct{}{}:
	default:
	}
}

// turn does what follows from what has been granted by now, and tells when there
// is more to do if nothing happens.
func (k *keeper) turn(ctx context.Context) time.Duration {
	k.mu.Lock()
	now, until := k.clock(), k.claim.Until()
	stuck, has, fit, was := k.claim.Stuck(now), k.has, k.trouble == "", k.until
	k.mu.Unlock()
	held := !until.Passed(now)
	switch {
	case has && !held:
		k.lapsed()
	case has && !fit:
		k.giveUp(troublePause)
	case has:
		// Each answer moves the end on a little: not every one is worth a change
		// of the fence.
		if until.Left(now)-was.Left(now) >= k.v.Renew()/2 {
			k.extend(until)
		}
	case held && fit:
		k.take(ctx, until)
	case held, stuck:
		// In nobody's way: the one that stands first in the file tries again first,
		// and has then had the time to get them all.
		rank := float64(slices.Index(k.v.Holders, k.frontend))
		k.giveUp(time.Duration(float64(k.v.Renew()) * (0.3 + 0.2*rand.Float64() + 1.5*rank)))
	}
	if held {
		return min(until.Left(now), fitEvery)
	}
	return k.v.Renew()
}

// take sets the addresses.
func (k *keeper) take(ctx context.Context, until draas.Deadline) {
	err := k.host.Take(ctx, until)
	if err != nil {
		k.giveUp(k.sulk())
		k.note(fmt.Sprintf("it was granted and could not be taken: %v", err))
		return
	}
	k.mu.Lock()
	k.has, k.until, k.since, k.warning = true, until, time.Now(), ""
	k.failed = 0
	k.tell()
	k.mu.Unlock()
	k.log.Info("has the virtual IP", "addresses", k.v.At(k.frontend))
}

// sulk is how long to leave the addresses to others after they could not be had.
func (k *keeper) sulk() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	pause := min(k.v.Renew()<<k.failed, troublePause)
	if pause < troublePause {
		k.failed++
	}
	return pause
}

func (k *keeper) extend(until draas.Deadline) {
	err := k.host.Extend(until)
	switch {
	case errors.Is(err, lan.ErrNotHeld), err != nil && until.Passed(k.clock()):
		k.lapsed() // the fence was quicker, or the lease is over by now
	case err != nil:
		k.giveUp(k.sulk())
		k.note(fmt.Sprintf("it could not be kept: %v", err))
	default:
		k.mu.Lock()
		k.until = until
		k.mu.Unlock()
	}
}

// lapsed ends what was not renewed in time. Its grants may come back.
func (k *keeper) lapsed() {
	k.mu.Lock()
	members := k.heard()
	k.mu.Unlock()
	k.drop()
	k.log.Warn("no majority of the members has renewed the lease in time: the virtual IP is given up", "members", members)
}

// drop takes the addresses away.
func (k *keeper) drop() {
	if err := k.host.Drop(); err != nil {
		// The fence has shut, or will when the lease is over.
		k.note(fmt.Sprintf("its addresses could not be taken away: %v", err))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.has {
		k.has, k.since = false, time.Now()
		k.tell()
	}
	k.until = draas.Deadline{}
}

// giveUp takes the addresses away, then gives the grants back, and leaves them to
// others for a while.
func (k *keeper) giveUp(pause time.Duration) {
	k.mu.Lock()
	had := k.has
	k.mu.Unlock()
	if had {
		k.drop()
	}
	k.mu.Lock()
	k.claim.Drop()
	k.back = k.clock().Boot + pause
	k.tell()
	for id, m := range k.members {
		ask := k.hold(false, 0)
		k.asks.Go(func() {
			// Not bounded by what ends this frontend: who waits for the address
			// would wait for a whole lease.
			ctx, cancel := context.WithTimeout(context.Background(), giveBackLimit)
			defer cancel()
			if _, err := m.Hold(ctx, ask); err != nil {
				k.log.Debug("a member did not hear that the virtual IP is given up", "member", id, "err", err)
			}
		})
	}
	k.mu.Unlock()
	if had {
		k.log.Info("has given up the virtual IP")
	}
}

// yield gives the virtual IP up for somebody else to take, and waits until
// somebody has, or nobody did.
func (k *keeper) yield(ctx context.Context) (string, error) {
	k.mu.Lock()
	had := k.has
	k.mu.Unlock()
	if !had {
		return "", fmt.Errorf("this frontend does not have vip %s", k.v.ID)
	}
	k.log.Info("gives up the virtual IP because somebody asked for it")
	k.giveUp(handOver)
	limit, cancel := context.WithTimeout(ctx, handOver+time.Second)
	defer cancel()
	for {
		k.mu.Lock()
		now, moved := k.clock(), k.moved
		holder, has := k.claim.Holder(now), k.has
		k.mu.Unlock()
		if holder != "" || has {
			return holder, nil
		}
		select {
		case <-moved:
		case <-limit.Done():
			return "", fmt.Errorf("nobody was seen to take vip %s: draasd status shows who can", k.v.ID)
		}
	}
}

// fit looks at whether this host could have the addresses.
func (k *keeper) fit() {
	err := k.ready()
	text := ""
	if err != nil {
		text = err.Error()
	}
	k.mu.Lock()
	was := k.trouble
	k.trouble = text
	if was != text {
		k.tell()
	}
	k.mu.Unlock()
	switch {
	case text == was:
	case text != "":
		k.log.Warn("this host cannot have the virtual IP", "err", text)
	default:
		k.log.Info("this host can have the virtual IP again")
	}
	if text != was {
		k.nudge()
	}
}

// ready opens what sets the addresses, if that is not done yet, and asks it.
func (k *keeper) ready() error {
	if k.host == nil {
		host, err := k.open(k)
		if err != nil {
			return err
		}
		k.mu.Lock()
		k.host = host
		k.mu.Unlock()
	}
	return k.host.Fit()
}

// happened takes what the host tells of the network, which has logged it.
func (k *keeper) happened(e lan.Event) {
	switch e.Kind {
	case lan.LinkUp:
		k.warn("")
	case lan.Expired:
		k.lapsed()
	default:
		k.warn(e.Text)
	}
	k.fit()
}

// note logs a sentence and keeps it for status.
func (k *keeper) note(text string) {
	k.log.Error("virtual IP", "err", text)
	k.warn(text)
}

// warn keeps a sentence for status.
func (k *keeper) warn(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.warning = text
	k.tell()
}

// tell wakes who waits for a change. k.mu is held.
func (k *keeper) tell() {
	close(k.moved)
	k.moved = make(chan struct{})
}

// status is how this frontend stands to the virtual IP.
func (k *keeper) status() api.FrontendVIP {
	k.mu.Lock()
	host := k.host
	k.mu.Unlock()
	var h lan.Status
	if host != nil {
		h = host.Status()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock()
	s := api.FrontendVIP{VIP: k.v.ID, Has: k.has, Since: k.since.UTC(), SetBy: k.v.SetBy, Holder: k.claim.Holder(now), Trouble: k.trouble}
	if s.Trouble == "" {
		s.Trouble = k.warning
	}
	if k.has {
		s.Holder, s.LeaseLeftMS = k.frontend, k.until.Left(now).Milliseconds()
	}
	for _, a := range h.Addresses {
		x := api.FrontendAddress{Address: a.Prefix.String(), Interface: a.Interface, Present: a.Present}
		if a.Conflict != nil {
			x.Conflict = a.Conflict.String()
		}
		s.Addresses = append(s.Addresses, x)
	}
	return s
}
