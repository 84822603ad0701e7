package lan

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/draasd/draas"
)

// metaTimeNS is NFT_META_TIME_NS of linux/netfilter/nf_tables.h (Linux 5.4):
// CLOCK_REALTIME in nanoseconds when the packet passes.
const metaTimeNS expr.MetaKey = 30

// Offsets: of the sender's address in an ARP packet (RFC 826), of addresses in
// the network header (RFC 791, section 3.1; RFC 8200, section 3), of the target
// in neighbour discovery (RFC 4861, section 4.3).
const (
	offARPSender  = 14
	offIPv4Source = 12
	offIPv4Dest   = 16
	offIPv6Source = 8
	offIPv6Dest   = 24
	offNDTarget   = 8
)

// early is before connection tracking and any translation, late is behind them:
// a packet to the address that is led on to a server is still one to the
// address.
const (
	early = -310
	late  = 310
)

// ruleset is the fence of one virtual IP:
//
//	table arp draas_vip_NAME {            # when it has an IPv4 address
//	  set mine4 { type ipv4_addr; elements = { ADDRESSES } }
//	  set open  { type nf_proto; flags timeout }     # arp while open
//	  chain permit { meta time < DEADLINE accept }   # empty when shut
//	  chain check  { meta nfproto @open jump permit; counter drop }
//	  chain output { hook output; arp saddr ip @mine4 jump check }
//	}
//	table inet draas_vip_NAME {
//	  sets mine4, mine6, open (ip, ip6); chains permit, check as above
//	  chain to   { hook prerouting;  ip daddr @mine4 jump check; ip6 daddr @mine6 jump check
//	               solicitations with a target @mine6 jump check }
//	  chain from { hook postrouting; ip saddr @mine4 jump check; ip6 saddr @mine6 jump check
//	               advertisements with a target @mine6 jump check }
//	}
//
// Frames of packet sockets, which the announcements are, pass by it.
type ruleset struct {
	name   string
	v4, v6 []netip.Addr
	tables []table
}

// table is one of the ruleset's.
type table struct {
	*nftables.Table
	mine4, mine6 *nftables.Set // nil: no such addresses
	open         *nftables.Set
	protos       []byte // what is in open while open
	permit       *nftables.Chain
	check        *nftables.Chain
	hooks        []*nftables.Chain
	rules        []*nftables.Rule // of check and the hooks
}

func newRuleset(name string, addrs []netip.Addr) ruleset {
	r := ruleset{name: "draas_vip_" + name}
	for _, a := range slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare) {
		if a.Is4() {
			r.v4 = append(r.v4, a)
		} else {
			r.v6 = append(r.v6, a)
		}
	}
	if len(r.v4) > 0 {
		r.tables = append(r.tables, r.arp())
	}
	r.tables = append(r.tables, r.inet())
	return r
}

// begin is what both tables have. Ids of sets only matter within a batch; they
// are given here, since the module's own counter is not safe for two at a time.
func (r ruleset) begin(family nftables.TableFamily, id uint32, protos ...byte) table {
	t := table{Table: &nftables.Table{Name: r.name, Family: family}, protos: protos}
	t.open = &nftables.Set{ID: id, Table: t.Table, Name: "open", KeyType: nftables.TypeNFProto, HasTimeout: true}
	t.permit = &nftables.Chain{Name: "permit", Table: t.Table}
	t.check = &nftables.Chain{Name: "check", Table: t.Table}
	t.add(t.check, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: t.open.Name, SetID: t.open.ID},
		&expr.Verdict{Kind: expr.VerdictJump, Chain: t.permit.Name},
	})
	t.add(t.check, []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}})
	return t
}

