package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// Parse reads a failover.toml. name stands in the messages only. The error is
// a Problems with all that is wrong.
func Parse(name string, data []byte) (*Config, error) {
	d := &decoder{file: name, values: map[string]any{}, bad: map[string]bool{}, around: map[string]bool{}}
	root, ok := d.syntax(data)
	if ok {
		d.walk(tree(), root, "")
		c := d.build(root)
		d.check(c)
		if len(d.problems) == 0 {
			normalize(c)
			c.digest = digest(c)
			return c, nil
		}
	}
	return nil, d.problems.sorted()
}

// decoder gathers what the file says and what is wrong with it.
type decoder struct {
	file     string
	lines    index
	values   map[string]any  // path to converted value
	bad      map[string]bool // paths that a problem was reported for
	around   map[string]bool // these and all tables around them
	problems Problems
}

// report adds a problem at a path.
func (d *decoder) report(path, wrong, right string) {
	d.bad[path] = true
	for p := path; p != "" && !d.around[p]; p = parent(p) {
		d.around[p] = true
	}
	d.problems = append(d.problems, Problem{File: d.file, Line: d.lines.line(path), Key: path, Wrong: wrong, Right: right})
}

// syntax parses the TOML, within bounds.
func (d *decoder) syntax(data []byte) (map[string]any, bool) {
	fail := func(line int, key, wrong, right string) (map[string]any, bool) {
		d.problems = append(d.problems, Problem{File: d.file, Line: line, Key: key, Wrong: wrong, Right: right})
		return nil, false
	}
	if len(data) > maxBytes {
		return fail(1, "", fmt.Sprintf("the file has %d bytes", len(data)), "at most 1 MiB is read: is this the right file?")
	}
	if at := invalidUTF8(data); at > 0 {
		return fail(at, "", "not UTF-8 text", "save the file as UTF-8")
	}
	lines, over := scan(string(data))
	if over != nil {
		return fail(over.Line, "", over.Wrong, over.Right)
	}
	d.lines = lines
	root := map[string]any{}
	_, err := toml.Decode(string(data), &root)
	var perr toml.ParseError
	switch {
	case errors.As(err, &perr):
		return fail(syntaxLine(perr), "", syntaxMessage(perr), "mend the TOML here first, the rest is checked after that")
	case err != nil:
		return fail(1, "", "not TOML", "start from the sample etc/failover.toml")
	}
	return root, true
}

// invalidUTF8 is the line of the first byte that is not UTF-8, or 0.
func invalidUTF8(data []byte) int {
	line := 1
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return line
		}
		if r == '\n' {
			line++
		}
		i += n
	}
	return 0
}

// syntaxLine is the line of a syntax error. The library has already counted
// the line end when that is what it stumbled over.
func syntaxLine(err toml.ParseError) int {
	line := err.Position.Line
	if strings.Contains(err.Message, `got '\n'`) {
		line--
	}
	return max(line, 1)
}

// syntaxMessage is the library's message without more of the file than a
// character: a value torn out of its quotes may be a secret.
func syntaxMessage(err toml.ParseError) string {
	msg := err.Message
	for _, quoted := range []string{"invalid float", "not a binary", "not an octal", "not a hexadecimal",
		"Invalid integer", "Invalid float", "Invalid TOML Datetime", "cannot use sign", "expected value but found",
		"is out of the accepted range"} {
		if strings.Contains(msg, quoted) {
			msg = "expected a value (texts stand in quotes)"
		}
	}
	msg = strings.ReplaceAll(msg, `'\n' instead`, "the end of the line")
	msg = strings.ReplaceAll(strings.TrimSuffix(msg, "."), "\n", " ")
	msg = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) { // such as the NUL that stands for the end of the file
			return -1
		}
		return r
	}, msg)
	if utf8.RuneCountInString(msg) > 150 {
		msg = "not valid TOML"
	}
	return "TOML syntax: " + msg
}

// walk converts the values of a table and reports what the schema does not
// know.
func (d *decoder) walk(n *node, table map[string]any, path string) {
	for name, v := range table {
		at := join(path, name)
		child := n.children[name]
		if child == nil && n.any != nil {
			if !d.userName(at, name) {
				continue
			}
			child = n.any
		}
		if child == nil {
			d.unknown(n, name, at)
			continue
		}
		d.value(child, v, at)
	}
}

// userName checks a name that the user chose: of a member, a service or a
// zone. It ends up in certificates, paths and logs.
func (d *decoder) userName(path, name string) bool {
	if why := badName(name); why != "" {
		d.report(path, show(name)+" "+why, `a name has lower-case letters, digits, - and _, such as "dr-1"`)
		return false
	}
	return true
}

func badName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > 63:
		return "is longer than 63 characters"
	case name[0] == '-' || name[0] == '_':
		return "begins with a sign"
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return "is not a name"
		}
	}
	return ""
}

