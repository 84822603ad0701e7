package fence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	draas "github.com/draasd/draas"
)

const (
	maxSlots = 1024 // services, and addresses with packets that have no port
	maxRules = 16384
	slotSize = 8 // one deadline
)

// backstopMaps are the maps that the program goes by, pinned by their names.
type backstopMaps struct {
	rules     *ebpf.Map // ruleKey to the number of a slot
	slots     *ebpf.Map // the name of a slot to its number; the program does not read it
	deadlines *ebpf.Map // one a slot: nanoseconds of CLOCK_BOOTTIME, 0 is closed
	memory    *ebpf.Memory
	names     map[slotName]uint32 // what is in slots
}

// slotName is a service, or an address whose packets without a port share a
// slot.
type slotName [64]byte

func serviceSlot(id draas.ServiceID) (n slotName) {
	copy(n[:], id)
	return n
}

// blindSlot is a name that no service has.
func blindSlot(k ruleKey) (n slotName) {
	copy(n[:], fmt.Sprintf("#%d %s", k.Proto, netip.AddrFrom16(k.Addr)))
	return n
}

func (m *backstopMaps) all() []struct {
	at   **ebpf.Map
	spec ebpf.MapSpec
} {
	return []struct {
		at   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&m.rules, ebpf.MapSpec{Name: "rules", Type: ebpf.Hash, KeySize: 20, ValueSize: 4, MaxEntries: maxRules, Flags: unix.BPF_F_NO_PREALLOC}},
		{&m.slots, ebpf.MapSpec{Name: "slots", Type: ebpf.Hash, KeySize: 64, ValueSize: 4, MaxEntries: maxSlots, Flags: unix.BPF_F_NO_PREALLOC}},
		// Mapped into memory, so that a deadline is written whole: a system
		// call would copy it byte by byte on some machines.
		{&m.deadlines, ebpf.MapSpec{Name: "deadlines", Type: ebpf.Array, KeySize: 4, ValueSize: slotSize, MaxEntries: maxSlots, Flags: unix.BPF_F_MMAPABLE}},
	}
}

// openBackstopMaps opens the maps in a directory of a BPF file system. What was
// left there is taken over, deadlines and all, unless another version made it.
func openBackstopMaps(dir string) (*backstopMaps, error) {
	m := &backstopMaps{names: map[slotName]uint32{}}
	for _, one := range m.all() {
		one.spec.Pinning = ebpf.PinByName
		opts := ebpf.MapOptions{PinPath: dir}
		opened, err := ebpf.NewMapWithOptions(&one.spec, opts)
		if errors.Is(err, ebpf.ErrMapIncompatible) {
			if err = os.Remove(filepath.Join(dir, one.spec.Name)); err == nil {
				opened, err = ebpf.NewMapWithOptions(&one.spec, opts)
			}
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open map %s: %w", one.spec.Name, err), m.close())
		}
		*one.at = opened
	}
	var err error
	if m.memory, err = m.deadlines.Memory(); err != nil {
		return nil, errors.Join(fmt.Errorf("map the deadlines: %w", err), m.close())
	}
	var name slotName
	var slot uint32
	all := m.slots.Iterate()
	for all.Next(&name, &slot) {
		m.names[name] = slot
	}
	if err := all.Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("list slots: %w", err), m.close())
	}
	return m, nil
}

func (m *backstopMaps) close() error {
	var errs []error
	for _, one := range m.all() {
		if *one.at != nil {
			errs = append(errs, (*one.at).Close())
		}
	}
	return errors.Join(errs...)
}

func (m *backstopMaps) pinned(dir string) bool {
	for _, one := range m.all() {
		if !exists(filepath.Join(dir, one.spec.Name)) {
			return false
		}
	}
	return true
}

// pin pins what somebody unpinned.
func (m *backstopMaps) pin(dir string) error {
	if err := mountBPF(dir); err != nil {
		return err
	}
	for _, one := range m.all() {
		path := filepath.Join(dir, one.spec.Name)
		if exists(path) {
			continue
		}
		// The library takes its own word for it that the map is pinned.
		if err := errors.Join((*one.at).Unpin(), (*one.at).Pin(path)); err != nil {
			return fmt.Errorf("pin map %s: %w", one.spec.Name, err)
		}
	}
	return nil
}

func (m *backstopMaps) unpin() error {
	var errs []error
	for _, one := range m.all() {
		errs = append(errs, (*one.at).Unpin())
	}
	return errors.Join(errs...)
}

// write sets a deadline: one store of 8 bytes that the program sees whole.
func (m *backstopMaps) write(slot uint32, until time.Duration) {
	var b [slotSize]byte
	binary.NativeEndian.PutUint64(b[:], uint64(until))
	_, _ = m.memory.WriteAt(b[:], int64(slot)*slotSize) // fails only beyond the map's end
}

func (m *backstopMaps) read(slot uint32) time.Duration {
	var b [slotSize]byte
	_, _ = m.memory.ReadAt(b[:], int64(slot)*slotSize) // likewise
	return time.Duration(binary.NativeEndian.Uint64(b[:]))
}

// slot returns the slot of that name, or a free one. When none is free, that of
// a service which nobody uses any more goes.
func (m *backstopMaps) slot(name slotName, used map[uint32]bool) (uint32, error) {
	if slot, known := m.names[name]; known {
		return slot, nil
	}
	taken := map[uint32]slotName{}
	for n, slot := range m.names {
		taken[slot] = n
	}
	pick := uint32(maxSlots)
	for slot := range uint32(maxSlots) {
		if _, is := taken[slot]; !is {
			pick = slot
			break
		}
		if !used[slot] && taken[slot][0] != '#' {
			pick = min(pick, slot)
		}
	}
	if pick == maxSlots {
		return 0, fmt.Errorf("more than %d services and addresses", maxSlots)
	}
	if old, is := taken[pick]; is {
		if err := m.forget(func(_ ruleKey, slot uint32) bool { return slot == pick }); err != nil {
			return 0, err
		}
		if err := m.free(old); err != nil {
			return 0, err
		}
	}
	m.write(pick, 0)
	if err := m.slots.Put(name, pick); err != nil {
		return 0, fmt.Errorf("write slot: %w", err)
	}
	m.names[name] = pick
	return pick, nil
}

func (m *backstopMaps) free(name slotName) error {
	if err := m.slots.Delete(name); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("free slot: %w", err)
	}
	delete(m.names, name)
	return nil
}

// forget deletes rules, and those for packets without a port at addresses that
// have no other rule left.
func (m *backstopMaps) forget(which func(ruleKey, uint32) bool) error {
	var gone []ruleKey
	var blind []ruleKey
	rest := map[ruleKey]bool{} // addresses that have rules
	var k ruleKey
	var slot uint32
	all := m.rules.Iterate()
	for all.Next(&k, &slot) {
		switch {
		case k.blind():
			blind = append(blind, k)
		case which(k, slot):
			gone = append(gone, k)
		default:
			rest[ruleKey{Addr: k.Addr, Proto: k.Proto}] = true
		}
	}
	if err := all.Err(); err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	for _, k := range blind {
		if rest[k] {
			continue
		}
		gone = append(gone, k)
		if err := m.free(blindSlot(k)); err != nil {
			return err
		}
	}
	for _, k := range gone {
		if err := m.rules.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete rule of %s: %w", k, err)
		}
	}
	return nil
}
