package nameserver

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	mdns "github.com/miekg/dns"
)

// fake is a primary in memory that knows as much of RFC 2136 as draas uses,
// and keeps its zone when it is killed.
type fake struct {
	mu      sync.Mutex
	zone    string
	records []mdns.RR
	keys    map[string]string // secrets by name
	algo    string
	frozen  bool
	servers []*mdns.Server
	ended   []chan error // how each ended
}

func (f *fake) prepare(s *Server) error {
	if s.Primary != "" || len(s.Secondaries) > 0 {
		return errors.New("the fake has no secondaries and is none")
	}
	f.zone = s.Zone
	zp := mdns.NewZoneParser(strings.NewReader(s.ZoneFile()), s.Zone, "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		f.records = append(f.records, rr)
	}
	return zp.Err()
}

func (f *fake) configure(s *Server) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys = map[string]string{s.Key.Name: s.Key.Secret}
	f.algo = mdns.CanonicalName(s.Key.Algorithm)
	return nil
}

func (*fake) argv(*Server) []string { return nil }
func (*fake) reload(*Server) error  { return nil }

func (f *fake) freeze(_ *Server, frozen bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = frozen
	return nil
}

func (f *fake) serve(s *Server) error {
	for _, network := range []string{"udp", "tcp"} {
		var err error
		// A process that is being started may still hold the socket of before.
		for deadline := time.Now().Add(5 * time.Second); ; <-time.After(5 * time.Millisecond) {
			if err = f.listen(s.Address, network); !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("serve %s: %w", network, err)
		}
	}
	return nil
}

func (f *fake) listen(address, network string) error {
	started := make(chan struct{})
	srv := &mdns.Server{Addr: address, Net: network, Handler: f, TsigProvider: f,
		MsgAcceptFunc:     func(mdns.Header) mdns.MsgAcceptAction { return mdns.MsgAccept },
		NotifyStartedFunc: func() { close(started) }}
	ended := make(chan error, 1)
	go func() { ended <- srv.ListenAndServe() }()
	select {
	case <-started:
		f.servers, f.ended = append(f.servers, srv), append(f.ended, ended)
		return nil
	case err := <-ended:
		return err
	}
}

func (f *fake) close() {
	for _, srv := range f.servers {
		_ = srv.Shutdown()
	}
	for _, ended := range f.ended {
		<-ended // its socket is closed only then
	}
	f.servers, f.ended = nil, nil
}

// Generate and Verify make it a TsigProvider with the keys of now.
func (f *fake) Generate(msg []byte, t *mdns.TSIG) ([]byte, error) {
	f.mu.Lock()
	secret, known := f.keys[t.Hdr.Name]
	algorithm := f.algo
	f.mu.Unlock()
	switch {
	case !known:
		return nil, mdns.ErrSecret
	case t.Algorithm != algorithm:
		return nil, mdns.ErrKeyAlg
	}
	raw, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		return nil, err
	}
	hash := sha256.New
	if algorithm == mdns.HmacSHA512 {
		hash = sha512.New
	}
	h := hmac.New(hash, raw)
	_, _ = h.Write(msg) // never fails
	return h.Sum(nil), nil
}

func (f *fake) Verify(msg []byte, t *mdns.TSIG) error {
	want, err := f.Generate(msg, t)
	if err != nil {
		return err
	}
	if got, err := hex.DecodeString(t.MAC); err != nil || !hmac.Equal(got, want) {
		return mdns.ErrSig
	}
	return nil
}

// ServeDNS implements mdns.Handler.
func (f *fake) ServeDNS(w mdns.ResponseWriter, q *mdns.Msg) {
	a := new(mdns.Msg)
	a.SetReply(q)
	switch q.Opcode {
	case mdns.OpcodeQuery:
		f.answer(q, a)
	case mdns.OpcodeUpdate:
		t := q.IsTsig()
		status := w.TsigStatus()
		switch {
		case t == nil:
			a.Rcode = mdns.RcodeRefused
		case status != nil:
			a.Rcode = mdns.RcodeNotAuth
			code := uint16(mdns.RcodeBadSig)
			switch {
			case errors.Is(status, mdns.ErrTime):
				code = mdns.RcodeBadTime
			case errors.Is(status, mdns.ErrSecret), errors.Is(status, mdns.ErrKeyAlg):
				code = mdns.RcodeBadKey
			}
			a.Extra = append(a.Extra, &mdns.TSIG{Hdr: mdns.RR_Header{Name: t.Hdr.Name, Rrtype: mdns.TypeTSIG, Class: mdns.ClassANY},
				Algorithm: t.Algorithm, TimeSigned: t.TimeSigned, Fudge: 300, OrigId: q.Id, Error: code})
			if wire, err := a.Pack(); err == nil { // unsigned (RFC 8945, section 5.3.2)
				_, _ = w.Write(wire)
			}
			return
		default:
			a.Rcode = f.update(q)
			a.SetTsig(t.Hdr.Name, t.Algorithm, 300, int64(t.TimeSigned))
		}
	default:
		a.Rcode = mdns.RcodeNotImplemented
	}
	_ = w.WriteMsg(a)
}

