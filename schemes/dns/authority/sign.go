package authority

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"runtime"
	"slices"
	"time"

	mdns "github.com/miekg/dns"
)

// signatures are the RRSIG records of a set, in the form of set.wire.
type signatures struct {
	wire  []byte
	count uint16
	keys  *keyset
	// made and renew bound their use; a clock before made was set back.
	made, renew time.Time
}

// good reports whether the signatures may be used.
func (s *signatures) good(keys *keyset, now time.Time) bool {
	return s != nil && s.keys == keys && now.Before(s.renew) && now.After(s.made.Add(-backdate/2))
}

// Reasons of a SERVFAIL to who asks for signatures.
var (
	errNoKey = errors.New("no key of the zone is active now")
	errClock = errors.New("the clock of this member stands before its keys were made")
)

// signed are the signatures of a set. They are made when they are asked for
// first, or ahead of that, and kept.
func (k *keyset) signed(s *set, owner string, now time.Time) (*signatures, error) {
	if have := s.signed.Load(); have.good(k, now) {
		return have, nil
	}
	made, err := k.sign(s, owner, now)
	if err != nil {
		return nil, err
	}
	s.signed.Store(made)
	return made, nil
}

// sign makes the signatures of a set by each active key (RFC 4034, section
// 3.1.8.1).
func (k *keyset) sign(s *set, owner string, now time.Time) (*signatures, error) {
	keys := k.rest
	switch s.rtype {
	case mdns.TypeDNSKEY, mdns.TypeCDS, mdns.TypeCDNSKEY:
		keys = k.entry
	}
	if len(keys) == 0 {
		return nil, errNoKey
	}
	if now.Before(k.created.Add(-backdate)) {
		return nil, errClock
	}
	// A quarter of the time is left to notice that nobody renews them; the
	// moments of renewal are spread.
	renew := now.Add(k.validity*3/4 - mathrand.N(k.validity/8))
	out := &signatures{count: uint16(len(keys)), keys: k, made: now, renew: renew}
	ttl := binary.BigEndian.Uint32(s.wire[6:])
	var at [128]uint8
	for _, key := range keys {
		rdata := binary.BigEndian.AppendUint16(nil, s.rtype)
		rdata = append(rdata, mdns.ECDSAP256SHA256, uint8(labels(owner, &at)))
		rdata = binary.BigEndian.AppendUint32(rdata, ttl)
		rdata = binary.BigEndian.AppendUint32(rdata, uint32(now.Add(k.validity).Unix()))
		rdata = binary.BigEndian.AppendUint32(rdata, uint32(now.Add(-backdate).Unix()))
		rdata = binary.BigEndian.AppendUint16(rdata, key.tag)
		rdata = append(rdata, k.zone...)
		h := sha256.New()
		h.Write(rdata)
		for _, rr := range s.canonical() {
			h.Write([]byte(owner))
			h.Write(rr)
		}
		x, y, err := ecdsa.Sign(rand.Reader, key.private, h.Sum(nil))
		if err != nil {
			return nil, fmt.Errorf("sign with key %d: %w", key.tag, err)
		}
		rdata = append(rdata, make([]byte, 64)...) // RFC 6605, section 4
		x.FillBytes(rdata[len(rdata)-64 : len(rdata)-32])
		y.FillBytes(rdata[len(rdata)-32:])
		out.wire = append(out.wire, toQuestion>>8, toQuestion&0xff, 0, byte(mdns.TypeRRSIG), 0, mdns.ClassINET)
		out.wire = binary.BigEndian.AppendUint32(out.wire, ttl)
		out.wire = binary.BigEndian.AppendUint16(out.wire, uint16(len(rdata)))
		out.wire = append(out.wire, rdata...)
	}
	return out, nil
}