// value converts one value, or walks into it.
func (d *decoder) value(n *node, v any, path string) {
	switch {
	case n.key != nil:
		c := conversion{decoder: d, key: n.key, path: path}
		if got, ok := c.convert(v); ok {
			d.values[path] = got
		}
	case n.list != nil:
		tables, ok := asTables(v)
		if !ok {
			d.report(path, "is "+typeName(v), fmt.Sprintf("begin each with a line [[%s]]", path))
			return
		}
		for i, t := range tables {
			d.walk(n.list, t, elem(path, i))
		}
	default:
		t, ok := v.(map[string]any)
		if !ok {
			right := fmt.Sprintf("write a table [%s]", path)
			if _, many := v.([]map[string]any); many {
				right = fmt.Sprintf("there is one, write [%s]", path)
			}
			d.report(path, "is "+typeName(v), right)
			return
		}
		d.walk(n, t, path)
	}
}

// asTables accepts both spellings of an array of tables.
func asTables(v any) ([]map[string]any, bool) {
	switch v := v.(type) {
	case []map[string]any:
		return v, true
	case []any:
		var tables []map[string]any
		for _, e := range v {
			t, ok := e.(map[string]any)
			if !ok {
				return nil, false
			}
			tables = append(tables, t)
		}
		return tables, true
	}
	return nil, false
}

// unknown reports a key that is not in the schema, with the best guess at
// what was meant.
func (d *decoder) unknown(n *node, name, path string) {
	pattern := strings.TrimPrefix(n.path+"."+name, ".")
	if right, ok := instead()[pattern]; ok {
		d.report(path, "unknown key", right)
		return
	}
	known := n.names()
	if guess := nearest(name, known); guess != "" {
		d.report(path, "unknown key", fmt.Sprintf("did you mean %q?", guess))
		d.bad[join(parent(path), guess)] = true // not missing as well
		return
	}
	if home := belongs(pattern, name); home != "" {
		d.report(path, "unknown key here", fmt.Sprintf("%q belongs in %s", name, home))
		return
	}
	d.report(path, "unknown key", "known here: "+strings.Join(known, ", "))
}

// belongs finds the table, in the same top table if possible, that has a key
// of this name.
func belongs(pattern, name string) string {
	top, _, _ := strings.Cut(pattern, ".")
	found := ""
	for _, k := range schema() {
		table, last, ok := cutLast(k.path)
		if !ok || last != name {
			continue
		}
		table = "[" + strings.ReplaceAll(table, "*", "NAME") + "]"
		if inner, list := strings.CutSuffix(table, "[]]"); list {
			table = "[" + inner + "]]"
		}
		if strings.HasPrefix(k.path, top+".") {
			return table
		}
		if found == "" {
			found = table
		}
	}
	return found
}

func cutLast(path string) (before, last string, ok bool) {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

// nearest is the candidate within a small edit distance of the word.
func nearest(word string, candidates []string) string {
	best, least := "", max(1, min(len(word)/3, 3))+1
	for _, c := range candidates {
		if abs := max(len(word)-len(c), len(c)-len(word)); abs >= least {
			continue // at least so far apart
		}
		if n := distance(strings.ToLower(word), c); n < least {
			best, least = c, n
		}
	}
	return best
}

// nearest guesses for a problem among names of the file, of which there may be
// thousands: not when more problems were found than are printed.
func (d *decoder) nearest(word string, candidates []string) string {
	if len(d.problems) > maxPrinted {
		return ""
	}
	return nearest(word, candidates)
}

// distance is the number of inserted, deleted, replaced or swapped
// neighbouring bytes between two words (optimal string alignment).
func distance(a, b string) int {
	two, one := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			same := 1
			if a[i-1] == b[j-1] {
				same = 0
			}
			row[j] = min(one[j]+1, row[j-1]+1, one[j-1]+same)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], two[j-2]+1)
			}
		}
		two, one = one, row
	}
	return one[len(b)]
}

// get is the converted value at a path, or def when it is absent or wrong.
func get[T any](d *decoder, path string, def T) T {
	if v, ok := d.values[path].(T); ok {
		return v
	}
	return def
}

// has reports whether the file gives a path, rightly or wrongly.
func (d *decoder) has(path string) bool {
	_, ok := d.lines[path]
	return ok
}

// inOrder sorts names by the line where their paths stand, so that of two
// that clash the later one is reported.
func inOrder[K ~string](d *decoder, names []K, path func(K) string) []K {
	slices.SortStableFunc(names, func(a, b K) int {
		return d.lines.line(path(a)) - d.lines.line(path(b))
	})
	return names
}

// clean reports whether no problem was reported at or below the paths, so
// that checks between values do not repeat what was already said.
func (d *decoder) clean(paths ...string) bool {
	return !slices.ContainsFunc(paths, func(p string) bool { return d.around[p] })
}

// need reports a key that is missing, unless its table or a misspelling of it
// was reported already.
func (d *decoder) need(path, right string) {
	if !d.has(path) && !d.bad[path] && !d.bad[parent(path)] && !d.bad[parent(parent(path))] {
		d.report(path, "missing", right)
	}
}
