package authority

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab/nameserver"
)

// serverEnv makes this test program a server: the zone's authority on the
// address that it holds, until its standard input ends.
const serverEnv = "DRAAS_BENCH_AUTHORITY"

// TestServerProcess is the process that BenchmarkCPUPerQuery measures; as a test
// it checks that the process would answer.
func TestServerProcess(t *testing.T) {
	f := newFixture(t)
	f.clock.now = systemClock() // the epoch is published now, and
	f.cfg.Clock = systemClock   // read by two calls to the kernel, as in the daemon
	f.allAt(t, 3, "primary")
	f.Touch(f.clock.now.Add(time.Hour))
	addr, _ := f.serve(t, cmp.Or(os.Getenv(serverEnv), "127.0.0.1:0"))
	if r := exchange(t, "udp", addr, question("shop.example.org.", mdns.TypeA)); len(r.Answer) != 1 {
		t.Fatal(brief(r))
	}
	if os.Getenv(serverEnv) != "" {
		_, _ = os.Stdin.Read(make([]byte, 1))
	}
}

func systemClock() draas.Reading {
	var boot, wall unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &wall)
	return draas.Reading{Boot: time.Duration(boot.Nano()), Wall: time.Duration(wall.Nano())}
}

// startOwn runs the authority in a process of its own.
func startOwn(b *testing.B) (addr string, pid int) {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	addr = nameserver.Address(b)
	cmd := exec.Command(exe, "-test.run", "^TestServerProcess$")
	cmd.Env = append(os.Environ(), serverEnv+"="+addr)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	eventually(b, "the authority answers", func() bool {
		c := mdns.Client{Timeout: 200 * time.Millisecond}
		_, _, err := c.Exchange(question("shop.example.org.", mdns.TypeA), addr)
		return err == nil
	})
	return addr, cmd.Process.Pid
}

// cpu is the processor time, user and system, that a process has used.
func cpu(b *testing.B, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:]))
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
}

var completed = regexp.MustCompile(`Queries completed:\s+(\d+)`)

// load asks as fast as a server answers, 200 at a time, and returns the number
// of answers.
func load(b *testing.B, dnsperf, queries, addr string) int {
	host, port, _ := net.SplitHostPort(addr)
	out, err := exec.CommandContext(b.Context(), dnsperf, "-s", host, "-p", port, "-d", queries, "-c", "8", "-T", "1", "-q", "200", "-l", "2", "-t", "1", "-e").CombinedOutput()
	if err != nil {
		b.Fatalf("dnsperf: %v\n%s", err, out)
	}
	m := completed.FindSubmatch(out)
	if m == nil {
		b.Fatalf("dnsperf said:\n%s", out)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// BenchmarkCPUPerQuery sets the processor time of an answer by UDP beside that of
// Knot with one worker, each in a process of its own under the same load, in
// turn. The figures are medians of five rounds.
func BenchmarkCPUPerQuery(b *testing.B) {
	dnsperf := need(b, "dnsperf", "dnsperf")
	queries := filepath.Join(b.TempDir(), "queries")
	if err := os.WriteFile(queries, []byte("shop.example.org A\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	knot := nameserver.Start(b, nameserver.Knot, nameserver.Options{Records: []string{"shop 5 IN A 198.51.100.20"}})
	own, ownPID := startOwn(b)
	spent := make(map[string][]float64)
	for b.Loop() {
		for range 5 {
			for _, s := range []struct {
				name, addr string
				pid        int
			}{{"draas", own, ownPID}, {"knot", knot.Address, knot.PID()}} {
				before := cpu(b, s.pid)
				n := load(b, dnsperf, queries, s.addr)
				spent[s.name] = append(spent[s.name], float64(cpu(b, s.pid)-before)/float64(time.Microsecond)/float64(n))
			}
		}
	}
	for _, list := range spent {
		slices.Sort(list)
	}
	median := func(name string) float64 { return spent[name][len(spent[name])/2] }
	b.ReportMetric(median("draas"), "us/query-draas")
	b.ReportMetric(median("knot"), "us/query-knot")
	b.ReportMetric(median("draas")/median("knot"), "ratio")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkTransfer is how long Knot takes to get 100,000 names, and what
// questions and decisions notice of transfers that go on all the time.
func BenchmarkTransfer(b *testing.B) {
	key := nameserver.NewKey("transfer.", "hmac-sha256")
	z := largeZone(10, 100_000)
	at := nameserver.Address(b)
	z.Secondaries = []Secondary{{Address: netip.MustParseAddrPort(at), Key: keyOf(key)}, {From: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
	f := newPrimary(b, z)
	epoch := draas.Epoch(1)
	for i := range 10 {
		f.publish(b, epoch, "primary", draas.ServiceID(fmt.Sprint("s", i)))
	}
	addr, _ := f.serve(b, "127.0.0.1:0")
	measure := func(suffix string) {
		var asked, decided []time.Duration
		for until := time.Now().Add(2 * time.Second); time.Now().Before(until); {
			epoch++
			start := time.Now()
			f.publish(b, epoch, "dr", "s1")
			decided = append(decided, time.Since(start))
			for range 10 {
				start := time.Now()
				exchange(b, "udp", addr, question("s1.example.org.", mdns.TypeA))
				asked = append(asked, time.Since(start))
			}
		}
		for name, list := range map[string][]time.Duration{"query": asked, "decision": decided} {
			slices.Sort(list)
			for _, p := range []int{50, 99} {
				b.ReportMetric(float64(list[len(list)*p/100])/float64(time.Microsecond), fmt.Sprintf("us-%s-p%d-%s", name, p, suffix))
			}
		}
	}
	for b.Loop() {
		measure("quiet")
		ctx, cancel := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		var n, octets atomic.Int64
		wg.Go(func() {
			for ctx.Err() == nil {
				got, err := drain(ctx, addr)
				if err == nil {
					n.Add(1)
					octets.Store(got)
				}
			}
		})
		measure("transfer")
		cancel()
		wg.Wait()
		b.ReportMetric(float64(n.Load())/2, "transfers/s")
		b.ReportMetric(float64(octets.Load())/1e6, "MB/transfer")
		start := time.Now()
		nameserver.Start(b, nameserver.Knot, nameserver.Options{Primary: addr, Transfer: key, Address: at})
		b.ReportMetric(time.Since(start).Seconds(), "s/knot-start-to-answer")
	}
}

// drain transfers the zone to nowhere, and returns its size.
func drain(ctx context.Context, addr string) (n int64, err error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := c.Write(tcpFrame(question("example.org.", mdns.TypeAXFR))); err != nil {
		return 0, err
	}
	_ = c.(*net.TCPConn).CloseWrite() // it ends with the transfer
	return io.Copy(io.Discard, c)
}
