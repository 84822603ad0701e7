package fence

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	draas "github.com/draasd/draas"
)

// KernelConfig describes a fence of nftables rules.
type KernelConfig struct {
	Service draas.ServiceID
	Ports   []uint16 // of the service, as they are behind any DNAT
	Proto   string   // tcp (zero), udp or both
	// Protect is the destinations the ports are fenced on; none means every
	// address of this host. Addresses behind this host (routed through it) are
	// fenced only when they are given here.
	Protect []netip.Addr
	// XDP is the Ethernet interfaces where Backstop stands behind the rules.
	XDP      []string
	Backstop *Backstop
	Margin   time.Duration // what Worst returns; zero: DefaultMargin
	Clock    Clock         // zero: SystemClock
}

// Kernel is a fence of nftables rules in a table of its own. What is let in is
// let in by an element of a set that times out by itself and by a rule that
// compares the wall clock with the deadline: with no process alive the fence
// closes on time, established connections included, and a write that comes
// late, by a guard that was stopped, cannot reopen it. The rules stay when the
// guard ends: closed. Remove takes them away. Behind the rules a Backstop may
// stand: then both have to let a packet in.
type Kernel struct {
	cfg   KernelConfig
	rules ruleset
	keys  []ruleKey // of the backstop

	mu sync.Mutex
	// deadline is what was last written; zero when closed.
	deadline draas.Deadline
	// installed is the fingerprint of the rules as the kernel listed them right
	// after they were written; empty before.
	installed map[string]string
	// conn and gen stay open: closing a netfilter socket waits for the kernel
	// to have cleaned up after earlier batches, 20 ms and more.
	conn *nftables.Conn
	gen  *netlink.Conn
	// seen is the kernel's ruleset generation at which the rules were last
	// found whole.
	seen uint32
}

// nftName is what nft's own scanner can read back as a name.
var nftName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// NewKernel checks the configuration. The rules are written by the first
// Close or Open.
func NewKernel(cfg KernelConfig) (*Kernel, error) {
	if !nftName.MatchString(string(cfg.Service)) {
		return nil, fmt.Errorf("kernel fence: service %q does not make a table name (letters, digits, _ . -)", cfg.Service)
	}
	if len(cfg.Ports) == 0 || slices.Contains(cfg.Ports, 0) {
		return nil, fmt.Errorf("kernel fence: ports %v", cfg.Ports)
	}
	var protos []byte
	switch cfg.Proto {
	case "", "tcp":
		protos = []byte{unix.IPPROTO_TCP}
	case "udp":
		protos = []byte{unix.IPPROTO_UDP}
	case "both":
		protos = []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP}
	default:
		return nil, fmt.Errorf("kernel fence: proto %q is none of tcp, udp, both", cfg.Proto)
	}
	if cfg.Margin == 0 {
		cfg.Margin = DefaultMargin(draas.FenceKernel)
	}
	if cfg.Clock == nil {
		cfg.Clock = SystemClock{}
	}
	if len(cfg.XDP) > 0 && cfg.Backstop == nil {
		return nil, errors.New("kernel fence: interfaces without a backstop")
	}
	ports := slices.Compact(slices.Sorted(slices.Values(cfg.Ports)))
	v4, v6 := splitFamilies(cfg.Protect)
	return &Kernel{cfg: cfg, rules: newRuleset(cfg.Service, ports, protos, cfg.Protect),
		keys: ruleKeys(ports, protos, append(v4, v6...))}, nil
}

// Worst is the margin: the kernel's timer is exact to a jiffy.
func (k *Kernel) Worst() time.Duration { return k.cfg.Margin }

// Open writes the rules if they are not there, and the permit. Where a backstop
// is to stand and does not, it opens nothing.
func (k *Kernel) Open(_ context.Context, p Permit) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.restoreBackstop(); err != nil {
		return err
	}
	return k.open(p)
}

// Extend is Open: restoring the rules after a foreign flush is the same act. It
// does not cut users off because the backstop cannot be restored; State tells.
func (k *Kernel) Extend(_ context.Context, p Permit) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = k.restoreBackstop()
	return k.open(p)
}

func (k *Kernel) restoreBackstop() error {
	if len(k.cfg.XDP) == 0 || k.lookBackstop() == nil {
		return nil
	}
	return k.cfg.Backstop.arm(k.cfg.Service, k.keys, k.cfg.XDP)
}

