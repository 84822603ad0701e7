package api

import (
	"testing"
	"time"

	"github.com/draasd/draas/failover"
)

func lossRecord(text string) failover.Record {
	return failover.Record{Kind: failover.RecordFinding, Service: "shop", Epoch: 4, Text: "expected loss (sync): " + text}
}

// What is written is read again.
func TestLoss(t *testing.T) {
	for text, want := range map[string]Loss{
		"the copy of primary's cloud was 12s behind, with at least 3 objects (40 MiB) missing":   {From: "primary", Known: true, Behind: 12 * time.Second, Objects: 3, Bytes: 40 << 20},
		"the copy of primary's cloud was 4.2s behind":                                            {From: "primary", Known: true, Behind: 4200 * time.Millisecond},
		"the copy of s-1.b's cloud was 0s behind, with at least 1 objects (17 bytes) missing":    {From: "s-1.b", Known: true, Objects: 1, Bytes: 17},
		"the copy of primary's cloud was 2m3s behind, with at least 9 objects (1.5 KiB) missing": {From: "primary", Known: true, Behind: 123 * time.Second, Objects: 9, Bytes: 1536},
		"how far the copy of primary's cloud was behind is not known":                            {From: "primary"},
	} {
		if got := want.InWords(); got != text {
			t.Errorf("%+v is %q, want %q", want, got, text)
		}
		if got, ok := LossOf(lossRecord(text)); !ok || got != want {
			t.Errorf("%q is %+v, %v", text, got, ok)
		}
	}
	for _, rounded := range []struct {
		behind time.Duration
		want   string
	}{{4249 * time.Millisecond, "4.2s"}, {59960 * time.Millisecond, "1m0s"}, {90400 * time.Millisecond, "1m30s"}} {
		if got, want := (Loss{From: "dr", Known: true, Behind: rounded.behind}).InWords(), "the copy of dr's cloud was "+rounded.want+" behind"; got != want {
			t.Errorf("%v is %q", rounded.behind, got)
		}
	}
}

// What says something else is no loss.
func TestNoLoss(t *testing.T) {
	for _, text := range []string{
		"", "the copy of primary's cloud was", "the copy of primary's cloud was soon behind", "the copy of 's cloud was 12s behind",
		"the copy of primary's cloud was -12s behind", "the copy of primary's cloud was 12s behind, or so",
		"the copy of primary's cloud was 12s behind, with at least 0 objects (0 bytes) missing",
		"the copy of primary's cloud was 12s behind, with at least 3 objects (40 lots) missing",
		"the copy of primary's cloud was 12s behind, with at least 3 objects (-1 MiB) missing",
		"the copy of primary's cloud was 12s behind, with at least 3 objects (1e300 TiB) missing",
		"how far the copy of pri\x1bmary's cloud was behind is not known",
	} {
		if l, ok := LossOf(lossRecord(text)); ok {
			t.Errorf("%q is %+v", text, l)
		}
	}
	r := lossRecord("the copy of primary's cloud was 12s behind")
	r.Kind = failover.RecordRefusal
	if _, ok := LossOf(r); ok {
		t.Error("a refusal tells of a loss")
	}
	r = lossRecord("")
	r.Text = "users are not led as decided (dns): the copy of primary's cloud was 12s behind"
	if _, ok := LossOf(r); ok {
		t.Error("another finding tells of a loss")
	}
}

func TestSizeText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 1 << 10: "1 KiB", 1536: "1.5 KiB", 40 << 20: "40 MiB", 3 << 40: "3 TiB"} {
		if got := sizeText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// FuzzLoss: what is read means the same when it is written and read again.
func FuzzLoss(f *testing.F) {
	f.Add("the copy of primary's cloud was 12s behind, with at least 3 objects (40 MiB) missing")
	f.Add("how far the copy of primary's cloud was behind is not known")
	f.Fuzz(func(t *testing.T, text string) {
		l, ok := LossOf(lossRecord(text))
		if !ok {
			return
		}
		if l.Behind < 0 || l.Objects < 0 || l.Bytes < 0 || !isName(string(l.From)) {
			t.Fatalf("%q is %+v", text, l)
		}
		once, ok := LossOf(lossRecord(l.InWords()))
		if !ok {
			t.Fatalf("%q is written as %q, which is none", text, l.InWords())
		}
		// Words are rounded once, and not again.
		if again, ok := LossOf(lossRecord(once.InWords())); !ok || again != once {
			t.Fatalf("%+v, then %+v", once, again)
		}
	})
}
