package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// hardState is what Raft must never forget: the term, whom it voted for in it,
// and, as a hint for a quick restart, how much is committed.
type hardState struct {
	Term, Vote, Commit uint64
}

func hardStateOf(hs *raftpb.HardState) hardState {
	return hardState{Term: hs.GetTerm(), Vote: hs.GetVote(), Commit: hs.GetCommit()}
}

func (h hardState) proto() *raftpb.HardState {
	return &raftpb.HardState{Term: new(h.Term), Vote: new(h.Vote), Commit: new(h.Commit)}
}

// base names the snapshot that a segment starts from.
type base struct {
	Index, Term uint64
}

// batch is what one write makes durable.
type batch struct {
	Hard    hardState
	Entries []*raftpb.Entry // consecutive; replace what the log held from there on
}

// Payload of a batch, all numbers as uvarints: term, vote, commit, number of
// entries, index of the first; then for each entry its term, type, length of
// data, data. A base has the snapshot's index and term before that.

func appendBatch(b []byte, x batch) []byte {
	b = binary.AppendUvarint(b, x.Hard.Term)
	b = binary.AppendUvarint(b, x.Hard.Vote)
	b = binary.AppendUvarint(b, x.Hard.Commit)
	b = binary.AppendUvarint(b, uint64(len(x.Entries)))
	if len(x.Entries) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, x.Entries[0].GetIndex())
	for _, e := range x.Entries {
		b = binary.AppendUvarint(b, e.GetTerm())
		b = binary.AppendUvarint(b, uint64(e.GetType()))
		b = binary.AppendUvarint(b, uint64(len(e.GetData())))
		b = append(b, e.GetData()...)
	}
	return b
}

func appendBase(b []byte, at base, x batch) []byte {
	b = binary.AppendUvarint(b, at.Index)
	b = binary.AppendUvarint(b, at.Term)
	return appendBatch(b, x)
}

var errPayload = errors.New("a record's content makes no sense")

// reader takes numbers from a payload and remembers the first failure.
type reader struct {
	b   []byte
	err error
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(errPayload)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// fail keeps the first failure.
func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) byte() byte {
	v := r.bytes(1)
	if len(v) == 0 {
		return 0
	}
	return v[0]
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail(errPayload)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func decodeBatch(payload []byte) (batch, error) {
	r := &reader{b: payload}
	x := r.batch()
	return x, r.done()
}

func decodeBase(payload []byte) (base, batch, error) {
	r := &reader{b: payload}
	at := base{Index: r.uint(), Term: r.uint()}
	x := r.batch()
	return at, x, r.done()
}

func (r *reader) done() error {
	if r.err == nil && len(r.b) != 0 {
		return fmt.Errorf("%w: %d bytes too many", errPayload, len(r.b))
	}
	return r.err
}

func (r *reader) batch() batch {
	x := batch{Hard: hardState{Term: r.uint(), Vote: r.uint(), Commit: r.uint()}}
	n := r.uint()
	if r.err != nil || n == 0 {
		return x
	}
	index := r.uint()
	if n > uint64(len(r.b)) || index == 0 || index+n < index { // an entry has three bytes at least
		r.err = errPayload
		return x
	}
	for i := range n {
		term, kind := r.uint(), r.uint()
		data := r.bytes(r.uint())
		if r.err != nil {
			return x
		}
		if kind != uint64(raftpb.EntryNormal) && kind != uint64(raftpb.EntryConfChangeV2) {
			r.err = fmt.Errorf("%w: entry %d is of unknown type %d", errPayload, index+i, kind)
			return x
		}
		x.Entries = append(x.Entries, &raftpb.Entry{
			Term: new(term), Index: new(index + i), Type: raftpb.EntryType(kind).Enum(), Data: data,
		})
	}
	return x
}