func (k *Kernel) lookBackstop() error {
	return k.cfg.Backstop.look(k.cfg.Service, k.keys, k.cfg.XDP)
}

// setBackstop writes a deadline by the boot clock; zero closes.
func (k *Kernel) setBackstop(epoch draas.Epoch, until time.Duration) error {
	if len(k.cfg.XDP) == 0 {
		return nil
	}
	return k.cfg.Backstop.set(k.cfg.Service, epoch, until)
}

// open lets users in, through both where there are two.
func (k *Kernel) open(p Permit) error {
	if err := k.setBackstop(p.Epoch, p.Deadline.Boot); err != nil {
		return err
	}
	err := k.openRules(p)
	if errors.Is(err, draas.ErrExpired) {
		err = errors.Join(err, k.setBackstop(0, 0))
	}
	return err
}

// openRules writes the permit, in one batch with the rules where they have to be
// restored: nobody is cut off in between. The deadline is judged right before
// and right after.
func (k *Kernel) openRules(p Permit) error {
	d, now := p.Deadline, k.cfg.Clock.Now()
	whole, err := k.whole()
	whole = whole && err == nil
	switch {
	case d.Passed(now) && whole:
		return errors.Join(draas.ErrExpired, k.withdraw())
	case d.Passed(now):
		return errors.Join(draas.ErrExpired, k.install(nil))
	}
	permit := func(c *nftables.Conn) error { return k.rules.admit(c, d, d.Left(now)) }
	if whole {
		err = k.admit(permit)
	} else {
		err = k.install(permit)
	}
	k.deadline = d // also where the answer was lost: it may be in force
	if err != nil {
		return err
	}
	if d.Passed(k.cfg.Clock.Now()) {
		return errors.Join(draas.ErrExpired, k.withdraw())
	}
	return nil
}

// Close takes the permit away, and writes the rules if they are not there.
func (k *Kernel) Close(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	berr := errors.Join(k.restoreBackstop(), k.setBackstop(0, 0))
	whole, err := k.whole()
	if err == nil && whole {
		if err := k.withdraw(); err == nil {
			return berr
		}
	}
	return errors.Join(k.install(nil), berr)
}

// State reads the rules back from the kernel. Without its rules the fence is
// open to everybody; that is Unknown, with an error.
func (k *Kernel) State(context.Context) (State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	whole, err := k.whole()
	if err != nil {
		return Unknown, err
	}
	if !whole {
		return Unknown, fmt.Errorf("the rules of table inet %s are not there, or were changed by others%s", k.rules.table.Name, k.bare())
	}
	if len(k.cfg.XDP) > 0 {
		if err := k.lookBackstop(); err != nil {
			return Unknown, err
		}
	}
	var elems []nftables.SetElement
	if err := k.ask(func(c *nftables.Conn) error {
		elems, err = c.GetSetElements(k.rules.open)
		return err
	}); err != nil {
		return Unknown, fmt.Errorf("list permit: %w", err)
	}
	if len(elems) > 0 && !k.deadline.Passed(k.cfg.Clock.Now()) {
		return Open, nil
	}
	return Closed, nil
}

// bare says what a fence without its rules is.
func (k *Kernel) bare() string {
	if len(k.cfg.XDP) > 0 && k.lookBackstop() == nil {
		return ": only the backstop holds"
	}
	return ": the ports are not fenced"
}

// Remove takes the fence's table away: the ports are open for everybody then.
// It is for uninstalling; an orderly stop of the guard leaves the rules closed.
func (k *Kernel) Remove() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.installed, k.deadline = nil, draas.Deadline{}
	err := k.ask(func(c *nftables.Conn) error {
		c.AddTable(k.rules.table) // so that deleting succeeds when it is not there
		c.DelTable(k.rules.table)
		return c.Flush()
	})
	k.hangUp()
	if err != nil {
		err = fmt.Errorf("remove table: %w", err)
	}
	if len(k.cfg.XDP) > 0 {
		err = errors.Join(err, k.cfg.Backstop.remove(k.cfg.Service))
	}
	return err
}

// ask calls do with the open connection, which a failure ends: an answer that
// was left unread would be taken for the next one's.
func (k *Kernel) ask(do func(*nftables.Conn) error) error {
	if k.conn == nil {
		conn, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		k.conn = conn
	}
	err := do(k.conn)
	if err != nil {
		k.hangUp()
	}
	return err
}

