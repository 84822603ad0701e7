package matrix

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shown are results of two columns, one of which is a peer.
func shown() []Result {
	at := time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)
	kinds := func(rto, stall float64, failed int, recovered bool) map[string]Seen {
		return map[string]Seen{kindFresh: {Sent: 100, RTOMS: rto, StallMS: stall, Failed: failed, Recovered: recovered}}
	}
	return []Result{
		{Column: "dns", Cell: "witness off", At: at, Kinds: kinds(0, 12, 0, true)},
		{Column: "dns", Cell: "service killed", At: at, Kinds: kinds(180, 20, 9, true), Lost: 10, Acked: 100, BoundMS: 2570},
		{Column: "dns", Cell: "service killed", At: at, Kinds: kinds(240, 30, 12, true), Lost: 12, Acked: 100, BoundMS: 2570},
		{Column: "dns", Cell: "service killed", At: at, Kinds: kinds(200, 40, 10, true), Lost: -1, Acked: 100, BoundMS: 2570},
		{Column: "dns", Cell: "service killed", At: at, Kinds: kinds(9999, 9999, 999, true), Void: "so"},
		{Column: "dns", Cell: "service killed", At: at, Kinds: kinds(8888, 8888, 88, true), Lost: 88, Upset: "so"},
		{Column: "hybrid", Cell: "service killed", At: at, Kinds: kinds(0, 110, 0, true), DualMS: 3, WrongSite: 1},
		{Column: "keepalived 1 s", Cell: "frontend killed", At: at, Kinds: kinds(2900, 90, 140, true), ClaimsMS: 1420, UnclaimedMS: 318},
		{Column: "dns", Cell: "sync stopped, then primary site off", At: at, Kinds: kinds(1900, 60, 96, true), BoundMS: 2570,
			Loss: &Loss{Told: "so", Known: true, ToldS: 4.2, ToldObjects: 3, TrueS: 4.15, Objects: 77}},
		{Column: "dns", Cell: "sync stopped, then primary site off", At: at, Kinds: kinds(2100, 60, 96, true), BoundMS: 2570,
			Loss: &Loss{Told: "so", Known: true, ToldS: 5.2, ToldObjects: 4, TrueS: 5.11, Objects: 99}},
		{Column: "hybrid", Cell: "sync stopped", At: at, Kinds: kinds(0, 60, 0, true), WarnedS: 18.71},
		{Column: "HAProxy", Cell: "service killed", At: at.Add(time.Hour), Kinds: kinds(16000, 5, 800, false), Lost: -1},
	}
}

func TestTable(t *testing.T) {
	got := table(shown())
	for _, want := range []string{
		"12 runs, 21 Nov 2026 20:00 to 21 Nov 21:00 UTC.",
		"### Service killed\n",
		"| dns | 3, and 1 upset, and 1 void | 200 (240), 31, 40 | - | - | - | 0 | 0 ms | - | - | 10 (12) | 2570 |\n",
		"| hybrid | 1 | 0 (0), 0, 110 | - | - | - | 1 | 3 ms | - | - | 0 (0) | - |\n",
		"| keepalived 1 s | 1 | 2900 (2900), 140, 90 | - | - | - | - | 0 ms | 1420 ms | 318 (318) ms | 0 (0) | - |\n",
		"| HAProxy | 1 | 16000 (16000), 800, 5; **not served again: 1** | - | - | - | - | 0 ms | - | - | not known | - |\n",
		"| lost writes | allowed | expected loss, s | truth, s | expected objects, at least | objects lost |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n" +
			"| dns | 2 | 1900 (2100), 192, 60 | - | - | - | 0 | 0 ms | - | - | 0 (0) | 2570 | 4.2 (5.2) | 4.2 (5.1) | 3 (4) | 77 (99) |\n",
		"| lost writes | allowed | warned of, s |\n",
		"| hybrid | 1 | 0 (0), 0, 60 | - | - | - | 0 | 0 ms | - | - | 0 (0) | - | 18.7 (18.7) |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Index(got, "### Service killed") > strings.Index(got, "### Witness off") {
		t.Error("the disasters are not in their order")
	}
}

func TestWriteTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.md")
	write := func(text string) error {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return WriteTable(file, shown())
	}
	if err := write("before\n" + tableBegin + "\nold\n" + tableEnd + "\nafter\n"); err != nil {
		t.Fatal(err)
	}
	once, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(once, []byte("before\n"+tableBegin+"\n\n12 runs")) || !bytes.HasSuffix(once, []byte("|\n\n"+tableEnd+"\nafter\n")) || bytes.Contains(once, []byte("old")) {
		t.Errorf("written is\n%s", once)
	}
	if err := WriteTable(file, shown()); err != nil {
		t.Fatal(err)
	}
	if twice, err := os.ReadFile(file); err != nil || !bytes.Equal(once, twice) {
		t.Errorf("the second time it is another (%v):\n%s", err, twice)
	}
	for _, text := range []string{"", tableEnd + tableBegin, tableBegin, tableBegin + tableEnd + tableEnd} {
		if err := write(text); err == nil {
			t.Errorf("written into %q", text)
		}
	}
}

func TestPage(t *testing.T) {
	var b bytes.Buffer
	bad := append(shown(), Result{Column: "dns", Cell: "<script>", Kinds: map[string]Seen{}})
	if err := draw(&b, bad); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		`<span class="s1" title="fresh: N 3, RTO 200 ms (most 240), longest wait 40 ms, 31 of 300 requests failed, not served again in 0 runs">0.20</span>`,
		`<div class="note">N 3 · most 0.24 s · 1 upset · lost 10</div>`,
		`<div class="note bad">N 1 · most 0.11 s · two sites served for 3 ms · 1 from a wrong site</div>`,
		`<div class="note bad">N 1 · most 2.9 s · address held twice for 1.4 s</div>`,
		`>&gt;16</span>`,
		`most 2.1 s · cloud: told 4.2 s, true 4.2 s</div>`,
		`warned of after 19 s</div>`,
		`<h2>Lease of 2 s</h2>`,
		`&lt;script&gt;`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if strings.Contains(got, "<script") || strings.Contains(got, metroLease.String()) {
		t.Error("the page holds what it must not")
	}
}

func TestSeconds(t *testing.T) {
	for ms, want := range map[float64]string{0: "0.00", 12: "0.01", 189: "0.19", 994: "0.99", 1104: "1.1", 9949: "9.9", 16211: "16"} {
		if got := seconds(ms); got != want {
			t.Errorf("%v ms is %q, want %q", ms, got, want)
		}
	}
}
