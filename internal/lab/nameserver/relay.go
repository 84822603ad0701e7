package nameserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// Fate is what a relay does with a message.
type Fate int

// The fates.
const (
	Pass       Fate = iota
	Lose            // the server does not get it
	LoseAnswer      // the server gets it, and nobody its answer
	Hold            // as Lose, but Deliver brings it to the server later
	Refused         // the relay answers REFUSED by itself
	ServFail        // the relay answers SERVFAIL by itself
	Nothing         // the relay answers that all is well, without records and signature
	Moved           // the relay answers NXRRSET without signature
	Forge           // as Nothing by UDP, and the server's answer follows
)

// Relay stands between clients and a server, for UDP and TCP.
type Relay struct {
	Address string // host:port
	server  string

	mu    sync.Mutex
	rule  func(*mdns.Msg) Fate
	wires map[*mdns.Msg][]byte // of messages whose fate is being decided
	held  [][]byte
	seen  [][]byte
	nets  []string // of what was seen
	conns map[net.Conn]bool
	done  bool
	wg    sync.WaitGroup
	udp   net.PacketConn
	tcp   net.Listener
}

// relayWait bounds how long a relay waits for the server's answer.
const relayWait = 20 * time.Second

// NewRelay starts a relay that passes everything to the server.
func NewRelay(t testing.TB, server string) *Relay {
	t.Helper()
	r := &Relay{server: server, conns: make(map[net.Conn]bool), wires: make(map[*mdns.Msg][]byte), Address: Address(t)}
	r.SetRule(nil)
	var err error
	if r.tcp, err = net.Listen("tcp", r.Address); err != nil {
		t.Fatal(err)
	}
	if r.udp, err = net.ListenPacket("udp", r.Address); err != nil {
		t.Fatal(err)
	}
	r.wg.Go(r.serveUDP)
	r.wg.Go(r.serveTCP)
	t.Cleanup(r.close)
	return r
}

// SetRule decides each message's fate from now on; nil passes everything. The
// rule may be called by several goroutines at once.
func (r *Relay) SetRule(rule func(*mdns.Msg) Fate) {
	if rule == nil {
		rule = func(*mdns.Msg) Fate { return Pass }
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rule = rule
}

// Updates is a rule that has the fate befall updates only.
func Updates(f Fate) func(*mdns.Msg) Fate { return ofOpcode(mdns.OpcodeUpdate, f) }

// Queries is a rule that has the fate befall queries only.
func Queries(f Fate) func(*mdns.Msg) Fate { return ofOpcode(mdns.OpcodeQuery, f) }

// All is a rule that has the fate befall everything.
func All(f Fate) func(*mdns.Msg) Fate { return func(*mdns.Msg) Fate { return f } }

func ofOpcode(opcode int, f Fate) func(*mdns.Msg) Fate {
	return func(m *mdns.Msg) Fate {
		if m.Opcode == opcode {
			return f
		}
		return Pass
	}
}

// Seen are the updates that came to the relay so far, as they were sent.
func (r *Relay) Seen() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([][]byte(nil), r.seen...)
}

// Networks are "udp" or "tcp" for each message of Seen.
func (r *Relay) Networks() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.nets...)
}

// Deliver brings the messages that were held to the server, in order, and
// waits for its answers, which nobody gets.
func (r *Relay) Deliver() {
	r.mu.Lock()
	held := r.held
	r.held = nil
	r.mu.Unlock()
	for _, wire := range held {
		_ = r.ask("tcp", wire)
	}
}

// Forward brings a message to the server, and waits for its answer, while a
// rule decides the message's fate.
func (r *Relay) Forward(m *mdns.Msg) {
	r.mu.Lock()
	wire := r.wires[m]
	r.mu.Unlock()
	_ = r.ask("tcp", wire)
}

func (r *Relay) close() {
	r.mu.Lock()
	r.done = true
	conns := r.conns
	r.conns = nil
	r.mu.Unlock()
	_ = r.tcp.Close()
	_ = r.udp.Close()
	for c := range conns {
		_ = c.Close()
	}
	r.wg.Wait()
}

