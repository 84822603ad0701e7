package authority

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

// Times of telling a secondary.
const (
	tellTimeout = time.Second            // for one answer
	tellBackoff = 100 * time.Millisecond // after the first one that did not come
	tellMost    = time.Minute
)

// tellKey names a secondary of a zone.
type tellKey struct {
	zone    string
	address netip.AddrPort
}

// told is what is known of a secondary that is told of changes.
type told struct {
	acknowledged bool
	notified     uint32 // serial
	has          uint32 // serial that it answered with, if hasOne
	hasOne       bool
	err          string
}

// SecondaryStatus says how far a secondary has followed, as this member sees
// it.
type SecondaryStatus struct {
	Zone     string
	Address  netip.AddrPort
	Serial   uint32 // of the zone, as this member answers it
	Notified bool   // it has acknowledged the notification of this serial
	// Has is the serial that the secondary answered with last, if Answered.
	Has      uint32
	Answered bool
	Err      string // of the last try, if it failed
}

// Secondaries lists what is known of the secondaries that are told of changes,
// by zone and address.
func (a *Authority) Secondaries() []SecondaryStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []SecondaryStatus
	t := a.table.Load()
	if t == nil {
		return nil
	}
	for i, z := range t.layout.zones {
		for _, s := range z.zone.secondaries {
			if !s.address.IsValid() {
				continue
			}
			st := SecondaryStatus{Zone: z.zone.name, Address: s.address, Serial: t.zones[i].serial}
			if k := a.told[tellKey{z.zone.name, s.address}]; k != nil {
				st.Notified = k.acknowledged && k.notified == st.Serial
				st.Has, st.Answered, st.Err = k.has, k.hasOne, k.err
			}
			out = append(out, st)
		}
	}
	slices.SortFunc(out, func(x, y SecondaryStatus) int {
		if x.Zone != y.Zone {
			return strings.Compare(x.Zone, y.Zone)
		}
		return x.Address.Compare(y.Address)
	})
	return out
}

// keepUp does what goes on by itself while the authority serves, until the
// context ends. Of several at a time one does it.
func (a *Authority) keepUp(ctx context.Context, l *Listener) {
	select {
	case a.upkeep <- struct{}{}:
		defer func() { <-a.upkeep }()
	case <-ctx.Done():
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { a.tellAll(ctx, l.source()) })
	wg.Go(func() { a.keepSigned(ctx) })
	wg.Wait()
}

