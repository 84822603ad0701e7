package syncer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// survey is one look at both sides. What is known of each object of the source
// while it goes on is its fate.
type survey struct {
	e              *Engine
	o              Options
	now            time.Time
	meta           Meta
	source, target string // sites

	sourceWord, targetWord string // as markers bear them

	order  []*kind
	byKind map[Kind]*kind

	mu    sync.Mutex // over known, which a run's workers read and write
	known map[Key]*fate

	work    []*row
	waiting map[Key][]*row
	laters  []*row
	// Where the operator has chosen, what differs; after a turn, what is only at
	// the target.
	conflicts, only []*row
	items           []*item
	byKey           map[Key]*item
	lost            map[Key]Loss
	// refresh is what the store is to learn before anything is done.
	refresh map[Key]Record
	// holders has the objects of the source of kinds that hold others.
	holders map[Kind][]string
	// turned: the source bears markers of the target's site.
	turned bool
	// looked, where set, takes what was compared instead of a decision.
	looked func(*row)
}

type state uint8

const (
	undecided state = iota
	exists
	coming // it is created in this run
	none
)

// fate is what becomes of an object of the source at the target.
type fate struct {
	state state
	id    string // at the target; while undecided: what it had
	why   string // of none
	// named: none, and a person is told of it by name.
	named bool
}

// row is one object while it is looked at: of the source, or gone from it.
type row struct {
	k        *kind
	p        *batch
	key      Key
	source   *Object // nil: gone
	target   *Object // by record or marker
	other    *Object // by natural key
	same     int     // how many others have it
	doubled  int     // how many bear the marker
	frees    string
	record   *Record
	original bool
	want     Want
	renamed  bool // want is under another name
	force    bool // decide now, whatever is undecided
	orphan   bool // known by its marker alone

	readSource, readTarget, readOther bool

	sourceRead, targetRead *Object
	sourceErr, targetErr   error
}

// survey looks at all kinds, in the order of needs.
func (e *Engine) survey(ctx context.Context, o Options) (*survey, error) {
	return e.surveyWith(ctx, o, nil)
}

func (e *Engine) surveyWith(ctx context.Context, o Options, looked func(*row)) (*survey, error) {
	s := &survey{
		e: e, o: o, now: e.Now(), source: e.Source.Site(), target: e.Target.Site(), looked: looked,
		byKind: make(map[Kind]*kind), known: make(map[Key]*fate), waiting: make(map[Key][]*row),
		byKey: make(map[Key]*item), refresh: make(map[Key]Record), lost: make(map[Key]Loss), holders: make(map[Kind][]string),
	}
	s.sourceWord, s.targetWord = SiteWord(s.source), SiteWord(s.target)
	if err := o.Filter.Check(); err != nil {
		return nil, err
	}
	var err error
	if s.meta, err = e.Store.Meta(); err != nil {
		return nil, err
	}
	if s.meta.Source != "" && (s.meta.Source != s.source || s.meta.Target != s.target) {
		return nil, fmt.Errorf("the store is of %s to %s, and this is %s to %s", s.meta.Source, s.meta.Target, s.source, s.target)
	}
	if o.Epoch < s.meta.Epoch {
		return nil, fmt.Errorf("epoch %d: %w, which was %d", o.Epoch, ErrStale, s.meta.Epoch)
	}
	if err := s.kinds(ctx); err != nil {
		return nil, err
	}
	pairs := s.listAll(ctx)
	for _, k := range s.order {
		if s.looks(k) {
			if err := s.lookAt(ctx, k, pairs[k.Kind]); err != nil {
				return nil, fmt.Errorf("look at %s: %w", k.Kind, err)
			}
			delete(pairs, k.Kind)
		}
	}
	if err := s.flush(ctx, func(Key) bool { return true }); err != nil {
		return nil, err
	}
	if err := s.finish(ctx); err != nil {
		return nil, err
	}
	return s, ctx.Err()
}

func (s *survey) looks(k *kind) bool { return k.missing == "" && !k.left }

