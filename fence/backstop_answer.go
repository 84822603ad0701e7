package fence

import (
	"encoding/binary"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Bits of the TCP flags (RFC 9293, section 3.1).
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpACK = 0x10
)

// minFrame is the shortest Ethernet frame, without its check sum.
const minFrame = 60

// answer turns a TCP segment that is not let in into the reset that answers it
// and sends it back: a client that is only dropped would wait for minutes. What
// is not plain TCP over IP, and what cannot be sent back, is dropped.
func (a *assembler) answer() {
	a.at("closed")
	a.do(asm.JNE.Imm(asm.R9, unix.IPPROTO_TCP, "drop"),
		asm.LoadMem(asm.R1, asm.RFP, keyAt+16, asm.Half), asm.JEq.Imm(asm.R1, 0, "drop"), // its ports were not read
		asm.LoadMem(asm.R7, asm.RFP, ipAt, asm.DWord))
	a.need(20, "drop")
	a.do(asm.LoadMem(asm.R1, asm.R7, 0, asm.Byte), asm.JEq.Imm(asm.R1, 0x45, "answer4"), // no options
		asm.RSh.Imm(asm.R1, 4), asm.JNE.Imm(asm.R1, 6, "drop"))
	a.segment("answer6", 40)
	for off := int16(0); off < 16; off += 4 {
		a.swap(asm.R7, 8+off, 24+off, asm.Word)
	}
	a.do(asm.StoreImm(asm.R7, 0, int64(be32n(0x60000000)), asm.Word),
		asm.StoreImm(asm.R7, 4, int64(be16(20)), asm.Half), asm.StoreImm(asm.R7, 7, 64, asm.Byte))
	a.checksum(40, 8, 40)
	a.send(40)

	a.segment("answer4", 20)
	a.swap(asm.R7, 12, 16, asm.Word)
	a.do(asm.StoreImm(asm.R7, 1, 0, asm.Byte), asm.StoreImm(asm.R7, 2, int64(be16(40)), asm.Half),
		asm.StoreImm(asm.R7, 4, 0, asm.Half), asm.StoreImm(asm.R7, 6, int64(be16(0x4000)), asm.Half), // do not fragment
		asm.StoreImm(asm.R7, 8, 64, asm.Byte), asm.StoreImm(asm.R7, 10, 0, asm.Half),
		asm.Mov.Imm(asm.R5, 0))
	a.sum(0, 20)
	a.fold(10)
	a.checksum(20, 12, 20)
	a.send(20)
}

// segment makes the TCP header, which stands ip bytes behind the start of the
// IP header in R7, the one of a reset (RFC 9293, section 3.10.7.1).
func (a *assembler) segment(label string, ip int16) {
	a.at(label)
	a.need(int32(ip)+20, "drop")
	length, header := int16(2), int32(20) // IPv4's total length counts its header
	if ip == 40 {
		length, header = 4, 0
		a.do(asm.LoadMem(asm.R1, asm.R7, 6, asm.Byte), asm.JNE.Imm(asm.R1, unix.IPPROTO_TCP, "drop"))
	}
	acknowledges, written := a.fresh("acknowledges"), a.fresh("written")
	a.do(
		asm.LoadMem(asm.R3, asm.R7, ip+13, asm.Byte),
		asm.Mov.Reg(asm.R1, asm.R3), asm.And.Imm(asm.R1, tcpRST), asm.JNE.Imm(asm.R1, 0, "drop"), // no reset for a reset
		asm.LoadMem(asm.R4, asm.R7, ip+12, asm.Byte), asm.RSh.Imm(asm.R4, 4), asm.LSh.Imm(asm.R4, 2),
		asm.LoadMem(asm.R5, asm.R7, length, asm.Half), asm.HostTo(asm.BE, asm.R5, asm.Half),
		asm.Sub.Imm(asm.R5, header), asm.Sub.Reg(asm.R5, asm.R4), asm.JSLT.Imm(asm.R5, 0, "drop"),
		// What the segment counts in sequence numbers.
		asm.Mov.Reg(asm.R1, asm.R3), asm.And.Imm(asm.R1, tcpFIN), asm.Add.Reg(asm.R5, asm.R1),
		asm.Mov.Reg(asm.R1, asm.R3), asm.And.Imm(asm.R1, tcpSYN), asm.RSh.Imm(asm.R1, 1), asm.Add.Reg(asm.R5, asm.R1),
		asm.And.Imm(asm.R3, tcpACK), asm.JNE.Imm(asm.R3, 0, acknowledges),

		asm.LoadMem(asm.R1, asm.R7, ip+4, asm.Word), asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.Add.Reg(asm.R1, asm.R5), asm.HostTo(asm.BE, asm.R1, asm.Word), asm.StoreMem(asm.R7, ip+8, asm.R1, asm.Word),
		asm.StoreImm(asm.R7, ip+4, 0, asm.Word), asm.StoreImm(asm.R7, ip+13, tcpRST|tcpACK, asm.Byte),
		asm.Ja.Label(written))
	a.at(acknowledges)
	a.do(asm.LoadMem(asm.R1, asm.R7, ip+8, asm.Word), asm.StoreMem(asm.R7, ip+4, asm.R1, asm.Word),
		asm.StoreImm(asm.R7, ip+8, 0, asm.Word), asm.StoreImm(asm.R7, ip+13, tcpRST, asm.Byte))
	a.at(written)
	a.swap(asm.R7, ip, ip+2, asm.Half)
	a.do(asm.StoreImm(asm.R7, ip+12, 20>>2<<4, asm.Byte),
		asm.StoreImm(asm.R7, ip+14, 0, asm.Half), asm.StoreImm(asm.R7, ip+16, 0, asm.Word)) // window; checksum, urgent
}

