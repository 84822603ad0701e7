package nat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ti-mo/conntrack"
	"github.com/ti-mo/netfilter"
	"golang.org/x/sys/unix"
)

// The kernel's connection tracking keeps a flow translated as it was when it
// began, whatever the rules say by now.

// settle is the time between two looks at the flows: a packet that passed the
// rules of before may still be on its way to be tracked.
const settle = 2 * time.Millisecond

// forget deletes the flows of a service that do not belong to a server that
// may be talked to. It returns when it finds none for the second time.
func forget(ctx context.Context, r *route) error {
	conn, err := conntrack.Dial(nil)
	if err != nil {
		return fmt.Errorf("open connection tracking: %w", err)
	}
	defer conn.Close() //nolint:errcheck // nothing is under way
	for clean := 0; clean < 2; {
		all, err := flows(conn, r)
		if err != nil {
			return err
		}
		clean++
		for _, f := range all {
			if r.talks(server(f)) {
				continue
			}
			if err := conn.Delete(f); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("delete flow: %w", err)
			}
			clean = 0
		}
		if clean == 1 {
			t := time.NewTimer(settle)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return fmt.Errorf("delete flows: %w", ctx.Err())
			}
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("delete flows: %w", err)
		}
	}
	return nil
}

// count counts the connections to the servers that are talked to.
func count(_ context.Context, r *route) (n int64, err error) {
	if r.proto == unix.IPPROTO_UDP {
		return 0, nil
	}
	conn, err := conntrack.Dial(nil)
	if err != nil {
		return 0, fmt.Errorf("open connection tracking: %w", err)
	}
	defer conn.Close() //nolint:errcheck // nothing is under way
	all, err := flows(conn, r)
	if err != nil {
		return 0, err
	}
	for _, f := range all {
		// What has ended is remembered for minutes (nf_conntrack_tcp.h).
		const timeWait, closed = 7, 8
		over := f.ProtoInfo.TCP != nil && (f.ProtoInfo.TCP.State == timeWait || f.ProtoInfo.TCP.State == closed)
		if r.talks(server(f)) && !over {
			n++
		}
	}
	return n, nil
}

// flows lists what began towards the service's addresses.
func flows(conn *conntrack.Conn, r *route) ([]conntrack.Flow, error) {
	var ours []conntrack.Flow
	for _, f := range r.families() {
		all, err := conn.DumpFilter(conntrack.NewFilter().Family(netfilter.ProtoFamily(f.nf)), nil)
		if err != nil {
			return nil, fmt.Errorf("list flows: %w", err)
		}
		for _, flow := range all {
			to := flow.TupleOrig
			if to.Proto.Protocol == r.proto && slices.Contains(r.Listen, netip.AddrPortFrom(to.IP.DestinationAddress.Unmap(), to.Proto.DestinationPort)) {
				ours = append(ours, flow)
			}
		}
	}
	return ours, nil
}

// server is who answers in a flow.
func server(f conntrack.Flow) netip.AddrPort {
	return netip.AddrPortFrom(f.TupleReply.IP.SourceAddress.Unmap(), f.TupleReply.Proto.SourcePort)
}

// talks reports whether a server may be talked to.
func (r *route) talks(a netip.AddrPort) bool { return slices.Contains(r.servers, a) }
