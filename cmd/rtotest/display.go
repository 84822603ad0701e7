package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas/measure"
	"golang.org/x/term"
)

// redraw is how often the line of status is drawn anew.
const redraw = 200 * time.Millisecond

// display writes a line per change and, on a terminal, keeps a line of status
// below them.
type display struct {
	mu    sync.Mutex // the engine's events and the fault's mark meet here
	out   io.Writer
	live  measure.Live
	width func() int // columns; nil when out is no terminal
	drawn time.Time
	dirty bool // a line of status stands where the next line goes
}

func newDisplay(out io.Writer) *display {
	d := &display{out: out}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		d.width = func() int {
			w, _, err := term.GetSize(int(f.Fd()))
			if err != nil {
				return 80
			}
			return w
		}
	}
	return d
}

// event shows what an event changes.
func (d *display) event(e measure.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if text := d.live.Add(e); text != "" {
		d.write(text)
	}
	if d.width != nil && time.Since(d.drawn) >= redraw {
		d.drawn = time.Now()
		status := d.live.Status()
		if w := d.width(); w > 1 && len(status) >= w {
			status = status[:w-1]
		}
		fmt.Fprintf(d.out, "\r\x1b[K%s", status)
		d.dirty = true
	}
}

// line shows a line of its own.
func (d *display) line(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.write(text)
}

func (d *display) write(text string) {
	if d.dirty {
		text = "\r\x1b[K" + text
		d.dirty = false
	}
	fmt.Fprintln(d.out, text)
}

// begin forgets what was shown before: another run begins.
func (d *display) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live = measure.Live{}
}

// end leaves the last status standing.
func (d *display) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.width != nil {
		d.write(strings.TrimSpace(d.live.Status()))
	}
}
