// Package bugs holds bugs that are put into draas on purpose, one at a time,
// to see that the simulator finds them. A check that has never seen its bug
// proves little.
//
// A bug is a set of edits of product code, built in by go build -overlay: the
// product has no switch for it, and the simulator is left as it is. Edits name
// the text that they replace, which has to stand there exactly once; when the
// product changes so that one does not apply any more, or gives code that does
// not compile, a test says so.
package bugs

import (
	"fmt"
	"slices"
	"strings"
)

// Edit replaces a text in a file of the module by another.
type Edit struct {
	File string // from the module's root
	Old  string // stands in the file exactly once
	New  string
}

// Bug is one thing done wrong.
type Bug struct {
	Name string
	// Breaks says in a line what the patched daemon does wrong.
	Breaks string
	// Rules are the invariants that may see it: how their violations begin.
	Rules []string
	Edits []Edit
}

// All lists the bugs, those first that take the most seeds to find, so that a
// hunt of all does not end with a long one.
func All() []Bug {
	return slices.Concat(permitBugs(), decisionBugs(), logBugs(), entryBugs())
}

// Find gives the bug of a name.
func Find(name string) (Bug, error) {
	var names []string
	for _, b := range All() {
		if b.Name == name {
			return b, nil
		}
		names = append(names, b.Name)
	}
	return Bug{}, fmt.Errorf("there is no bug %q, but %s", name, strings.Join(names, ", "))
}
