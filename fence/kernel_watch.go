package fence

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// watchBuffer holds the messages of large changes of rules.
const watchBuffer = 1 << 20

// Watch calls changed at once when somebody changes the fence's rules: the
// kernel tells of every change of nftables. It returns when ctx ends, with nil,
// or when it cannot go on.
func (k *Kernel) Watch(ctx context.Context, changed func()) error {
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
			if touches(m, k.rules) {
				changed()
				break
			}
		}
	}
}

// touches reports whether a message of nftables tells of a change that is not a
// permit's: those come with every renewal. What cannot be read is taken for a
// change.
func touches(m netlink.Message, r ruleset) bool {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES {
		return false
	}
	permit := "" // what a renewal writes
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_NEWSET, unix.NFT_MSG_DELSET:
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		permit = r.permit.Name
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		permit = r.open.Name
	default:
		return false
	}
	if len(m.Data) < 4 {
		return true
	}
	if m.Data[0] != unix.NFPROTO_INET {
		return false
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
	return table == r.table.Name && (permit == "" || in != permit)
}
