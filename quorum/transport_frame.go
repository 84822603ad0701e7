package quorum

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/draasd/draas"
)

// The protocol between members, over mutual TLS 1.3. A member sends on the
// connections that it dialled; what comes back on them is the answer to its
// hello, and echoes. A frame is: length of the rest u32, type u8, payload.
const (
	// protocolVersion 1 was never released.
	protocolVersion = 2
	lowestVersion   = 2 // that this one can talk with
	helloMagic      = "draas-peer"

	frameHead    = 4
	maxFrame     = MaxMessage + 1024
	maxHandshake = 4 << 10
	maxEcho      = 64
)

type frameType uint8

const (
	frameHello   frameType = 1 // dialler: who calls whom
	frameWelcome frameType = 2 // acceptor: go on
	frameRefusal frameType = 3 // acceptor: code u8, text
	frameMessage frameType = 4 // dialler: Message.Data
	frameAsk     frameType = 5 // dialler: nonce u64; Transport.Ping
	frameAnswer  frameType = 6 // dialler of the other connection: nonce u64
	frameBeat    frameType = 7 // dialler: u64, to see whether the other end is there
	frameEcho    frameType = 8 // acceptor: the beat's u64
)

type frame struct {
	Type    frameType
	Payload []byte
}

// errFrame is garbage on the wire.
var errFrame = errors.New("not this protocol")

// readFrame reads a frame of a bounded length. Memory grows with what has
// arrived, not with what a length claims.
func readFrame(r *bufio.Reader, limit int) (frame, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || uint64(n) > uint64(limit) {
		return frame{}, fmt.Errorf("%w: frame of %d bytes, 1 to %d are possible", errFrame, n, limit)
	}
	const step = 64 << 10
	var b []byte
	for len(b) < int(n) {
		k := min(int(n)-len(b), max(step, len(b)))
		b = append(b, make([]byte, k)...)
		if _, err := io.ReadFull(r, b[len(b)-k:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return frame{}, err
		}
	}
	return frame{Type: frameType(b[0]), Payload: b[1:]}, nil
}

func writeFrame(w *bufio.Writer, f frame) error {
	var head [frameHead + 1]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(f.Payload)+1))
	head[frameHead] = byte(f.Type)
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.Write(f.Payload)
	return err
}

// hello opens a connection, and the same with From and To exchanged is the
// welcome. What follows after the names is of a later version and passed over;
// what an older one must not pass over raises Lowest.
type hello struct {
	Version, Lowest uint16 // both sides speak the smaller Version
	Cluster         ClusterID
	Incarnation     draas.Incarnation
	From, To        draas.MemberID
}

// hello is this member's to a peer.
func (t *Transport) hello(to draas.MemberID) hello {
	return hello{Version: protocolVersion, Lowest: lowestVersion, Cluster: t.cfg.Cluster, Incarnation: t.cfg.Incarnation, From: t.cfg.Self, To: to}
}

// understood reports whether there is a version that both sides speak.
func (h hello) understood() bool { return h.Version >= lowestVersion && h.Lowest <= protocolVersion }

func (h hello) misunderstood() error {
	return fmt.Errorf("%w: %d to %d, this one speaks %d to %d", ErrProtocol, h.Lowest, h.Version, lowestVersion, protocolVersion)
}

func (h hello) encode() []byte {
	b := append([]byte(nil), helloMagic...)
	b = binary.BigEndian.AppendUint16(b, h.Version)
	b = binary.BigEndian.AppendUint16(b, h.Lowest)
	b = append(b, h.Cluster[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Incarnation))
	b = append(b, byte(len(h.From)))
	b = append(b, h.From...)
	b = append(b, byte(len(h.To)))
	return append(b, h.To...)
}

// decodeHello reads a hello. Of one that is not understood only the versions
// are read.
func decodeHello(b []byte) (hello, error) {
	var h hello
	if len(b) < len(helloMagic)+4 || string(b[:len(helloMagic)]) != helloMagic {
		return h, errFrame
	}
	b = b[len(helloMagic):]
	h.Version, h.Lowest = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	if h.Version == 1 {
		h.Lowest = 1 // it did not say
	}
	if !h.understood() {
		return h, nil
	}
	if b = b[4:]; len(b) < 16+8 {
		return h, errFrame
	}
	h.Cluster, h.Incarnation = ClusterID(b[:16]), draas.Incarnation(binary.BigEndian.Uint64(b[16:]))
	b = b[24:]
	for _, name := range []*draas.MemberID{&h.From, &h.To} {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return h, errFrame
		}
		*name, b = draas.MemberID(b[1:1+int(b[0])]), b[1+int(b[0]):]
	}
	if h.Incarnation == 0 {
		return h, errFrame
	}
	return h, nil
}

// Refusals of a peer, each with its code on the wire.
var (
	// ErrProtocol: the peer speaks another version of the protocol.
	ErrProtocol = errors.New("peer speaks another version of the protocol")
	// ErrForeignCluster: the peer belongs to another cluster.
	ErrForeignCluster = errors.New("peer belongs to another cluster")
	// ErrDuplicate: two daemons claim to be the same member.
	ErrDuplicate = errors.New("two daemons claim to be the same member")
)

// refusals are the codes from 1 on.
var refusals = [...]error{ErrProtocol, ErrForeignCluster, ErrNotMember, ErrDuplicate}

func encodeRefusal(err error) []byte {
	for i, e := range refusals {
		if errors.Is(err, e) {
			return append([]byte{byte(i + 1)}, err.Error()...)
		}
	}
	return append([]byte{0}, "refused"...)
}

func decodeRefusal(b []byte) error {
	if len(b) == 0 || int(b[0]) > len(refusals) {
		return errFrame
	}
	if b[0] == 0 {
		return fmt.Errorf("peer refused: %q", b[1:])
	}
	return fmt.Errorf("peer refused: %w: it says %q", refusals[b[0]-1], b[1:])
}

// patient gives each read and each part of a write its own deadline, so that a
// slow connection lives and a dead one does not.
type patient struct {
	net.Conn
	wait time.Duration
}

func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(p.wait)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

func (p patient) Write(b []byte) (int, error) {
	const step = 64 << 10
	done := 0
	for done < len(b) {
		if err := p.SetWriteDeadline(time.Now().Add(p.wait)); err != nil {
			return done, err
		}
		n, err := p.Conn.Write(b[done:min(done+step, len(b))])
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}
