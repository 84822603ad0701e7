package fence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	draas "github.com/draasd/draas"
)

// ErrNoInterface says that an interface which is to be fenced is not there.
var ErrNoInterface = errors.New("no such interface")

// Backstop stands behind the kernel fence: an XDP program on network
// interfaces that lets nothing in to a service's ports once the deadline in a
// map has passed, by CLOCK_BOOTTIME, which counts on in suspend. Program and
// maps are held by what is pinned in a directory, not by a process: they
// outlive the guard and a flush of all nftables rules, and since the deadline
// is absolute, a write that comes late does not reopen. All services of a
// machine share one Backstop.
type Backstop struct {
	dir string
	log *slog.Logger

	mu       sync.Mutex
	services map[draas.ServiceID]*backed
	maps     *backstopMaps // nil before the first use
	links    backstopLinks
}

// backed is a service as it was last written.
type backed struct {
	keys  []ruleKey
	links []string // interfaces
	slot  uint32
	epoch draas.Epoch
	until time.Duration // CLOCK_BOOTTIME; zero: closed
}

// NewBackstop returns a backstop whose objects are pinned in a directory of its
// own. It needs CAP_BPF and CAP_NET_ADMIN; where no BPF file system is mounted
// at the directory, it mounts one, which takes CAP_SYS_ADMIN as well. Nothing
// happens before the first fence is closed.
func NewBackstop(dir string, log *slog.Logger) *Backstop {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Backstop{dir: dir, log: log, services: map[draas.ServiceID]*backed{}}
}

// Close lets go of the kernel's objects. What is pinned stays in force.
func (b *Backstop) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.links.close()
	if b.maps != nil {
		err = errors.Join(err, b.maps.close())
		b.maps = nil
	}
	clear(b.services)
	return err
}

// arm puts the program on the interfaces and writes the service's rules,
// wherever they are not. A service that is not known yet, or has other rules
// than before, is closed.
func (b *Backstop) arm(id draas.ServiceID, keys []ruleKey, links []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.load(); err != nil {
		return fmt.Errorf("load backstop: %w", err)
	}
	for other, s := range b.services {
		for _, k := range s.keys {
			if other != id && !k.blind() && slices.Contains(keys, k) {
				return fmt.Errorf("arm backstop: %s is fenced by service %s already", k, other)
			}
		}
	}
	s := b.services[id]
	var unused []string
	if s == nil || !slices.Equal(s.keys, keys) || !slices.Equal(s.links, links) {
		slot, err := b.maps.slot(serviceSlot(id), b.used())
		if err != nil {
			return fmt.Errorf("arm backstop: %w", err)
		}
		if s != nil {
			unused = s.links
		}
		s = &backed{keys: keys, links: links, slot: slot}
		b.services[id] = s
		b.maps.write(slot, 0)
	}
	if err := b.writeRules(s); err != nil {
		return fmt.Errorf("arm backstop: %w", err)
	}
	return errors.Join(b.attach(s), b.detach(unused))
}

// load opens what is pinned, or makes it anew.
func (b *Backstop) load() error {
	if b.maps != nil && b.maps.pinned(b.dir) {
		return nil
	}
	if b.maps != nil { // somebody unpinned them: they are still in use
		return b.maps.pin(b.dir)
	}
	if err := mountBPF(b.dir); err != nil {
		return err
	}
	m, err := openBackstopMaps(b.dir)
	if err != nil {
		return err
	}
	program, err := loadBackstopProgram(m)
	if err != nil {
		return errors.Join(err, m.close())
	}
	b.maps, b.links = m, backstopLinks{dir: b.dir, program: program, log: b.log, links: map[string]attachedLink{}}
	return nil
}

// used are the slots of services that are known: no others get them.
func (b *Backstop) used() map[uint32]bool {
	used := map[uint32]bool{}
	for _, s := range b.services {
		used[s.slot] = true
	}
	return used
}

// writeRules points the service's keys at its slot, and takes back those that
// it does not have any more.
func (b *Backstop) writeRules(s *backed) error {
	for _, k := range s.keys {
		slot := s.slot
		if k.blind() {
			var err error
			if slot, err = b.maps.slot(blindSlot(k), b.used()); err != nil {
				return err
			}
		}
		if err := b.maps.rules.Put(k, slot); err != nil {
			return fmt.Errorf("write rule %s: %w", k, err)
		}
	}
	if err := b.maps.forget(func(k ruleKey, slot uint32) bool {
		return slot == s.slot && !slices.Contains(s.keys, k)
	}); err != nil {
		return err
	}
	return b.writeBlind()
}

// writeBlind gives packets whose port cannot be read the earliest deadline of
// the services at their address.
func (b *Backstop) writeBlind() error {
	earliest := map[ruleKey]time.Duration{}
	for _, s := range b.services {
		for _, k := range s.keys {
			if until, known := earliest[k]; k.blind() && (!known || s.until < until) {
				earliest[k] = s.until
			}
		}
	}
	for k, until := range earliest {
		slot, err := b.maps.slot(blindSlot(k), b.used())
		if err != nil {
			return err
		}
		b.maps.write(slot, until)
	}
	return nil
}

