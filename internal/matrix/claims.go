package matrix

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Who has a virtual address is asked as its neighbours do, by ARP: of the
// addresses that hosts have set, those count that are answered for.

// claimEvery is the pause between two questions.
const claimEvery = 5 * time.Millisecond

// claim is an answer: who says that he has the address, and when he was asked
// and said so, in Unix nanoseconds.
type claim struct {
	Asked int64  `json:"asked"`
	Said  int64  `json:"said"`
	By    string `json:"by"`
}

// runClaims asks who has an address until in ends, and writes a line for every
// answer.
func runClaims(ctx context.Context, device string, ours, theirs netip.Addr, in io.Reader, out io.Writer) error {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return fmt.Errorf("find interface: %w", err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(bigEndian(unix.ETH_P_ARP)))
	if err != nil {
		return fmt.Errorf("open packet socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	to := &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ARP), Ifindex: i.Index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	if err := errors.Join(unix.Bind(fd, to), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)); err != nil {
		return fmt.Errorf("set up packet socket: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with its input, which is how this process is told to end
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	var asked questions
	var all sync.WaitGroup
	var failed error
	all.Go(func() {
		defer cancel()
		failed = hearClaims(ctx, fd, ours, theirs, json.NewEncoder(out), &asked)
	})
	tick := time.NewTicker(claimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			all.Wait()
			return failed
		case <-tick.C:
		}
		question := arpRequest(i.HardwareAddr, askedAs(ours, asked.add(time.Now())), theirs)
		if err := unix.Sendto(fd, question, 0, to); err != nil {
			cancel()
			all.Wait()
			return fmt.Errorf("ask who has %s: %w", theirs, err)
		}
	}
}

func bigEndian(n uint16) uint16 { return n<<8 | n>>8 }

// askers are as many addresses in whose names is asked, one after the other, from
// ours on: an answer repeats the one, which tells the question that it is to, even
// where it comes after later ones. None of them is anybody's but the first.
const askers = 64

func askedAs(ours netip.Addr, question int) netip.Addr {
	a := ours.As4()
	a[3] += byte(question % askers)
	return netip.AddrFrom4(a)
}

// questions are when was asked, in order.
type questions struct {
	mu  sync.Mutex
	all []int64
}

// add notes a question, and gives its number.
func (q *questions) add(at time.Time) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = append(q.all, at.UnixNano())
	return len(q.all) - 1
}

// answered is when was asked what is answered at an instant: the last question up
// to then that was asked in the name of so many behind ours.
func (q *questions) answered(name int, at int64) (int64, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i, found := slices.BinarySearch(q.all, at)
	if !found {
		i--
	}
	for ; i >= 0; i-- {
		if i%askers == name {
			return q.all[i], true
		}
	}
	return 0, false
}

// hearClaims writes the answers until ctx ends. When one came, the kernel says:
// this process may read it much later.
func hearClaims(ctx context.Context, fd int, ours, theirs netip.Addr, out *json.Encoder, asked *questions) error {
	buf, stamp := make([]byte, 256), make([]byte, 128)
	for ctx.Err() == nil {
		n, oobn, _, _, err := unix.Recvmsg(fd, buf, stamp, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("hear answers: %w", err)
		}
		by, to, ok := arpReply(buf[:n], theirs)
		if !ok {
			continue
		}
		at, err := stamped(stamp[:oobn])
		if err != nil {
			return fmt.Errorf("hear answers: %w", err)
		}
		name := int(to.As4()[3]) - int(ours.As4()[3])
		when, ok := asked.answered(name, at)
		if !ok {
			continue // to what somebody else asked
		}
		if err := out.Encode(claim{when, at, by}); err != nil {
			return fmt.Errorf("tell answer: %w", err)
		}
	}
	return nil
}

// stamped is when a frame came, by the kernel.
func stamped(oob []byte) (int64, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, fmt.Errorf("read time stamp: %w", err)
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return int64(binary.NativeEndian.Uint64(m.Data))*int64(time.Second) + int64(binary.NativeEndian.Uint64(m.Data[8:])), nil
		}
	}
	return 0, errors.New("a frame without a time stamp")
}

// The operations of ARP (RFC 826).
const (
	arpAsks  = 1
	arpSays  = 2
	arpSize  = 28
	arpStart = "\x00\x01\x08\x00\x06\x04\x00" // Ethernet, IPv4, their lengths
)

// arpRequest is a question, without the frame's head.
func arpRequest(from net.HardwareAddr, ours, theirs netip.Addr) []byte {
	p := append([]byte(arpStart), arpAsks)
	p = append(append(p, from...), ours.AsSlice()...)
	return append(append(p, make([]byte, 6)...), theirs.AsSlice()...)
}

// arpReply reads who says to whom that he has the address.
func arpReply(p []byte, theirs netip.Addr) (by string, to netip.Addr, ok bool) {
	if len(p) < arpSize || string(p[:7]) != arpStart || p[7] != arpSays {
		return "", netip.Addr{}, false
	}
	if sender, _ := netip.AddrFromSlice(p[14:18]); sender != theirs {
		return "", netip.Addr{}, false
	}
	return net.HardwareAddr(p[8:14]).String(), netip.AddrFrom4([4]byte(p[24:28])), true
}

// unclaimed is the longest time after an instant in which nobody answered for the
// address: an upper bound, by the pause between two questions.
func unclaimed(claims []claim, from time.Time) time.Duration {
	var longest, last int64
	for _, c := range claims { // as they came
		if c.Said > from.UnixNano() && last > 0 {
			longest = max(longest, c.Said-last)
		}
		last = c.Said
	}
	return time.Duration(longest)
}

// doubleClaims is for how long more than one host answered for the address:
// the questions that two answered, each for the pause that is between them.
func doubleClaims(claims []claim) time.Duration {
	who := make(map[int64]map[string]bool)
	double := 0
	for _, c := range claims {
		if who[c.Asked] == nil {
			who[c.Asked] = make(map[string]bool)
		}
		if len(who[c.Asked]) == 1 && !who[c.Asked][c.By] {
			double++
		}
		who[c.Asked][c.By] = true
	}
	return time.Duration(double) * claimEvery
}
