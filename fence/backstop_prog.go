package fence

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Verdicts of an XDP program (enum xdp_action of linux/bpf.h).
const (
	xdpDrop = 1
	xdpPass = 2
	xdpTX   = 3
)

const (
	maxTags    = 4 // VLAN tags that are looked behind
	maxHeaders = 6 // IPv6 extension headers that are looked behind
)

// The frame of the program.
const (
	keyAt  = -24 // ruleKey, 20 bytes
	slotAt = -28 // uint32
	ipAt   = -40 // where the IP header starts: a pointer,
	offAt  = -48 // and as an offset
	bufAt  = -56 // 8 bytes of the packet
)

// assembler writes the program. Registers: R6 the context, R7 where it reads in
// the packet (a pointer, or behind headers of any length an offset), R8 the
// packet's end, R9 the protocol (before: the offset of the IP header); R0 to R5
// for calls. Pointers move by constants only and never become numbers: what
// else there is takes CAP_PERFMON.
type assembler struct {
	code   asm.Instructions
	label  string // of the next instruction
	labels int
}

func (a *assembler) do(all ...asm.Instruction) {
	for _, ins := range all {
		if a.label != "" {
			ins = ins.WithSymbol(a.label)
			a.label = ""
		}
		a.code = append(a.code, ins)
	}
}

func (a *assembler) at(label string) {
	if a.label != "" { // two labels at one place
		a.do(asm.Mov.Reg(asm.R6, asm.R6))
	}
	a.label = label
}

func (a *assembler) fresh(what string) string {
	a.labels++
	return fmt.Sprintf("%s%d", what, a.labels)
}

// need jumps unless the packet has n more bytes at the place it is read.
func (a *assembler) need(n int32, otherwise string) {
	a.do(asm.Mov.Reg(asm.R1, asm.R7), asm.Add.Imm(asm.R1, n), asm.JGT.Reg(asm.R1, asm.R8, otherwise))
}

// backstopProgram drops packets to the destinations in rules whose deadline, by
// CLOCK_BOOTTIME, has passed or is not there. TCP is answered with a reset.
func backstopProgram(rules, deadlines *ebpf.Map) *ebpf.ProgramSpec {
	a := &assembler{}
	a.do(asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R6, 0, asm.Word), // xdp_md.data
		asm.LoadMem(asm.R8, asm.R6, 4, asm.Word), // xdp_md.data_end
		asm.Mov.Imm(asm.R9, 14))
	a.ethernet()
	a.ipv4()
	a.ipv6()
	a.lookup(rules.FD(), deadlines.FD())
	a.answer()
	a.at("drop")
	a.do(asm.Mov.Imm(asm.R0, xdpDrop), asm.Return())
	a.at("pass")
	a.do(asm.Mov.Imm(asm.R0, xdpPass), asm.Return())
	return &ebpf.ProgramSpec{
		Name: "draas_backstop", Type: ebpf.XDP, License: "Apache-2.0", Instructions: a.code,
		// It only reads headers, which stand in the first buffer of a jumbo frame.
		Flags: unix.BPF_F_XDP_HAS_FRAGS,
	}
}

// ethernet finds the IP header, behind VLAN tags.
func (a *assembler) ethernet() {
	a.need(14, "pass") // no frame
	a.do(asm.LoadMem(asm.R2, asm.R7, 12, asm.Half), asm.Add.Imm(asm.R7, 14))
	for range maxTags {
		tag, next := a.fresh("tag"), a.fresh("next")
		a.do(asm.JEq.Imm(asm.R2, be16(unix.ETH_P_8021Q), tag), asm.JNE.Imm(asm.R2, be16(unix.ETH_P_8021AD), "l3"))
		a.at(tag)
		a.need(4, "drop")
		a.do(asm.LoadMem(asm.R2, asm.R7, 2, asm.Half), asm.Add.Imm(asm.R7, 4), asm.Add.Imm(asm.R9, 4), asm.Ja.Label(next))
		a.at(next)
	}
	a.do(asm.JEq.Imm(asm.R2, be16(unix.ETH_P_8021Q), "drop"), asm.JEq.Imm(asm.R2, be16(unix.ETH_P_8021AD), "drop"))
	a.at("l3")
	a.do(asm.StoreMem(asm.RFP, ipAt, asm.R7, asm.DWord), asm.StoreMem(asm.RFP, offAt, asm.R9, asm.DWord),
		asm.JEq.Imm(asm.R2, be16(unix.ETH_P_IP), "ipv4"), asm.JEq.Imm(asm.R2, be16(unix.ETH_P_IPV6), "ipv6"), asm.Ja.Label("pass"))
}

