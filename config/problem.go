package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxPrinted bounds how many problems Problems.Error prints; a person mends
// the first ones and runs the check again.
const maxPrinted = 100

// Problem is one thing in the file that cannot stand.
type Problem struct {
	File  string // as given to Parse
	Line  int    // counted from 1
	Key   string // dotted, array elements counted from 0; empty for the file as a whole
	Wrong string // what is wrong
	Right string // what would be right
}

// String is the problem as `FILE:LINE: key: what is wrong, what would be right`.
func (p Problem) String() string {
	key := ""
	if p.Key != "" {
		key = p.Key + ": "
	}
	return fmt.Sprintf("%s:%d: %s%s, %s", p.File, p.Line, key, p.Wrong, p.Right)
}

// Problems are all the problems of a file, ordered by line. It is the error
// that Parse returns, never empty then.
type Problems []Problem

// Error prints one problem a line.
func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		if i == maxPrinted {
			fmt.Fprintf(&b, "\n... and %d more", len(ps)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
	}
	return b.String()
}

// sorted orders the problems by line, then key, and drops repetitions.
func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Wrong, b.Wrong))
	})
	return slices.Compact(ps)
}

// show quotes a value of the file for a message, shortened; what holds a
// private key or a certificate is never shown.
func show(v string) string {
	if looksLikePEM(v) {
		return "the text"
	}
	const most = 60
	if len(v) > most {
		cut := most
		for cut > 0 && v[cut]&0xC0 == 0x80 { // not inside a rune
			cut--
		}
		return fmt.Sprintf("%q...", v[:cut])
	}
	return fmt.Sprintf("%q", v)
}

// looksLikePEM tells a pasted key from the name of a file.
func looksLikePEM(v string) bool {
	return strings.Contains(v, "-----BEGIN") || strings.ContainsAny(v, "\n\r")
}

// orList writes "a, b or c".
func orList(words []string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
}
