package fakecloud

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// fields is an object as JSON tells it. Values in it are never changed in
// place, only replaced: they are shared between answers and defaults.
type fields = map[string]any

// normal turns decoded JSON into the few types that the fake works with:
// int64 or float64 for numbers.
func normal(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case fields:
		for key, value := range v {
			v[key] = normal(value)
		}
	case []any:
		for i, value := range v {
			v[i] = normal(value)
		}
	}
	return v
}

// text is a field as a string; empty when it is null, absent or no string.
func text(f fields, key string) string {
	s, _ := f[key].(string)
	return s
}

func number(f fields, key string) int64 {
	switch n := f[key].(type) {
	case int64:
		return n
	case int:
		return int64(n)
	case float64:
		return int64(n)
	}
	return 0
}

func flag(f fields, key string) bool {
	b, _ := f[key].(bool)
	return b
}

// texts is a field as a list of strings.
func texts(f fields, key string) []string {
	switch list := f[key].(type) {
	case []string:
		return list
	case []any:
		out := make([]string, 0, len(list))
		for _, v := range list {
			if s, ok := v.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// row is one object of a table.
type row struct {
	f   fields
	enc []byte // f as JSON; nil when f was changed since
	seq uint64 // order of creation
}

// json gives the row's whole JSON; it is kept, so that a long listing costs
// little the second time.
func (r *row) json() []byte {
	if r.enc == nil {
		r.enc = encode(r.f)
	}
	return r.enc
}

func (r *row) set(key string, value any) {
	r.f[key] = value
	r.enc = nil
}

func (r *row) id() string      { return text(r.f, "id") }
func (r *row) name() string    { return text(r.f, "name") }
func (r *row) project() string { return text(r.f, "project_id") }

// table holds the objects of one kind, in order of creation.
type table struct {
	byID map[string]*row
	rows []*row
	last uint64
}

func (t *table) add(f fields) *row {
	if t.byID == nil {
		t.byID = make(map[string]*row)
	}
	t.last++
	r := &row{f: f, seq: t.last}
	t.byID[r.id()] = r
	t.rows = append(t.rows, r)
	return r
}

func (t *table) get(id string) *row { return t.byID[id] }

func (t *table) remove(id string) {
	r := t.byID[id]
	if r == nil {
		return
	}
	delete(t.byID, id)
	i, _ := slices.BinarySearchFunc(t.rows, r.seq, func(r *row, seq uint64) int { return cmp.Compare(r.seq, seq) })
	t.rows = slices.Delete(t.rows, i, i+1)
}

// all gives the rows that fit, in order of creation.
func (t *table) all(fits func(*row) bool) []*row {
	if fits == nil {
		return slices.Clone(t.rows)
	}
	var out []*row
	for _, r := range t.rows {
		if fits(r) {
			out = append(out, r)
		}
	}
	return out
}

func (t *table) first(fits func(*row) bool) *row {
	for _, r := range t.rows {
		if fits(r) {
			return r
		}
	}
	return nil
}

// array encodes rows as a JSON list: whole, or only some of their fields.
func array(rows []*row, only []string) json.RawMessage {
	size := 2
	if only == nil {
		for _, r := range rows {
			size += len(r.json()) + 1
		}
	}
	out := append(make([]byte, 0, size), '[')
	for i, r := range rows {
		if i > 0 {
			out = append(out, ',')
		}
		if only == nil {
			out = append(out, r.json()...)
			continue
		}
		out = appendSome(out, r.f, only)
	}
	return append(out, ']')
}

// appendSome encodes some fields of an object, without a copy of it.
func appendSome(b []byte, f fields, only []string) []byte {
	b = append(b, '{')
	for _, key := range only {
		v, given := f[key]
		if !given {
			continue
		}
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = appendJSON(append(appendText(b, key), ':'), v)
	}
	return append(b, '}')
}

func subset(f fields, only []string) fields {
	out := make(fields, len(only))
	for _, key := range only {
		if v, ok := f[key]; ok {
			out[key] = v
		}
	}
	return out
}

// sameText compares a field with a filter of a query string.
func sameText(v any, want string) bool {
	switch v := v.(type) {
	case nil:
		return want == "" || want == "None" || want == "null"
	case string:
		return v == want
	case bool:
		b, err := strconv.ParseBool(strings.ToLower(want))
		return err == nil && v == b
	}
	return fmt.Sprint(v) == want
}

// sorted orders rows by "key:dir,key" pairs or by parallel lists of keys and
// directions.
func sorted(rows []*row, keys, dirs []string, desc bool) {
	slices.SortStableFunc(rows, func(a, b *row) int {
		for i, key := range keys {
			d := desc
			if i < len(dirs) {
				d = dirs[i] == "desc"
			}
			if n := compare(a.f[key], b.f[key]); n != 0 {
				if d {
					return -n
				}
				return n
			}
		}
		return cmp.Compare(a.seq, b.seq)
	})
}

func compare(a, b any) int {
	if x, ok := a.(int64); ok {
		if y, ok := b.(int64); ok {
			return cmp.Compare(x, y)
		}
	}
	x, xs := a.(string)
	y, ys := b.(string)
	if xs && ys {
		return strings.Compare(x, y)
	}
	return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
}

// paging is how a service cuts its listings.
type paging struct {
	standard int // rows of a page when none are asked for; 0 is all
	most     int // rows that a page holds at most; 0 is no bound
	lost     int // status when the marker is unknown
}

// cut gives one page of the rows, and the marker of the next: empty at the end.
func (q *request) cut(rows []*row, p paging) ([]*row, string, error) {
	query := q.query()
	limit := p.standard
	if s := query.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return nil, "", failedAs(http.StatusBadRequest, "BadRequest", "Invalid input for limit: %q is not a non-negative integer", s)
		}
		limit = n
	}
	if limit == 0 || p.most > 0 && limit > p.most {
		limit = p.most
	}
	from := 0
	if marker := query.Get("marker"); marker != "" {
		at := slices.IndexFunc(rows, func(r *row) bool { return r.marker() == marker })
		if at < 0 {
			return nil, "", failedAs(p.lost, "MarkerNotFound", "Marker %s could not be found.", marker)
		}
		from = at + 1
	}
	size := len(rows)
	if limit > 0 {
		size = limit
	}
	from, to := q.bend(from, min(from+size, len(rows)), size, len(rows))
	page := rows[from:to]
	if to >= len(rows) || len(page) == 0 || q.cutShort() {
		return page, "", nil
	}
	return page, page[len(page)-1].marker(), nil
}

// marker is what a listing calls the row: its id, or its name where a kind
// has none (keypairs).
func (r *row) marker() string {
	if m := r.id(); m != "" {
		return m
	}
	return r.name()
}

// next is the URL of the page after a marker.
func (q *request) next(marker string) string {
	query := q.query()
	query.Set("marker", marker)
	return q.link(query)
}

func (q *request) link(query url.Values) string {
	base := q.self()
	if q.page != nil {
		base = q.page.bendLink(base)
	}
	return base + "?" + query.Encode()
}
