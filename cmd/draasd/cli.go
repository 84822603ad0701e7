package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/draasd/draas/daemon"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // refused, failed, or not complete in time
	exitUsage  = 2 // the command line or the file is wrong
	exitLeft   = 3 // run: the member has left the cluster, and is not to be started again by itself
)

// program is the command line with all that it touches of the outside.
type program struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	typing *bufio.Reader // on stdin, once something was read from it
	getenv func(string) string
	now    func() time.Time
	// size is the columns and rows of a terminal; false for anything else.
	size   func(stream any) (width, height int, terminal bool)
	server server
}

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv, now: time.Now,
		size: terminalSize, server: wired()}
	return p.run(ctx, args)
}

func terminalSize(stream any) (int, int, bool) {
	f, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, 0, false
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 80, 24, true
	}
	return width, height, true
}

// usageError says that the command line is wrong.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// exitCode ends the program when all has been said already.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// command is one subcommand.
type command struct {
	name    string
	args    string // as shown in its usage
	short   string // one line
	long    string // what else there is to know; may be empty
	example string
	min     int // positional arguments
	max     int
	hidden  bool
	// bind declares the command's flags and returns what runs it.
	bind func(p *program, f *flag.FlagSet) action
	// raw takes the arguments as they are, flags included.
	raw action
}

type action func(ctx context.Context, args []string) error

func (p *program) run(ctx context.Context, args []string) int {
	if len(args) == 0 {
		p.usage(p.stderr)
		return exitUsage
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		return p.help(args)
	case "-v", "-version", "--version":
		name = "version"
	}
	c := find(p.commands(), name)
	if c == nil {
		fmt.Fprintf(p.stderr, "draasd: there is no command %q%s\nSee draasd help.\n", name, didYouMean(name, p.names()))
		return exitUsage
	}
	return p.exit(c, p.do(ctx, c, args))
}

func (p *program) do(ctx context.Context, c *command, args []string) error {
	if c.raw != nil {
		return c.raw(ctx, args)
	}
	f := flag.NewFlagSet(c.name, flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are printed by exit, help by describe
	act := c.bind(p, f)
	args, err := parse(f, args)
	if errors.Is(err, flag.ErrHelp) {
		p.describe(p.stdout, c)
		return nil
	}
	if err != nil {
		return usagef("%v", err)
	}
	if len(args) < c.min || len(args) > c.max {
		return usagef("want: draasd %s", c.line())
	}
	return act(ctx, args)
}

// exit prints an error once and gives the exit code.
func (p *program) exit(c *command, err error) int {
	var code exitCode
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, daemon.ErrLeft):
		fmt.Fprintf(p.stderr, "draasd %s: %v\n", c.name, err)
		return exitLeft
	case errors.As(err, &usage):
		fmt.Fprintf(p.stderr, "draasd %s: %v\nSee draasd help %s.\n", c.name, err, c.name)
		return exitUsage
	}
	fmt.Fprintf(p.stderr, "draasd %s: %v\n", c.name, err)
	return exitFailed
}

// parse parses flags wherever they stand among the arguments; what follows
// "--" is no flag.
func parse(f *flag.FlagSet, args []string) ([]string, error) {
	var positional []string
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		rest := f.Args()
		if len(rest) == 0 {
			return positional, nil
		}
		if used := len(args) - len(rest); used > 0 && args[used-1] == "--" {
			return append(positional, rest...), nil
		}
		positional, args = append(positional, rest[0]), rest[1:]
	}
}

func find(commands []command, name string) *command {
	for i := range commands {
		if commands[i].name == name {
			return &commands[i]
		}
	}
	return nil
}

func (p *program) names() []string {
	names := []string{"help"}
	for _, c := range p.commands() {
		if !c.hidden {
			names = append(names, c.name)
		}
	}
	return names
}

func (c *command) line() string {
	return strings.TrimSpace(c.name + " " + c.args)
}

func (p *program) usage(w io.Writer) {
	fmt.Fprint(w, "draasd decides once which of your sites is active, and moves the users there.\n\n")
	fmt.Fprint(w, "Usage: draasd COMMAND [flags] [arguments]\n\n")
	for _, c := range p.commands() {
		if !c.hidden {
			fmt.Fprintf(w, "  %-11s %s\n", c.name, c.short)
		}
	}
	fmt.Fprint(w, "\ndraasd help COMMAND tells more. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.\n")
}

func (p *program) help(args []string) int {
	if len(args) == 0 {
		p.usage(p.stdout)
		return exitOK
	}
	c := find(p.commands(), args[0])
	if c == nil {
		fmt.Fprintf(p.stderr, "draasd help: there is no command %q%s\n", args[0], didYouMean(args[0], p.names()))
		return exitUsage
	}
	p.describe(p.stdout, c)
	return exitOK
}

// describe is the help of one command.
func (p *program) describe(w io.Writer, c *command) {
	fmt.Fprintf(w, "draasd %s\n\n%s\n", c.line(), c.short)
	if c.long != "" {
		fmt.Fprintf(w, "\n%s\n", c.long)
	}
	if c.bind != nil {
		f := flag.NewFlagSet(c.name, flag.ContinueOnError)
		c.bind(p, f)
		describeFlags(w, f)
	}
	fmt.Fprintf(w, "\nExample:\n  %s\n", c.example)
}

func describeFlags(w io.Writer, f *flag.FlagSet) {
	var rows [][]string
	f.VisitAll(func(fl *flag.Flag) {
		value, usage := flag.UnquoteUsage(fl)
		dash := "--"
		if len(fl.Name) == 1 {
			dash = "-"
		}
		if fl.DefValue != "" && fl.DefValue != "false" && fl.DefValue != "0" && fl.DefValue != "0s" {
			usage += " (default " + fl.DefValue + ")"
		}
		rows = append(rows, []string{strings.TrimSpace(dash + fl.Name + " " + value), usage})
	})
	if len(rows) == 0 {
		return
	}
	fmt.Fprintln(w, "\nFlags:")
	writeTable(w, "  ", rows)
}

// didYouMean names the nearest of the known names, if one is near.
func didYouMean(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := distance(name, k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is how many letters have to be put in, left out, changed or
// swapped with their neighbour to make one word of the other.
func distance(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = slices.Min([]int{last[j] + 1, row[j-1] + 1, last[j-1] + change})
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
