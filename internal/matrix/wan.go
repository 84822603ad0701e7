package matrix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// wanDevice is the router's tun device: the kernel hands it every packet from
// one place to another, and takes it back when its way is over. (This kernel
// has no netem.)
const wanDevice = "wan"

// wanQueue is how many packets may be under way; more are lost.
const wanQueue = 1 << 14

// packet is one that is under way.
type packet struct {
	due  time.Time
	data []byte
}

// runWAN holds every packet for as long as its way takes, until ctx ends.
func runWAN(ctx context.Context, way time.Duration) error {
	tun, err := openTUN(wanDevice)
	if err != nil {
		return err
	}
	under := make(chan packet, wanQueue)
	errc := make(chan error, 1)
	var all sync.WaitGroup
	all.Go(func() { errc <- deliver(tun, under) })
	stop := context.AfterFunc(ctx, func() { _ = tun.Close() }) // what reads ends with it
	err = collect(tun, under, way)
	close(under)
	all.Wait()
	err = errors.Join(err, <-errc)
	if !stop() {
		return nil
	}
	return errors.Join(err, tun.Close())
}

// collect notes when each packet is due.
func collect(tun *os.File, under chan<- packet, way time.Duration) error {
	buf := make([]byte, 1<<16)
	for {
		n, err := tun.Read(buf)
		if err != nil {
			return fmt.Errorf("read packet: %w", err)
		}
		select {
		case under <- packet{time.Now().Add(way), append([]byte(nil), buf[:n]...)}:
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
