package lan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/draasd/draas"
)

// watchBuffer holds the messages of large changes of rules.
const watchBuffer = 1 << 20

// fence is the ruleset in the kernel. It is not safe for concurrent use, but for
// watch. The kernel shuts it when its permit is over, whatever became of this
// process; a foreign flush of the ruleset opens it.
type fence struct {
	rules ruleset
	clock func() draas.Reading
	// conn stays open: closing a netfilter socket waits for the kernel to have
	// cleaned up after earlier batches, 20 ms and more.
	conn *nftables.Conn
	// installed is the fingerprint of the rules right after they were written.
	installed map[string]string
}

func newFence(name string, addrs []netip.Addr, clock func() draas.Reading) *fence {
	return &fence{rules: newRuleset(name, addrs), clock: clock}
}

// ask calls do with the open connection and sends the batch, if there is one. A
// failure ends the connection: an answer that was left unread would be taken for
// the next one's.
func (f *fence) ask(do func(*nftables.Conn) error) error {
	if f.conn == nil {
		conn, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		f.conn = conn
	}
	err := do(f.conn)
	if err == nil {
		err = f.conn.Flush()
	}
	if err != nil {
		f.letGo()
	}
	return err
}

func (f *fence) letGo() {
	if f.conn != nil {
		_ = f.conn.CloseLasting() // nothing is under way
		f.conn = nil
	}
}

// open lets packets pass until the deadline, and restores the rules if they are
// not there, in one batch. The deadline is judged right before and right after;
// when it has passed the fence is shut and the error is draas.ErrExpired.
func (f *fence) open(d draas.Deadline) error {
	now := f.clock()
	if d.Passed(now) {
		return errors.Join(draas.ErrExpired, f.shut())
	}
	permit := func(c *nftables.Conn) error { return f.rules.admit(c, d, d.Left(now)) }
	if err := f.permitOr(permit); err != nil {
		return err
	}
	if d.Passed(f.clock()) {
		return errors.Join(draas.ErrExpired, f.shut())
	}
	return nil
}

// shut lets nothing pass, and restores the rules if they are not there.
func (f *fence) shut() error {
	return f.permitOr(func(c *nftables.Conn) error {
		f.rules.withdraw(c)
		return nil
	})
}

// permitOr sends the batch of a permit; where that fails since the rules are not
// there, with the rules before it.
func (f *fence) permitOr(permit func(*nftables.Conn) error) error {
	if f.installed != nil {
		err := f.ask(permit)
		if err == nil || !errors.Is(err, unix.ENOENT) {
			return wrap("write permit", err)
		}
	}
	return f.install(permit)
}

// install writes the whole ruleset, with a permit, in one batch.
func (f *fence) install(permit func(*nftables.Conn) error) error {
	f.installed = nil
	if err := f.ask(func(c *nftables.Conn) error {
		if err := f.rules.install(c); err != nil {
			return err
		}
		return permit(c)
	}); err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	prints, err := f.fingerprint()
	if err != nil {
		return fmt.Errorf("read rules back: %w", err)
	}
	if len(prints) == 0 {
		return errors.New("read rules back: the tables are gone again")
	}
	f.installed = prints
	return nil
}

func (f *fence) fingerprint() (prints map[string]string, err error) {
	// Once more after a failure: a table may have gone while it was listed, and
	// the module does not say which error it was.
	for range 2 {
		err = f.ask(func(c *nftables.Conn) error {
			prints, err = f.rules.fingerprint(c)
			return err
		})
		if err == nil {
			break
		}
	}
	return prints, err
}

// whole reports whether the rules are as they were written.
func (f *fence) whole() (bool, error) {
	if f.installed == nil {
		return false, nil
	}
	now, err := f.fingerprint()
	if err != nil {
		return false, fmt.Errorf("list rules: %w", err)
	}
	return maps.Equal(now, f.installed), nil
}

// remove takes the rules away.
func (f *fence) remove() error {
	f.installed = nil
	err := f.ask(func(c *nftables.Conn) error {
		f.rules.remove(c)
		return nil
	})
	f.letGo()
	return wrap("remove rules", err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// watch calls changed when somebody may have changed the rules. It returns nil
// when ctx ends, or why it cannot go on.
func (r ruleset) watch(ctx context.Context, changed func()) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	defer conn.Close()
	if err := conn.SetReadBuffer(watchBuffer); err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // unblocks Receive
	defer stop()
	changed() // what was changed before the group was joined
	for {
		msgs, err := conn.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS): // more than the buffer holds: any may be ours
			changed()
			continue
		case err != nil:
			return fmt.Errorf("watch nftables: %w", err)
		}
		for _, m := range msgs {
			if r.touchedBy(m) {
				changed()
				break
			}
		}
	}
}

// touchedBy reports whether a message of nftables tells of a change of the
// ruleset that is not a permit's: those come with every renewal. What cannot be
// read is taken for a change.
func (r ruleset) touchedBy(m netlink.Message) bool {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES {
		return false
	}
	permit := "" // what a renewal writes
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_NEWSET, unix.NFT_MSG_DELSET:
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		permit = "permit"
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		permit = "open"
	default:
		return false
	}
	if len(m.Data) < 4 {
		return true
	}
	attrs, err := netlink.NewAttributeDecoder(m.Data[4:])
	if err != nil {
		return true
	}
	// In all of these messages the first attribute is the table; in those of
	// rules and elements the second is the chain or the set.
	var table, in string
	for attrs.Next() {
		switch attrs.Type() {
		case 1:
			table = attrs.String()
		case 2:
			if permit != "" {
				in = attrs.String()
			}
		}
	}
	if attrs.Err() != nil {
		return true
	}
	return table == r.name && (permit == "" || in != permit)
}
