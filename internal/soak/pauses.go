package soak

import (
	"fmt"
	"strings"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// pauses are the services whose automatic moves are paused, by what was said
// of it. Records come in the order of the log.
type pauses map[draas.ServiceID]string

// record takes a record of the log and says what is wrong with it: paused
// means paused.
func (p pauses) record(rec failover.Record) (wrong string) {
	switch {
	case rec.Kind == failover.RecordPause:
		p[rec.Service] = rec.Text
	case rec.Kind == failover.RecordResume:
		delete(p, rec.Service)
	case p[rec.Service] != "" && automatic(rec):
		return fmt.Sprintf("log %d: %s: %s, though %s", rec.Index, rec.Service, rec.Text, p[rec.Service])
	}
	return ""
}

// automatic tells a decision that nobody asked for: it names no operator, or
// turns a move around, be that an operator's.
func automatic(rec failover.Record) bool {
	if rec.Kind != failover.RecordDecision || rec.Service == "" {
		return false
	}
	return strings.HasPrefix(rec.Text, string(failover.MoveUndo)+" ") || !strings.Contains(rec.Text, " by ")
}