func (r ruleset) arp() table {
	t := r.begin(nftables.TableFamilyARP, 1, unix.NFPROTO_ARP)
	t.mine4 = &nftables.Set{ID: 2, Table: t.Table, Name: "mine4", KeyType: nftables.TypeIPAddr}
	// NF_ARP_OUT of linux/netfilter_arp.h.
	output := t.hook("output", 1, 0)
	t.add(output, load(expr.PayloadBaseNetworkHeader, offARPSender, 4), in(t.mine4), t.jump())
	return t
}

func (r ruleset) inet() table {
	t := r.begin(nftables.TableFamilyINet, 3, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6)
	to := t.hook("to", unix.NF_INET_PRE_ROUTING, early)
	from := t.hook("from", unix.NF_INET_POST_ROUTING, late)
	if len(r.v4) > 0 {
		t.mine4 = &nftables.Set{ID: 4, Table: t.Table, Name: "mine4", KeyType: nftables.TypeIPAddr}
		t.add(to, is(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4), load(expr.PayloadBaseNetworkHeader, offIPv4Dest, 4), in(t.mine4), t.jump())
		t.add(from, is(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4), load(expr.PayloadBaseNetworkHeader, offIPv4Source, 4), in(t.mine4), t.jump())
	}
	if len(r.v6) > 0 {
		t.mine6 = &nftables.Set{ID: 5, Table: t.Table, Name: "mine6", KeyType: nftables.TypeIP6Addr}
		six := is(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV6)
		t.add(to, six, load(expr.PayloadBaseNetworkHeader, offIPv6Dest, 16), in(t.mine6), t.jump())
		t.add(to, six, discovery(ndSolicit), in(t.mine6), t.jump())
		t.add(from, six, load(expr.PayloadBaseNetworkHeader, offIPv6Source, 16), in(t.mine6), t.jump())
		t.add(from, six, discovery(ndAdvert), in(t.mine6), t.jump())
	}
	return t
}

// hook adds a base chain, which lets pass whatever no rule is about.
func (t *table) hook(name string, hook nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	ch := &nftables.Chain{Name: name, Table: t.Table, Type: nftables.ChainTypeFilter, Hooknum: &hook, Priority: &priority, Policy: &accept}
	t.hooks = append(t.hooks, ch)
	return ch
}

func (t *table) add(ch *nftables.Chain, parts ...[]expr.Any) {
	t.rules = append(t.rules, &nftables.Rule{Table: t.Table, Chain: ch, Exprs: slices.Concat(parts...)})
}

func (t *table) jump() []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: t.check.Name}}
}

func is(key expr.MetaKey, value byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{value}},
	}
}

func load(base expr.PayloadBase, offset, length uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: length}}
}

func in(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID}}
}

// discovery loads the target of a message of neighbour discovery of one kind.
func discovery(kind byte) []expr.Any {
	return slices.Concat(
		is(expr.MetaKeyL4PROTO, nextICMPv6),
		load(expr.PayloadBaseTransportHeader, 0, 1),
		[]expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{kind}}},
		load(expr.PayloadBaseTransportHeader, offNDTarget, 16))
}

// install fills the batch with the whole ruleset, shut.
func (r ruleset) install(c *nftables.Conn) error {
	r.remove(c)
	for _, t := range r.tables {
		c.AddTable(t.Table)
		if err := c.AddSet(t.open, nil); err != nil {
			return err
		}
		for _, s := range []struct {
			set   *nftables.Set
			addrs []netip.Addr
		}{{t.mine4, r.v4}, {t.mine6, r.v6}} {
			if s.set == nil {
				continue
			}
			var elems []nftables.SetElement
			for _, a := range s.addrs {
				elems = append(elems, nftables.SetElement{Key: a.AsSlice()})
			}
			if err := c.AddSet(s.set, elems); err != nil {
				return err
			}
		}
		for _, ch := range append([]*nftables.Chain{t.permit, t.check}, t.hooks...) {
			c.AddChain(ch)
		}
		for _, rule := range t.rules {
			c.AddRule(rule)
		}
	}
	return nil
}

