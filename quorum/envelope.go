package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/draasd/draas"
)

// Between cores each message of the consensus library travels in an envelope:
// who says it, under which raft id, in which run of the daemon, and what that
// log has promised so far (docs/adr/0006). The layout:
//
//	version u8, lowest version that must be known to read it u8,
//	length of the head uvarint, head, payload
//	head: kind u8, flags u8, generation, fork if that is not 0, from, to,
//	      start, incarnation u64, term, vote, acked, last;
//	      with flagEcho: start, incarnation u64, term, vote, acked;
//	      with flagOthers: number, for each its id, and the same as an echo
//
// Numbers without a width are uvarints. What follows in the head is passed
// over, so that a later version can say more; what an older one must not pass
// over raises the lowest version.
const (
	envelopeVersion = 1
	maxHead         = 2 << 10 // bytes
)

type messageKind uint8

const (
	kindRaft   messageKind = 1 // a message of the library
	kindJoin   messageKind = 2 // asks a leader to be let in
	kindLeave  messageKind = 3 // asks a leader to be let go
	kindNotice messageKind = 4 // why nothing of the receiver is listened to
)

const (
	flagEcho  = 1 << 0 // what the sender remembers of the receiver follows
	flagBlank = 1 << 1 // the sender's log is empty: it has promised nothing yet

	flagOthers = 1 << 2 // what the sender remembers of others follows
)

// claim is what a copy of the log has promised: in which run of the daemon,
// and then what only grows (docs/adr/0006).
type claim struct {
	start       uint64 // number of the run; 0: no claim
	incarnation draas.Incarnation
	term        uint64
	vote        uint64 // whom it voted for in the term; 0: nobody
	acked       uint64 // up to where it acknowledged the log in the term
}

// head is what an envelope says.
type head struct {
	kind       messageKind
	blank      bool
	generation Generation
	from, to   uint64 // raft ids; to is 0 where the receiver's is not known
	claim      claim
	last       uint64 // of the sender's durable log
	echo       claim  // what it remembers of the receiver
	others     []hearsay
}

// hearsay is what the sender remembers of a third.
type hearsay struct {
	id    uint64
	claim claim
}

func (h *head) append(b []byte) []byte {
	b = append(b, envelopeVersion, envelopeVersion)
	// The length comes before: two bytes do for maxHead.
	at := len(b)
	b = append(b, 0, 0)
	flags := byte(0)
	if h.blank {
		flags |= flagBlank
	}
	if h.echo.start != 0 {
		flags |= flagEcho
	}
	if len(h.others) > 0 {
		flags |= flagOthers
	}
	b = append(b, byte(h.kind), flags)
	b = binary.AppendUvarint(b, h.generation.Number)
	if h.generation.Number != 0 {
		b = binary.AppendUvarint(b, h.generation.Fork)
	}
	b = binary.AppendUvarint(b, h.from)
	b = binary.AppendUvarint(b, h.to)
	b = h.claim.append(b)
	b = binary.AppendUvarint(b, h.last)
	if flags&flagEcho != 0 {
		b = h.echo.append(b)
	}
	if flags&flagOthers != 0 {
		b = binary.AppendUvarint(b, uint64(len(h.others)))
		for i := range h.others {
			b = binary.AppendUvarint(b, h.others[i].id)
			b = h.others[i].claim.append(b)
		}
	}
	n := len(b) - at - 2
	b[at], b[at+1] = byte(n)|0x80, byte(n>>7) // a uvarint of fixed width
	return b
}

func (c *claim) append(b []byte) []byte {
	b = binary.AppendUvarint(b, c.start)
	b = binary.BigEndian.AppendUint64(b, uint64(c.incarnation))
	b = binary.AppendUvarint(b, c.term)
	b = binary.AppendUvarint(b, c.vote)
	return binary.AppendUvarint(b, c.acked)
}

