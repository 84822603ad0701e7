package nameserver

import (
	"bytes"
	"embed"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/internal/lab"
)

//go:embed conf
var conf embed.FS

// Kind is a make of server.
type Kind string

// The kinds.
const (
	BIND     Kind = "bind"
	Knot     Kind = "knot"
	PowerDNS Kind = "powerdns"
	Fake     Kind = "fake"
)

// Real lists the kinds that are somebody else's programs.
func Real() []Kind { return []Kind{BIND, Knot, PowerDNS} }

// needs names each kind's programs and the Debian packages that bring them.
var needs = map[Kind]struct{ programs, packages string }{
	BIND:     {"named rndc", "bind9"},
	Knot:     {"knotd knotc", "knot"},
	PowerDNS: {"pdns_server pdns_control pdnsutil sqlite3", "pdns-server pdns-backend-sqlite3 sqlite3"},
	Fake:     {},
}

// Options say what a server serves. The zero value is a zone example.org. with
// shop.example.org. in it, which Key may change.
type Options struct {
	Zone  string   // fully qualified
	Names []string // what the key may change: addresses, CNAME, and the TXT of _draas.NAME
	// Records stand in the zone at first, as lines of a zone file.
	Records []string
	Key     Key // made if empty
	// Secondaries are notified, as host:port, and may transfer the zone with
	// the key Transfer.
	Secondaries []string
	Transfer    Key
	// Primary makes the server a secondary of that address.
	Primary string
	// Primaries are further ones with the zone.
	Primaries []string
	// Address is where it listens; a free one if empty.
	Address string
	// Size is that of the disk that holds the zone, in bytes, if not zero;
	// needs root.
	Size int
	// Edit changes the text of the configuration.
	Edit func(string) string
}

// Server is a name server that ends with its test.
type Server struct {
	Kind
	Address string // host:port, UDP and TCP
	Options

	t       testing.TB
	impl    maker
	dir     string // configuration, zone, journal and log
	run     string // sockets: their paths must be short
	control string // host:port, for those that need one
	disk    *disk
	cmd     *exec.Cmd
	ended   chan struct{}
}

// maker is what differs from kind to kind.
type maker interface {
	// prepare writes the zone and what else is made once.
	prepare(s *Server) error
	// configure writes the configuration.
	configure(s *Server) error
	argv(s *Server) []string
	// reload makes a running server read the configuration again.
	reload(s *Server) error
	freeze(s *Server, frozen bool) error
}

// Start starts a server and waits until it answers. It fails the test when the
// server is not installed.
func Start(t testing.TB, kind Kind, o Options) *Server {
	t.Helper()
	s := &Server{Kind: kind, t: t, Options: o.withDefaults()}
	switch kind {
	case BIND:
		s.impl = bind{}
	case Knot:
		s.impl = knot{}
	case PowerDNS:
		s.impl = powerdns{}
	case Fake:
		s.impl = &fake{}
	}
	for _, p := range strings.Fields(needs[kind].programs) {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%s is not installed (%v): apt-get install %s, or make setup", kind, err, needs[kind].packages)
		}
	}
	s.Address = o.Address
	if s.Address == "" {
		s.Address = kind.Address(t)
	}
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		t.Fatal(err)
	}
	s.control = lab.FreeAddress(t, host)
	s.dir = t.TempDir() + "/"
	if s.run, err = os.MkdirTemp("", "ns"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.run) })
	if o.Size > 0 {
		s.disk = newDisk(t, s.dir, o.Size)
	}
	if err := s.impl.prepare(s); err != nil {
		t.Fatalf("prepare %s: %v", kind, err)
	}
	if err := s.impl.configure(s); err != nil {
		t.Fatalf("configure %s: %v", kind, err)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("%s at %s said:\n%s", s.Kind, s.Address, tail(s.Log(), 4000))
		}
	})
	s.start()
	return s
}

