package quorum_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
)

var testMeta = quorum.ClusterMeta{ClusterID: testCluster, Self: "dr", Members: members}

// write is one durable write of the script below.
type write func(*quorum.Journal) error

// script writes a log with all that happens to one: growth, new terms, entries
// that are replaced, commit indexes alone, and a snapshot.
func script() []write {
	big := strings.Repeat("x\x00", 700)
	return []write{
		func(j *quorum.Journal) error { return j.Append(2, 1, 1, 2, "", "a", "b") },
		func(j *quorum.Journal) error { return j.Append(2, 1, 3, 5, big) },
		func(j *quorum.Journal) error { return j.Append(3, 2, 3, 4, "", "c", "d") },
		func(j *quorum.Journal) error { return j.Append(3, 2, 6, 0) },
		func(j *quorum.Journal) error { return j.Rotate(5, 3, 2, 6, "d") },
		func(j *quorum.Journal) error { return j.Append(3, 2, 6, 7, "e", strings.Repeat("\x00", 1500)) },
		func(j *quorum.Journal) error { return j.Append(4, 0, 8, 0) },
		func(j *quorum.Journal) error { return j.Append(4, 3, 8, 9, "f", big) },
	}
}

func bootstrapped(t testing.TB) *quorumtest.Disk {
	disk := quorumtest.NewDisk()
	if err := quorum.Bootstrap(disk, testMeta); err != nil {
		t.Fatal(err)
	}
	return disk
}

