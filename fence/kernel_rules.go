package fence

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	draas "github.com/draasd/draas"
)

// metaTimeNS is NFT_META_TIME_NS of linux/netfilter/nf_tables.h (Linux 5.4):
// CLOCK_REALTIME in nanoseconds when the packet passes.
const metaTimeNS expr.MetaKey = 30

// Offsets in the transport header: TCP and UDP have the ports in the same
// place (RFC 9293, section 3.1; RFC 768). The address offsets are those of
// RFC 791, section 3.1 and RFC 8200, section 3.
const (
	offSport    = 0
	offDport    = 2
	offTCPFlags = 13
	tcpRST      = 0x04
)

// loopback is the interface index of lo, in every network namespace.
const loopback = 1

// ruleset is one service's table:
//
//	table inet draas_SERVICE {
//	  set ports { type inet_service; elements = { PORTS } }
//	  set open  { type inet_service; flags timeout }          # PORTS while open
//	  set addr4, addr6                                        # if protect is given
//	  chain permit  { meta time < DEADLINE accept }           # empty when closed
//	  chain to      { th dport @open jump permit; meta l4proto tcp counter reject with tcp reset; counter reject }
//	  chain from    { th sport @open jump permit; tcp flags & rst == rst accept; the same rejects }
//	  chain input   { hook input;   iif lo accept; [ip daddr @addr4] meta l4proto tcp th dport @ports jump to }
//	  chain output  { hook output;  oif lo accept; [ip saddr @addr4] meta l4proto tcp th sport @ports jump from }
//	  chain forward { hook forward; both, for the protected addresses only }
//	}
//
// A base chain's accept lets the packet on to the next chain, but its reject
// is final: a `ct state established accept` elsewhere, earlier or later, does
// not save a connection. Answers are stopped too, since a service that only
// sends would else go on until its window is full; resets are let out, or the
// reject itself would be stopped.
type ruleset struct {
	table       *nftables.Table
	ports, open *nftables.Set
	keys        [][]byte // the ports, as set elements
	protos      []byte
	addr4       *nftables.Set // nil: no such addresses are protected
	addr6       *nftables.Set
	v4, v6      []netip.Addr

	permit, to, from, input, output, forward *nftables.Chain
}

func newRuleset(service draas.ServiceID, ports []uint16, protos []byte, protect []netip.Addr) ruleset {
	t := &nftables.Table{Name: "draas_" + string(service), Family: nftables.TableFamilyINet}
	r := ruleset{table: t, protos: protos}
	r.v4, r.v6 = splitFamilies(protect)
	// Set ids only matter within a batch; given here, since the module's own
	// counter is not safe for two fences at a time.
	r.ports = &nftables.Set{ID: 1, Table: t, Name: "ports", KeyType: nftables.TypeInetService}
	r.open = &nftables.Set{ID: 2, Table: t, Name: "open", KeyType: nftables.TypeInetService, HasTimeout: true}
	if len(r.v4) > 0 {
		r.addr4 = &nftables.Set{ID: 3, Table: t, Name: "addr4", KeyType: nftables.TypeIPAddr}
	}
	if len(r.v6) > 0 {
		r.addr6 = &nftables.Set{ID: 4, Table: t, Name: "addr6", KeyType: nftables.TypeIP6Addr}
	}
	for _, p := range ports {
		r.keys = append(r.keys, binaryutil.BigEndian.PutUint16(p))
	}
	plain := func(name string) *nftables.Chain { return &nftables.Chain{Name: name, Table: t} }
	base := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		accept := nftables.ChainPolicyAccept
		return &nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeFilter,
			Hooknum: hook, Priority: nftables.ChainPriorityRef(-10), Policy: &accept}
	}
	r.permit, r.to, r.from = plain("permit"), plain("to"), plain("from")
	r.input = base("input", nftables.ChainHookInput)
	r.output = base("output", nftables.ChainHookOutput)
	if len(protect) > 0 {
		r.forward = base("forward", nftables.ChainHookForward)
	}
	return r
}

// install fills the batch with the whole table, closed.
func (r ruleset) install(c *nftables.Conn) error {
	c.AddTable(r.table) // so that deleting succeeds when it is not there
	c.DelTable(r.table)
	c.AddTable(r.table)
	if err := c.AddSet(r.ports, elements(r.keys, 0)); err != nil {
		return err
	}
	if err := c.AddSet(r.open, nil); err != nil {
		return err
	}
	for _, s := range []struct {
		set   *nftables.Set
		addrs []netip.Addr
	}{{r.addr4, r.v4}, {r.addr6, r.v6}} {
		if s.set == nil {
			continue
		}
		var keys [][]byte
		for _, a := range s.addrs {
			keys = append(keys, a.AsSlice())
		}
		if err := c.AddSet(s.set, elements(keys, 0)); err != nil {
			return err
		}
	}
	for _, ch := range []*nftables.Chain{r.permit, r.to, r.from, r.input, r.output, r.forward} {
		if ch != nil {
			c.AddChain(ch)
		}
	}
	r.addVerdicts(c)
	r.addHooks(c)
	return nil
}

// addVerdicts fills the chains that decide on a packet of the service.
func (r ruleset) addVerdicts(c *nftables.Conn) {
	r.rule(c, r.to, lookupPort(offDport, r.open), jump(r.permit))
	r.rule(c, r.from, lookupPort(offSport, r.open), jump(r.permit))
	r.rule(c, r.from, l4proto(unix.IPPROTO_TCP), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offTCPFlags, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{tcpRST}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{tcpRST}},
		&expr.Verdict{Kind: expr.VerdictAccept},
	})
	for _, ch := range []*nftables.Chain{r.to, r.from} {
		r.rule(c, ch, l4proto(unix.IPPROTO_TCP), []expr.Any{&expr.Counter{}, &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
		r.rule(c, ch, []expr.Any{&expr.Counter{},
			&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}})
	}
}

