// Command rtotest measures from outside what a failover costs the users of a
// service. See docs/rtotest.md.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}
