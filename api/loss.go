package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// Loss is what a move has cost of the copy of the cloud that was active before:
// what stands in the history, as the member that took over has told it.
type Loss struct {
	From  draas.SiteID // whose cloud was copied
	Known bool         // else the rest says nothing
	// Behind is since when what was changed there may be lost, counted up to when
	// the site was first suspected: by tenths of a second, from a minute on by
	// seconds.
	Behind time.Duration
	// Objects and Bytes are what the last look at both clouds found missing: what
	// came after it is lost besides, and nobody has counted it.
	Objects int
	Bytes   int64
}

// The finding that tells of it: its step is none of a plan.
const (
	LossStep                      = "sync"
	LossCode failover.FindingCode = "expected loss"
)

const (
	lossUnknown = "how far the copy of %s's cloud was behind is not known"
	lossKnown   = "the copy of %s's cloud was %s behind"
	lossMissing = ", with at least %d objects (%s) missing"
)

// InWords is the loss as it stands in the history.
func (l Loss) InWords() string {
	if !l.Known {
		return fmt.Sprintf(lossUnknown, l.From)
	}
	unit := time.Second
	if l.Behind < time.Minute {
		unit /= 10
	}
	text := fmt.Sprintf(lossKnown, l.From, l.Behind.Round(unit))
	if l.Objects > 0 {
		text += fmt.Sprintf(lossMissing, l.Objects, sizeText(l.Bytes))
	}
	return text
}

// LossOf reads the loss that a record of the history tells of; false: none.
func LossOf(r failover.Record) (Loss, bool) {
	text, ok := strings.CutPrefix(r.Text, fmt.Sprintf("%s (%s): ", LossCode, LossStep))
	if r.Kind != failover.RecordFinding || !ok {
		return Loss{}, false
	}
	return parseLoss(text)
}

// parseLoss reads what InWords has written. Bytes are as exact as words are.
func parseLoss(text string) (Loss, bool) {
	if rest, ok := strings.CutPrefix(text, "how far the copy of "); ok {
		from, ok := strings.CutSuffix(rest, "'s cloud was behind is not known")
		return Loss{From: draas.SiteID(from)}, ok && isName(from)
	}
	rest, ok := strings.CutPrefix(text, "the copy of ")
	from, rest, cut := strings.Cut(rest, "'s cloud was ")
	age, rest, behind := strings.Cut(rest, " behind")
	d, err := time.ParseDuration(age)
	if !ok || !cut || !behind || err != nil || d < 0 || !isName(from) {
		return Loss{}, false
	}
	l := Loss{From: draas.SiteID(from), Known: true, Behind: d}
	if rest == "" {
		return l, true
	}
	rest, ok = strings.CutPrefix(rest, ", with at least ")
	objects, rest, cut := strings.Cut(rest, " objects (")
	size, closed := strings.CutSuffix(rest, ") missing")
	l.Objects, err = strconv.Atoi(objects)
	if !ok || !cut || !closed || err != nil || l.Objects <= 0 {
		return Loss{}, false
	}
	l.Bytes, ok = parseSize(size)
	return l, ok
}

func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	})
}

var sizeUnits = []struct {
	size int64
	name string
}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}, {1, "bytes"}}

// sizeText is a number of bytes for people.
func sizeText(n int64) string {
	for _, u := range sizeUnits {
		if n >= 10*u.size || n >= u.size && n%u.size == 0 {
			return fmt.Sprintf("%d %s", n/u.size, u.name)
		}
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

func parseSize(text string) (int64, bool) {
	number, unit, _ := strings.Cut(text, " ")
	f, err := strconv.ParseFloat(number, 64)
	for _, u := range sizeUnits {
		if n := math.Round(f * float64(u.size)); u.name == unit && err == nil && n >= 0 && n < math.MaxInt64 {
			return int64(n), true
		}
	}
	return 0, false
}