// ipv4 fills the key (RFC 791, section 3.1).
func (a *assembler) ipv4() {
	a.at("ipv4")
	a.need(20, "drop")
	a.do(
		asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, keyAt, asm.R1, asm.DWord), // ::ffff:0:0/96
		asm.StoreImm(asm.RFP, keyAt+8, int64(int32(binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff}))), asm.Word),
		asm.LoadMem(asm.R1, asm.R7, 16, asm.Word), asm.StoreMem(asm.RFP, keyAt+12, asm.R1, asm.Word),
		asm.LoadMem(asm.R9, asm.R7, 9, asm.Byte),
		asm.JEq.Imm(asm.R9, unix.IPPROTO_TCP, "ours4"), asm.JNE.Imm(asm.R9, unix.IPPROTO_UDP, "pass"))
	a.at("ours4")
	a.proto()
	a.do(
		asm.LoadMem(asm.R1, asm.R7, 6, asm.Half), asm.And.Imm(asm.R1, be16(0x1fff)),
		asm.JNE.Imm(asm.R1, 0, "lookup"), // a fragment behind the first has no port
		asm.LoadMem(asm.R1, asm.R7, 0, asm.Byte), asm.And.Imm(asm.R1, 0x0f),
		asm.JEq.Imm(asm.R1, 5, "ports4"), asm.JLT.Imm(asm.R1, 5, "drop"), asm.LSh.Imm(asm.R1, 2), // options
		asm.LoadMem(asm.R7, asm.RFP, offAt, asm.DWord), asm.Add.Reg(asm.R7, asm.R1), asm.Ja.Label("far"))
	a.at("ports4")
	a.do(asm.Add.Imm(asm.R7, 20), asm.Ja.Label("near"))
}

// proto puts the protocol in R9 into the key, and no port.
func (a *assembler) proto() {
	a.do(asm.StoreImm(asm.RFP, keyAt+16, 0, asm.Word), asm.StoreMem(asm.RFP, keyAt+18, asm.R9, asm.Byte))
}

// ipv6 fills the key (RFC 8200, sections 3 and 4).
func (a *assembler) ipv6() {
	a.at("ipv6")
	a.need(40, "drop")
	for off := int16(0); off < 16; off += 4 {
		a.do(asm.LoadMem(asm.R1, asm.R7, 24+off, asm.Word), asm.StoreMem(asm.RFP, keyAt+off, asm.R1, asm.Word))
	}
	a.do(asm.LoadMem(asm.R9, asm.R7, 6, asm.Byte),
		asm.JEq.Imm(asm.R9, unix.IPPROTO_TCP, "ports6"), asm.JEq.Imm(asm.R9, unix.IPPROTO_UDP, "ports6"),
		asm.LoadMem(asm.R7, asm.RFP, offAt, asm.DWord), asm.Add.Imm(asm.R7, 40))
	for range maxHeaders {
		a.header()
	}
	a.do(asm.JEq.Imm(asm.R9, unix.IPPROTO_TCP, "ours6"), asm.JEq.Imm(asm.R9, unix.IPPROTO_UDP, "ours6"))
	a.dropHeaders() // more than anybody needs
	a.do(asm.Ja.Label("pass"))
	a.at("ours6")
	a.proto()
	a.at("far")
	a.load(4)
	a.do(asm.LoadMem(asm.R1, asm.RFP, bufAt+2, asm.Half), asm.Ja.Label("port"))
	a.at("ports6")
	a.proto()
	a.do(asm.Add.Imm(asm.R7, 40))
	a.at("near")
	a.need(4, "drop")
	a.do(asm.LoadMem(asm.R1, asm.R7, 2, asm.Half))
	a.at("port")
	a.do(asm.StoreMem(asm.RFP, keyAt+16, asm.R1, asm.Half))
}

// load copies n bytes at the offset in R7 into the buffer.
func (a *assembler) load(n int32) {
	a.do(asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Reg(asm.R2, asm.R7), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, bufAt),
		asm.Mov.Imm(asm.R4, n), asm.FnXdpLoadBytes.Call(), asm.JNE.Imm(asm.R0, 0, "drop")) // the packet ends before
}

