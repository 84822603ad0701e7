package model

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestModel(t *testing.T) {
	c, err := Build(t.Context(), t.TempDir(), false)
	if err != nil {
		t.Fatalf("%v\nspin and gcc are needed: make setup", err)
	}
	t.Run("all", func(t *testing.T) { testAll(t, c) })
	t.Run("trail", func(t *testing.T) { testTrail(t, c) })
	t.Run("called off", func(t *testing.T) { testCalledOff(t, c) })
}

// A short configuration is clean and every mistake is found; `make model`
// checks the larger ones.
func testAll(t *testing.T, c *Checker) {
	seen := 0
	err := c.All(t.Context(), Short(), Mistakes(), func(line string, good bool) {
		seen++
		if !good {
			t.Error(line)
			return
		}
		t.Log(line)
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := len(Short()) + len(Mistakes()); seen != want {
		t.Errorf("%d results, want %d", seen, want)
	}
}

// What is found is what was put in: with the same steps and without the
// mistake nothing is, and a violation comes with its story, from an empty log
// to the step that breaks a rule.
func testTrail(t *testing.T, c *Checker) {
	wait := Mistakes()[1]
	r, err := c.Hunt(t.Context(), wait)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Trail) < 5 || !strings.HasPrefix(r.Trail[len(r.Trail)-1], "COMMITS ") {
		t.Errorf("the story of %s does not end with an activation:\n%s", wait.Name, strings.Join(r.Trail, "\n"))
	}
	for _, step := range r.Trail {
		if strings.HasPrefix(step, "- ") {
			t.Errorf("a step without a name: %s", step)
		}
	}
	clean, err := c.Check(t.Context(), wait.Knobs, 0, 150)
	if err != nil {
		t.Fatal(err)
	}
	if clean.Violation != "" || clean.Whole {
		t.Errorf("short paths without a mistake: %q, whole %t", clean.Violation, clean.Whole)
	}
}

// The mistakes that draas.pml names are those that are hunted.
func TestMistakesAreThoseOfTheModel(t *testing.T) {
	text, err := sources.ReadFile("draas.pml")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "/* Mistakes of the decision")
	list, _, _ = strings.Cut(list, "#define IS(b)")
	named := make(map[string]int)
	for _, m := range regexp.MustCompile(`(?m)^#define ([A-Z_]+) +(\d+)`).FindAllStringSubmatch(list, -1) {
		named[m[1]], _ = strconv.Atoi(m[2])
	}
	hunted := make(map[string]int)
	for _, m := range Mistakes() {
		hunted[m.Name] = m.Number
	}
	if !maps.Equal(named, hunted) {
		t.Errorf("draas.pml names %v\nhunted are %v", named, hunted)
	}
	for name := range named {
		if !slices.ContainsFunc([]string{"draas.pml", "steps.pml"}, func(file string) bool {
			b, err := sources.ReadFile(file)
			return err == nil && strings.Contains(string(b), "IS("+name+")") || strings.Contains(string(b), ", "+name+")")
		}) {
			t.Errorf("%s changes nothing", name)
		}
	}
}

// A check that is called off ends with its context's error.
func testCalledOff(t *testing.T, c *Checker) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.All(ctx, Short(), nil, func(line string, good bool) { t.Errorf("reported %s", line) }); err == nil {
		t.Error("no error")
	}
}