// keep registers a connection to be closed with the relay.
func (r *Relay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		_ = c.Close()
		return false
	}
	r.conns[c] = true
	return true
}

func (r *Relay) drop(c net.Conn) {
	r.mu.Lock()
	delete(r.conns, c)
	r.mu.Unlock()
	_ = c.Close()
}

func (r *Relay) serveUDP() {
	buf := make([]byte, 65535)
	for {
		n, from, err := r.udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // ICMP of an earlier answer
		}
		wire := bytes.Clone(buf[:n])
		r.wg.Go(func() {
			send := func(said []byte) { _, _ = r.udp.WriteTo(said, from) }
			if said := r.handle("udp", wire, send); said != nil {
				send(said)
			}
		})
	}
}

func (r *Relay) serveTCP() {
	for {
		c, err := r.tcp.Accept()
		if err != nil {
			return
		}
		if !r.keep(c) {
			return
		}
		r.wg.Go(func() {
			defer r.drop(c)
			for {
				wire, err := readTCP(c)
				if err != nil {
					return
				}
				send := func(said []byte) { _, _ = c.Write(framed(said)) }
				if said := r.handle("tcp", wire, send); said != nil {
					send(said)
				}
			}
		})
	}
}

// handle returns what the client is to get, or nil; first sends it something
// before.
func (r *Relay) handle(network string, wire []byte, first func([]byte)) []byte {
	m := new(mdns.Msg)
	if m.Unpack(wire) != nil {
		return nil
	}
	r.mu.Lock()
	if m.Opcode == mdns.OpcodeUpdate {
		r.seen = append(r.seen, wire)
		r.nets = append(r.nets, network)
	}
	rule := r.rule
	r.wires[m] = wire
	r.mu.Unlock()
	fate := rule(m)
	r.mu.Lock()
	delete(r.wires, m)
	r.mu.Unlock()
	switch fate {
	case Lose:
		return nil
	case LoseAnswer:
		_ = r.ask(network, wire)
		return nil
	case Hold:
		r.mu.Lock()
		r.held = append(r.held, wire)
		r.mu.Unlock()
		return nil
	case Refused:
		return answer(m, mdns.RcodeRefused)
	case ServFail:
		return answer(m, mdns.RcodeServerFailure)
	case Nothing:
		a := answer(m, mdns.RcodeSuccess)
		if m.Opcode == mdns.OpcodeQuery {
			a[2] |= 1 << 2 // authoritative
		}
		return a
	case Moved:
		return answer(m, mdns.RcodeNXRrset)
	case Forge:
		first(answer(m, mdns.RcodeSuccess))
		return r.ask(network, wire)
	default:
		return r.ask(network, wire)
	}
}

// answer is one without records and signature.
func answer(m *mdns.Msg, rcode int) []byte {
	a := new(mdns.Msg)
	a.SetRcode(m, rcode)
	wire, err := a.Pack()
	if err != nil {
		return nil
	}
	return wire
}

// ask sends a message to the server and returns the answer, or nil.
func (r *Relay) ask(network string, wire []byte) []byte {
	c, err := net.DialTimeout(network, r.server, relayWait)
	if err != nil || !r.keep(c) {
		return nil
	}
	defer r.drop(c)
	_ = c.SetDeadline(time.Now().Add(relayWait))
	if network == "tcp" {
		if _, err := c.Write(framed(wire)); err != nil {
			return nil
		}
		answer, err := readTCP(c)
		if err != nil {
			return nil
		}
		return answer
	}
	if _, err := c.Write(wire); err != nil {
		return nil
	}
	buf := make([]byte, 65535)
	n, err := c.Read(buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

func framed(wire []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
}

func readTCP(c net.Conn) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	wire := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, wire)
	return wire, err
}

// Silent is the address of a server that takes what it is sent and never says
// anything, by UDP or TCP.
func Silent(t testing.TB) string {
	t.Helper()
	address := Address(t)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close()
		_ = u.Close()
	})
	return address
}