// tellAll runs one goroutine for each secondary that is told, and waits for
// them.
func (a *Authority) tellAll(ctx context.Context, source netip.Addr) {
	type running struct {
		key  *tsigKey
		stop context.CancelFunc
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	now := make(map[tellKey]running)
	defer func() {
		for _, r := range now {
			r.stop()
		}
	}()
	for { // a publication a turn
		a.mu.Lock()
		changed := a.changed
		wanted := make(map[tellKey]*tsigKey)
		for _, z := range a.layout.zones {
			for _, s := range z.zone.secondaries {
				if s.address.IsValid() {
					wanted[tellKey{z.zone.name, s.address}] = s.key
				}
			}
		}
		a.mu.Unlock()
		for k, r := range now {
			if key, ok := wanted[k]; !ok || key != r.key {
				r.stop()
				delete(now, k)
			}
		}
		for k, key := range wanted {
			if _, ok := now[k]; ok {
				continue
			}
			tellCtx, stop := context.WithCancel(ctx)
			now[k] = running{key, stop}
			wg.Go(func() { (&teller{a: a, tellKey: k, key: key, source: source}).run(tellCtx) })
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// teller tells one secondary of a zone's changes (RFC 1996), and looks whether
// it follows. It waits for nobody and nobody for it.
type teller struct {
	tellKey
	a      *Authority
	key    *tsigKey
	source netip.Addr
	warned bool
}

func (k *teller) run(ctx context.Context) {
	var st told
	done := false // with the serial that was told
	backoff := tellBackoff
	for {
		serial, ready, changed := k.a.ready(k.zone)
		done = done && st.notified == serial
		wait := tellMost
		switch {
		case done:
		case !ready:
			wait = tellTimeout
		default:
			if st.notified != serial {
				st.acknowledged, st.notified, backoff = false, serial, tellBackoff
			}
			err := k.tell(ctx, &st)
			if ctx.Err() != nil {
				return
			}
			done = err == nil
			wait, backoff = backoff, min(2*backoff, tellMost)
			k.note(&st, err)
			if !done && wait > tellTimeout { // it may have failed to transfer
				st.acknowledged = false
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
	}
}

// ready is the zone's serial, and whether it can be handed out.
func (a *Authority) ready(name string) (serial uint32, ready bool, changed chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.table.Load()
	if t == nil {
		return 0, false, a.changed
	}
	for i, z := range t.layout.zones {
		if z.zone.name == name {
			return t.zones[i].serial, a.handed(t, i, a.cfg.Clock()) == "", a.changed
		}
	}
	return 0, false, a.changed
}

// note keeps what came of a try.
func (k *teller) note(st *told, err error) {
	st.err = ""
	if err != nil {
		st.err = err.Error()
	}
	keep := *st
	k.a.mu.Lock()
	k.a.told[k.tellKey] = &keep
	k.a.mu.Unlock()
	switch {
	case err == nil:
		if k.warned {
			k.a.log.Info("dns secondary follows again", "zone", k.zone, "secondary", k.address, "serial", st.notified)
		}
		k.warned = false
	case !k.warned && !errors.Is(err, errBehind):
		k.warned = true
		k.a.log.Warn("dns secondary does not follow", "zone", k.zone, "secondary", k.address, "serial", st.notified, "err", err)
	}
}

// errBehind says that a secondary knows of the change and has not followed yet.
var errBehind = errors.New("it has not followed yet")

// tell sends the notification until it is acknowledged once, and then asks for
// the serial.
func (k *teller) tell(ctx context.Context, st *told) error {
	if !st.acknowledged {
		if _, err := k.exchange(ctx, mdns.OpcodeNotify, st.notified); err != nil {
			return fmt.Errorf("notify: %w", err)
		}
		st.acknowledged = true
		k.note(st, errBehind)
	}
	has, err := k.exchange(ctx, mdns.OpcodeQuery, 0)
	if err != nil {
		return fmt.Errorf("ask for its serial: %w", err)
	}
	st.has, st.hasOne = has, true
	switch {
	case newer(has, st.notified):
		// Another member may be ahead by a moment; for longer, see the text.
		return fmt.Errorf("it has serial %d, which is newer: if that lasts, it will not take what this member has until the zone's revision grows", has)
	case has != st.notified:
		return fmt.Errorf("%w: it has serial %d", errBehind, has)
	}
	return nil
}

// exchange sends a notification or a query for the SOA, and returns the serial
// in the answer to a query.
func (k *teller) exchange(ctx context.Context, opcode int, serial uint32) (uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	var dialer net.Dialer
	if k.source.IsValid() && k.source.Is4() == k.address.Addr().Is4() {
		dialer.LocalAddr = &net.UDPAddr{IP: k.source.AsSlice()}
	}
	c, err := dialer.DialContext(ctx, "udp", k.address.String())
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	query, err := k.message(opcode, serial)
	if err != nil {
		return 0, err
	}
	var mac []byte
	if k.key != nil {
		s := &signer{key: k.key}
		query = s.sign(query, wall(k.a.cfg.Clock()))
		mac = s.mac
	}
	if _, err := c.Write(query); err != nil {
		return 0, err
	}
	buf := make([]byte, maxQuery)
	for { // past stray messages, until the deadline
		n, err := c.Read(buf)
		if err != nil {
			return 0, err
		}
		if serial, ours, err := k.heard(buf[:n], query, mac); ours {
			return serial, err
		}
	}
}

// message is a notification or a query, with the SOA's serial as a hint (RFC
// 1996, section 3.7).
func (k *teller) message(opcode int, serial uint32) ([]byte, error) {
	m := mdns.Msg{MsgHdr: mdns.MsgHdr{Id: uint16(rand.Uint32()), Opcode: opcode, Authoritative: opcode == mdns.OpcodeNotify}}
	m.Question = []mdns.Question{{Name: k.zone, Qtype: mdns.TypeSOA, Qclass: mdns.ClassINET}}
	if opcode == mdns.OpcodeNotify {
		for _, z := range k.a.table.Load().layout.zones {
			if z.zone.name == k.zone {
				soa := z.zone.soa
				soa.Serial = serial
				m.Answer = []mdns.RR{&soa}
			}
		}
	}
	return m.Pack()
}

// heard reads a message that came back. It is ours if it answers the query and
// is signed as that was.
func (k *teller) heard(msg, sent, mac []byte) (serial uint32, ours bool, err error) {
	var m mdns.Msg
	if len(msg) < headerLen || msg[2]&bitQR == 0 || binary.BigEndian.Uint16(msg) != binary.BigEndian.Uint16(sent) ||
		msg[2]&opcodeMask != sent[2]&opcodeMask || m.Unpack(msg) != nil {
		return 0, false, nil
	}
	if k.key != nil {
		var w query
		if !w.parse(msg) || w.tsigAt == 0 {
			return 0, m.Rcode != mdns.RcodeSuccess, fmt.Errorf("the answer, %s, is not signed", mdns.RcodeToString[m.Rcode])
		}
		t, err := parseTSIG(msg, w.tsigAt)
		if err != nil || t.name != k.key.name {
			return 0, false, nil
		}
		if t.rcode != 0 {
			return 0, true, fmt.Errorf("it says %s of our signature", mdns.RcodeToString[int(t.rcode)])
		}
		if k.key.verify(msg, t, mac, wall(k.a.cfg.Clock())) != 0 {
			return 0, false, nil
		}
	}
	if m.Rcode != mdns.RcodeSuccess {
		return 0, true, fmt.Errorf("it answers %s", mdns.RcodeToString[m.Rcode])
	}
	if m.Opcode == mdns.OpcodeNotify {
		return 0, true, nil
	}
	for _, rr := range m.Answer {
		if soa, ok := rr.(*mdns.SOA); ok && mdns.CanonicalName(soa.Hdr.Name) == k.zone {
			return soa.Serial, true, nil
		}
	}
	return 0, true, errors.New("it does not serve the zone")
}
