package syncer

import (
	"fmt"
	"path"
	"slices"
)

// Filter says what is carried. An empty list leaves nothing out.
type Filter struct {
	Kinds []Kind `json:"kinds,omitempty"`
	// Without are kinds that are left out.
	Without []Kind `json:"without,omitempty"`
	// Projects are ids at the source. What belongs to no project passes.
	Projects []string `json:"projects,omitempty"`
	// Tags, of which an object has to bear one. Kinds without tags pass.
	Tags []string `json:"tags,omitempty"`
	// Names are patterns of [path.Match], of which one has to fit, as "acme/*".
	Names []string `json:"names,omitempty"`
	// Except are patterns of names that are left out.
	Except []string `json:"except,omitempty"`
}

// Check finds patterns that mean nothing.
func (f Filter) Check() error {
	for _, p := range slices.Concat(f.Names, f.Except) {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("check filter: name %q: %w", p, err)
		}
	}
	return nil
}

func (f Filter) kind(k Kind) bool {
	return (len(f.Kinds) == 0 || slices.Contains(f.Kinds, k)) && !slices.Contains(f.Without, k)
}

// object tells whether one passes. What is given at both sides always does.
func (f Filter) object(o *Object) bool {
	if o.Stance == Given || o.Stance == Outside {
		return true
	}
	if len(f.Projects) > 0 && o.Project != "" && !slices.Contains(f.Projects, o.Project) {
		return false
	}
	if len(f.Tags) > 0 && o.Tags != nil && !slices.ContainsFunc(o.Tags, func(t string) bool { return slices.Contains(f.Tags, t) }) {
		return false
	}
	return f.name(o.Name)
}

func (f Filter) name(name string) bool {
	fits := func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	}
	return (len(f.Names) == 0 || slices.ContainsFunc(f.Names, fits)) && !slices.ContainsFunc(f.Except, fits)
}

// narrows tells whether objects are left out, not only kinds.
func (f Filter) narrows() bool {
	return len(f.Projects)+len(f.Tags)+len(f.Names)+len(f.Except) > 0
}

// Mapping says what stands for an object of the source: each is an id, or a
// name that only one object of the kind has.
type Mapping struct {
	Kind   Kind   `json:"kind"`
	Source string `json:"source"`
	Target string `json:"target"`
}

// mapped gives what the operator says stands for o: the id at the target, or
// why there is none. false: nothing is said of it.
func mapped(all []Mapping, o *Object, source, target names) (string, string, bool) {
	for _, m := range all {
		if m.Kind != o.Kind || m.Source != o.ID && m.Source != o.Name {
			continue
		}
		if m.Source != o.ID {
			if n := len(source[m.Source]); n != 1 {
				return "", fmt.Sprintf("the mapping's name %q fits %d objects of the source", m.Source, n), true
			}
		}
		ids := target[m.Target]
		if slices.Contains(target[""], m.Target) {
			ids = []string{m.Target}
		}
		if len(ids) != 1 {
			return "", fmt.Sprintf("the mapping's %q fits %d objects of the target", m.Target, len(ids)), true
		}
		return ids[0], "", true
	}
	return "", "", false
}

// names has the ids of the objects of each name, and all ids under "".
type names map[string][]string

func namesOf(l *listed) names {
	n := make(names)
	for _, id := range l.order {
		n[""] = append(n[""], id)
		if name := l.objects[id].Name; name != "" {
			n[name] = append(n[name], id)
		}
	}
	return n
}