func (f *fake) answer(q, a *mdns.Msg) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a.Authoritative = true
	name, qtype := q.Question[0].Name, q.Question[0].Qtype
	if !mdns.IsSubDomain(f.zone, name) {
		a.Authoritative = false
		a.Rcode = mdns.RcodeRefused
		return
	}
	known := false
	for _, rr := range f.records {
		if !strings.EqualFold(rr.Header().Name, name) {
			known = known || mdns.IsSubDomain(name, rr.Header().Name)
			continue
		}
		known = true
		if t := rr.Header().Rrtype; t == qtype || t == mdns.TypeCNAME || qtype == mdns.TypeANY {
			a.Answer = append(a.Answer, mdns.Copy(rr))
		}
	}
	if !known {
		a.Rcode = mdns.RcodeNameError
	}
}

// update follows RFC 2136, section 3.
func (f *fake) update(q *mdns.Msg) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(q.Question) != 1 || !strings.EqualFold(q.Question[0].Name, f.zone) {
		return mdns.RcodeNotAuth
	}
	if f.frozen {
		return mdns.RcodeRefused
	}
	if rcode := f.prerequisites(q.Answer); rcode != mdns.RcodeSuccess {
		return rcode
	}
	next := slices.Clone(f.records)
	for _, rr := range q.Ns {
		h := rr.Header()
		switch h.Class {
		case mdns.ClassANY:
			next = slices.DeleteFunc(next, func(o mdns.RR) bool {
				return strings.EqualFold(o.Header().Name, h.Name) && o.Header().Rrtype == h.Rrtype
			})
		case mdns.ClassINET:
			clash := slices.ContainsFunc(next, func(o mdns.RR) bool {
				return strings.EqualFold(o.Header().Name, h.Name) && (o.Header().Rrtype == mdns.TypeCNAME) != (h.Rrtype == mdns.TypeCNAME)
			})
			if !clash { // section 3.4.2.2: silently ignored
				next = append(next, mdns.Copy(rr))
			}
		default:
			return mdns.RcodeFormatError
		}
	}
	for _, rr := range next {
		if soa, ok := rr.(*mdns.SOA); ok {
			soa.Serial++
		}
	}
	f.records = next
	return mdns.RcodeSuccess
}

// prerequisites compares whole sets, as section 3.2.3 wants it.
func (f *fake) prerequisites(want []mdns.RR) int {
	sets := make(map[string][]string)
	for _, rr := range want {
		h := rr.Header()
		held := f.set(h.Name, h.Rrtype)
		switch h.Class {
		case mdns.ClassNONE:
			if len(held) > 0 {
				return mdns.RcodeYXRrset
			}
		case mdns.ClassANY:
			if len(held) == 0 {
				return mdns.RcodeNXRrset
			}
		default:
			key := fmt.Sprintf("%s %d", strings.ToLower(h.Name), h.Rrtype)
			sets[key] = append(sets[key], data(rr))
		}
	}
	for _, rr := range want {
		if h := rr.Header(); h.Class == mdns.ClassINET {
			set := sets[fmt.Sprintf("%s %d", strings.ToLower(h.Name), h.Rrtype)]
			sort.Strings(set)
			if !slices.Equal(set, f.set(h.Name, h.Rrtype)) {
				return mdns.RcodeNXRrset
			}
		}
	}
	return mdns.RcodeSuccess
}

func (f *fake) set(name string, rrtype uint16) []string {
	var out []string
	for _, rr := range f.records {
		if strings.EqualFold(rr.Header().Name, name) && rr.Header().Rrtype == rrtype {
			out = append(out, data(rr))
		}
	}
	sort.Strings(out)
	return out
}

// data is a record without its header.
func data(rr mdns.RR) string {
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

// Show lists a message's answers, sorted, without TTL, and its rcode if that
// is an error.
func Show(m *mdns.Msg) string {
	var lines []string
	if m.Rcode != mdns.RcodeSuccess {
		lines = append(lines, mdns.RcodeToString[m.Rcode])
	}
	for _, rr := range m.Answer {
		lines = append(lines, rr.Header().Name+" "+mdns.TypeToString[rr.Header().Rrtype]+" "+data(rr))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}