func reopen(t testing.TB, disk quorum.Disk) *quorum.Image {
	t.Helper()
	_, im, err := quorum.OpenJournal(disk, testMeta)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// play runs the script until a write fails, and returns how many succeeded.
func play(disk quorum.Disk) (int, *quorum.Journal, error) {
	j, _, err := quorum.OpenJournal(disk, testMeta)
	if err != nil {
		return 0, nil, err
	}
	for i, w := range script() {
		if err := w(j); err != nil {
			return i, j, err
		}
	}
	return len(script()), j, nil
}

// oracle is what the log must hold after each number of writes.
func oracle(t testing.TB) []quorum.Image {
	var states []quorum.Image
	for n := range len(script()) + 1 {
		disk := bootstrapped(t)
		j, _, err := quorum.OpenJournal(disk, testMeta)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range script()[:n] {
			if err := w(j); err != nil {
				t.Fatal(err)
			}
		}
		states = append(states, *reopen(t, disk))
	}
	last := states[len(states)-1]
	if last.Term != 4 || last.Vote != 3 || last.Commit != 8 || last.Snapshot != 5 || len(last.Entries) != 5 || last.Entries[0] != "d" || last.Entries[1] != "e" {
		t.Fatalf("the script ends in %+v", last)
	}
	return states
}

// same compares without the report of a torn end.
func same(a, b quorum.Image) bool {
	a.Torn, b.Torn = false, false
	return reflect.DeepEqual(a, b)
}

func TestLogIsReadBack(t *testing.T) {
	states := oracle(t)
	for i := 1; i < len(states); i++ {
		if same(states[i-1], states[i]) {
			t.Errorf("write %d left no trace: %+v", i, states[i])
		}
	}
}

func TestTornLastRecordIsDropped(t *testing.T) {
	states := oracle(t)
	before, after := states[len(states)-2], states[len(states)-1]
	disk := bootstrapped(t)
	_, j, err := play(disk)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := disk.ReadFile(j.Name())
	if err != nil {
		t.Fatal(err)
	}
	// Where the last record starts: where the file ended before it.
	short := bootstrapped(t)
	k, _, err := quorum.OpenJournal(short, testMeta)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range script()[:len(script())-1] {
		if err := w(k); err != nil {
			t.Fatal(err)
		}
	}
	old, err := short.ReadFile(k.Name())
	if err != nil || !bytes.HasPrefix(whole, old) {
		t.Fatalf("the log does not only grow: %v", err)
	}
	for n := len(old); n <= len(whole); n++ {
		disk.Set(j.Name(), whole[:n])
		im := reopen(t, disk.Clone())
		want := before
		if n == len(whole) {
			want = after
		}
		if !same(*im, want) || im.Torn != (n > len(old) && n < len(whole)) {
			t.Fatalf("cut at %d of %d..%d: %+v", n, len(old), len(whole), im)
		}
	}
	// Holes: sectors that never reached the disk.
	for from := (len(old)/512 + 1) * 512; from < len(whole); from += 512 {
		torn := slices.Clone(whole)
		clear(torn[from:min(from+512, len(torn))])
		disk.Set(j.Name(), torn)
		if im := reopen(t, disk.Clone()); !im.Torn || !same(*im, before) {
			t.Fatalf("hole at %d: %+v", from, im)
		}
	}
	// The file has grown, but nothing of the record is there.
	disk.Set(j.Name(), append(slices.Clone(old), make([]byte, len(whole)-len(old))...))
	if im := reopen(t, disk.Clone()); !im.Torn || !same(*im, before) {
		t.Fatalf("only zeros: %+v", im)
	}
	// The same hole in the middle of the log is damage.
	holes := 0
	for from := 0; from+512 <= len(old); from += 512 {
		torn := slices.Clone(whole)
		clear(torn[from : from+512])
		if bytes.Equal(torn, whole) {
			continue // zeros before, too
		}
		holes++
		disk.Set(j.Name(), torn)
		if _, _, err := quorum.OpenJournal(disk.Clone(), testMeta); !errors.Is(err, quorum.ErrCorrupt) {
			t.Fatalf("hole in the middle, at %d: %v", from, err)
		}
	}
	if holes == 0 {
		t.Error("no hole in the middle was tried")
	}
}

func TestEveryChangedByteIsNoticed(t *testing.T) {
	disk := bootstrapped(t)
	_, j, err := play(disk)
	if err != nil {
		t.Fatal(err)
	}
	states := oracle(t)
	names, err := disk.List()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 3 {
		t.Fatalf("files %q, want meta, log and snapshot", names)
	}
	torn := 0
	for _, name := range names {
		whole, err := disk.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range whole {
			for _, x := range []byte{0x01, 0x80, 0xff, whole[i]} {
				if x == 0 {
					continue
				}
				damaged := slices.Clone(whole)
				damaged[i] ^= x
				d := disk.Clone()
				d.Set(name, damaged)
				_, err := quorum.ReadMeta(d)
				var im *quorum.Image
				if err == nil {
					_, im, err = quorum.OpenJournal(d, testMeta)
				}
				if err == nil && im.Torn && name == j.Name() && same(*im, states[len(states)-2]) {
					torn++ // looks as if the last sector had been lost
					continue
				}
				var c *quorum.CorruptError
				if !errors.As(err, &c) || c.File != name {
					t.Fatalf("%s with byte %d changed by %#x: %v, %+v", name, i, x, err, im)
				}
			}
		}
	}
	if torn > 4 {
		t.Errorf("%d changes were taken for a torn record", torn)
	}
}

func TestDamageIsNamed(t *testing.T) {
	cases := map[string]struct {
		damage func(*testing.T, *quorumtest.Disk, string)
		what   string
	}{
		"snapshot missing": {func(t *testing.T, d *quorumtest.Disk, _ string) {
			if err := d.Remove("snap-0000000000000005"); err != nil {
				t.Fatal(err)
			}
		}, "missing"},
		"log missing": {func(t *testing.T, d *quorumtest.Disk, log string) {
			if err := d.Remove(log); err != nil {
				t.Fatal(err)
			}
		}, "missing"},
		"log renamed": {func(t *testing.T, d *quorumtest.Disk, log string) {
			if err := d.Rename(log, "log-00000000000000ff"); err != nil {
				t.Fatal(err)
			}
		}, "renamed?"},
		"newer version": {func(t *testing.T, d *quorumtest.Disk, log string) {
			data, err := d.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			d.Set(log, quorum.WithVersion(data, testMeta, 3))
		}, "version 3"},
		"empty": {func(_ *testing.T, d *quorumtest.Disk, log string) { d.Set(log, nil) }, "within the header"},
		"other member's": {func(t *testing.T, d *quorumtest.Disk, log string) {
			foreign(t, d, log, quorum.ClusterMeta{ClusterID: testCluster, Self: "primary", Members: members})
		}, `member "primary"`},
		"other cluster's": {func(t *testing.T, d *quorumtest.Disk, log string) {
			foreign(t, d, log, quorum.ClusterMeta{ClusterID: quorum.ClusterID{9}, Self: "dr", Members: members})
		}, "cluster 09"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			disk := bootstrapped(t)
			_, j, err := play(disk)
			if err != nil {
				t.Fatal(err)
			}
			c.damage(t, disk, j.Name())
			before, _ := disk.List()
			_, _, err = quorum.OpenJournal(disk, testMeta)
			if !errors.Is(err, quorum.ErrCorrupt) || !strings.Contains(err.Error(), c.what) {
				t.Errorf("got %v, want something about %q", err, c.what)
			}
			if after, _ := disk.List(); !slices.Equal(before, after) {
				t.Errorf("files were %q, are %q", before, after)
			}
		})
	}
}