// checksum writes the TCP header's: over it and the pseudo header, which holds
// the addresses (RFC 9293, section 3.1; RFC 8200, section 8.1).
func (a *assembler) checksum(ip, addresses, end int16) {
	a.do(asm.Mov.Imm(asm.R5, be16(unix.IPPROTO_TCP)+be16(20)))
	a.sum(addresses, end)
	a.sum(ip, ip+20)
	a.fold(ip + 16)
}

// sum adds the words from R7+from up to R7+to to R5.
func (a *assembler) sum(from, to int16) {
	for off := from; off < to; off += 4 {
		a.do(asm.LoadMem(asm.R1, asm.R7, off, asm.Word), asm.Add.Reg(asm.R5, asm.R1))
	}
}

// fold stores the complement of R5's ones' complement sum (RFC 1071: the order
// of bytes does not matter).
func (a *assembler) fold(at int16) {
	a.do(asm.Mov.Reg(asm.R1, asm.R5), asm.RSh.Imm(asm.R1, 32), asm.LSh.Imm(asm.R5, 32), asm.RSh.Imm(asm.R5, 32), asm.Add.Reg(asm.R5, asm.R1))
	for range 3 {
		a.do(asm.Mov.Reg(asm.R1, asm.R5), asm.RSh.Imm(asm.R1, 16), asm.And.Imm(asm.R5, 0xffff), asm.Add.Reg(asm.R5, asm.R1))
	}
	a.do(asm.Xor.Imm(asm.R5, 0xffff), asm.StoreMem(asm.R7, at, asm.R5, asm.Half))
}

func (a *assembler) swap(at asm.Register, one, other int16, size asm.Size) {
	a.do(asm.LoadMem(asm.R1, at, one, size), asm.LoadMem(asm.R2, at, other, size),
		asm.StoreMem(at, one, asm.R2, size), asm.StoreMem(at, other, asm.R1, size))
}

// send sends the frame back to where it came from, cut to its length.
func (a *assembler) send(ip int32) {
	cut, whole := a.fresh("cut"), a.fresh("whole")
	a.do(asm.LoadMem(asm.R7, asm.R6, 0, asm.Word)) // the frame
	a.need(14, "drop")
	a.do(asm.LoadMem(asm.R1, asm.R7, 0, asm.Byte), asm.And.Imm(asm.R1, 1), asm.JNE.Imm(asm.R1, 0, "drop")) // to a group
	a.swap(asm.R7, 0, 6, asm.Word)
	a.swap(asm.R7, 4, 10, asm.Half)
	a.do(
		asm.LoadMem(asm.R9, asm.RFP, offAt, asm.DWord), asm.Add.Imm(asm.R9, ip+20),
		asm.JGE.Imm(asm.R9, minFrame, cut), asm.Mov.Imm(asm.R9, minFrame))
	a.at(cut)
	a.do(asm.Mov.Reg(asm.R1, asm.R6), asm.FnXdpGetBuffLen.Call(),
		asm.JLE.Reg(asm.R0, asm.R9, whole),
		asm.Mov.Reg(asm.R2, asm.R9), asm.Sub.Reg(asm.R2, asm.R0), asm.Mov.Reg(asm.R1, asm.R6), asm.FnXdpAdjustTail.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"))
	a.at(whole)
	a.do(asm.Mov.Imm(asm.R0, xdpTX), asm.Return())
}

// be32n is a number as a packet's four bytes, loaded by this machine.
func be32n(n uint32) int32 {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return int32(binary.NativeEndian.Uint32(b[:]))
}
