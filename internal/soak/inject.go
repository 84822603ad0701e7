package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// strike carries out the faults of a round, each when it is due, and returns
// when the last of them is taken back, or soon after ctx ended.
func (s *stage) strike(ctx context.Context, faults []Fault) {
	var all sync.WaitGroup
	for _, f := range faults {
		all.Go(func() {
			pause(ctx, f.At)
			if ctx.Err() != nil {
				return
			}
			s.book.fault(f)
			if err := s.carryOut(ctx, f); err != nil && ctx.Err() == nil {
				s.book.violate("fault %v could not be made: %v", f, err)
			}
		})
	}
	all.Wait()
}

// carryOut makes a fault, lets it last and takes it back.
func (s *stage) carryOut(ctx context.Context, f Fault) error {
	h := s.hosts[f.Member]
	switch f.Kind {
	case KillDaemon:
		return down(ctx, f.For, h.daemon)
	case KillGuard:
		return down(ctx, f.For, h.guard)
	case KillService:
		return down(ctx, f.For, h.services[f.Service])
	case StopDaemon:
		return still(ctx, f.For, h.daemon)
	case StopGuard:
		return still(ctx, f.For, h.guard)
	case KillBoth:
		return down(ctx, f.For, h.daemon, h.guard)
	case StopBoth:
		return still(ctx, f.For, h.daemon, h.guard)
	case StopHost:
		return still(ctx, f.For, h.processes()...)
	case HostOff:
		err := h.powerOff()
		pause(ctx, f.For)
		return errors.Join(err, h.powerOn(ctx))
	case Cut, CutOneWay, CutPort, Isolate, Deaf, Mute, Loss:
		return s.sever(f, func() error { pause(ctx, f.For); return nil })
	case Abandon:
		return s.sever(f, func() error { return down(ctx, f.For, h.daemon, h.guard) })
	case Strand:
		return s.sever(f, func() error { return still(ctx, f.For, h.daemon, h.guard) })
	case DiskFull:
		return h.fillDisk(ctx, f.For)
	case DiskRO:
		return h.freezeDisk(ctx, f.For)
	case CorruptLog:
		return h.corruptLog(ctx, f, refusePatience)
	case Maintenance:
		if h.daemon.hold(syscall.SIGTERM, 10*time.Second) {
			s.book.violate("%s did not end within 10 s of SIGTERM", h.daemon.name)
		}
		pause(ctx, f.For)
		h.daemon.release()
		return nil
	case Switchover, Failover, Failback:
		s.operators.wish(ctx, f)
		return nil
	case Pause:
		s.operators.pause(ctx, f)
		return nil
	case Reload:
		return s.reload(f.File)
	}
	return fmt.Errorf("nobody knows how to make a %s", f.Kind)
}

// sever keeps a fault's cuts in force for as long as during takes.
func (s *stage) sever(f Fault, during func() error) error {
	heal, err := s.cuts.add(cutsOf(f))
	return errors.Join(err, during(), heal())
}

// reload gives every member another file, and tells those who run to read it.
func (s *stage) reload(file int) error {
	s.files.Lock()
	defer s.files.Unlock()
	for _, name := range members {
		if err := writeFile(s.hosts[name].dir, file); err != nil {
			return err
		}
	}
	for _, name := range members {
		s.hosts[name].daemon.hangUp()
	}
	return nil
}

// down kills processes and keeps them from starting.
func down(ctx context.Context, d time.Duration, all ...*process) error {
	for _, p := range all {
		p.hold(syscall.SIGKILL, time.Minute)
		defer p.release()
	}
	pause(ctx, d)
	return nil
}

// still stops processes and lets them go on.
func still(ctx context.Context, d time.Duration, all ...*process) error {
	for _, p := range all {
		p.stop()
		defer p.resume()
	}
	pause(ctx, d)
	return nil
}

// fillDisk takes all the room that the member's disk has left.
func (h *host) fillDisk(ctx context.Context, d time.Duration) error {
	h.disk.Lock()
	defer h.disk.Unlock()
	defer h.sicken()()
	path := h.Path(filepath.Join(h.data(), "filler"))
	err := fill(path)
	pause(ctx, d)
	return errors.Join(err, os.Remove(path))
}