// LetGo closes the fence's sockets. The rules stay, and so does what they
// close; whatever is asked of the fence afterwards opens them again.
func (k *Kernel) LetGo() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hangUp()
}

func (k *Kernel) hangUp() {
	if k.conn != nil {
		_ = k.conn.CloseLasting() // nothing is under way
		k.conn = nil
	}
	if k.gen != nil {
		_ = k.gen.Close() // likewise
		k.gen = nil
	}
}

// admit writes the permit: in one batch, so that no packet falls between the
// old one and the new one, and the set is emptied rather than the element
// deleted, which would fail when it has just timed out.
func (k *Kernel) admit(permit func(*nftables.Conn) error) error {
	if err := k.ask(func(c *nftables.Conn) error {
		if err := permit(c); err != nil {
			return err
		}
		return c.Flush()
	}); err != nil {
		return fmt.Errorf("write permit: %w", err)
	}
	return nil
}

func (k *Kernel) withdraw() error {
	if err := k.ask(func(c *nftables.Conn) error {
		k.rules.withdraw(c)
		return c.Flush()
	}); err != nil {
		return fmt.Errorf("withdraw permit: %w", err)
	}
	k.deadline = draas.Deadline{}
	return nil
}

// install writes the whole table in one batch, closed or with a permit:
// whatever stood there is replaced with no moment in between.
func (k *Kernel) install(permit func(*nftables.Conn) error) error {
	k.installed = nil
	if err := k.ask(func(c *nftables.Conn) error {
		if err := k.rules.install(c); err != nil {
			return err
		}
		if permit != nil {
			if err := permit(c); err != nil {
				return err
			}
		}
		return c.Flush()
	}); err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	k.deadline, k.seen = draas.Deadline{}, 0
	prints, err := k.fingerprint()
	if err != nil {
		return fmt.Errorf("read rules back: %w", err)
	}
	if len(prints) == 0 {
		return errors.New("read rules back: the table is gone again")
	}
	k.installed = prints
	return nil
}

// whole reports whether the rules are as they were written. The kernel counts
// a generation up at every change of any rule; while it stands, nothing has to
// be listed.
func (k *Kernel) whole() (bool, error) {
	if k.installed == nil {
		return false, nil
	}
	gen, err := k.generation()
	if err != nil {
		return false, err
	}
	if gen == k.seen {
		return true, nil
	}
	now, err := k.fingerprint()
	if err != nil {
		return false, fmt.Errorf("list rules: %w", err)
	}
	if !maps.Equal(now, k.installed) {
		return false, nil
	}
	k.seen = gen // read before the listing: a change since shows next time
	return true, nil
}

func (k *Kernel) fingerprint() (prints map[string]string, err error) {
	// Once more after a failure: the table may have gone while it was listed,
	// and the module does not say which error it was.
	for range 2 {
		err = k.ask(func(c *nftables.Conn) error {
			prints, err = k.rules.fingerprint(c)
			return err
		})
		if err == nil {
			break
		}
	}
	return prints, err
}

// generation asks for the ruleset's generation (NFT_MSG_GETGEN), which the
// nftables module only reports to monitors.
func (k *Kernel) generation() (uint32, error) {
	if k.gen == nil {
		conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return 0, fmt.Errorf("open netlink: %w", err)
		}
		k.gen = conn
	}
	id, err := generation(k.gen)
	if err != nil {
		k.hangUp()
		return 0, fmt.Errorf("get ruleset generation: %w", err)
	}
	return id, nil
}

func generation(conn *netlink.Conn) (uint32, error) {
	msgs, err := conn.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN),
			Flags: netlink.Request,
		},
		Data: []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0}, // struct nfgenmsg
	})
	if err != nil {
		return 0, err
	}
	for _, m := range msgs {
		if len(m.Data) < 4 {
			continue
		}
		attrs, err := netlink.UnmarshalAttributes(m.Data[4:])
		if err != nil {
			return 0, err
		}
		for _, a := range attrs {
			if a.Type == unix.NFTA_GEN_ID && len(a.Data) == 4 {
				return be32(a.Data), nil
			}
		}
	}
	return 0, errors.New("no answer")
}

// splitFamilies sorts addresses into IPv4 and IPv6.
func splitFamilies(addrs []netip.Addr) (v4, v6 []netip.Addr) {
	for _, a := range slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare) {
		a = a.Unmap()
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a.WithZone(""))
		}
	}
	return slices.Compact(v4), slices.Compact(v6)
}
