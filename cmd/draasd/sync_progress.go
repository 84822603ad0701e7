package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/draasd/draas/syncer"
)

// syncProgress shows how far a run is: some lines that are written over on a
// terminal, else a line every ten seconds.
type syncProgress struct {
	w             io.Writer
	terminal      bool
	width, height int
	now           func() time.Time
	last          time.Time
	drawn         int // lines, on a terminal
}

// quietFor is how long a progress that is no terminal's stays silent.
const quietFor = 10 * time.Second

// begin says what is done before there is any progress.
func (s *syncProgress) begin(d direction) {
	s.last = s.now()
	if s.terminal {
		s.draw([]string{fmt.Sprintf("looking at what %s and %s have", d.from, d.to)})
	}
}

func (s *syncProgress) show(p syncer.Progress) {
	switch {
	case s.terminal && p.Ended:
		s.draw(nil)
	case s.terminal:
		s.draw(s.lines(p))
	case !p.Ended && s.now().Sub(s.last) >= quietFor:
		s.last = s.now()
		fmt.Fprintln(s.w, progressText(p)+busyText(p))
	}
}

// draw writes lines over those that were drawn before.
func (s *syncProgress) draw(lines []string) {
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\r\x1b[%dA\x1b[J", s.drawn)
	}
	for _, line := range lines {
		b.WriteString(cut(line, max(min(columns, s.width-1), 20)) + "\n")
	}
	s.drawn = len(lines)
	_, _ = io.WriteString(s.w, b.String()) // to a terminal
}

// lines are the whole, and each kind that is under way.
func (s *syncProgress) lines(p syncer.Progress) []string {
	lines := []string{progressText(p)}
	room := max(s.height-3, 1)
	waiting := 0
	for _, k := range p.Kinds {
		switch {
		case k.Done >= k.ToDo:
		case len(lines) > room:
			waiting++
		default:
			lines = append(lines, kindProgress(k, p.Elapsed))
		}
	}
	if waiting > 0 {
		lines[len(lines)-1] = fmt.Sprintf("  and %d kinds more", waiting+1)
	}
	return lines
}

func kindProgress(k syncer.KindProgress, elapsed time.Duration) string {
	var parts []string
	if k.Failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", k.Failed))
	}
	if k.Carry > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s", bytesText(k.Bytes), bytesText(k.Carry)))
	}
	if k.Bytes > 0 {
		parts = append(parts, bytesText(int64(k.Rate))+"/s")
	}
	if k.Left > 0 && elapsed >= settled {
		parts = append(parts, leftTime(k.Left))
	}
	return strings.TrimRight(fmt.Sprintf("  %-16s %6d of %-6d  %s", k.Kind, k.Done, k.ToDo, strings.Join(parts, ", ")), " ")
}

// progressText is the whole of a progress.
func progressText(p syncer.Progress) string {
	var done, toDo, failed int
	var carried, carry int64
	for _, k := range p.Kinds {
		done, toDo, failed = done+k.Done, toDo+k.ToDo, failed+k.Failed
		carried, carry = carried+k.Bytes, carry+k.Carry
	}
	line := fmt.Sprintf("%s  %d of %d objects", p.Elapsed.Truncate(time.Second), done, toDo)
	if failed > 0 {
		line += fmt.Sprintf(", %d failed", failed)
	}
	seconds := p.Elapsed.Seconds()
	if carry > 0 && seconds > 0 {
		line += fmt.Sprintf(", %s of %s, %s/s", bytesText(carried), bytesText(carry), bytesText(int64(float64(carried)/seconds)))
	}
	if left := timeLeft(p.Elapsed, int64(done), int64(toDo), carried, carry); left > 0 {
		line += ", " + leftTime(left)
	}
	return line
}

// settled is from when on a rate tells something.
const settled = 2 * time.Second

// timeLeft is what the bytes that are left take by the rate until now, or the
// objects where none are left; 0: not known.
func timeLeft(elapsed time.Duration, done, toDo, carried, carry int64) time.Duration {
	if elapsed < settled {
		return 0
	}
	by := func(did, all int64) time.Duration {
		if did <= 0 || did >= all {
			return 0
		}
		return time.Duration(float64(elapsed) * float64(all-did) / float64(did))
	}
	if carry > carried {
		return by(carried, carry) // content is what takes the time
	}
	return by(done, toDo)
}

func leftTime(d time.Duration) string {
	return max(d.Round(time.Second), time.Second).String() + " left"
}

// busyText names the kinds that are under way.
func busyText(p syncer.Progress) string {
	var busy []string
	for _, k := range p.Kinds {
		if k.Done < k.ToDo {
			busy = append(busy, fmt.Sprintf("%s %d/%d", k.Kind, k.Done, k.ToDo))
		}
	}
	if len(busy) == 0 {
		return ""
	}
	return "  (" + strings.Join(busy, ", ") + ")"
}