// canonical are the set's records without their owners, in canonical order (RFC
// 4034, section 6.3).
func (s *set) canonical() [][]byte {
	records := make([][]byte, 0, s.count)
	for wire := s.wire; len(wire) > 0; { // a record a turn
		l := 12 + int(binary.BigEndian.Uint16(wire[10:]))
		records = append(records, wire[2:l])
		wire = wire[l:]
	}
	slices.SortFunc(records, func(a, b []byte) int { return bytes.Compare(a[10:], b[10:]) })
	return records
}

// keepSigned makes the signatures of what changed before they are asked for, and
// renews those that were, until the context ends.
func (a *Authority) keepSigned(ctx context.Context) {
	renewal := time.NewTicker(time.Minute)
	defer renewal.Stop()
	var last *table
	for tick := true; ; {
		a.mu.Lock()
		changed := a.changed
		var err error
		if tick || a.table.Load() != last {
			err = a.rekey(wall(a.cfg.Clock()))
		}
		t := a.table.Load()
		a.mu.Unlock()
		if err == nil && t != nil && (tick || t != last) {
			err = a.signAhead(ctx, t, tick)
		}
		if err != nil {
			a.log.Error("dns zone cannot be signed: who asks for signatures gets SERVFAIL", "err", err)
		}
		last = t
		select {
		case <-changed:
			tick = false
		case <-renewal.C:
			tick = true
		case <-ctx.Done():
			return
		}
	}
}

// rekey follows the times that are set for keys. a.mu is held.
func (a *Authority) rekey(now time.Time) error {
	t := a.table.Load()
	if t == nil {
		return nil
	}
	var next *table
	for i, z := range t.layout.zones {
		if len(z.zone.keys) == 0 {
			continue
		}
		keys, err := z.keysAt(now)
		if err != nil {
			return err
		}
		if keys.same(t.zones[i].keys) {
			continue
		}
		if next == nil {
			next = &table{layout: t.layout, data: t.data, zones: slices.Clone(t.zones)}
		}
		state := *t.zones[i]
		state.keys = keys
		next.zones[i] = &state
		a.log.Info("dns zone has other keys", "zone", z.zone.name, "signing", fmt.Sprint(keys.entry, keys.rest))
	}
	if next != nil {
		a.table.Store(next)
	}
	return nil
}

// signAhead signs what decisions change and the zone's own sets, and renews all
// else that was asked for if it is told to look there.
func (a *Authority) signAhead(ctx context.Context, t *table, all bool) error {
	var errs []error
	for i, z := range t.layout.zones {
		if t.zones[i].keys == nil {
			continue
		}
		p := presigner{ctx: ctx, a: a, keys: t.zones[i].keys}
		for _, s := range append(slices.Clone(p.keys.sets), t.zones[i].soa) {
			p.sign(s, z.name)
		}
		for _, name := range z.zone.services {
			for _, e := range t.services[name.Service] {
				for _, n := range []*node{e.node, e.epoch} {
					for _, s := range append(slices.Clone(t.data[n.moving].sets), n.nsec) {
						if n.zone == i {
							p.sign(s, n.name)
						}
					}
				}
			}
		}
		if all {
			p.renew(z)
		}
		if p.err != nil {
			errs = append(errs, fmt.Errorf("zone %s: %w", z.zone.name, p.err))
		}
	}
	return errors.Join(errs...)
}

// presigner makes signatures before they are asked for, until one fails.
type presigner struct {
	ctx  context.Context
	a    *Authority
	keys *keyset
	err  error
}

func (p *presigner) sign(s *set, owner string) {
	if p.err != nil || p.ctx.Err() != nil {
		return
	}
	had := s.signed.Load()
	made, err := p.keys.signed(s, owner, wall(p.a.cfg.Clock()))
	if p.err = err; made != had {
		runtime.Gosched() // queries first
	}
}

// renew signs what was signed before.
func (p *presigner) renew(z *zoneLayout) {
	for _, n := range z.order {
		for _, s := range n.sets {
			if s.signed.Load() != nil {
				p.sign(s, n.name)
			}
		}
		if n.nsec != nil && n.nsec.signed.Load() != nil {
			p.sign(n.nsec, n.name)
		}
	}
}