func (r *reader) claim() claim {
	c := claim{start: r.uint(), incarnation: draas.Incarnation(r.uint64())}
	c.term, c.vote, c.acked = r.uint(), r.uint(), r.uint()
	return c
}

func (r *reader) others() []hearsay {
	n := r.uint()
	if n > 2*maxMembers {
		r.fail(errEnvelope)
	}
	if r.err != nil {
		return nil
	}
	all := make([]hearsay, n)
	for i := range all {
		all[i] = hearsay{r.uint(), r.claim()}
	}
	return all
}

func (r *reader) uint64() uint64 {
	b := r.bytes(8)
	if len(b) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

var errEnvelope = errors.New("not a message between cores")

// decodeHead reads an envelope. The payload aliases its bytes.
func decodeHead(data []byte) (h head, payload []byte, err error) {
	r := reader{b: data}
	version, lowest := r.byte(), r.byte()
	if r.err != nil || version == 0 || lowest == 0 || lowest > version {
		return h, nil, errEnvelope
	}
	if lowest > envelopeVersion {
		return h, nil, fmt.Errorf("%w: of version %d, this one reads %d", ErrProtocol, lowest, envelopeVersion)
	}
	n := r.uint()
	if n > maxHead {
		return h, nil, errEnvelope
	}
	in := reader{b: r.bytes(n)}
	h.kind = messageKind(in.byte())
	flags := in.byte()
	h.blank = flags&flagBlank != 0
	if h.generation.Number = in.uint(); h.generation.Number != 0 {
		h.generation.Fork = in.uint()
	}
	h.from, h.to = in.uint(), in.uint()
	h.claim = in.claim()
	h.last = in.uint()
	if flags&flagEcho != 0 {
		h.echo = in.claim()
	}
	if flags&flagOthers != 0 {
		h.others = in.others()
	}
	if r.err != nil || in.err != nil || !validRaftID(h.from) || h.to > maxRaftID || h.claim.start == 0 || h.claim.incarnation == 0 {
		return h, nil, errEnvelope
	}
	return h, r.b, nil
}

// The payload of a message of the library; ids are the head's:
// type, flags, term, log term, index, commit, reject hint; length of context,
// context; number of entries, for each its type, term, length of data, data;
// with payloadSnapshot the snapshot's index, term, four lists of ids, and data
// up to the end. Written by hand because this is what a simulation does all
// day: the generated code makes an allocation for each number.
const (
	payloadReject = 1 << iota
	payloadSnapshot
	payloadAutoLeave
)

// sizeRaft is at least what appendRaft needs.
func sizeRaft(m *raftpb.Message) int {
	n := 40 + len(m.GetContext())
	for _, e := range m.GetEntries() {
		n += 16 + len(e.GetData())
	}
	if s := m.GetSnapshot(); s != nil {
		conf := s.GetMetadata().GetConfState()
		n += 64 + len(s.GetData()) + 10*(len(conf.GetVoters())+len(conf.GetLearners())+len(conf.GetVotersOutgoing())+len(conf.GetLearnersNext()))
	}
	return n
}

func appendRaft(b []byte, m *raftpb.Message) []byte {
	flags := byte(0)
	if m.GetReject() {
		flags |= payloadReject
	}
	s := m.GetSnapshot()
	if s != nil {
		flags |= payloadSnapshot
		if s.GetMetadata().GetConfState().GetAutoLeave() {
			flags |= payloadAutoLeave
		}
	}
	b = append(b, byte(m.GetType()), flags)
	for _, v := range [...]uint64{m.GetTerm(), m.GetLogTerm(), m.GetIndex(), m.GetCommit(), m.GetRejectHint(), uint64(len(m.GetContext()))} {
		b = binary.AppendUvarint(b, v)
	}
	b = append(b, m.GetContext()...)
	b = binary.AppendUvarint(b, uint64(len(m.GetEntries())))
	for _, e := range m.GetEntries() {
		b = append(b, byte(e.GetType()))
		b = binary.AppendUvarint(b, e.GetTerm())
		b = binary.AppendUvarint(b, uint64(len(e.GetData())))
		b = append(b, e.GetData()...)
	}
	if s == nil {
		return b
	}
	meta := s.GetMetadata()
	conf := meta.GetConfState()
	b = binary.AppendUvarint(b, meta.GetIndex())
	b = binary.AppendUvarint(b, meta.GetTerm())
	for _, ids := range [...][]uint64{conf.GetVoters(), conf.GetLearners(), conf.GetVotersOutgoing(), conf.GetLearnersNext()} {
		b = binary.AppendUvarint(b, uint64(len(ids)))
		for _, id := range ids {
			b = binary.AppendUvarint(b, id)
		}
	}
	return append(b, s.GetData()...)
}

// parcel is a message with all that it points to.
type parcel struct {
	m                                                  raftpb.Message
	kind                                               raftpb.MessageType
	from, to, term, logTerm, index, commit, rejectHint uint64
	reject                                             bool
}

// lot is an entry with all that it points to.
type lot struct {
	e           raftpb.Entry
	kind        raftpb.EntryType
	term, index uint64
}

// decodeRaft reads a message of the library. Data of entries and snapshots
// aliases the payload. What it says is not checked yet.
func decodeRaft(payload []byte, from, to uint64) (*raftpb.Message, error) {
	r := reader{b: payload}
	p := &parcel{kind: raftpb.MessageType(r.byte()), from: from, to: to}
	flags := r.byte()
	p.term, p.logTerm, p.index, p.commit, p.rejectHint = r.uint(), r.uint(), r.uint(), r.uint(), r.uint()
	p.reject = flags&payloadReject != 0
	m := &p.m
	m.Type, m.From, m.To, m.Term, m.LogTerm = &p.kind, &p.from, &p.to, &p.term, &p.logTerm
	m.Index, m.Commit, m.RejectHint, m.Reject = &p.index, &p.commit, &p.rejectHint, &p.reject
	if n := r.uint(); n > 0 {
		m.Context = r.bytes(n)
	}
	r.entries(m)
	if flags&payloadSnapshot != 0 {
		m.Snapshot = r.snapshot(flags&payloadAutoLeave != 0)
	}
	if err := r.done(); err != nil {
		return nil, err
	}
	return m, nil
}

func (r *reader) entries(m *raftpb.Message) {
	n := r.uint()
	if n > uint64(len(r.b)) { // an entry has three bytes at least
		r.fail(errPayload)
	}
	if r.err != nil || n == 0 {
		return
	}
	lots := make([]lot, n)
	m.Entries = make([]*raftpb.Entry, n)
	for i := range lots {
		l := &lots[i]
		l.kind = raftpb.EntryType(r.byte())
		l.term = r.uint()
		l.e.Type, l.e.Term = &l.kind, &l.term
		if size := r.uint(); size > 0 {
			l.e.Data = r.bytes(size)
		}
		if m.GetType() == raftpb.MsgApp {
			l.index = m.GetIndex() + 1 + uint64(i)
			l.e.Index = &l.index
		}
		m.Entries[i] = &l.e
	}
}

func (r *reader) snapshot(autoLeave bool) *raftpb.Snapshot {
	meta := &raftpb.SnapshotMetadata{Index: new(r.uint()), Term: new(r.uint()), ConfState: &raftpb.ConfState{AutoLeave: new(autoLeave)}}
	conf := meta.ConfState
	for _, ids := range [...]*[]uint64{&conf.Voters, &conf.Learners, &conf.VotersOutgoing, &conf.LearnersNext} {
		n := r.uint()
		if n > 2*maxMembers {
			r.fail(errRoster)
		}
		for range n {
			if r.err != nil {
				return nil
			}
			*ids = append(*ids, r.uint())
		}
	}
	s := &raftpb.Snapshot{Metadata: meta, Data: r.b}
	r.b = nil
	return s
}
