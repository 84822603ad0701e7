package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/draasd/draas/config"
	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/syncer"
)

var syncChoices = []syncer.Choice{syncer.ChooseKeep, syncer.ChooseDrop, syncer.ChooseMerge}

// wish is what the operator wants of a kind, or of an object of it.
type wish struct {
	kind, object string // object: a name or id; empty: all of the kind
	choice       syncer.Choice
}

func (w wish) String() string { return fmt.Sprintf("%s/%s=%s", w.kind, w.object, w.choice) }

// wishes reads a --choose. Names may have commas in them: several wishes stand in
// one text only where each part of it is one.
func wishes(text string) []wish {
	var all []wish
	for _, part := range strings.Split(text, ",") {
		w, ok := wishOf(strings.TrimSpace(part))
		if !ok {
			if w, ok = wishOf(text); ok {
				return []wish{w}
			}
			return nil
		}
		all = append(all, w)
	}
	return all
}

func wishOf(text string) (wish, bool) {
	i := strings.LastIndexByte(text, '=')
	if i < 0 {
		return wish{}, false
	}
	kind, object, single := strings.Cut(text[:i], "/")
	w := wish{kind, object, syncer.Choice(text[i+1:])}
	return w, slices.Contains(syncChoices, w.choice) && slices.Contains(config.SyncKinds(), kind) && single == (object != "")
}

// check reports flags that cannot be meant, before anything is opened.
func (o syncFlags) check() error {
	for flag, text := range map[string]string{"--kind": *o.kinds, "--unbrake": *o.unbrake} {
		for _, k := range listOf(text) {
			if !slices.Contains(config.SyncKinds(), k) && (flag == "--kind" || k != "all") {
				return usagef("%s %s: there is no such kind%s", flag, k, didYouMean(k, config.SyncKinds()))
			}
		}
	}
	if *o.accept != "" && !slices.Contains(syncChoices, syncer.Choice(*o.accept)) {
		return usagef("--accept %s: want keep, drop or merge", *o.accept)
	}
	for _, text := range *o.choose {
		if wishes(text) == nil {
			return usagef("--choose %s: want KIND=CHOICE or KIND/NAME=CHOICE, where CHOICE is keep, drop or merge, as image=keep or network/acme/web=drop", text)
		}
	}
	return nil
}

// turn is what the operator wants of what differs; nil: nothing is said. Objects
// are looked for in a plan, for people know them by their names.
func (o syncFlags) turn(ctx context.Context, p *program, r *daemon.Replication, options syncer.Options) (*syncer.Turn, error) {
	if *o.accept == "" && len(*o.choose) == 0 {
		return nil, nil
	}
	plan, err := r.Plan(ctx, options)
	if err != nil {
		return nil, err
	}
	t := &syncer.Turn{Default: syncer.Choice(*o.accept), Kinds: make(map[syncer.Kind]syncer.Choice), Objects: make(map[syncer.Key]syncer.Choice)}
	for _, text := range *o.choose {
		for _, w := range wishes(text) {
			if w.object == "" {
				t.Kinds[syncer.Kind(w.kind)] = w.choice
				continue
			}
			key, err := meant(plan, w)
			if err != nil {
				return nil, err
			}
			t.Objects[key] = w.choice
		}
	}
	if plan.Held == "" && (t.Default != "" || len(t.Kinds) > 0) {
		fmt.Fprintln(p.stderr, "nothing waits to be accepted: --accept, and --choose of kinds, count in the first run after the direction has turned")
	}
	return t, nil
}

// meant is the object that a wish is about: one that differs.
func meant(plan *syncer.Plan, w wish) (syncer.Key, error) {
	var found, others []syncer.Change
	for _, c := range plan.Changes {
		if string(c.Key.Kind) != w.kind {
			continue
		}
		differs := c.Verb == syncer.Conflict || c.Verb == syncer.Drift
		switch is := c.Key.ID == w.object || c.Name == w.object || c.Target == w.object; {
		case is && differs:
			found = append(found, c)
		case is:
			return c.Key, usagef("--choose %s: there is nothing to choose: it is %s", w, verbText(c.Verb))
		case differs:
			others = append(others, c)
		}
	}
	switch {
	case len(found) == 1:
		return found[0].Key, nil
	case len(found) > 1:
		var ids []string
		for _, c := range found {
			ids = append(ids, c.Key.ID)
		}
		return syncer.Key{}, usagef("--choose %s: %d objects are called so: give the id, one of %s", w, len(found), strings.Join(ids, ", "))
	case len(others) == 0:
		return syncer.Key{}, usagef("--choose %s: no %s differs between the sites", w, w.kind)
	}
	var names []string
	for _, c := range others {
		names = append(names, nameOr(c.Name, c.Key.ID))
	}
	if len(names) > planMost {
		names = append(names[:planMost], "...")
	}
	return syncer.Key{}, usagef("--choose %s: no %s that differs is called so: those are %s", w, w.kind, strings.Join(names, ", "))
}
