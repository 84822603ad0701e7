package main

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/draasd/draas/syncer"
)

// verbLook is how a verb is drawn, in the order in which verbs are.
type verbLook struct {
	verb       syncer.Verb
	mark, word string
}

// planLooks begin with what is done at the target, as other tools that show plans
// draw it; what is left as it is comes behind.
var planLooks = []verbLook{
	{syncer.Create, "+", "create"}, {syncer.Update, "~", "update"}, {syncer.Replace, "±", "replace"}, {syncer.Delete, "-", "delete"},
	{syncer.Adopt, "=", "adopt"}, {syncer.Forget, "·", "forget"},
	{syncer.Conflict, "!", "conflict"}, {syncer.Drift, "!", "drift"}, {syncer.Blocked, "?", "blocked"},
	{syncer.Held, "…", "held"}, {syncer.Unsupported, "×", "unsupported"}, {syncer.Unchanged, "", "unchanged"},
}

func lookOf(v syncer.Verb) int {
	return slices.IndexFunc(planLooks, func(l verbLook) bool { return l.verb == v })
}

// planMost is how many objects of a kind are drawn with the same verb, unless all
// are asked for.
const planMost = 20

// planText draws a plan.
type planText struct {
	w     io.Writer
	all   bool
	names map[syncer.Key]string // of objects, by their keys at either site
	plan  *syncer.Plan
}

// write draws what a run would do: kind by kind, what changes of each
// object, and why nothing is done about others.
func (t *planText) write() {
	p := t.plan
	head := fmt.Sprintf("from %s to %s", p.Source, p.Target)
	if p.Epoch > 0 {
		head += ", epoch " + epochText(p.Epoch)
	}
	writeText(t.w, "", head)
	t.legend()
	if p.Held != "" {
		fmt.Fprintln(t.w)
		writeText(t.w, "held: ", p.Held+".")
	}
	t.changes(func(syncer.Change) bool { return true })
	t.lost()
	writeAside(t.w, p)
	fmt.Fprintln(t.w)
	writeText(t.w, "", "Plan: "+sums(p.Count)+bytesLeft(p)+".")
	t.advice()
}

// legend explains the marks that are used.
func (t *planText) legend() {
	var used []string
	for _, l := range planLooks {
		switch n := len(used); {
		case t.plan.Count(l.verb) == 0 || l.mark == "":
		case n > 0 && strings.HasPrefix(used[n-1], l.mark): // drift, behind conflicts
			used[n-1] += "/" + l.word
		default:
			used = append(used, l.mark+" "+l.word)
		}
	}
	if len(used) > 0 {
		writeText(t.w, "", strings.Join(used, ", "))
	}
}

// changes draws those that are wanted.
func (t *planText) changes(wanted func(syncer.Change) bool) {
	var kinds []syncer.Kind
	of := make(map[syncer.Kind][]syncer.Change)
	for _, c := range t.plan.Changes {
		if !wanted(c) {
			continue
		}
		if of[c.Key.Kind] == nil {
			kinds = append(kinds, c.Key.Kind)
		}
		of[c.Key.Kind] = append(of[c.Key.Kind], c)
	}
	for _, k := range kinds {
		fmt.Fprintf(t.w, "\n%s\n", k)
		t.kind(of[k])
	}
}

// kind draws the changes of a kind: by verb, then by name.
func (t *planText) kind(all []syncer.Change) {
	slices.SortStableFunc(all, func(a, b syncer.Change) int {
		return cmp.Or(cmp.Compare(lookOf(a.Verb), lookOf(b.Verb)), cmp.Compare(a.Reason, b.Reason)*given(a, b), cmp.Compare(nameOr(a.Name, a.Key.ID), nameOr(b.Name, b.Key.ID)))
	})
	for len(all) > 0 {
		same := slices.IndexFunc(all, func(c syncer.Change) bool { return c.Verb != all[0].Verb })
		if same < 0 {
			same = len(all)
		}
		t.verb(all[:same])
		all = all[same:]
	}
}

// given tells whether both are taken over without a change: those are drawn
// together, by the reason.
func given(a, b syncer.Change) int {
	if brief(a) && brief(b) {
		return 1
	}
	return 0
}

func brief(c syncer.Change) bool { return c.Verb == syncer.Adopt && len(c.Fields) == 0 }

// verb draws changes of one kind and verb.
func (t *planText) verb(all []syncer.Change) {
	rest := 0
	if !t.all && len(all) > planMost {
		rest, all = len(all)-planMost, all[:planMost]
	}
	for len(all) > 0 {
		if !brief(all[0]) {
			t.change(all[0])
			all = all[1:]
			continue
		}
		var names []string
		reason := all[0].Reason
		for len(all) > 0 && brief(all[0]) && all[0].Reason == reason {
			names, all = append(names, nameOr(all[0].Name, all[0].Key.ID)), all[1:]
		}
		writeText(t.w, "  = ", reason+": "+strings.Join(names, ", "))
	}
	if rest > 0 {
		writeText(t.w, "    ", fmt.Sprintf("and %d more (--all shows them)", rest))
	}
}

