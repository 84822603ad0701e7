package authority

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
)

var anyLocal = Secondary{From: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// ixfr asks for what changed since a serial, and returns the records, one a
// line, without class.
func ixfr(t testing.TB, addr, network string, serial uint32) string {
	t.Helper()
	m := question("example.org.", mdns.TypeIXFR)
	m.SetIxfr("example.org.", serial, "ns.", "x.")
	var lines []string
	if network == "udp" {
		for _, rr := range exchange(t, "udp", addr, m).Answer {
			lines = append(lines, short(rr))
		}
		return strings.Join(lines, "\n")
	}
	c := dial(t, addr)
	if _, err := c.Write(tcpFrame(m)); err != nil {
		t.Fatal(err)
	}
	for { // messages, until the first SOA comes again where it ends
		frame, err := readFrame(c)
		if err != nil {
			t.Fatal(err)
		}
		r := unpack(t, frame)
		if r.Rcode != mdns.RcodeSuccess || len(r.Answer) == 0 {
			return mdns.RcodeToString[r.Rcode]
		}
		for _, rr := range r.Answer {
			lines = append(lines, short(rr))
		}
		first := lines[0]
		// It ends with the first SOA: in a difference that is its third place
		// at the least.
		if n := strings.Count(strings.Join(lines, "\n"), first); len(lines) == 1 || lines[len(lines)-1] == first && (n >= 3 || !strings.Contains(lines[1], "SOA")) {
			return strings.Join(lines, "\n")
		}
	}
}

func short(rr mdns.RR) string {
	if soa, ok := rr.(*mdns.SOA); ok {
		return fmt.Sprint("SOA ", soa.Serial)
	}
	return strings.TrimSuffix(rr.Header().Name, ".example.org.") + strings.TrimPrefix(rr.String(), rr.Header().Name)
}

// RFC 1995: one difference after the other, each taking away and adding; the
// whole zone to who is too far behind, and one SOA to who is not behind or asks
// by UDP.
func TestDifferences(t *testing.T) {
	t.Parallel()
	f := newPrimary(t, copied(anyLocal))
	f.allAt(t, 1, "primary")
	addr, _ := f.serve(t, "127.0.0.1:0")
	f.publish(t, 2, "dr", "shop")
	f.publish(t, 3, "primary", "shop", "apex")
	// 5 = 1 + four services at epoch 1.
	const want = `SOA 9
SOA 5
shop	5	IN	A	198.51.100.20
_draas.shop	5	IN	TXT	"epoch=1 site=primary"
SOA 6
shop	5	IN	A	203.0.113.20
shop	5	IN	A	203.0.113.21
_draas.shop	5	IN	TXT	"epoch=2 site=dr"
SOA 6
_draas	5	IN	TXT	"epoch=1 site=primary"
shop	5	IN	A	203.0.113.20
shop	5	IN	A	203.0.113.21
_draas.shop	5	IN	TXT	"epoch=2 site=dr"
SOA 9
_draas	5	IN	TXT	"epoch=3 site=primary"
shop	5	IN	A	198.51.100.20
_draas.shop	5	IN	TXT	"epoch=3 site=primary"
SOA 9`
	if got := ixfr(t, addr, "tcp", 5); got != want {
		t.Errorf("since 5:\n%s\nwant\n%s", got, want)
	}
	if got := ixfr(t, addr, "tcp", 6); !strings.HasPrefix(got, "SOA 9\nSOA 6\n_draas\t") || strings.Contains(got, "SOA 5") {
		t.Errorf("since 6:\n%s", got)
	}
	whole := ixfr(t, addr, "tcp", 4)
	if strings.Count(whole, "SOA") != 2 || !strings.Contains(whole, "mail") || !strings.Contains(whole, "epoch=3") {
		t.Errorf("since what is not known:\n%s", whole)
	}
	for _, serial := range []uint32{9, 10, 9 + 1<<31 - 1} {
		if got := ixfr(t, addr, "tcp", serial); got != "SOA 9" {
			t.Errorf("since %d, which is not behind:\n%s", serial, got)
		}
	}
	if got := ixfr(t, addr, "udp", 5); got != "SOA 9" {
		t.Errorf("by UDP:\n%s", got)
	}
	if r := exchange(t, "udp", addr, question("example.org.", mdns.TypeAXFR)); r.Rcode != mdns.RcodeRefused {
		t.Errorf("the whole by UDP: %s", brief(r))
	}
	if r := exchange(t, "tcp", addr, question("example.org.", mdns.TypeIXFR)); r.Rcode != mdns.RcodeFormatError {
		t.Errorf("without a serial: %s", brief(r))
	}
	for _, name := range []string{"shop.example.org.", "sub.example.org.", "example.com.", "nothing.example.org."} {
		if r := exchange(t, "tcp", addr, question(name, mdns.TypeAXFR)); r.Rcode != mdns.RcodeRefused {
			t.Errorf("%s, which is no zone: %s", name, brief(r))
		}
	}
	// A reload that changes nothing of the zone forgets nothing; another does.
	if err := f.SetZones([]Zone{copied(anyLocal)}); err != nil {
		t.Fatal(err)
	}
	if got := ixfr(t, addr, "tcp", 5); got != want {
		t.Errorf("after a reload:\n%s", got)
	}
	z := copied(anyLocal)
	z.Revision, z.Records[0].TTL = 1, 2*time.Minute
	if err := f.SetZones([]Zone{z}); err != nil {
		t.Fatal(err)
	}
	if got := ixfr(t, addr, "tcp", 9); !strings.Contains(got, "mail\t120") || strings.Count(got, "SOA") != 2 {
		t.Errorf("after a reload that changes it:\n%s", got)
	}
}

// What is kept of changes is bounded; tables made before do not change.
func TestJournalIsBounded(t *testing.T) {
	f := newPrimary(t, copied(anyLocal))
	f.allAt(t, 1, "primary")
	var before *table
	for epoch := draas.Epoch(2); epoch < maxChanges+100; epoch++ {
		f.publish(t, epoch, []draas.SiteID{"primary", "dr"}[epoch%2], "shop")
		if epoch == maxChanges {
			before = f.table.Load()
		}
	}
	journal, old := f.table.Load().zones[0].journal, before.zones[0].journal
	if len(journal) != maxChanges || journal[len(journal)-1].to != f.table.Load().zones[0].serial {
		t.Errorf("%d changes, the last to %d", len(journal), journal[len(journal)-1].to)
	}
	for i, c := range old {
		if i > 0 && c.from != old[i-1].to || c.to != c.from+1 {
			t.Fatalf("the journal of before has a gap at %d: %d to %d", i, c.from, c.to)
		}
	}
	if last := old[len(old)-1].to; last != before.zones[0].serial {
		t.Errorf("the journal of before ends at %d", last)
	}
	big := &change{add: make([]owned, maxChangeSets)}
	if got := remember(journal, big); len(got) != 0 {
		t.Errorf("with too large a change %d are kept", len(got))
	}
}

func TestSerialArithmetic(t *testing.T) { // RFC 1982, section 3.2
	for _, tt := range []struct {
		a, b uint32
		want bool
	}{{1, 0, true}, {0, 1, false}, {5, 5, false}, {0, 1<<32 - 1, true}, {100, 1<<32 - 100, true}, {1<<31 - 1, 0, true}, {1<<31 + 1, 0, false}} {
		if newer(tt.a, tt.b) != tt.want {
			t.Errorf("newer(%d, %d) = %t", tt.a, tt.b, !tt.want)
		}
	}
	z := &zone{services: sampleZone().Services, revision: 65535}
	before := serial(z, nil)
	z.revision++ // around
	if !newer(serial(z, nil), before) {
		t.Errorf("serial %d after %d", serial(z, nil), before)
	}
}

// A secondary that stops reading is given up, and until then its transfer takes
// a place of which there are few; questions and decisions go on.
func TestStalledTransfers(t *testing.T) {
	t.Parallel()
	z := largeZone(2, 0)
	for i := range 4000 { // more than the kernel holds back
		z.Records = append(z.Records, Record{Name: fmt.Sprintf("t%d.example.org.", i), Type: "TXT", Value: []string{strings.Repeat("x", 2000)}})
	}
	z.Secondaries = []Secondary{anyLocal}
	f := newPrimary(t, z)
	f.transfers = make(chan struct{}, 1)
	f.publish(t, 1, "primary", "s0", "s1")
	addr, _ := f.serve(t, "127.0.0.1:0")
	stalled := dial(t, addr)
	if _, err := stalled.Write(tcpFrame(question("example.org.", mdns.TypeAXFR))); err != nil {
		t.Fatal(err)
	}
	if _, err := readFrame(stalled); err != nil { // it runs
		t.Fatal(err)
	}
	if r := exchange(t, "tcp", addr, question("example.org.", mdns.TypeAXFR)); r.Rcode != mdns.RcodeServerFailure {
		t.Errorf("a second one: %s with %d records", mdns.RcodeToString[r.Rcode], len(r.Answer))
	}
	f.publish(t, 2, "dr", "s1")
	if r := exchange(t, "udp", addr, question("s1.example.org.", mdns.TypeA)); !strings.Contains(brief(r), "192.0.2.2") {
		t.Errorf("meanwhile: %s", brief(r))
	}
	eventually(t, "the transfer is given up", func() bool { return len(f.transfers) == 0 })
	if n, err := io.Copy(io.Discard, stalled); err == nil && f.Stats().Transfers != 0 {
		t.Errorf("it ended well after %d octets", n)
	}
	if !strings.Contains(f.log.String(), "broke off") {
		t.Errorf("logged:\n%s", f.log)
	}
	if got := strings.Count(names(t, addr), "\n"); got < 4000 {
		t.Errorf("the next one has %d records", got)
	}
}

// names transfers a zone, and returns the records' names, one a line.
func names(t testing.TB, addr string) string {
	t.Helper()
	tr := &mdns.Transfer{ReadTimeout: 30 * time.Second}
	answers, err := tr.In(new(mdns.Msg).SetAxfr("example.org."), addr)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for e := range answers {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		for _, rr := range e.RR {
			fmt.Fprintln(&b, rr.Header().Name)
		}
	}
	return b.String()
}
