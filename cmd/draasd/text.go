package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/draasd/draas/failover"
)

// columns is the width that everything fits in.
const columns = 100

// leastLast is the width that a table's last column gets at the least.
const leastLast = 24

// clean makes a text safe for a terminal: it may come from an operator's
// --reason or from a service that was looked at.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}

// wrap breaks a text into lines of at most width runes, at spaces where it
// can.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(clean(text)) {
		for utf8.RuneCountInString(word) > width {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			head := string([]rune(word)[:width])
			lines, word = append(lines, head), word[len(head):]
		}
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" || len(lines) == 0 {
		lines = append(lines, line)
	}
	return lines
}

// writeText writes a text behind a mark, its further lines indented alike.
func writeText(w io.Writer, mark, text string) {
	indent := utf8.RuneCountInString(mark)
	for i, line := range wrap(text, columns-indent) {
		if i > 0 {
			mark = strings.Repeat(" ", indent)
		}
		fmt.Fprintln(w, strings.TrimRight(mark+line, " "))
	}
}

// writeTable writes rows with aligned columns; the last column is broken into
// lines where it does not fit.
func writeTable(w io.Writer, indent string, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(clean(cell)))
		}
	}
	shrink(widths, columns-utf8.RuneCountInString(indent)-leastLast)
	for _, row := range rows {
		var b strings.Builder
		b.WriteString(indent)
		for i, cell := range row[:len(row)-1] {
			cell = cut(clean(cell), widths[i])
			b.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		head := b.String()
		used := utf8.RuneCountInString(head)
		for _, line := range wrap(row[len(row)-1], max(columns-used, leastLast)) {
			fmt.Fprintln(w, strings.TrimRight(head+line, " "))
			head = strings.Repeat(" ", used)
		}
	}
}

// shrink narrows the widest columns until all of them, two blanks after each,
// fit into room.
func shrink(widths []int, room int) {
	for {
		sum, widest := 0, 0
		for i, w := range widths {
			sum += w + 2
			if w > widths[widest] {
				widest = i
			}
		}
		if sum <= room || widths[widest] <= 8 {
			return
		}
		widths[widest]--
	}
}

// cut shortens a text to width runes and shows that it did.
func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// writeReasons lists clauses, each with what it says for or against.
func writeReasons(w io.Writer, indent string, reasons []failover.Reason) {
	for _, r := range reasons {
		mark := "✗ "
		if r.OK {
			mark = "✓ "
		}
		writeText(w, indent+mark, r.Text)
	}
}