// foreign puts the log of another member or cluster in place of this one's.
func foreign(t *testing.T, d *quorumtest.Disk, log string, meta quorum.ClusterMeta) {
	other := quorumtest.NewDisk()
	if err := quorum.Bootstrap(other, meta); err != nil {
		t.Fatal(err)
	}
	j, _, err := quorum.OpenJournal(other, meta)
	for err == nil && j.Name() != log {
		j, _, err = quorum.OpenJournal(other, meta)
	}
	if err != nil {
		t.Fatal(err)
	}
	data, err := other.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	d.Set(log, data)
}

// kept checks what a log holds after n writes were acknowledged: those, or the
// next one too.
func kept(t *testing.T, what string, disk *quorumtest.Disk, states []quorum.Image, n int) {
	t.Helper()
	im := reopen(t, disk)
	if !same(*im, states[n]) && (n+1 >= len(states) || !same(*im, states[n+1])) {
		t.Fatalf("%s: %d writes were acknowledged, but the log holds %+v", what, n, im)
	}
}

func TestFullDiskLosesNothing(t *testing.T) {
	states := oracle(t)
	rnd := rand.New(rand.NewPCG(1, 1))
	for limit := int64(0); ; limit += 1 + limit/200 {
		disk := bootstrapped(t)
		disk.Limit(limit)
		n, _, err := play(disk)
		if err == nil {
			if limit < 1000 {
				t.Fatalf("all fitted into %d bytes", limit)
			}
			break
		}
		if disk.Failures() == 0 {
			t.Fatalf("limit %d: %v", limit, err)
		}
		// Still full: a start gives an error, and destroys nothing.
		full := disk.Crash(rnd)
		full.Limit(0)
		if _, _, err := quorum.OpenJournal(full, testMeta); err == nil {
			t.Fatal("opened on a full disk")
		}
		kept(t, fmt.Sprint("still full, limit ", limit), full.Crash(rnd), states, n)
		kept(t, fmt.Sprint("crashed, limit ", limit), disk.Crash(rnd), states, n)
		kept(t, fmt.Sprint("restarted, limit ", limit), disk.Clone(), states, n)
	}
}

func TestCrashAnywhereLosesNothing(t *testing.T) {
	states := oracle(t)
	rnd := rand.New(rand.NewPCG(2, 2))
	torn := 0
	for range 300 {
		disk := bootstrapped(t)
		j, _, err := quorum.OpenJournal(disk, testMeta)
		if err != nil {
			t.Fatal(err)
		}
		n := rnd.IntN(len(script()))
		for _, w := range script()[:n] {
			if err := w(j); err != nil {
				t.Fatal(err)
			}
		}
		// The next write is not finished: its sync fails, and the power goes.
		disk.BreakSync(errors.New("input/output error"))
		if err := script()[n](j); err == nil {
			t.Fatal("a write succeeded whose sync failed")
		}
		after := disk.Crash(rnd)
		if im := reopen(t, after.Clone()); im.Torn {
			torn++
		}
		kept(t, fmt.Sprint("crashed in write ", n), after, states, n)
		kept(t, "crashed again", after.Crash(rnd), states, n)
	}
	if torn < 20 {
		t.Errorf("only %d of 300 crashes tore a record", torn)
	}
}