func (s *survey) lookAt(ctx context.Context, k *kind, p *pair) error {
	var err error
	if k.Within == "" {
		records := make(map[string]*Record)
		err = s.e.Store.Each(k.Kind, func(r Record) error {
			records[r.Key.ID] = &r
			return nil
		})
		if err == nil {
			k.note(p, s.source, s.target, "")
			_, err = s.look(ctx, k, p, records)
		}
	} else if err = s.flushRows(ctx, k.Within); err == nil {
		err = s.lookWithin(ctx, k)
	}
	if err != nil {
		return err
	}
	k.done = true
	return s.flush(ctx, func(key Key) bool { return key.Kind == k.Kind })
}

// holder is one that holds objects of another kind.
type holder struct {
	source, target Key // target zero: it is to be created
	gone           bool
}

// holdersOf are those of the source, and those that the source has no longer
// but records have.
func (s *survey) holdersOf(k *kind) ([]holder, error) {
	ids, err := s.e.Store.Holders(k.Kind)
	if err != nil {
		return nil, err
	}
	recorded := ids
	ids = append(slices.Clone(ids), s.holders[k.Within]...)
	slices.Sort(ids)
	over := s.byKind[k.Within]
	if over == nil {
		return nil, fmt.Errorf("it is within %s, which is no kind", k.Within)
	}
	if !over.whole() && !over.left {
		k.unknown = append(k.unknown, "what holds it is not known as a whole")
	}
	var out []holder
	for _, id := range slices.Compact(ids) {
		key := Key{k.Within, id}
		h := holder{source: key}
		s.mu.Lock()
		_, listed := s.known[key]
		s.mu.Unlock()
		f := s.fate(key)
		switch {
		case !listed && over.left: // known by records alone
		case !listed && !over.whole():
			continue
		case !listed && slices.Contains(recorded, id):
			h.gone = true
		}
		switch {
		case f.state == exists:
			h.target = Key{k.Within, f.id}
		case f.state == coming || h.gone:
		case f.why == leftOut, f.named:
			continue
		default:
			k.unknown = append(k.unknown, "within "+key.String()+": "+f.why)
			continue
		}
		out = append(out, h)
	}
	for _, r := range s.only { // after a turn: what is within what is only there
		if r.k == over && !r.p.taken[r.key.ID] {
			out = append(out, holder{target: r.key, gone: true})
		}
	}
	return out, nil
}

