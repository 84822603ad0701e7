package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// FuzzRender: whatever a daemon answers, what is shown of it does nothing to the
// terminal, and fits its width.
func FuzzRender(f *testing.F) {
	const escape = "\x1b[2J\u009b1m"
	for _, v := range []any{
		[]failover.Record{{Kind: escape, Service: escape, Text: escape}}, api.Why{Service: escape, Phase: escape, Decisions: []failover.Record{{Kind: escape}}},
		healthyStatus(), lostStatus(), brokenStatus(), groupStatus(), changingStatus(), aloneStatus(), stages(failover.MoveFailover)[5], whyShop(), records(),
	} {
		data, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b bytes.Buffer
		shown := func(what string, wide bool) {
			t.Helper()
			for line := range strings.Lines(b.String()) {
				line = strings.TrimSuffix(line, "\n")
				if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(line) {
					t.Fatalf("%s: %q", what, line)
				}
				if n := utf8.RuneCountInString(line); n > columns && !wide {
					t.Fatalf("%s: %d columns: %s", what, n, line)
				}
			}
			b.Reset()
		}
		var s api.Status
		if json.Unmarshal(data, &s) == nil {
			writeStatus(&b, &s)
			shown("status", false)
			writeMembership(&b, &s)
			shown("members", false)
			writeEvidence(&b, &s)
			shown("evidence", false)
			for _, sv := range s.Services {
				writeCost(&b, sv, api.Request{Service: sv.ID})
				shown("cost", false)
				follow := &tracker{kind: failover.MoveFailover, epoch: 1}
				lines, _, _ := follow.see(sv)
				for _, line := range lines {
					writeText(&b, "  +0.000 s  ", line)
				}
				shown("move", false)
			}
		}
		var y api.Why
		if json.Unmarshal(data, &y) == nil {
			writeWhy(&b, &y)
			shown("why", false)
		}
		var h []failover.Record
		if json.Unmarshal(data, &h) == nil {
			writeHistory(&b, h)
			shown("history", true)
		}
	})
}
