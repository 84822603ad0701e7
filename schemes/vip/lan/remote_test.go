package lan

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas/internal/lab"
	"github.com/draasd/draas/schemes/vip/keepalived"
)

// remote is a host in a process of its own, in a machine of its own.
type remote struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// order is one line for such a process.
type order struct {
	Do      string        `json:"do"` // take, extend, drop, fit, status
	For     time.Duration `json:"for,omitempty"`
	Friends []Station     `json:"friends,omitempty"`
	Addrs   []Address     `json:"addrs,omitempty"`
	Name    string        `json:"name,omitempty"`
	// Track is the file by which a keepalived sets the addresses.
	Track string `json:"track,omitempty"`
}

type reply struct {
	Err    string
	Status Status
	Took   time.Duration
}

// remote starts a host in a machine, with a wrapper before it perhaps, and a
// server beside it that says the name.
func (w *world) remote(m *lab.Machine, wrapper []string, friends []Station, addrs ...string) *remote {
	w.t.Helper()
	r := w.start(m, wrapper)
	if got := r.do(order{Do: "open", Name: m.Name, Friends: friends, Addrs: addresses(addrs...)}); got.Err != "" {
		w.t.Fatal(got.Err)
	}
	return r
}

func (w *world) start(m *lab.Machine, wrapper []string) *remote {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	r := &remote{t: w.t, cmd: m.Command("/", append(append([]string{}, wrapper...), self)...)}
	r.cmd.Env = append(os.Environ(), envHost+"=1", "GORACE=atexit_sleep_ms=0")
	r.cmd.Stderr = w.t.Output()
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	r.out = bufio.NewReader(out)
	if err := r.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = r.in.Close()     // ends it, if nothing has
		_ = r.signal("CONT") // it may stand still
		_ = r.cmd.Wait()     // it may have been killed
	})
	return r
}

func (r *remote) signal(name string) error {
	return r.cmd.Process.Signal(unix.SignalNum("SIG" + name))
}

func (r *remote) do(o order) reply {
	r.t.Helper()
	if err := json.NewEncoder(r.in).Encode(o); err != nil {
		r.t.Fatal(err)
	}
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		r.t.Fatalf("host does not answer: %v", err)
	}
	var got reply
	if err := json.Unmarshal(line, &got); err != nil {
		r.t.Fatalf("host says %q: %v", line, err)
	}
	return got
}

// serveHost is the process of a remote host.
func serveHost(orders io.Reader, replies io.Writer) int {
	var h *Host
	var track *keepalived.TrackFile
	var l net.Listener
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() {
		if h != nil {
			_ = h.Close() // its machine ends, too
		}
		if l != nil {
			_ = l.Close() // likewise
		}
	}()
	dec, enc := json.NewDecoder(orders), json.NewEncoder(replies)
	for {
		var o order
		if err := dec.Decode(&o); err != nil {
			return 0
		}
		var err error
		start := time.Now()
		switch {
		case o.Do == "open":
			if o.Track != "" {
				if track, err = keepalived.OpenTrackFile(o.Track); err != nil {
					break
				}
			}
			h, err = Open(Config{Name: "shop", Addresses: o.Addrs, Clock: now, Friends: func() []Station { return o.Friends }, Foreign: o.Track != ""})
			if err == nil && o.Name != "" {
				if l, err = net.Listen("tcp", ":80"); err == nil {
					wg.Go(func() { greet(l, o.Name) })
				}
			}
		case h == nil:
			err = errors.New("not open")
		case o.Do == "take":
			if err = h.Take(context.Background(), inTime(o.For)); err == nil && track != nil {
				err = track.Set(true)
			}
		case o.Do == "extend":
			err = h.Extend(inTime(o.For))
		case o.Do == "drop":
			if track != nil {
				err = track.Set(false)
			}
			err = errors.Join(err, h.Drop())
		case o.Do == "fit":
			err = h.Fit()
		}
		got := reply{Took: time.Since(start)}
		if err != nil {
			got.Err = err.Error()
		}
		if h != nil {
			got.Status = h.Status()
		}
		if err := enc.Encode(got); err != nil {
			return 1
		}
	}
}
