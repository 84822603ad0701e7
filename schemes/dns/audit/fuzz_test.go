package audit

import (
	"encoding/json"
	"testing"

	mdns "github.com/miekg/dns"
)

// message packs a message whose sections are lines of a zone file.
func message(t testing.TB, rcode int, authoritative bool, answer, authority, additional []string, ede ...uint16) []byte {
	t.Helper()
	m := new(mdns.Msg)
	m.Response, m.Rcode, m.Authoritative = true, rcode, authoritative
	for i, lines := range [][]string{answer, authority, additional} {
		for _, line := range lines {
			rr, err := mdns.NewRR(line)
			if err != nil {
				t.Fatal(err)
			}
			into := []*[]mdns.RR{&m.Answer, &m.Ns, &m.Extra}[i]
			*into = append(*into, rr)
		}
	}
	if len(ede) > 0 {
		m.SetEdns0(1232, false)
		for _, code := range ede {
			m.IsEdns0().Option = append(m.IsEdns0().Option, &mdns.EDNS0_EDE{InfoCode: code, ExtraText: "since noon"})
		}
	}
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func TestReadAnswers(t *testing.T) {
	t.Parallel()
	a, text, soa := []string{shop + " 5 IN A 203.0.113.20", shop + " 4 IN A 203.0.113.21"}, []string{"_draas." + shop + ` 3 IN TXT "epoch=7 site=dr"`},
		[]string{zone + " 60 IN SOA ns1 admin 1 3600 600 86400 30"}
	got := readAll(t, Authority, message(t, 0, true, a, nil, nil), message(t, 0, true, nil, soa, nil), message(t, 0, true, text, nil, nil, 3))
	if got.Longest != 5 || got.Negative != 30 || got.Epoch != 7 || got.AtSite != "dr" || got.EpochTTL != 3 || len(got.Records) != 2 || got.Records[1].TTL != 4 ||
		!got.Authoritative || got.why() != ": Stale Answer (since noon)" {
		t.Errorf("%+v", got)
	}
	got = readAll(t, Authority, message(t, 0, true, []string{shop + " 5 IN CNAME elsewhere.example.", "elsewhere.example. 900 IN A 192.0.2.1"}, nil, nil), message(t, 0, false, nil, nil, nil), message(t, 2, true, nil, nil, nil))
	if len(got.Records) != 1 || got.Records[0].Value != "elsewhere.example." || got.Longest != 5 || got.Authoritative || got.EpochRcode != "SERVFAIL" {
		t.Errorf("%+v", got)
	}
}

func readAll(t testing.TB, kind string, wires ...[]byte) Answer {
	t.Helper()
	var msgs []*mdns.Msg
	for _, wire := range wires {
		m := new(mdns.Msg)
		if err := m.Unpack(wire); err != nil {
			t.Fatal(err)
		}
		msgs = append(msgs, m)
	}
	return read(Answer{From: one, Kind: kind}, sample().Names[0], msgs)
}

// What servers, resolvers and parents send is anybody's.
func FuzzAnswers(f *testing.F) {
	ns := []string{zone + " 60 IN NS ns1." + zone, zone + " 60 IN NS ns2." + zone}
	glue := []string{"ns1." + zone + " 60 IN A 192.0.2.53", "ns2." + zone + " 60 IN A 203.0.113.53"}
	f.Add(message(f, 0, true, []string{shop + " 5 IN A 203.0.113.20"}, nil, nil, 3), message(f, 0, true, []string{"_draas." + shop + ` 5 IN TXT "epoch=7 site=dr"`}, nil, nil), message(f, 0, false, nil, ns, glue))
	f.Add(message(f, 2, false, nil, nil, nil, 9), message(f, 3, true, nil, []string{zone + " 60 IN SOA ns1 admin 1 3600 600 86400 30"}, nil), message(f, 0, true, []string{zone + " 60 IN DS 12345 13 2 abab"}, ns, nil))
	f.Add(message(f, 0, true, []string{shop + " 5 IN CNAME " + zone}, nil, nil), message(f, 0, true, []string{zone + " 5 IN DNSKEY 257 3 13 AAAA"}, nil, nil), message(f, 5, true, nil, nil, nil))
	f.Fuzz(func(t *testing.T, x, y, w []byte) {
		msgs := make([]*mdns.Msg, 3)
		for i, wire := range [][]byte{x, y, w} {
			msgs[i] = new(mdns.Msg)
			if msgs[i].Unpack(wire) != nil {
				return // as the client does
			}
		}
		z := sample()
		r := ZoneReport{Delegation: &Delegation{}}
		n := NameReport{}
		for i, kind := range []string{Authority, Authority, Resolver} {
			a := read(Answer{From: []string{one, two, third}[i], Kind: kind}, z.Names[0], []*mdns.Msg{msgs[i%3], msgs[(i+1)%3], msgs[(i+2)%3]})
			if len(a.Records) > 2*maxRecords {
				t.Errorf("%d records", len(a.Records))
			}
			n.Answers = append(n.Answers, a)
		}
		for _, s := range z.Servers {
			r.Servers = append(r.Servers, readApex(Apex{From: s.Address, NS: []string{}}, zone, msgs))
		}
		referral := readDS(readReferral(Referral{From: "192.0.2.1:53"}, zone, msgs[2]), zone, msgs[1])
		r.Delegation.Answers = []Referral{referral}
		for _, g := range referral.Glue {
			r.Delegation.Servers = append(r.Delegation.Servers, Reached{Glue: g, Rcode: rcodeName(msgs[0].Rcode)})
		}
		r.Names = []NameReport{n}
		var j judge
		j.zone(z, &r, memory{}, noon)
		for _, finding := range j.sorted() {
			if finding.Text == "" || finding.Code == "" || finding.Severity != OK && finding.Do == "" {
				t.Errorf("%+v", finding)
			}
		}
		out, err := json.Marshal(Report{Zones: []ZoneReport{r}, Findings: j.sorted()})
		if err != nil {
			t.Errorf("%v: %q", err, out)
		}
	})
}
