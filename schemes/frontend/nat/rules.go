package nat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// route is what a service's tables do, one for each family it listens in:
//
//	table ip draas_nat_SERVICE {
//	  chain prerouting  { type nat hook prerouting; ip daddr L tcp dport P jump lead }
//	  chain local       { type nat hook output;     ip daddr L tcp dport P jump lead }
//	  chain lead        { numgen random mod 2 == 0 dnat to S1; dnat to S2 }  # empty: nowhere
//	  chain postrouting { type nat hook postrouting; ct original daddr L ct original proto-dst P masquerade }
//	  chain forward, input, output { type filter; ct original daddr L ct original proto-dst P jump guard }
//	  chain guard       { tcp flags & rst == rst return
//	                      ct reply saddr S1 ct reply proto-src P1 return; S2 too
//	                      reject with tcp reset }
//	}
//
// The guard lets through what belongs to a server of the site, whichever way it
// goes; everything else that once was sent to the service's address is refused:
// what has not been translated, and what was translated to another site. Its
// servers stay there while the site is drained.
type route struct {
	Service
	table   string
	proto   byte
	servers []netip.AddrPort // that may be talked to
	lead    bool             // new connections are led to them
}

// family is what differs between IPv4 and IPv6.
type family struct {
	name     string
	nf       nftables.TableFamily
	bits     int
	length   uint32
	src, dst uint32 // offsets (RFC 791, section 3.1; RFC 8200, section 3)
}

var (
	v4 = family{"IPv4", nftables.TableFamilyIPv4, 32, 4, 12, 16}
	v6 = family{"IPv6", nftables.TableFamilyIPv6, 128, 16, 8, 24}
)

func (f family) has(a netip.Addr) bool { return a.BitLen() == f.bits }

func (r *route) families() []family {
	var all []family
	for _, f := range []family{v4, v6} {
		if len(r.listen(f)) > 0 {
			all = append(all, f)
		}
	}
	return all
}

func (r *route) listen(f family) []netip.AddrPort { return only(f, r.Listen) }

// of are the servers of a family.
func (r *route) of(f family) []netip.AddrPort { return only(f, r.servers) }

func only(f family, all []netip.AddrPort) []netip.AddrPort {
	var some []netip.AddrPort
	for _, a := range all {
		if f.has(a.Addr()) {
			some = append(some, a)
		}
	}
	return some
}

// clear fills the batch with the end of a table.
func (r *route) clear(c *nftables.Conn, f family) {
	t := &nftables.Table{Family: f.nf, Name: r.table}
	c.AddTable(t) // so that deleting succeeds when it is not there
	c.DelTable(t)
}

// install fills the batch with the whole tables.
func (r *route) install(c *nftables.Conn) {
	for _, f := range r.families() {
		r.clear(c, f)
		t := c.AddTable(&nftables.Table{Family: f.nf, Name: r.table})
		plain := func(name string) *nftables.Chain {
			return c.AddChain(&nftables.Chain{Name: name, Table: t})
		}
		base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
			return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook, Priority: &priority})
		}
		rule := func(ch *nftables.Chain, parts ...[]expr.Any) {
			all := &nftables.Rule{Table: t, Chain: ch}
			for _, p := range parts {
				all.Exprs = append(all.Exprs, p...)
			}
			c.AddRule(all)
		}
		lead, guard := plain("lead"), plain("guard")
		r.leads(f, func(parts ...[]expr.Any) { rule(lead, parts...) })
		r.guards(f, func(parts ...[]expr.Any) { rule(guard, parts...) })
		pre := base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest)
		local := base("local", nftables.ChainTypeNAT, nftables.ChainHookOutput, *nftables.ChainPriorityNATDest)
		post := base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
		// Behind the translation, before most filters.
		const early = -10
		filters := []*nftables.Chain{
			base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, early),
			base("input", nftables.ChainTypeFilter, nftables.ChainHookInput, early),
			base("output", nftables.ChainTypeFilter, nftables.ChainHookOutput, early),
		}
		for _, l := range r.listen(f) {
			for _, ch := range []*nftables.Chain{pre, local} {
				rule(ch, proto(r.proto), daddr(f, l.Addr()), dport(l.Port()), jump(lead))
			}
			for _, ch := range filters {
				rule(ch, proto(r.proto), original(l), jump(guard))
			}
			if source := r.source(f); source != nil {
				rule(post, proto(r.proto), original(l), source)
			}
		}
	}
}