// fill writes a file until there is no room.
func fill(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("fill disk: %w", err)
	}
	for _, piece := range [][]byte{make([]byte, 256<<10), make([]byte, 1<<10)} {
		for err == nil {
			_, err = f.Write(piece)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return errors.Join(fmt.Errorf("fill disk: %w", err), f.Close())
		}
		err = nil
	}
	return f.Close()
}

// freezeDisk makes the member's file system read-only as an error of its disk
// does, under the daemon's hands; then the disk is checked and mounted again.
func (h *host) freezeDisk(ctx context.Context, d time.Duration) error {
	h.disk.Lock()
	defer h.disk.Unlock()
	defer h.sicken()()
	const provoke = `echo 1 >/sys/fs/ext4/$(basename $(findmnt -no SOURCE "$1"))/trigger_fs_error`
	_, err := h.Run("/", "sh", "-euc", provoke, "sh", h.data())
	pause(ctx, d)
	h.daemon.hold(syscall.SIGKILL, time.Minute)
	defer h.daemon.release()
	// 1 says that errors were corrected, as they have to be.
	const repair = `e2fsck -fy /mnt/disk >/dev/null || [ $? = 1 ]; mount -o loop,errors=remount-ro /mnt/disk "$1"`
	if gone := h.unmount(); gone != nil {
		return errors.Join(err, gone)
	}
	_, again := h.Run("/", "sh", "-euc", repair, "sh", h.data())
	return errors.Join(err, again)
}

// refusePatience is how long a daemon may take to refuse a damaged log.
const refusePatience = 10 * time.Second

// corruptLog changes some bytes in the log or the snapshot of a daemon that
// was killed, and starts it: it must refuse, and say why. Then the bytes are
// put back, as if they had been misread.
func (h *host) corruptLog(ctx context.Context, f Fault, patience time.Duration) error {
	h.disk.Lock()
	defer h.disk.Unlock()
	h.daemon.hold(syscall.SIGKILL, time.Minute)
	defer h.daemon.release()
	file, err := newest(h.Path(h.data()))
	if err != nil {
		return err
	}
	good, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	bad, at := damage(good, f)
	if err := os.WriteFile(file, bad, 0o600); err != nil {
		return fmt.Errorf("damage log: %w", err)
	}
	said, err := h.tryDaemon(ctx, patience)
	if err == nil && (!strings.Contains(said, "is damaged") || !strings.Contains(said, filepath.Base(file))) {
		err = fmt.Errorf("a damaged %s (from byte %d of %d) is to be refused by name; the daemon said: %s", filepath.Base(file), at, len(good), said)
	}
	pause(ctx, f.For)
	if back := os.WriteFile(file, good, 0o600); back != nil {
		return errors.Join(err, fmt.Errorf("put log back: %w", back))
	}
	return err
}

// damage changes some bytes, from one on. The fault's own numbers choose them:
// the same seed, the same place in a log of the same length.
func damage(good []byte, f Fault) (bad []byte, at int) {
	rng := rand.New(rand.NewPCG(uint64(f.At), uint64(f.For)))
	bad, at = slices.Clone(good), rng.IntN(len(good))
	for i := at; i < min(at+1+rng.IntN(8), len(bad)); i++ {
		bad[i] ^= byte(1 + rng.IntN(255))
	}
	return bad, at
}

// tryDaemon starts the daemon beside the one that is kept running, and waits
// for it to refuse.
func (h *host) tryDaemon(ctx context.Context, patience time.Duration) (said string, err error) {
	cmd := h.daemon.command()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start daemon with a damaged log: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // it may have ended
	defer stop()
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited():
		return out.String(), nil
	case err == nil:
		return "", fmt.Errorf("a daemon with a damaged log ended well: %s", &out)
	}
	return "", fmt.Errorf("a daemon with a damaged log did not refuse it: %w: %s", err, &out)
}

// newest is the file of the log that counts: the one of the highest number.
func newest(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "log-????????????????"))
	if err != nil {
		return "", fmt.Errorf("find log: %w", err)
	}
	if len(files) == 0 {
		return "", fmt.Errorf("find log: there is none in %s", dir)
	}
	return slices.Max(files), nil
}