// StartPair starts a primary and a secondary that has the zone.
func StartPair(t testing.TB, primary, secondary Kind, o Options) (p, s *Server) {
	t.Helper()
	o = o.withDefaults()
	o.Address = primary.Address(t)
	second := o
	second.Address, second.Primary = secondary.Address(t), o.Address
	o.Secondaries = append(o.Secondaries, second.Address)
	p = Start(t, primary, o)
	return p, Start(t, secondary, second)
}

func (o Options) withDefaults() Options {
	if o.Zone == "" {
		o.Zone = "example.org."
	}
	if o.Names == nil {
		o.Names = []string{"shop." + o.Zone}
	}
	if o.Key == (Key{}) {
		o.Key = NewKey("draas.", "hmac-sha256")
	}
	if o.Transfer == (Key{}) {
		o.Transfer = NewKey("transfer.", "hmac-sha256")
	}
	return o
}

// Address is a free address on loopback, for UDP and TCP.
func Address(t testing.TB) string {
	t.Helper()
	return lab.FreeAddress(t, randomHost())
}

func randomHost() string {
	return fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(64), rand.IntN(256), 1+rand.IntN(254))
}

// Address is a free one that the kind can listen on: BIND only on addresses that an
// interface has.
func (k Kind) Address(t testing.TB) string {
	t.Helper()
	if k == BIND {
		return lab.FreeAddress(t, "127.0.0.1")
	}
	return lab.FreeAddress(t, randomHost())
}

// ZoneFile is the zone as it is at first.
func (s *Server) ZoneFile() string {
	lines := append([]string{
		"$ORIGIN " + s.Zone, "$TTL 60",
		"@ IN SOA ns1 admin 1 3600 600 86400 60", "@ IN NS ns1", "ns1 IN A 192.0.2.53",
	}, s.Records...)
	return strings.Join(lines, "\n") + "\n"
}

// start runs the program and waits until it answers.
func (s *Server) start() {
	s.t.Helper()
	if f, ok := s.impl.(*fake); ok {
		if err := f.serve(s); err != nil {
			s.t.Fatalf("start fake: %v", err)
		}
		return
	}
	argv := s.impl.argv(s)
	if s.disk != nil {
		argv = s.disk.wrap(argv)
	}
	logFile, err := os.OpenFile(s.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.Dir = s.dir
	cmd.SysProcAttr = children()
	err = cmd.Start()
	_ = logFile.Close()
	if err != nil {
		s.t.Fatalf("start %s: %v", s.Kind, err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	s.cmd, s.ended = cmd, ended
	s.waitReady()
}

// children have a process group of their own and end with whoever started
// them.
func children() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

func (s *Server) waitReady() {
	s.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; {
		if _, err := s.Serial(); err == nil {
			return
		} else if time.Now().After(deadline) {
			s.t.Fatalf("%s at %s does not answer: %v\n%s", s.Kind, s.Address, err, tail(s.Log(), 4000))
		}
		select {
		case <-s.ended:
			s.t.Fatalf("%s ended at its start:\n%s", s.Kind, tail(s.Log(), 4000))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Kill ends the server as a crash does.
func (s *Server) Kill() {
	if f, ok := s.impl.(*fake); ok {
		f.close()
		return
	}
	if s.cmd == nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.ended
	s.cmd = nil
}

// PID is that of the server's process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Restart starts the server again on what is on its disk; Kill comes first if
// it runs.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	s.start()
}

// Pause stops the server as SIGSTOP does, until Resume. A thread that is
// running when the signal is sent goes on until the kernel interrupts it, and
// may answer one more request: Pause returns when all of them stand still.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	for deadline := time.Now().Add(10 * time.Second); !lab.StandsStill(s.PID()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s still runs 10 s after SIGSTOP", s.Kind)
		}
	}
}

// Resume undoes Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if s.cmd == nil {
		s.t.Fatalf("%s has no process", s.Kind)
	}
	if err := syscall.Kill(-s.cmd.Process.Pid, sig); err != nil {
		s.t.Fatalf("signal %s: %v", s.Kind, err)
	}
}

