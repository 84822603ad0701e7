package config

import (
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// Bounds on the shape of a file. The TOML library has none, and a few hundred
// kilobytes of one long dotted key would cost it gigabytes.
const (
	maxBytes   = 1 << 20
	maxKeyLen  = 128    // bytes of one component of a key
	maxKeyDeep = 12     // components of a key, or nested arrays and tables
	maxEntries = 20_000 // keys and array elements
)

// index says on which line each key of a TOML file first stands. The TOML
// library gives no positions of keys it did not decode into a struct, so a
// scanner of our own finds them. It expects valid TOML (what it makes of
// anything else is harmless and unused) and never fails, except that it
// reports a file out of the bounds above.
//
// A path is written as a person would: service.shop.check[0].port, with
// components quoted that are not bare keys.
type index map[string]int

// join appends a component to a path.
func join(path, key string) string {
	if !bareKey(key) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// elem is the path of an element of an array.
func elem(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// parent cuts the last component or subscript off a path.
func parent(path string) string {
	quoted, cut := false, 0
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '.' || c == '['):
			cut = i
		}
	}
	return path[:cut]
}

// line is the line of a path, or of the nearest table around it that stands
// in the file, or 1.
func (x index) line(path string) int {
	for ; path != ""; path = parent(path) {
		if n, ok := x[path]; ok {
			return n
		}
	}
	return 1
}

// bareKey reports whether a key needs no quotes in TOML.
func bareKey(key string) bool {
	for i := 0; i < len(key); i++ {
		if !isBare(key[i]) {
			return false
		}
	}
	return key != ""
}

