// Command model checks the protocol with spin: clean without a mistake, and
// every mistake found. See docs/model.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/draasd/draas/model"
)

func main() {
	big := flag.Bool("big", false, "check the larger configurations too: hours, and many gigabytes")
	bug := flag.String("bug", "", "hunt only the mistake of this `NAME` and tell its story; list: name them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, *big, *bug)
	if err != nil {
		fmt.Fprintln(os.Stderr, "model:", err)
	}
	if err != nil || !ok {
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, big bool, bug string) (ok bool, err error) {
	if bug == "list" {
		for _, m := range model.Mistakes() {
			fmt.Println(m.Name)
		}
		return true, nil
	}
	dir, err := os.MkdirTemp("", "draas-model")
	if err != nil {
		return false, err
	}
	defer func() { err = first(err, os.RemoveAll(dir)) }()
	c, err := model.Build(ctx, dir, bug == "")
	if err != nil {
		return false, err
	}
	if bug != "" {
		return story(ctx, c, bug)
	}
	runs := model.Full()
	if big {
		runs = model.Big()
	}
	start, ok := time.Now(), true
	report := func(line string, good bool) {
		fmt.Println(line)
		ok = ok && good
	}
	if err := c.All(ctx, runs, model.Mistakes(), report); err != nil {
		return false, err
	}
	fmt.Printf("model: %d configurations, %d mistakes, %.0f s\n", len(runs), len(model.Mistakes()), time.Since(start).Seconds())
	return ok, nil
}

// story tells how a mistake ends. That it is found is what is wanted.
func story(ctx context.Context, c *model.Checker, name string) (bool, error) {
	for _, m := range model.Mistakes() {
		if m.Name != name {
			continue
		}
		r, err := c.Hunt(ctx, m)
		if err != nil {
			return false, err
		}
		for _, line := range r.Trail {
			fmt.Println(line)
		}
		if r.Violation == "" {
			fmt.Printf("model: BUG %s not found in %d states\n", name, r.States)
			return false, nil
		}
		fmt.Printf("model: BUG %s found: %s\n", name, r.Violation)
		return true, nil
	}
	return false, fmt.Errorf("there is no mistake %q: see -bug list", name)
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
