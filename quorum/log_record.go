package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/draasd/draas"
)

// The format of all files of the log (docs/adr/0002-own-log-file.md), numbers
// in big-endian:
//
//	header:  magic [8], version u16, cluster ID [16], sequence u64,
//	         generation u64, raft id u64 (both since version 2),
//	         length of the member's name u8, name, CRC-32C of all that u32
//	record:  type u8, length of the payload u32, head CRC u32, payload CRC u32,
//	         payload
//
// The head CRC covers sequence, offset in the file, type and length, so that a
// length can be believed and a record counts only where it was written. The
// payload CRC starts from the head CRC.
const (
	magicMeta     = "DRAASMET"
	magicLog      = "DRAASLOG"
	magicSnapshot = "DRAASSNP"

	// formatVersion 1 knew neither raft ids nor generations, and its snapshots
	// hold the machine's part only. It is still read.
	formatVersion = 2

	headerFixed = 8 + 2 + 16 + 8 + 1 + 4 // of version 1
	headerExtra = 8 + 8                  // since version 2
	recordHead  = 1 + 4 + 4 + 4
	// sector is the smallest unit that a disk writes or loses whole.
	sector = 512
)

type recordType uint8

const (
	recordMeta     recordType = 1 // JSON of ClusterMeta
	recordSnapshot recordType = 2 // raftpb.Snapshot
	recordBase     recordType = 3 // first of a segment: where it starts from
	recordBatch    recordType = 4 // hard state and entries
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt matches every *CorruptError.
var ErrCorrupt = errors.New("damaged")

// CorruptError says where a file of the log is damaged. Only a torn last record
// of the log, which was never acknowledged, is not an error.
type CorruptError struct {
	File   string
	Offset int64 // bytes from the start of the file
	What   string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %s. This member's copy of the log cannot be trusted and is left as it is: "+
		"keep the data directory aside and check its disk; the other members go on without it. Do not copy another member's directory", e.File, e.Offset, e.What)
}

// Is makes errors.Is(err, ErrCorrupt) hold.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// header is what a file says of itself.
type header struct {
	size       int // bytes
	version    uint16
	generation uint64
	raftID     uint64
}