// addHooks fills the base chains, which pick the service's packets.
func (r ruleset) addHooks(c *nftables.Conn) {
	r.rule(c, r.input, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(loopback)},
		&expr.Verdict{Kind: expr.VerdictAccept},
	})
	r.rule(c, r.output, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIF, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(loopback)},
		&expr.Verdict{Kind: expr.VerdictAccept},
	})
	for _, proto := range r.protos {
		for _, dst := range r.match(true) {
			r.rule(c, r.input, dst, l4proto(proto), lookupPort(offDport, r.ports), jump(r.to))
			if r.forward != nil {
				r.rule(c, r.forward, dst, l4proto(proto), lookupPort(offDport, r.ports), jump(r.to))
			}
		}
		for _, src := range r.match(false) {
			r.rule(c, r.output, src, l4proto(proto), lookupPort(offSport, r.ports), jump(r.from))
			if r.forward != nil {
				r.rule(c, r.forward, src, l4proto(proto), lookupPort(offSport, r.ports), jump(r.from))
			}
		}
	}
}

// match is the ways to match the protected addresses, as destination or
// source: one a family, or one that matches all when none are given.
func (r ruleset) match(destination bool) [][]expr.Any {
	if r.addr4 == nil && r.addr6 == nil {
		return [][]expr.Any{nil}
	}
	var all [][]expr.Any
	family := func(nfproto byte, offset, length uint32, set *nftables.Set) {
		if set == nil {
			return
		}
		all = append(all, []expr.Any{
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{nfproto}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
			&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
		})
	}
	if destination {
		family(unix.NFPROTO_IPV4, 16, 4, r.addr4)
		family(unix.NFPROTO_IPV6, 24, 16, r.addr6)
	} else {
		family(unix.NFPROTO_IPV4, 12, 4, r.addr4)
		family(unix.NFPROTO_IPV6, 8, 16, r.addr6)
	}
	return all
}

// admit fills the batch with a new permit in place of any old one. Left counts
// by the kernel's timer, the deadline by its wall clock.
func (r ruleset) admit(c *nftables.Conn, d draas.Deadline, left time.Duration) error {
	r.withdraw(c)
	// The set's timeouts count in milliseconds; zero would mean never.
	if err := c.SetAddElements(r.open, elements(r.keys, max(left.Truncate(time.Millisecond), time.Millisecond))); err != nil {
		return err
	}
	r.rule(c, r.permit, []expr.Any{
		&expr.Meta{Key: metaTimeNS, Register: 1},
		&expr.Byteorder{Op: expr.ByteorderHton, SourceRegister: 1, DestRegister: 1, Len: 8, Size: 8},
		&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binary.BigEndian.AppendUint64(nil, uint64(max(d.Wall, 0)))},
		&expr.Verdict{Kind: expr.VerdictAccept},
	})
	return nil
}

// withdraw fills the batch with the end of the permit. Emptying an empty set
// or chain succeeds.
func (r ruleset) withdraw(c *nftables.Conn) {
	c.FlushSet(r.open)
	c.FlushChain(r.permit)
}

// fingerprint lists the table as the kernel has it: its flags (a dormant table
// does nothing), the chains with hook, priority, policy and the handles of
// their rules, which change when a rule is replaced, and the constant sets. The
// permit's rule and element are left out, they change with every renewal.
// Without the table it is empty.
func (r ruleset) fingerprint(c *nftables.Conn) (map[string]string, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	prints := map[string]string{}
	for _, t := range tables {
		if t.Name == r.table.Name {
			prints["table"] = fmt.Sprint("flags ", t.Flags)
		}
	}
	if len(prints) == 0 {
		return prints, nil
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	for _, ch := range chains {
		if ch.Table == nil || ch.Table.Name != r.table.Name {
			continue
		}
		var b strings.Builder
		if ch.Hooknum != nil && ch.Priority != nil && ch.Policy != nil {
			fmt.Fprintf(&b, "hook %d priority %d policy %d", *ch.Hooknum, *ch.Priority, *ch.Policy)
		}
		if ch.Name != r.permit.Name {
			rules, err := c.GetRules(r.table, ch)
			if err != nil {
				return nil, err
			}
			for _, rule := range rules {
				fmt.Fprintf(&b, " %d", rule.Handle)
			}
		}
		prints["chain "+ch.Name] = b.String()
	}
	for _, set := range []*nftables.Set{r.ports, r.addr4, r.addr6} {
		if set == nil {
			continue
		}
		elems, err := c.GetSetElements(set)
		if err != nil {
			return nil, err
		}
		var keys []string
		for _, e := range elems {
			keys = append(keys, fmt.Sprintf("%x", e.Key))
		}
		slices.Sort(keys)
		prints["set "+set.Name] = strings.Join(keys, " ")
	}
	return prints, nil
}

func (r ruleset) rule(c *nftables.Conn, ch *nftables.Chain, parts ...[]expr.Any) {
	rule := &nftables.Rule{Table: r.table, Chain: ch}
	for _, p := range parts {
		rule.Exprs = append(rule.Exprs, p...)
	}
	c.AddRule(rule)
}

func l4proto(proto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
	}
}

func lookupPort(offset uint32, set *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
	}
}

func jump(ch *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: ch.Name}}
}

func elements(keys [][]byte, timeout time.Duration) []nftables.SetElement {
	var all []nftables.SetElement
	for _, k := range keys {
		all = append(all, nftables.SetElement{Key: k, Timeout: timeout})
	}
	return all
}

func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