// Freeze holds dynamic updates up, as an operator does who edits the zone by
// hand (rndc freeze, knotc zone-freeze). PowerDNS has no such thing.
func (s *Server) Freeze() { s.must("freeze", s.impl.freeze(s, true)) }

// Thaw undoes Freeze.
func (s *Server) Thaw() { s.must("thaw", s.impl.freeze(s, false)) }

// RotateKey makes the server accept updates by this key instead.
func (s *Server) RotateKey(k Key) {
	s.t.Helper()
	s.Key = k
	s.must("configure", s.impl.configure(s))
	s.must("reload", s.impl.reload(s))
}

// FillDisk leaves no room on the server's disk (Options.Size), until FreeDisk.
func (s *Server) FillDisk() { s.must("fill the disk", s.disk.fill()) }

// FreeDisk undoes FillDisk.
func (s *Server) FreeDisk() { s.must("free the disk", s.disk.free()) }

func (s *Server) must(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", what, s.Kind, err, tail(s.Log(), 2000))
	}
}

// Log is what the server said.
func (s *Server) Log() string {
	b, err := os.ReadFile(s.path("log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (s *Server) path(name string) string { return s.dir + name }

// write puts a file where the server sees it.
func (s *Server) write(name, text string) error {
	return os.WriteFile(s.disk.path(s.dir+name), []byte(text), 0o600)
}

// tool runs a program of the server's.
func (s *Server) tool(argv ...string) error {
	if s.disk != nil {
		argv = s.disk.wrap(argv)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = children()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// Serial asks for the zone's SOA serial.
func (s *Server) Serial() (uint32, error) {
	m, err := s.ask(s.Zone, mdns.TypeSOA)
	if err != nil {
		return 0, err
	}
	for _, rr := range m.Answer {
		if soa, ok := rr.(*mdns.SOA); ok && m.Authoritative {
			return soa.Serial, nil
		}
	}
	return 0, fmt.Errorf("no SOA of %s: %s", s.Zone, mdns.RcodeToString[m.Rcode])
}

// Lookup asks for a record set and returns it as text, sorted, one a line,
// without TTL.
func (s *Server) Lookup(name string, qtype uint16) string {
	m, err := s.ask(name, qtype)
	if err != nil {
		return err.Error()
	}
	return Show(m)
}

func (s *Server) ask(name string, qtype uint16) (*mdns.Msg, error) {
	m := new(mdns.Msg)
	m.SetQuestion(name, qtype)
	m.RecursionDesired = false
	c := mdns.Client{Net: "tcp", Timeout: 2 * time.Second}
	r, _, err := c.Exchange(m, s.Address)
	return r, err
}

// Text renders the part of a server's configuration that an operator writes.
func Text(file string, values any) (string, error) {
	tmpl, err := template.ParseFS(conf, "conf/"+file)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, values); err != nil {
		return "", err
	}
	return b.String(), nil
}

// Values fills the templates of conf.
type Values struct {
	Options
	Dir         string // of zone and key files, with a slash at the end, or empty
	From        string // who may send updates
	Secondaries []Endpoint
}

// Endpoint is an address in two parts.
type Endpoint struct{ Host, Port string }

func (s *Server) text(file string) (string, error) {
	v := Values{Options: s.Options, Dir: s.dir, From: "127.0.0.0/8"}
	for _, a := range s.Secondaries {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			return "", err
		}
		v.Secondaries = append(v.Secondaries, Endpoint{host, port})
	}
	text, err := Text(file, v)
	if err == nil && s.Edit != nil {
		text = s.Edit(text)
	}
	return text, err
}

func tail(s string, n int) string {
	if len(s) > n {
		s = "..." + s[len(s)-n:]
	}
	return s
}
