package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
)

// idleServices is how many services the idle cluster looks after.
const idleServices = 10

// BenchmarkIdle is what real processes cost that look after ten healthy
// services: processor time as a share of one core and resident memory, of the
// costliest of three daemons, and of the guard at the active site.
func BenchmarkIdle(b *testing.B) {
	for _, profile := range []string{"cautious", "balanced", "fast"} {
		b.Run(profile, func(b *testing.B) { idle(b, profile) })
	}
}

func idle(b *testing.B, profile string) {
	_, daemons, guard := startProcesses(b, profile)
	const window = 20 * time.Second
	for b.Loop() {
		before := cpu(b, append(daemons, guard)...)
		<-time.After(window)
		after := cpu(b, append(daemons, guard)...)
		share := func(i int) float64 { return 100 * (after[i] - before[i]).Seconds() / window.Seconds() }
		b.ReportMetric(max(share(0), share(1), share(2)), "%core-daemon")
		b.ReportMetric(share(3), "%core-guard")
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(max(resident(b, daemons[0]), resident(b, daemons[1]), resident(b, daemons[2])), "MiB-daemon")
	b.ReportMetric(resident(b, guard), "MiB-guard")
}

// BenchmarkBusy keeps both cores busy beside a healthy cluster of the fast
// profile and counts what it makes of that. Nothing may move.
func BenchmarkBusy(b *testing.B) {
	l, _, _ := startProcesses(b, "fast")
	for range 2 * runtime.NumCPU() {
		spawn(b, "sh", "-c", "while :; do :; done")
	}
	length := time.Minute
	if text := os.Getenv("DRAAS_BUSY"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		<-time.After(length)
	}
	s := l.status("witness")
	if s == nil {
		b.Fatal("the witness does not answer")
	}
	moves, suspicions := 0, uint64(0)
	for _, sv := range s.Services {
		moves += int(sv.Epoch) - 1
	}
	for _, r := range s.Reported {
		suspicions += r.Suspicions
	}
	if moves > 0 {
		b.Errorf("%d services moved", moves)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(length.Minutes(), "min")
	b.ReportMetric(float64(moves), "failovers")
	b.ReportMetric(float64(suspicions), "suspicions")
}

// startProcesses runs a cluster of real processes that looks after ten
// healthy services, all active at primary.
func startProcesses(b *testing.B, profile string) (l *lab, daemons []int, guard int) {
	l = &lab{t: b, dir: filepath.Join(b.TempDir(), "lab"), base: freeBase(b), parts: make(map[string]*part)}
	if err := Init(l.dir, InitOptions{Loopback: config.LoopbackOptions{BasePort: l.base, Profile: profile}}); err != nil {
		b.Fatal(err)
	}
	binary := filepath.Join(b.TempDir(), "draasd")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/draasd").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	for _, member := range []string{"primary", "dr", "witness"} {
		addServices(b, l.file(member), l.base)
	}
	serveAll(b, l.base)
	for _, member := range []string{"primary", "dr", "witness"} {
		if member != "witness" {
			pid := spawn(b, binary, "guard", "-c", l.file(member))
			if member == "primary" {
				guard = pid
			}
		}
		daemons = append(daemons, spawn(b, binary, "run", "-c", l.file(member)))
	}
	l.await("cluster ready", 30*time.Second, func() bool {
		s := l.status("witness")
		return s != nil && len(s.Services) == idleServices && allOwn(s)
	})
	for i := range idleServices {
		id := serviceName(i)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		a, err := l.client("primary").Request(ctx, api.Request{Service: id, Site: "primary", Request: failover.Request{Move: failover.MoveActivate}})
		cancel()
		if err != nil || !a.Accepted {
			b.Fatalf("activate %s: %v %+v", id, err, a)
		}
	}
	l.await("all active", 60*time.Second, func() bool {
		s := l.status("witness")
		if s == nil {
			return false
		}
		for _, sv := range s.Services {
			if sv.Phase != failover.PhaseNormal {
				return false
			}
		}
		return true
	})
	return l, daemons, guard
}

func serviceName(i int) draas.ServiceID {
	if i == 0 {
		return "web"
	}
	return draas.ServiceID(fmt.Sprintf("web%d", i))
}

// addServices writes nine more services like web into a loopback file.
func addServices(b *testing.B, file string, base int) {
	data, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	text := string(data)
	start := strings.Index(text, "[service.web]")
	one := text[start:]
	for i := 1; i < idleServices; i++ {
		more := strings.NewReplacer("service.web", "service.web"+strconv.Itoa(i), "web.draas.test", "web"+strconv.Itoa(i)+".draas.test",
			strconv.Itoa(base+30), strconv.Itoa(base+30+3*i), strconv.Itoa(base+31), strconv.Itoa(base+31+3*i), strconv.Itoa(base+32), strconv.Itoa(base+32+3*i)).Replace(one)
		text += "\n" + more
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

// serveAll runs the web servers behind the fences.
func serveAll(b *testing.B, base int) {
	for i := range idleServices {
		for _, off := range []int{31, 32} {
			ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+off+3*i))
			if err != nil {
				b.Fatal(err)
			}
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })}
			ended := make(chan error, 1)
			go func() { ended <- srv.Serve(ln) }()
			b.Cleanup(func() {
				_ = srv.Close()
				if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
					b.Error(err)
				}
			})
		}
	}
}

func spawn(b *testing.B, binary string, args ...string) int {
	cmd := exec.Command(binary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // a guard that was told to end
	})
	return cmd.Process.Pid
}

func allOwn(s *api.Status) bool {
	own := 0
	for _, sv := range s.Services {
		for _, v := range sv.Views {
			if v.Vantage == v.Site.Member() && v.Verdict == draas.Healthy {
				own++
			}
		}
	}
	return own == 2*len(s.Services)
}

// cpu reads the processor time of processes, in the clock ticks of proc(5),
// 10 ms each.
func cpu(b *testing.B, pids ...int) []time.Duration {
	var out []time.Duration
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			b.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		ticks := 0
		for _, f := range fields[11:13] {
			n, err := strconv.Atoi(f)
			if err != nil {
				b.Fatal(err)
			}
			ticks += n
		}
		out = append(out, time.Duration(ticks)*10*time.Millisecond)
	}
	return out
}

// resident reads a process's resident memory in MiB.
func resident(b *testing.B, pid int) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kib) / 1024
}