// lookWithin looks at one holder after another, and lists some ahead.
func (s *survey) lookWithin(ctx context.Context, k *kind) error {
	holders, err := s.holdersOf(k)
	if err != nil {
		return err
	}
	k.began = s.e.Now()
	listings, flows := make([]chan *pair, len(holders)), make([]*feeds, len(holders))
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends listings that nobody reads any more
	start := func(i int) {
		if i >= len(holders) {
			return
		}
		h := holders[i]
		if s.ordered(k, h) {
			flows[i] = &feeds{s.feed(ctx, &wg, s.e.Source, k.Kind, h.source), s.feed(ctx, &wg, s.e.Target, k.Kind, h.target), s.e.Now()}
			return
		}
		listings[i] = make(chan *pair, 1)
		wg.Go(func() {
			if !h.gone {
				listings[i] <- s.listPair(ctx, k, h.source, h.target)
				return
			}
			p := &pair{began: s.e.Now(), source: &listed{Listing: Listing{Complete: true}}, target: &listed{Listing: Listing{Complete: true}}}
			if h.target != (Key{}) {
				p.target = list(ctx, s.e.Target, k.Kind, h.target)
			}
			listings[i] <- p
		})
	}
	// What has content may be a million; the others are few in each holder, and
	// a request for each is what takes the time.
	ahead := s.e.Listings
	if !k.Body {
		ahead = max(ahead, s.e.Workers)
	}
	for i := range ahead {
		start(i)
	}
	for i, h := range holders {
		if flows[i] != nil {
			start(i + ahead)
			if err := s.lookOrdered(ctx, k, h, flows[i]); err != nil {
				return err
			}
			continue
		}
		p := <-listings[i]
		start(i + ahead)
		records := make(map[string]*Record)
		err := s.e.Store.EachWithin(k.Kind, h.source.ID, func(r Record) error {
			records[r.Key.ID] = &r
			return nil
		})
		if err != nil {
			return err
		}
		if !h.gone {
			k.note(p, s.source, s.target, h.source.ID)
		}
		if _, err := s.look(ctx, k, p, records); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// look at what both sides list of a kind, or within a holder.
func (s *survey) look(ctx context.Context, k *kind, p *pair, records map[string]*Record) (*batch, error) {
	b := s.index(k, p, records)
	k.records += len(records)
	holds := slices.ContainsFunc(s.order, func(other *kind) bool { return other.Within == k.Kind })
	s.mu.Lock()
	for _, id := range p.source.order {
		o := p.source.objects[id]
		if o.Marker.Site == s.targetWord {
			s.turned = true
		}
		r := b.row(s, k, o)
		if !s.e.Filter.object(o) || !s.o.Filter.object(o) {
			k.leftOut++
			f := &fate{state: none, why: leftOut}
			if r.target != nil {
				f = &fate{state: exists, id: r.target.ID}
			}
			s.known[o.Key] = f
			continue
		}
		k.objects++
		f := &fate{}
		if r.target != nil {
			f.id = r.target.ID
		}
		s.known[o.Key] = f
		if holds {
			s.holders[k.Kind] = append(s.holders[k.Kind], id)
		}
		s.work = append(s.work, r)
	}
	s.mu.Unlock()
	s.work = append(s.work, b.gone(s, k)...)
	if err := s.drain(ctx); err != nil {
		return nil, err
	}
	for _, id := range p.target.order {
		if b.taken[id] {
			continue
		}
		k.others++
		if o := p.target.objects[id]; o != nil && o.Stance == Carried && p.source.Complete && s.mayTurn() {
			s.only = append(s.only, &row{k: k, p: b, key: o.Key, target: o, record: &Record{Key: o.Key, Name: o.Name}})
		}
	}
	if k.Within != "" && !s.holds(k.Kind) {
		s.forget(p.source.order, k.Kind)
	}
	return b, nil
}

// holds tells whether objects of a kind hold others: what is asked of them
// later is whether they were listed.
func (s *survey) holds(k Kind) bool {
	return slices.ContainsFunc(s.order, func(other *kind) bool { return other.Within == k })
}

// forget the fates that the store knows as well, for there may be millions.
func (s *survey) forget(ids []string, k Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		key := Key{k, id}
		f := s.known[key]
		_, renewed := s.refresh[key]
		if f != nil && f.state == exists && s.byKey[key] == nil && !renewed {
			delete(s.known, key)
		}
	}
}

// drain steps all rows that can be, reading what they need together.
func (s *survey) drain(ctx context.Context) error {
	var unread []*row
	for len(s.work) > 0 || len(unread) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(s.work) == 0 {
			s.read(ctx, unread)
			s.work, unread = unread, nil
		}
		work := s.work
		s.work = nil
		for _, r := range work {
			if s.step(r) {
				unread = append(unread, r)
			}
		}
	}
	return nil
}

// flush decides the rows that wait for what will not be decided any more: it is
// not there, or they wait for each other.
func (s *survey) flush(ctx context.Context, of func(Key) bool) error {
	for {
		var keys []Key
		for key := range s.waiting {
			if of(key) {
				keys = append(keys, key)
			}
		}
		if len(keys) == 0 {
			return nil
		}
		slices.SortFunc(keys, compareKeys)
		for _, key := range keys {
			rows := s.waiting[key]
			if len(rows) == 0 {
				continue // decided since
			}
			rows[0].force = true
			s.work = append(s.work, rows[0])
			if s.waiting[key] = rows[1:]; len(rows) == 1 {
				delete(s.waiting, key)
			}
			if err := s.drain(ctx); err != nil {
				return err
			}
		}
	}
}

// flushRows decides about all objects of a kind, for what they hold is next.
func (s *survey) flushRows(ctx context.Context, k Kind) error {
	var rows []*row
	for key, all := range s.waiting {
		rows = append(rows, slices.DeleteFunc(slices.Clone(all), func(r *row) bool { return r.k.Kind != k })...)
		if s.waiting[key] = slices.DeleteFunc(all, func(r *row) bool { return r.k.Kind == k }); len(s.waiting[key]) == 0 {
			delete(s.waiting, key)
		}
	}
	slices.SortFunc(rows, func(a, b *row) int { return compareKeys(a.key, b.key) })
	for _, r := range rows {
		r.force = true
	}
	s.work = append(s.work, rows...)
	return s.drain(ctx)
}
