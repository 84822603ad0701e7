package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// typeText is the type of a key as docs/config.md gives it, with its bounds.
func typeText(k key) string {
	switch k.kind {
	case kindChoice:
		return strings.Join(k.oneOf, ", ")
	case kindChoices:
		return "list of " + strings.Join(k.oneOf, ", ")
	case kindDuration, kindTTL:
		return fmt.Sprintf("%s, %s to %s", k.kind, short(k.min), short(k.max))
	case kindCount:
		return fmt.Sprintf("%s, %d to %d", k.kind, k.low, k.high)
	case kindSize:
		return fmt.Sprintf("%s, %s to %s", k.kind, bytesText(k.low), bytesText(k.high))
	case kindPart:
		return string(k.kind) + ", 0 to 0.5"
	}
	return string(k.kind)
}

// docRow is a row of a table about keys: key, type, default, meaning.
var docRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]*) \\| ([^|]*) \\| ([^|]+) \\|$")

// placeholder is a component of a key in the document that stands for a name.
var placeholder = regexp.MustCompile(`\b[A-Z]+\b`)

func TestEveryKeyIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, m := range docRow.FindAllStringSubmatch(string(doc), -1) {
		path := placeholder.ReplaceAllString(m[1], "*")
		if rows[path] != nil {
			t.Errorf("docs/config.md describes %s twice", path)
		}
		rows[path] = m
	}
	for _, k := range schema() {
		row := rows[k.path]
		if row == nil {
			t.Errorf("docs/config.md lacks a row `%s` | %s | %s", k.path, typeText(k), k.def)
			continue
		}
		if row[2] != typeText(k) {
			t.Errorf("docs/config.md: %s has type %q, the decoder says %q", k.path, row[2], typeText(k))
		}
		if row[3] != k.def {
			t.Errorf("docs/config.md: %s has default %q, the decoder says %q", k.path, row[3], k.def)
		}
		delete(rows, k.path)
	}
	for path := range rows {
		t.Errorf("docs/config.md describes %s, which the decoder does not know", path)
	}
}

func TestProfilesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Profiles() {
		row := fmt.Sprintf("| %s | %s | %s | %d | %d | %s | %s | %s | %s | %s | %s | %s | %d | %s | %s |", p.Name, short(p.Interval), short(p.Timeout),
			p.Rise, p.Fall, short(p.SecondLook), short(p.Confirm), short(p.Lease), short(p.Renew), short(p.Heartbeat), short(p.Election), short(p.Hold), p.Flaps, short(p.Steady), short(p.VIPLease))
		if !strings.Contains(string(doc), row) {
			t.Errorf("docs/config.md lacks the row\n%s", row)
		}
	}
}

// The sample is what people copy: every key stands in it, if only as a comment.
func TestSampleShowsEveryKey(t *testing.T) {
	sample, err := os.ReadFile("../etc/failover.toml")
	if err != nil {
		t.Fatal(err)
	}
	word := regexp.MustCompile(`(?m)^#?([a-z_]+)(\.[a-z0-9_.]+)? *=`)
	var shown []string
	for _, m := range word.FindAllStringSubmatch(string(sample), -1) {
		shown = append(shown, m[1])
	}
	for _, k := range schema() {
		name := strings.Split(strings.TrimRight(strings.ReplaceAll(k.path, ".*", " "), " "), ".")
		last := strings.TrimSpace(name[len(name)-1])
		if !slices.Contains(shown, last) {
			t.Errorf("etc/failover.toml does not show %s", k.path)
		}
	}
}

func TestSchemaIsSound(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range schema() {
		c := conversion{key: &k}
		if c.want() == "" {
			t.Errorf("%s: kind %q has no words for what is right", k.path, k.kind)
		}
		if k.def == "" || seen[k.path] {
			t.Errorf("%s: no default, or twice in the schema", k.path)
		}
		if (k.kind == kindSize || k.kind == kindCount) && k.high == 0 {
			t.Errorf("%s: no upper bound", k.path)
		}
		if (k.kind == kindDuration || k.kind == kindTTL) && k.max == 0 {
			t.Errorf("%s: no upper bound", k.path)
		}
		seen[k.path] = true
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 1: "1B", 1023: "1023B", 1 << 10: "1KiB", 1536: "1536B", 3 << 19: "1536KiB", 64 << 20: "64MiB", 1 << 30: "1GiB", 1 << 40: "1024GiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