// After a failed fsync the pages may be readable and yet never reach the disk.
// A restarted process must not build on them: what it has read once must
// survive the next power loss.
func TestFailedSyncIsNotTrustedAfterRestart(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	seen := false
	for range 50 {
		disk := bootstrapped(t)
		j, _, err := quorum.OpenJournal(disk, testMeta)
		if err != nil {
			t.Fatal(err)
		}
		disk.BreakSync(errors.New("input/output error"))
		if err := script()[0](j); err == nil {
			t.Fatal("a write succeeded whose sync failed")
		}
		read := reopen(t, disk) // by the same system: from the page cache
		seen = seen || len(read.Entries) > 0
		if again := reopen(t, disk.Crash(rnd)); !same(*read, *again) {
			t.Fatalf("read %+v, and after a power loss %+v", read, again)
		}
	}
	if !seen {
		t.Error("the failed write was never readable: this tests nothing")
	}
}

func TestBootstrap(t *testing.T) {
	disk := bootstrapped(t)
	if err := quorum.Bootstrap(disk, testMeta); !errors.Is(err, quorum.ErrBootstrapped) {
		t.Errorf("second bootstrap: %v", err)
	}
	if meta, err := quorum.ReadMeta(disk); err != nil || !reflect.DeepEqual(meta, testMeta) {
		t.Errorf("read %+v, %v", meta, err)
	}
	if _, err := quorum.ReadMeta(quorumtest.NewDisk()); !errors.Is(err, quorum.ErrNotBootstrapped) || !strings.Contains(err.Error(), "init") || !strings.Contains(err.Error(), "join") {
		t.Errorf("empty directory: %v", err)
	}
	if err := disk.Remove("meta"); err != nil {
		t.Fatal(err)
	}
	if err := quorum.Bootstrap(disk, testMeta); !errors.Is(err, quorum.ErrBootstrapped) {
		t.Errorf("bootstrap over a log whose meta is lost: %v", err)
	}
	for name, meta := range map[string]quorum.ClusterMeta{
		"no cluster":   {Self: "dr", Members: members},
		"no member":    {ClusterID: testCluster, Self: "elsewhere", Members: members},
		"not sorted":   {ClusterID: testCluster, Self: "dr", Members: []draas.MemberID{"primary", "dr"}},
		"twice":        {ClusterID: testCluster, Self: "dr", Members: []draas.MemberID{"dr", "dr"}},
		"empty name":   {ClusterID: testCluster, Self: "dr", Members: []draas.MemberID{"", "dr"}},
		"no members":   {ClusterID: testCluster, Self: "dr"},
		"endless name": {ClusterID: testCluster, Self: "dr", Members: []draas.MemberID{"dr", draas.MemberID(strings.Repeat("x", 256))}},
	} {
		if err := quorum.Bootstrap(quorumtest.NewDisk(), meta); err == nil {
			t.Errorf("%s: bootstrapped", name)
		}
	}
}

func TestOpenCoreChecksWhoseDirectoryItIs(t *testing.T) {
	cfg := quorum.CoreConfig{
		Self: "dr", Members: members, Heartbeat: heartbeat, Election: election,
		Disk: bootstrapped(t), Machine: &applied{}, Log: quietLog(t), Rand: quorumtest.Bytes(1),
	}
	other := cfg
	other.Self = "primary"
	if _, err := quorum.OpenCore(other); !errors.Is(err, quorum.ErrWrongCluster) {
		t.Errorf("other member: %v", err)
	}
	empty := cfg
	empty.Disk = quorumtest.NewDisk()
	if _, err := quorum.OpenCore(empty); !errors.Is(err, quorum.ErrNotBootstrapped) || !strings.Contains(err.Error(), "init") || !strings.Contains(err.Error(), "join") {
		t.Errorf("empty directory: %v", err)
	}
	core, err := quorum.OpenCore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if core.ClusterID() != testCluster {
		t.Errorf("cluster %s", core.ClusterID())
	}
	if err := core.Close(); err != nil {
		t.Error(err)
	}
}