func appendHeader(b []byte, magic string, meta ClusterMeta, seq uint64) []byte {
	start := len(b)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint16(b, formatVersion)
	b = append(b, meta.ClusterID[:]...)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint64(b, meta.Generation.Number)
	b = binary.BigEndian.AppendUint64(b, meta.raftID())
	b = append(b, byte(len(meta.Self)))
	b = append(b, meta.Self...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// readHeader checks a file's header. With meta, the file must be that
// member's.
func readHeader(name string, data []byte, magic string, seq uint64, meta *ClusterMeta) (header, error) {
	bad := func(offset int, format string, args ...any) (header, error) {
		return header{}, &CorruptError{File: name, Offset: int64(offset), What: fmt.Sprintf(format, args...)}
	}
	if len(data) < headerFixed {
		return bad(len(data), "it ends within the header")
	}
	if string(data[:8]) != magic {
		return bad(0, "it starts with %q, not %q", data[:8], magic)
	}
	h := header{version: binary.BigEndian.Uint16(data[8:]), size: headerFixed}
	extra := 0
	switch h.version {
	case 1:
	case formatVersion:
		extra = headerExtra
	default:
		return bad(8, "format version %d is not known to this draasd, which reads up to %d (written by a newer one?)", h.version, formatVersion)
	}
	if len(data) < headerFixed+extra {
		return bad(len(data), "it ends within the header")
	}
	n := int(data[34+extra])
	h.size += extra + n
	if len(data) < h.size {
		return bad(len(data), "it ends within the header")
	}
	if crc32.Checksum(data[:h.size-4], castagnoli) != binary.BigEndian.Uint32(data[h.size-4:]) {
		return bad(0, "the header's checksum is wrong")
	}
	if got := binary.BigEndian.Uint64(data[26:]); got != seq {
		return bad(26, "it is numbered %d inside, %d by its name (renamed?)", got, seq)
	}
	if extra > 0 {
		h.generation, h.raftID = binary.BigEndian.Uint64(data[34:]), binary.BigEndian.Uint64(data[42:])
	}
	if meta != nil {
		cluster, member := ClusterID(data[10:26]), draas.MemberID(data[35+extra:35+extra+n])
		if cluster != meta.ClusterID {
			return bad(10, "it belongs to cluster %s, the directory to %s", cluster, meta.ClusterID)
		}
		if member != meta.Self {
			return bad(35+extra, "it belongs to member %q, the directory to %q", member, meta.Self)
		}
		if extra == 0 {
			h.raftID = meta.place()
		}
	}
	return h, nil
}

func headCRC(seq uint64, offset int64, t recordType, length uint32) uint32 {
	return crc32.Checksum(appendHead(nil, seq, offset, t, length), castagnoli)
}

// appendHead adds what the checksum of a record's head is of.
func appendHead(b []byte, seq uint64, offset int64, t recordType, length uint32) []byte {
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	b = append(b, byte(t))
	return binary.BigEndian.AppendUint32(b, length)
}

// appendRecord frames a payload; b holds the file up to there.
func appendRecord(b []byte, seq uint64, t recordType, payload []byte) []byte {
	return appendRecordAt(b, seq, int64(len(b)), t, payload)
}

func appendRecordAt(b []byte, seq uint64, offset int64, t recordType, payload []byte) []byte {
	// Worked out in the place where the record will stand, to need no other.
	n := len(b)
	b = appendHead(b, seq, offset, t, uint32(len(payload)))
	head := crc32.Checksum(b[n:], castagnoli)
	b = append(b[:n], byte(t))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, head)
	b = binary.BigEndian.AppendUint32(b, crc32.Update(head, castagnoli, payload))
	return append(b, payload...)
}

// record is one framed payload, at its place in the file.
type record struct {
	Type    recordType
	Offset  int
	Payload []byte // aliases the file's bytes
}

func (r record) end() int { return r.Offset + recordHead + len(r.Payload) }

// damage says why the bytes at some offset are no record.
type damage struct {
	what string
	// end is where the record ends as far as its head can be believed, else 0.
	end int
}

// recordAt decodes the record at an offset.
func recordAt(data []byte, seq uint64, offset int) (record, *damage) {
	r := record{Offset: offset}
	b := data[offset:]
	if len(b) < recordHead {
		return r, &damage{what: "the file ends within a record's head", end: offset + recordHead}
	}
	r.Type = recordType(b[0])
	length := binary.BigEndian.Uint32(b[1:])
	head := binary.BigEndian.Uint32(b[5:])
	if head != headCRC(seq, int64(offset), r.Type, length) {
		return r, &damage{what: "the checksum of a record's head is wrong"}
	}
	if uint64(length) > uint64(len(b)-recordHead) {
		return r, &damage{what: "the file ends within a record", end: len(data) + 1}
	}
	r.Payload = b[recordHead : recordHead+int(length)]
	if crc32.Update(head, castagnoli, r.Payload) != binary.BigEndian.Uint32(b[9:]) {
		return r, &damage{what: "a record's checksum is wrong", end: r.end()}
	}
	return r, nil
}

// tail is a torn last record that was left out.
type tail struct {
	Offset int
	Bytes  int
	What   string
}

// readRecords decodes all records from an offset on. Every record was made
// durable before the next was written, so that a crash can tear the last one
// only; damage that a crash cannot explain is a *CorruptError.
func readRecords(name string, data []byte, seq uint64, offset int) ([]record, *tail, error) {
	var records []record
	for offset < len(data) {
		r, bad := recordAt(data, seq, offset)
		if bad != nil {
			if !torn(data, seq, offset, bad) {
				return nil, nil, &CorruptError{File: name, Offset: int64(offset), What: bad.what}
			}
			return records, &tail{Offset: offset, Bytes: len(data) - offset, What: bad.what}, nil
		}
		records = append(records, r)
		offset = r.end()
	}
	return records, nil, nil
}

// torn reports whether the damage at an offset is what a crash leaves of the
// last record: its beginning only, or holes of whole sectors that never
// reached the disk. A changed byte is neither.
func torn(data []byte, seq uint64, offset int, bad *damage) bool {
	if bad.end > len(data) {
		return true // too short: the write did not get that far
	}
	if bad.end != 0 {
		return bad.end == len(data) && hasHole(data, offset, bad.end)
	}
	// The head is unreadable: it must lie in a hole itself, and nothing that
	// was written later may follow.
	return hasHole(data, offset, min(offset+recordHead, len(data))) && !recordAfter(data, seq, offset)
}

// hasHole reports whether a sector's share of data[from:to] is all zeros.
func hasHole(data []byte, from, to int) bool {
	for from < to {
		end := min((from/sector+1)*sector, to)
		hole := true
		for _, b := range data[from:end] {
			if b != 0 {
				hole = false
				break
			}
		}
		if hole {
			return true
		}
		from = end
	}
	return false
}

// recordAfter reports whether a whole record starts anywhere behind an offset.
func recordAfter(data []byte, seq uint64, offset int) bool {
	for i := offset + 1; i+recordHead <= len(data); i++ {
		if _, bad := recordAt(data, seq, i); bad == nil {
			return true
		}
	}
	return false
}

// readSingle decodes a file of one record, which was made durable before it got
// its name: any damage is an error.
func readSingle(name string, data []byte, magic string, t recordType, seq uint64, meta *ClusterMeta) (header, []byte, error) {
	h, err := readHeader(name, data, magic, seq, meta)
	if err != nil {
		return h, nil, err
	}
	r, bad := recordAt(data, seq, h.size)
	switch {
	case bad != nil:
		return h, nil, &CorruptError{File: name, Offset: int64(h.size), What: bad.what}
	case r.Type != t:
		return h, nil, &CorruptError{File: name, Offset: int64(h.size), What: fmt.Sprintf("a record of type %d stands where %d belongs", r.Type, t)}
	case r.end() != len(data):
		return h, nil, &CorruptError{File: name, Offset: int64(r.end()), What: "more follows after its last record"}
	}
	return h, r.Payload, nil
}