// leads are the rules that choose a server: the first of n with probability
// 1/n, the next of those that are left, and so on.
func (r *route) leads(f family, rule func(...[]expr.Any)) {
	all := r.of(f)
	if !r.lead {
		return
	}
	for i, s := range all {
		choose := []expr.Any{&expr.Numgen{Register: 1, Modulus: uint32(len(all) - i), Type: unix.NFT_NG_RANDOM}}
		if r.Affinity {
			choose = []expr.Any{
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.src, Len: f.length},
				&expr.Hash{SourceRegister: 1, DestRegister: 1, Length: f.length, Modulus: uint32(len(all) - i), Seed: uint32(i + 1), Type: expr.HashTypeJenkins},
			}
		}
		choose = append(choose, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 0, 0, 0}})
		if i == len(all)-1 {
			choose = nil
		}
		// nft can read back only a translation that names its protocol.
		rule(proto(r.proto), choose, []expr.Any{
			&expr.Immediate{Register: 1, Data: s.Addr().AsSlice()},
			&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(s.Port())},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.nf), RegAddrMin: 1, RegProtoMin: 2, Specified: true},
		})
	}
}

const (
	offTCPFlags = 13 // RFC 9293, section 3.1
	tcpRST      = 0x04
)

// guards are the rules of what may pass.
func (r *route) guards(f family, rule func(...[]expr.Any)) {
	refuse := []expr.Any{&expr.Counter{}, &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: portUnreachable(f)}}
	if r.proto == unix.IPPROTO_TCP {
		// Or the resets of the refusal would be refused.
		rule(proto(r.proto), []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offTCPFlags, Len: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{tcpRST}, Xor: []byte{0}},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{tcpRST}},
			&expr.Verdict{Kind: expr.VerdictReturn},
		})
		refuse = []expr.Any{&expr.Counter{}, &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	}
	for _, s := range r.of(f) {
		rule(proto(r.proto), tuple(expr.CtKeySRC, expr.CtKeyPROTOSRC, reply, s), []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}})
	}
	rule(refuse)
}

// portUnreachable is the ICMP code (RFC 792) or that of ICMPv6 (RFC 4443).
func portUnreachable(f family) uint8 {
	if f.nf == nftables.TableFamilyIPv6 {
		return 4
	}
	return 3
}

// source is what becomes of the users' address; nil: it stays.
func (r *route) source(f family) []expr.Any {
	if r.Masquerade {
		return []expr.Any{&expr.Masq{}}
	}
	for _, a := range r.Source {
		if f.has(a) {
			return []expr.Any{
				&expr.Immediate{Register: 1, Data: a.AsSlice()},
				&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(f.nf), RegAddrMin: 1},
			}
		}
	}
	return nil
}

// Directions of a flow (IP_CT_DIR of nf_conntrack_tuple_common.h). The kernel
// takes one byte (NFTA_CT_DIRECTION) and the module writes four, the highest
// one first.
const (
	sent  = 0 << 24
	reply = 1 << 24
)

// original matches all packets of flows that began towards l.
func original(l netip.AddrPort) []expr.Any {
	return tuple(expr.CtKeyDST, expr.CtKeyPROTODST, sent, l)
}

func tuple(addr, port expr.CtKey, direction uint32, a netip.AddrPort) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: addr, Direction: direction},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.Addr().AsSlice()},
		&expr.Ct{Register: 1, Key: port, Direction: direction},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(a.Port())},
	}
}

func proto(p byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}},
	}
}

func daddr(f family, a netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.dst, Len: f.length},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()},
	}
}

func dport(port uint16) []expr.Any {
	const offset = 2 // of TCP and of UDP
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

func jump(ch *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: ch.Name}}
}

