package config

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/BurntSushi/toml"
)

// awkward is valid TOML that a careless scanner gets lost in.
const awkward = `# a comment with [brackets] and = signs
top = "a"
[one.two]
a.b = 1 # x
text = """
[not.a.table]
key = 1 \"""
"""""
lit = '''
k = 2'''
"quo.ted \u0041" = 'its'
list = [ # comment ]
  "x, ] # no",
  [1,
   2],
]
[[one.rec]]
n = { p = 1, q = { r = 'a}b' } }
[one.rec.sub]
k = 1
[[one.rec]]
n.p = 2
[[one.rec.sub2]]
d = 1979-05-27 07:32:00Z
[last]
end = true`

func TestIndexLines(t *testing.T) {
	if err := toml.Unmarshal([]byte(awkward), &map[string]any{}); err != nil {
		t.Fatal(err)
	}
	lines, over := scan(awkward)
	if over != nil {
		t.Fatal(over)
	}
	for path, want := range map[string]int{
		"top": 2, "one": 3, "one.two": 3, "one.two.a": 4, "one.two.a.b": 4, "one.two.text": 5, "one.two.lit": 9,
		`one.two."quo.ted A"`: 11, "one.two.list": 12, "one.two.list[0]": 13, "one.two.list[1]": 14, "one.two.list[1][1]": 15,
		"one.rec": 17, "one.rec[0]": 17, "one.rec[0].n.q.r": 18, "one.rec[0].sub": 19, "one.rec[0].sub.k": 20,
		"one.rec[1]": 21, "one.rec[1].n.p": 22, "one.rec[1].sub2[0].d": 24, "last": 25, "last.end": 26,
		"last.no.such[7].key": 25, "nowhere": 1,
	} {
		if got := lines.line(path); got != want {
			t.Errorf("%s is on line %d, want %d", path, got, want)
		}
	}
	for path := range lines {
		if regexp.MustCompile(`not|no"`).MatchString(path) {
			t.Errorf("%s is not a key", path)
		}
	}
}

var subscript = regexp.MustCompile(`\[\d+\]`)

// sameKeys compares the scanner with what the library says of the keys of
// valid TOML.
func sameKeys(t *testing.T, in string) {
	lines, over := scan(in)
	var v map[string]any
	md, err := toml.Decode(in, &v)
	if over != nil || err != nil {
		return
	}
	var want, got []string
	for _, k := range md.Keys() {
		path := ""
		for _, part := range k {
			path = join(path, part)
			want = append(want, path)
		}
	}
	for path := range lines {
		// A subscript inside quotes belongs to the key.
		if bare := subscript.ReplaceAllString(path, ""); bare == path || !regexp.MustCompile(`"`).MatchString(path) {
			got = append(got, bare)
		} else {
			return
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	want, got = slices.Compact(want), slices.Compact(got)
	if !slices.Equal(want, got) {
		t.Errorf("the library sees %q\nthe scanner sees %q", want, got)
	}
}

// FuzzIndex compares the scanner with the library and looks for crashes.
func FuzzIndex(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.toml", "testdata/good/*.toml", "../etc/*.toml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(data))
		}
	}
	f.Add(awkward)
	f.Add("a.\"b\\\"c\" = [{x=1},{y=[[],[{}]]}]\n[[q.'w']]\nz=''''a'''\n")
	f.Fuzz(func(t *testing.T, in string) { sameKeys(t, in) })
}

func TestParent(t *testing.T) {
	for path, want := range map[string]string{
		"a": "", "a.b": "a", "a.b[0]": "a.b", "a.b[0].c": "a.b[0]", `a."x.y[1]\"z"`: "a", `"a.b".c`: `"a.b"`,
	} {
		if got := parent(path); got != want {
			t.Errorf("parent(%s) = %q, want %q", path, got, want)
		}
	}
}

// slowDistance is distance by its definition.
func slowDistance(a, b string) int {
	switch {
	case a == "":
		return len(b)
	case b == "":
		return len(a)
	}
	same := 1
	if a[0] == b[0] {
		same = 0
	}
	least := min(slowDistance(a[1:], b)+1, slowDistance(a, b[1:])+1, slowDistance(a[1:], b[1:])+same)
	if len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0] {
		least = min(least, slowDistance(a[2:], b[2:])+1)
	}
	return least
}

func TestDistance(t *testing.T) {
	words := []string{"", "a", "ab", "ba", "peer", "pere", "per", "dns", "sdn", "role", "rol", "abcab", "bcaba"}
	for _, a := range words {
		for _, b := range words {
			if got, want := distance(a, b), slowDistance(a, b); got != want {
				t.Errorf("distance(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
	if got := nearest("colour", []string{"peer", "role"}); got != "" {
		t.Errorf("nearest of colour is %q", got)
	}
}
