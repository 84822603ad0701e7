package soak

import (
	"bytes"
	"cmp"
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

	"github.com/draasd/draas/internal/lab"
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
		return errors.Join(err, h.powerOn())
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
	case LoseDisk:
		return h.loseDisk(ctx, f.For, s.operators.cluster())
	case Leave:
		return s.leave(ctx, f, h)
	case Flush:
		return s.flush(h)
	case Maintenance:
		if h.daemon.Hold(syscall.SIGTERM, 10*time.Second) {
			s.book.violate("%s did not end within 10 s of SIGTERM", h.daemon.Name)
		}
		pause(ctx, f.For)
		h.daemon.Release()
		return nil
	case Switchover, Failover, Failback:
		s.operators.wish(ctx, f)
		return nil
	case Pause:
		s.operators.pause(ctx, f)
		return nil
	case Reload:
		return s.reload(f.File)
	case Rotate:
		return s.rotate(f.Member, f.Days)
	}
	return fmt.Errorf("nobody knows how to make a %s", f.Kind)
}

// flush is what a careless firewall script does. Without the second wall of XDP
// the service is open until the guard has seen it, as docs/fence.md says: then
// there is nothing to be shown.
func (s *stage) flush(h *host) error {
	link, err := h.Run("/", "ip", "-details", "link", "show", "eth0")
	if err != nil {
		return err
	}
	if !strings.Contains(link, "prog/xdp") {
		s.book.note("no XDP program at %s: nothing is flushed", h.Name)
		s.book.skip()
		return nil
	}
	_, err = h.Run("/", "nft", "flush", "ruleset")
	return err
}

// sever keeps a fault's cuts in force for as long as during takes.
func (s *stage) sever(f Fault, during func() error) error {
	heal, err := s.cuts.add(cutsOf(f))
	return errors.Join(err, during(), heal())
}

// reload gives every member another file, and tells those who run to read it.
func (s *stage) reload(file int) error { return s.spread(failoverTOML(file)) }

func (s *stage) spread(text string) error {
	s.files.Lock()
	defer s.files.Unlock()
	for _, name := range members {
		if err := writeFile(s.hosts[name].dir, text); err != nil {
			return err
		}
	}
	for _, name := range members {
		s.hosts[name].hangUp()
	}
	return nil
}

// down kills processes and keeps them from starting.
func down(ctx context.Context, d time.Duration, all ...*lab.Process) error {
	for _, p := range all {
		p.Hold(syscall.SIGKILL, time.Minute)
		defer p.Release()
	}
	pause(ctx, d)
	return nil
}

// still stops processes and lets them go on.
func still(ctx context.Context, d time.Duration, all ...*lab.Process) error {
	for _, p := range all {
		p.Stop()
		defer p.Resume()
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
	h.daemon.Hold(syscall.SIGKILL, time.Minute)
	defer h.daemon.Release()
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

// corruptLog changes some bytes in the log of a daemon that was killed, and
// starts it: it must refuse, and say why. Then the copy is given up, and the
// member asks to be let in again.
func (h *host) corruptLog(ctx context.Context, f Fault, patience time.Duration) error {
	h.disk.Lock()
	defer h.disk.Unlock()
	h.daemon.Hold(syscall.SIGKILL, time.Minute)
	defer h.daemon.Release()
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
	err = h.refuses(ctx, patience, "is damaged", filepath.Base(file))
	if err != nil {
		err = fmt.Errorf("%s changed from byte %d of %d on: %w", filepath.Base(file), at, len(good), err)
	}
	pause(ctx, f.For)
	return errors.Join(err, h.join("--discard"))
}

// loseDisk empties the data directory of a daemon that was killed. To start on
// it must be refused; then it is prepared, and the member asks to be let in.
func (h *host) loseDisk(ctx context.Context, d time.Duration, cluster string) error {
	h.disk.Lock()
	defer h.disk.Unlock()
	h.daemon.Hold(syscall.SIGKILL, time.Minute)
	defer h.daemon.Release()
	if _, err := h.Run("/", "sh", "-euc", `rm -rf "$1"/*`, "sh", h.data()); err != nil {
		return err
	}
	err := h.refuses(ctx, refusePatience, "is not bootstrapped", "draasd join")
	pause(ctx, d)
	if h.join() == nil {
		return err
	}
	return errors.Join(err, h.join("--cluster", cluster)) // no other member could be asked
}

func (h *host) join(flags ...string) error {
	_, err := h.Run("/", append([]string{h.draasd, "join", "-c", filepath.Join(h.dir, "failover.toml")}, flags...)...)
	return err
}

// leavePatience is how long a member may take to be let go.
const leavePatience = 10 * time.Second

// leave lets a member go in order, if it serves nothing and the others can.
func (s *stage) leave(ctx context.Context, f Fault, h *host) error {
	if err := s.letGo(ctx, h); err != nil {
		s.book.note("leave: %v", err) // a majority is needed for it
		return nil
	}
	return down(ctx, f.For, h.daemon)
}

// letGo has a member leave, and returns when its daemon has ended: it is about
// to be started again.
func (s *stage) letGo(ctx context.Context, h *host) error {
	h.expectLeave()
	_, before, _ := h.daemon.Present()
	if err := s.operators.leave(ctx, h.Name); err != nil {
		return err
	}
	return await(ctx, leavePatience, func(context.Context) error {
		if pid, run, _ := h.daemon.Present(); pid != 0 && run == before {
			return fmt.Errorf("%s has not ended", h.daemon.Name)
		}
		return nil
	})
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

// refuses starts the daemon beside the one that is kept running: it has to end
// by itself, and to say all the words.
func (h *host) refuses(ctx context.Context, patience time.Duration, words ...string) error {
	cmd := h.daemon.Command()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // it may have ended
	defer stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Exited() {
		return fmt.Errorf("the daemon was to refuse its disk: %w: %s", cmp.Or(err, errors.New("it ended well")), &out)
	}
	for _, w := range words {
		if !strings.Contains(out.String(), w) {
			return fmt.Errorf("the daemon refused its disk and did not say %q: %s", w, &out)
		}
	}
	return nil
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