// remove fills the batch with the end of the ruleset.
func (r ruleset) remove(c *nftables.Conn) {
	for _, t := range r.tables {
		c.AddTable(t.Table) // so that deleting succeeds when it is not there
		c.DelTable(t.Table)
	}
}

// admit fills the batch with a new permit in place of any old one. Left counts
// by the kernel's timer, the deadline by its wall clock: what was written late,
// by a process that was stopped, is over all the same.
func (r ruleset) admit(c *nftables.Conn, d draas.Deadline, left time.Duration) error {
	r.withdraw(c)
	for _, t := range r.tables {
		var elems []nftables.SetElement
		for _, p := range t.protos {
			// Timeouts count in milliseconds; zero would mean never.
			elems = append(elems, nftables.SetElement{Key: []byte{p}, Timeout: max(left.Truncate(time.Millisecond), time.Millisecond)})
		}
		if err := c.SetAddElements(t.open, elems); err != nil {
			return err
		}
		c.AddRule(&nftables.Rule{Table: t.Table, Chain: t.permit, Exprs: []expr.Any{
			&expr.Meta{Key: metaTimeNS, Register: 1},
			&expr.Byteorder{Op: expr.ByteorderHton, SourceRegister: 1, DestRegister: 1, Len: 8, Size: 8},
			&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binary.BigEndian.AppendUint64(nil, uint64(max(d.Wall, 0)))},
			&expr.Verdict{Kind: expr.VerdictAccept},
		}})
	}
	return nil
}

// withdraw fills the batch with the end of the permit. Emptying an empty set or
// chain succeeds; one that is not there fails the batch.
func (r ruleset) withdraw(c *nftables.Conn) {
	for _, t := range r.tables {
		c.FlushSet(t.open)
		c.FlushChain(t.permit)
	}
}

// fingerprint lists the ruleset as the kernel has it: the tables' flags (a
// dormant one does nothing), the chains with hook, priority, policy and the
// handles of their rules, which change when a rule is replaced, and the sets of
// addresses. The permit is left out, it changes with every renewal. Empty: there
// is nothing of it.
func (r ruleset) fingerprint(c *nftables.Conn) (map[string]string, error) {
	prints := make(map[string]string)
	for _, t := range r.tables {
		tables, err := c.ListTablesOfFamily(t.Family)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(tables, func(o *nftables.Table) bool { return o.Name == r.name })
		if i < 0 {
			continue
		}
		prefix := fmt.Sprintf("%d ", t.Family)
		prints[prefix+"table"] = fmt.Sprint("flags ", tables[i].Flags)
		if err := t.fingerprint(c, prefix, prints); err != nil {
			return nil, err
		}
	}
	return prints, nil
}

func (t table) fingerprint(c *nftables.Conn, prefix string, prints map[string]string) error {
	chains, err := c.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return err
	}
	for _, ch := range chains {
		if ch.Table == nil || ch.Table.Name != t.Name {
			continue
		}
		var b strings.Builder
		if ch.Hooknum != nil && ch.Priority != nil && ch.Policy != nil {
			fmt.Fprintf(&b, "hook %d priority %d policy %d", *ch.Hooknum, *ch.Priority, *ch.Policy)
		}
		if ch.Name != t.permit.Name {
			rules, err := c.GetRules(t.Table, ch)
			if err != nil {
				return err
			}
			for _, rule := range rules {
				fmt.Fprintf(&b, " %d", rule.Handle)
			}
		}
		prints[prefix+"chain "+ch.Name] = b.String()
	}
	for _, set := range []*nftables.Set{t.mine4, t.mine6} {
		if set == nil {
			continue
		}
		elems, err := c.GetSetElements(set)
		if err != nil {
			return err
		}
		var keys []string
		for _, e := range elems {
			keys = append(keys, fmt.Sprintf("%x", e.Key))
		}
		slices.Sort(keys)
		prints[prefix+"set "+set.Name] = strings.Join(keys, " ")
	}
	return nil
}