// change draws one object.
func (t *planText) change(c syncer.Change) {
	look := planLooks[max(0, lookOf(c.Verb))]
	line := fmt.Sprintf("%s (%s", nameOr(c.Name, c.Key.ID), look.word)
	if c.Bytes > 0 {
		line += ", " + bytesText(c.Bytes)
	}
	line += ")"
	if c.Reason != "" {
		line += ": " + t.named(c.Reason)
	}
	writeText(t.w, "  "+look.mark+" ", line)
	t.fields(c.Verb, c.Fields)
	for _, of := range []struct {
		keys []syncer.Key
		word string
	}{{c.Needs, "after "}, {c.Later, "and again when there is "}} {
		if len(of.keys) == 0 {
			continue
		}
		var names []string
		for _, k := range of.keys {
			names = append(names, t.named(k.String()))
		}
		writeText(t.w, "      ", of.word+strings.Join(names, ", "))
	}
	if len(c.Lost) > 0 {
		writeText(t.w, "      ", "not carried: "+strings.Join(c.Lost, ", "))
	}
}

// empty are values that a new object has where nothing is said.
var empty = []string{"", "none", `""`, "{}", "[]"}

// fields draws fields as they are and as they are to be. Of what is created those
// that say nothing are left out, and the name, which stands before.
func (t *planText) fields(v syncer.Verb, fields []syncer.FieldChange) {
	var rows [][]string
	for _, f := range fields {
		name := f.Name
		if name == "" {
			name = "content"
		}
		was, is := t.named(f.Old), t.named(f.New)
		switch {
		case v == syncer.Create:
			if slices.Contains(empty, f.New) || name == "name" {
				continue
			}
			rows = append(rows, []string{name, is})
		case f.Part && v != syncer.Create:
			if !slices.Contains(empty, was) {
				rows, name = append(rows, []string{name, "- " + was}), ""
			}
			if !slices.Contains(empty, is) {
				rows = append(rows, []string{name, "+ " + is})
			}
		case f.Old == "":
			rows = append(rows, []string{name, "nothing -> " + is})
		case f.New == "":
			rows = append(rows, []string{name, was + " -> nothing"})
		default:
			rows = append(rows, []string{name, was + " -> " + is})
		}
	}
	if len(rows) > 0 {
		writeTable(t.w, "      ", rows)
	}
}

// reference is an object as a plan refers to it.
var reference = regexp.MustCompile(`\b([a-z]+(?:-[a-z]+)*) (?:\(new\) )?([^\s,;{}\[\]"]+)`)

// named puts names in the place of ids, where they are known.
func (t *planText) named(text string) string {
	return reference.ReplaceAllStringFunc(text, func(ref string) string {
		m := reference.FindStringSubmatch(ref)
		if name := t.names[syncer.Key{Kind: syncer.Kind(m[1]), ID: m[2]}]; name != "" {
			return m[1] + " " + name
		}
		return ref
	})
}

// lost says what cannot be carried of objects that do not change.
func (t *planText) lost() {
	drawn := make(map[syncer.Key]bool)
	for _, c := range t.plan.Changes {
		drawn[c.Key] = true
	}
	type group struct {
		kind  syncer.Kind
		parts string
	}
	names := make(map[group][]string)
	var order []group
	for _, l := range t.plan.Lost {
		if drawn[l.Key] {
			continue
		}
		g := group{l.Key.Kind, strings.Join(l.Parts, ", ")}
		if names[g] == nil {
			order = append(order, g)
		}
		names[g] = append(names[g], nameOr(l.Name, l.Key.ID))
	}
	var rows [][]string
	for _, g := range order {
		all := names[g]
		slices.Sort(all)
		who := strings.Join(all, ", ")
		if !t.all && len(all) > 5 {
			who = fmt.Sprintf("%s and %d more", strings.Join(all[:5], ", "), len(all)-5)
		}
		rows = append(rows, []string{string(g.kind), fmt.Sprintf("%s of %s", g.parts, who)})
	}
	if len(rows) > 0 {
		fmt.Fprintln(t.w, "\nnot carried, of what is there already")
		writeTable(t.w, "  ", rows)
	}
}

// advice says what to do about what is left.
func (t *planText) advice() {
	p := t.plan
	left := p.Count(syncer.Drift) + p.Count(syncer.Conflict)
	switch {
	case p.Held != "":
		writeText(t.w, "", fmt.Sprintf("Nothing is done before it is accepted: draasd sync run --accept keep leaves what %s has, drop makes it like %s's and deletes what only %s has, merge keeps elements that only %s has; --choose KIND=CHOICE or KIND/NAME=CHOICE for some.", p.Target, p.Source, p.Target, p.Target))
	case left > 0:
		writeText(t.w, "", fmt.Sprintf("What others have changed stays so. draasd sync run --choose KIND/NAME=drop makes one object as at %s again, =keep leaves it until it changes there; draasd sync adopt takes over one that has the name; [sync.policy] says it for a kind.", p.Source))
	}
	if p.Count(syncer.Blocked) > 0 {
		writeText(t.w, "", "What is blocked waits for what it needs: [sync.map] says what stands for what the operator made at each site.")
	}
}
