package matrix

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// wanDevice is the router's tun device: the kernel hands it every packet from
// one place to another, and takes it back when its way is over. (This kernel
// has no netem.)
const wanDevice = "wan"

// wanQueue is how many packets may be under way for as long as each other;
// more are lost.
const wanQueue = 1 << 14

// Ways are how long a packet takes from one place to another.
type Ways struct {
	All     time.Duration            // unless it is
	Between map[[2]int]time.Duration // of two places, the lower number first
}

// String writes what Set reads.
func (w *Ways) String() string {
	if w == nil {
		return ""
	}
	parts := []string{w.All.String()}
	for _, pair := range slices.SortedFunc(maps.Keys(w.Between), func(a, b [2]int) int { return slices.Compare(a[:], b[:]) }) {
		parts = append(parts, fmt.Sprintf("%s-%s=%v", placeOf(pair[0]), placeOf(pair[1]), w.Between[pair]))
	}
	return strings.Join(parts, ",")
}

// Set reads "1ms,primary-dr=5ms".
func (w *Ways) Set(text string) error {
	w.Between = make(map[[2]int]time.Duration)
	for i, part := range strings.Split(text, ",") {
		pair, long, between := strings.Cut(part, "=")
		if !between {
			pair, long = "", part
		}
		d, err := time.ParseDuration(long)
		if err != nil || d < 0 || between == (i == 0) {
			return fmt.Errorf("%q is no way: want a time, and behind it PLACE-PLACE=TIME", part)
		}
		if !between {
			w.All = d
			continue
		}
		one, other, _ := strings.Cut(pair, "-")
		a, b := numberOf[one], numberOf[other]
		if a == 0 || b == 0 || a == b {
			return fmt.Errorf("%q are no two of %s", pair, strings.Join(places, ", "))
		}
		w.Between[[2]int{min(a, b), max(a, b)}] = d
	}
	return nil
}

func placeOf(number int) string {
	for name, n := range numberOf {
		if n == number {
			return name
		}
	}
	return ""
}

// of is how long an IPv4 packet takes: by the places of its two addresses.
func (w *Ways) of(p []byte) time.Duration {
	const source, destination, third = 12, 16, 2 // RFC 791, section 3.1
	if len(p) < destination+4 || p[0]>>4 != 4 {
		return w.All
	}
	a, b := int(p[source+third])%behind, int(p[destination+third])%behind
	if d, ok := w.Between[[2]int{min(a, b), max(a, b)}]; ok {
		return d
	}
	return w.All
}

// packet is one that is under way.
type packet struct {
	due  time.Time
	data []byte
}

// runWAN holds every packet for as long as its way takes, until ctx ends.
func runWAN(ctx context.Context, ways *Ways) error {
	tun, err := openTUN(wanDevice)
	if err != nil {
		return err
	}
	// Those that take as long as each other stay in their order.
	under := map[time.Duration]chan packet{ways.All: make(chan packet, wanQueue)}
	for _, d := range ways.Between {
		if under[d] == nil {
			under[d] = make(chan packet, wanQueue)
		}
	}
	errs := make(chan error, len(under))
	for _, those := range under {
		go func() { errs <- deliver(tun, those) }()
	}
	stop := context.AfterFunc(ctx, func() { _ = tun.Close() }) // what reads ends with it
	err = collect(tun, under, ways)
	for _, those := range under {
		close(those)
	}
	for range under {
		err = errors.Join(err, <-errs)
	}
	if !stop() {
		return nil
	}
	return errors.Join(err, tun.Close())
}

// collect notes when each packet is due.
func collect(tun *os.File, under map[time.Duration]chan packet, ways *Ways) error {
	buf := make([]byte, 1<<16)
	for {
		n, err := tun.Read(buf)
		if err != nil {
			return fmt.Errorf("read packet: %w", err)
		}
		way := ways.of(buf[:n])
		select {
		case under[way] <- packet{time.Now().Add(way), append([]byte(nil), buf[:n]...)}:
		default: // lost, as by any router
		}
	}
}

// deliver hands the packets on when they are due. It sleeps by itself, on a
// thread of its own: the runtime's timers are rounded to milliseconds.
func deliver(tun *os.File, under <-chan packet) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var failed error
	for p := range under {
		if wait := time.Until(p.due); wait > 0 {
			ts := unix.NsecToTimespec(wait.Nanoseconds())
			_ = unix.Nanosleep(&ts, nil) // a signal only makes it early
		}
		// The kernel refuses what it cannot route, and that packet only.
		if _, err := tun.Write(p.data); err != nil && !errors.Is(err, unix.EINVAL) && failed == nil {
			failed = fmt.Errorf("hand packet on: %w", err)
		}
	}
	return failed
}

func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make device %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}