func (a *assembler) dropHeaders() {
	for _, h := range []int32{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS, unix.IPPROTO_MH, unix.IPPROTO_AH, unix.IPPROTO_FRAGMENT} {
		a.do(asm.JEq.Imm(asm.R9, h, "drop"))
	}
}

// header looks behind one extension header, if there is one at the offset in R7.
func (a *assembler) header() {
	plain, auth, fragment, next := a.fresh("plain"), a.fresh("auth"), a.fresh("fragment"), a.fresh("header")
	a.do(asm.JEq.Imm(asm.R9, unix.IPPROTO_TCP, "ours6"), asm.JEq.Imm(asm.R9, unix.IPPROTO_UDP, "ours6"))
	for _, h := range []int32{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS, unix.IPPROTO_MH} {
		a.do(asm.JEq.Imm(asm.R9, h, plain))
	}
	a.do(asm.JEq.Imm(asm.R9, unix.IPPROTO_AH, auth), asm.JNE.Imm(asm.R9, unix.IPPROTO_FRAGMENT, "pass"))

	a.load(8) // fragment, section 4.5
	a.do(asm.LoadMem(asm.R9, asm.RFP, bufAt, asm.Byte), asm.LoadMem(asm.R1, asm.RFP, bufAt+2, asm.Half), asm.And.Imm(asm.R1, be16(0xfff8)),
		asm.JNE.Imm(asm.R1, 0, fragment), asm.Add.Imm(asm.R7, 8), asm.Ja.Label(next))
	a.at(fragment) // behind the first: whose it is can be read only where no header follows
	a.proto()
	a.do(asm.JEq.Imm(asm.R9, unix.IPPROTO_TCP, "lookup"), asm.JEq.Imm(asm.R9, unix.IPPROTO_UDP, "lookup"))
	a.dropHeaders()
	a.do(asm.Ja.Label("pass"))

	a.at(auth) // RFC 4302, section 2.2: counts 4 bytes, less 2
	a.load(8)
	a.do(asm.LoadMem(asm.R9, asm.RFP, bufAt, asm.Byte), asm.LoadMem(asm.R1, asm.RFP, bufAt+1, asm.Byte),
		asm.Add.Imm(asm.R1, 2), asm.LSh.Imm(asm.R1, 2), asm.Add.Reg(asm.R7, asm.R1), asm.Ja.Label(next))
	a.at(plain) // section 4.2: counts 8 bytes, less 1
	a.load(8)
	a.do(asm.LoadMem(asm.R9, asm.RFP, bufAt, asm.Byte), asm.LoadMem(asm.R1, asm.RFP, bufAt+1, asm.Byte),
		asm.Add.Imm(asm.R1, 1), asm.LSh.Imm(asm.R1, 3), asm.Add.Reg(asm.R7, asm.R1))
	a.at(next)
}

// lookup judges the key: first for its address, then for every address. A
// packet passes when no rule is against it.
func (a *assembler) lookup(rules, deadlines int) {
	a.at("lookup")
	a.judge(rules, deadlines, "any")
	a.at("any")
	a.do(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, keyAt, asm.R1, asm.DWord), asm.StoreMem(asm.RFP, keyAt+8, asm.R1, asm.DWord))
	a.judge(rules, deadlines, "pass")
	a.do(asm.Ja.Label("pass"))
}

// judge goes on when there is a rule that lets the packet in, and to none when
// there is no rule.
func (a *assembler) judge(rules, deadlines int, none string) {
	a.do(asm.LoadMapPtr(asm.R1, rules), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, keyAt), asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, none),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word), asm.StoreMem(asm.RFP, slotAt, asm.R1, asm.Word),
		asm.LoadMapPtr(asm.R1, deadlines), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, slotAt), asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "closed"),
		asm.LoadMem(asm.R7, asm.R0, 0, asm.DWord), // the packet is not read any more
		asm.FnKtimeGetBootNs.Call(),
		asm.JGE.Reg(asm.R0, asm.R7, "closed"))
}

// be16 is a number as a packet's two bytes, loaded by this machine.
func be16(n uint16) int32 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], n)
	return int32(binary.NativeEndian.Uint16(b[:]))
}