func isBare(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// scanner walks over the bytes of a file once.
type scanner struct {
	in     string
	pos    int
	line   int
	lines  index
	arrays map[string]int // arrays of tables: elements so far
	n      int            // entries so far
	over   *Problem       // the first bound that was broken
}

// scan indexes the file, or says which bound it breaks.
func scan(in string) (index, *Problem) {
	s := &scanner{in: in, line: 1, lines: index{}, arrays: map[string]int{}}
	s.file()
	return s.lines, s.over
}

func (s *scanner) fail(wrong, right string) {
	if s.over == nil {
		s.over = &Problem{Line: s.line, Wrong: wrong, Right: right}
	}
	s.pos = len(s.in) // stops every loop
}

func (s *scanner) peek() byte {
	if s.pos < len(s.in) {
		return s.in[s.pos]
	}
	return 0
}

func (s *scanner) next() byte {
	c := s.peek()
	if s.pos < len(s.in) {
		s.pos++
	}
	if c == '\n' {
		s.line++
	}
	return c
}

func (s *scanner) done() bool { return s.pos >= len(s.in) }

// blank skips spaces, and with lines also line ends and comments.
func (s *scanner) blank(lines bool) {
	for !s.done() {
		switch c := s.peek(); {
		case c == ' ' || c == '\t' || c == '\r':
		case lines && c == '\n':
		case lines && c == '#':
			s.comment()
			continue
		default:
			return
		}
		s.next()
	}
}

func (s *scanner) comment() {
	for !s.done() && s.peek() != '\n' {
		s.next()
	}
}

// note records where a path first stands.
func (s *scanner) note(path string) {
	if _, ok := s.lines[path]; ok {
		return
	}
	s.lines[path] = s.line
	if s.n++; s.n > maxEntries {
		s.fail("the file holds more than "+strconv.Itoa(maxEntries)+" values", "a failover.toml is a page or two: remove what does not belong here")
	}
}

func (s *scanner) file() {
	table := ""
	for s.blank(true); !s.done(); s.blank(true) {
		if s.peek() == '[' {
			table = s.header()
			continue
		}
		at := s.pos
		s.keyValue(table, 1)
		if s.pos == at { // not TOML: never stand still
			s.next()
		}
	}
}

// header reads [table] or [[array of tables]] and returns the path that the
// following keys belong to.
func (s *scanner) header() string {
	s.next()
	array := s.peek() == '['
	if array {
		s.next()
	}
	path := ""
	keys := s.key()
	for i, k := range keys {
		path = join(path, k)
		last := i == len(keys)-1
		s.note(path)
		if last && array {
			s.arrays[path]++
		}
		// Inside an array of tables a header means the newest element.
		if n := s.arrays[path]; n > 0 {
			path = elem(path, n-1)
			s.note(path)
		}
	}
	s.comment() // the closing brackets and the rest of the line
	return path
}

// key reads a dotted key up to what follows it.
func (s *scanner) key() []string {
	var keys []string
	for !s.done() {
		s.blank(false)
		var k string
		switch c := s.peek(); {
		case c == '"' || c == '\'':
			k = s.quotedKey()
		case isBare(c):
			from := s.pos
			for isBare(s.peek()) {
				s.next()
			}
			k = s.in[from:s.pos]
		default:
			return keys
		}
		if len(k) > maxKeyLen {
			s.fail("a key of "+strconv.Itoa(len(k))+" bytes", "a key has at most "+strconv.Itoa(maxKeyLen))
			return nil
		}
		if keys = append(keys, k); len(keys) > maxKeyDeep {
			s.fail("a key of more than "+strconv.Itoa(maxKeyDeep)+" parts", "no key of draas has more than five")
			return nil
		}
		s.blank(false)
		if s.peek() != '.' {
			return keys
		}
		s.next()
	}
	return keys
}

func (s *scanner) quotedKey() string {
	from := s.pos
	s.stringValue()
	raw := s.in[from:s.pos]
	if len(raw) <= 8*maxKeyLen && strings.Contains(raw, `\`) {
		// Let the library undo the escapes.
		var v struct{ K string }
		if _, err := toml.Decode("K="+raw, &v); err == nil {
			return v.K
		}
	}
	return strings.Trim(raw, raw[:1])
}

// keyValue reads `key = value` in the table.
func (s *scanner) keyValue(table string, depth int) {
	path := table
	keys := s.key()
	if len(keys) == 0 {
		return
	}
	for _, k := range keys {
		path = join(path, k)
		s.note(path)
	}
	if s.blank(false); s.peek() != '=' {
		return
	}
	s.next()
	s.value(path, depth)
}

// value reads one value of any type.
func (s *scanner) value(path string, depth int) {
	if depth > maxKeyDeep {
		s.fail("values nested more than "+strconv.Itoa(maxKeyDeep)+" deep", "no value of draas nests deeper than two")
		return
	}
	s.blank(false)
	switch s.peek() {
	case '"', '\'':
		s.stringValue()
	case '[':
		s.array(path, depth)
	case '{':
		s.inlineTable(path, depth)
	default:
		for !s.done() && !strings.ContainsRune(",]}#\n", rune(s.peek())) {
			s.next()
		}
	}
}

func (s *scanner) array(path string, depth int) {
	s.next()
	for i := 0; !s.done(); {
		s.blank(true)
		switch s.peek() {
		case ']':
			s.next()
			return
		case ',':
			s.next()
			i++
		default:
			at := s.pos
			p := elem(path, i)
			s.note(p)
			s.value(p, depth+1)
			if s.pos == at {
				s.next()
			}
		}
	}
}

func (s *scanner) inlineTable(path string, depth int) {
	s.next()
	for !s.done() {
		s.blank(true) // TOML 1.1 allows line ends here
		switch s.peek() {
		case '}':
			s.next()
			return
		case ',':
			s.next()
		default:
			at := s.pos
			s.keyValue(path, depth+1)
			if s.pos == at {
				s.next()
			}
		}
	}
}

// stringValue skips a string of any of the four kinds.
func (s *scanner) stringValue() {
	quote := s.in[s.pos : s.pos+1]
	end := strings.Repeat(quote, 3)
	multi := strings.HasPrefix(s.in[s.pos:], end)
	if !multi {
		end = quote
	}
	for range end {
		s.next()
	}
	for !s.done() {
		switch {
		case quote == `"` && s.peek() == '\\':
			s.next()
			s.next()
		case strings.HasPrefix(s.in[s.pos:], end):
			for range end {
				s.next()
			}
			// Up to two more quotes belong to the text before the end.
			for i := 0; multi && i < 2 && s.peek() == quote[0]; i++ {
				s.next()
			}
			return
		case !multi && s.peek() == '\n':
			return
		default:
			s.next()
		}
	}
}