func (b *Backstop) attach(s *backed) error {
	var errs []error
	for _, name := range s.links {
		if err := b.links.attach(name); err != nil {
			errs = append(errs, fmt.Errorf("attach backstop to %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// detach takes the program from interfaces that no service has any more.
func (b *Backstop) detach(names []string) error {
	var errs []error
	for _, name := range names {
		if !slices.ContainsFunc(slices.Collect(maps.Values(b.services)), func(s *backed) bool { return slices.Contains(s.links, name) }) {
			errs = append(errs, b.links.detach(name))
		}
	}
	return errors.Join(errs...)
}

// set writes a deadline; zero closes. Within an epoch a deadline only moves
// forward, except to zero.
func (b *Backstop) set(id draas.ServiceID, epoch draas.Epoch, until time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.services[id]
	if s == nil {
		return fmt.Errorf("backstop of %s is not armed", id)
	}
	until = max(until, 0)
	if until != 0 {
		if epoch < s.epoch {
			return fmt.Errorf("%w: epoch %d, seen %d", draas.ErrStaleEpoch, epoch, s.epoch)
		}
		if epoch == s.epoch {
			until = max(until, s.until)
		}
		s.epoch = epoch
	}
	s.until = until
	b.maps.write(s.slot, until)
	return b.writeBlind()
}

// look reports whether everything is as it was left, and as is wanted.
func (b *Backstop) look(id draas.ServiceID, keys []ruleKey, links []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.services[id]
	if s == nil || !slices.Equal(s.keys, keys) || !slices.Equal(s.links, links) {
		return fmt.Errorf("backstop of %s is not armed", id)
	}
	if !b.maps.pinned(b.dir) {
		return errors.New("backstop: somebody removed what was pinned: it would end with the guard")
	}
	for _, name := range s.links {
		if err := b.links.look(name); err != nil {
			return fmt.Errorf("backstop at %s: %w", name, err)
		}
	}
	for _, k := range s.keys {
		want := s.slot
		if k.blind() {
			slot, known := b.maps.names[blindSlot(k)]
			if !known {
				return fmt.Errorf("backstop: no slot for %s", k)
			}
			want = slot
		}
		var slot uint32
		if err := b.maps.rules.Lookup(k, &slot); err != nil {
			return fmt.Errorf("backstop: look up rule of %s: %w", k, err)
		}
		if slot != want {
			return fmt.Errorf("backstop: somebody changed the rule of %s", k)
		}
	}
	if until := b.maps.read(s.slot); until != s.until {
		return fmt.Errorf("backstop: somebody changed the deadline from %v to %v", s.until, until)
	}
	return nil
}

// remove forgets the service; with the last one everything goes.
func (b *Backstop) remove(id draas.ServiceID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.maps == nil {
		if there, err := isBPF(b.dir); !there {
			return err // nothing was ever pinned
		}
	}
	if err := b.load(); err != nil {
		return fmt.Errorf("load backstop: %w", err)
	}
	s := b.services[id]
	delete(b.services, id)
	slot, known := b.maps.names[serviceSlot(id)]
	if !known {
		return nil
	}
	if err := b.maps.forget(func(_ ruleKey, of uint32) bool { return of == slot }); err != nil {
		return err
	}
	if err := b.maps.free(serviceSlot(id)); err != nil {
		return err
	}
	if len(b.maps.names) == 0 {
		err := errors.Join(b.links.detachAll(), b.maps.unpin(), b.links.close(), b.maps.close())
		b.maps = nil
		return err
	}
	if s == nil {
		return nil
	}
	return errors.Join(b.writeBlind(), b.detach(s.links))
}

// ruleKey is a key of the map "rules": a destination that is fenced. IPv4
// addresses stand mapped into IPv6 (RFC 4291, section 2.5.5.2); the zero
// address is every one. Port 0 stands for packets whose port cannot be read,
// the fragments behind the first.
type ruleKey struct {
	Addr  [16]byte
	Port  [2]byte // network order
	Proto uint8
	_     uint8
}

func (k ruleKey) blind() bool { return k.Port == [2]byte{} }

func (k ruleKey) String() string {
	return fmt.Sprintf("protocol %d, %s", k.Proto,
		netip.AddrPortFrom(netip.AddrFrom16(k.Addr).Unmap(), binary.BigEndian.Uint16(k.Port[:])))
}

// ruleKeys are a service's: its ports at each address, or at every one, and for
// each protocol the packets without a port.
func ruleKeys(ports []uint16, protos []byte, protect []netip.Addr) (keys []ruleKey) {
	if len(protect) == 0 {
		protect = []netip.Addr{netip.IPv6Unspecified()}
	}
	for _, addr := range protect {
		for _, proto := range protos {
			keys = append(keys, ruleKey{Addr: addr.As16(), Proto: proto})
			for _, p := range ports {
				keys = append(keys, ruleKey{Addr: addr.As16(), Proto: proto, Port: [2]byte{byte(p >> 8), byte(p)}})
			}
		}
	}
	return keys
}