// fingerprint lists the tables as the kernel has them: their numbers and flags
// (a dormant table does nothing), and the chains with hook, priority, policy and the
// handles of their rules, which change when a rule is replaced.
func (r *route) fingerprint(c *nftables.Conn, raw *netlink.Conn) (map[string]string, error) {
	prints := make(map[string]string)
	for _, f := range r.families() {
		table, err := r.stamp(raw, f)
		if err != nil {
			return nil, err
		}
		if table == "" {
			continue
		}
		prints[f.name] = table
		chains, err := c.ListChainsOfTableFamily(f.nf)
		if err != nil {
			return nil, err
		}
		for _, ch := range chains {
			if ch.Table == nil || ch.Table.Name != r.table {
				continue
			}
			var b strings.Builder
			if ch.Hooknum != nil && ch.Priority != nil && ch.Policy != nil {
				fmt.Fprintf(&b, "hook %d priority %d policy %d", *ch.Hooknum, *ch.Priority, *ch.Policy)
			}
			prints[f.name+" "+ch.Name] = b.String()
		}
		rules, err := r.handles(raw, f)
		if err != nil {
			return nil, err
		}
		for chain, handles := range rules {
			prints[f.name+" "+chain] += fmt.Sprint(" rules ", handles)
		}
	}
	return prints, nil
}

// stamp is the number of the table, which one that others make anew does not
// get again, and its flags; empty: there is none.
func (r *route) stamp(raw *netlink.Conn, f family) (string, error) {
	msgs, err := raw.Execute(list(f, unix.NFT_MSG_GETTABLE, nil))
	if err != nil {
		return "", err
	}
	for _, m := range msgs {
		attrs, err := attributes(m)
		if err != nil {
			return "", err
		}
		var name string
		var flags uint32
		var handle uint64
		for attrs.Next() {
			switch attrs.Type() {
			case unix.NFTA_TABLE_NAME:
				name = attrs.String()
			case unix.NFTA_TABLE_FLAGS:
				flags = attrs.Uint32()
			case tableHandle:
				handle = attrs.Uint64()
			}
		}
		if err := attrs.Err(); err != nil {
			return "", err
		}
		if name == r.table {
			return fmt.Sprintf("table %d flags %#x", handle, flags), nil
		}
	}
	return "", nil
}

// tableHandle is NFTA_TABLE_HANDLE of linux/netfilter/nf_tables.h.
const tableHandle = 4

// list asks for all tables, or all rules of some.
func list(f family, kind int, attrs []byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
			Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{byte(f.nf), unix.NFNETLINK_V0, 0, 0}, attrs...), // struct nfgenmsg
	}
}

func attributes(m netlink.Message) (*netlink.AttributeDecoder, error) {
	const header = 4 // struct nfgenmsg
	if len(m.Data) < header {
		return nil, errors.New("a message of nftables that is too short")
	}
	attrs, err := netlink.NewAttributeDecoder(m.Data[header:])
	if err != nil {
		return nil, err
	}
	attrs.ByteOrder = binary.BigEndian
	return attrs, nil
}

// handles lists the rules of a table by their chain (NFT_MSG_GETRULE). The
// module cannot: it does not read back what it writes of a flow's direction.
func (r *route) handles(raw *netlink.Conn, f family) (map[string][]uint64, error) {
	table, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: append([]byte(r.table), 0)}})
	if err != nil {
		return nil, err
	}
	msgs, err := raw.Execute(list(f, unix.NFT_MSG_GETRULE, table))
	if err != nil {
		return nil, err
	}
	all := make(map[string][]uint64)
	for _, m := range msgs {
		attrs, err := attributes(m)
		if err != nil {
			return nil, err
		}
		var in, chain string
		var handle uint64
		for attrs.Next() {
			switch attrs.Type() {
			case unix.NFTA_RULE_TABLE:
				in = attrs.String()
			case unix.NFTA_RULE_CHAIN:
				chain = attrs.String()
			case unix.NFTA_RULE_HANDLE:
				handle = attrs.Uint64()
			}
		}
		if err := attrs.Err(); err != nil {
			return nil, err
		}
		if in == r.table {
			all[chain] = append(all[chain], handle)
		}
	}
	return all, nil
}
