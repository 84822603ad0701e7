package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
)

// All certificates are exchanged while the cluster runs: nobody notices, and
// the members know of the new ends.
func TestRotation(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "cautious")
	l.startAll()
	l.activate()
	stop := l.served("primary")
	for _, m := range []string{"primary", "dr", "witness"} {
		until, err := Issue(IssueOptions{Member: draas.MemberID(m), CA: filepath.Join(l.dir, "ca"), Out: filepath.Join(l.dir, m, "tls"), For: 100 * 24 * time.Hour, Replace: true})
		if err != nil {
			t.Fatal(err)
		}
		l.await("the new certificate of "+m, 20*time.Second, func() bool {
			l.reload(m)
			s := l.status("witness")
			if s == nil || s.Leader == "" {
				return false
			}
			for _, r := range s.Reported {
				if string(r.Member) == m {
					return r.CertificateEnds.Equal(until.UTC().Truncate(time.Second))
				}
			}
			return false
		})
	}
	if asked, failed := stop(); failed > 0 || asked == 0 {
		t.Errorf("%d of %d users were not served", failed, asked)
	}
	if sv := l.service("witness"); sv == nil || sv.Epoch != 1 {
		t.Errorf("web moved over it: %+v", sv)
	}
}

// A member is added by the file: a certificate, the file everywhere, join. It
// learns, votes, and is removed by the file again.
func TestMemberByTheFile(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "cautious")
	l.startAll()
	l.activate()
	stop := l.served("primary")
	before, err := os.ReadFile(l.file("dr"))
	if err != nil {
		t.Fatal(err)
	}
	more := strings.Replace(string(before), "[tls]", fmt.Sprintf("[member.west]\nrole = \"witness\"\npeer = \"127.0.0.1:%d\"\napi = \"127.0.0.1:%d\"\n\n[tls]", l.base+40, l.base+41), 1)
	everywhere := func(text string) {
		for _, m := range []string{"primary", "dr", "witness"} {
			if err := os.WriteFile(l.file(m), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if r := l.reload(m); len(r.Refused) > 0 {
				t.Fatalf("%s: %q", m, r.Refused)
			}
		}
	}
	if _, err := Issue(IssueOptions{Member: "west", CA: filepath.Join(l.dir, "ca"), Out: filepath.Join(l.dir, "west", "tls"), For: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.file("west"), []byte(more), 0o644); err != nil {
		t.Fatal(err)
	}
	everywhere(more)
	if _, err := l.join("west", false); err != nil {
		t.Fatal(err)
	}
	l.startDaemon("west")
	l.awaitVoters("witness", "dr", "primary", "west", "witness")
	l.await("west knows the decision", 20*time.Second, func() bool { sv := l.service("west"); return sv != nil && sv.Active == "primary" })

	// Who is to be removed is stopped first: as long as it can be heard, it has
	// a say in which file is in force.
	if err := l.stop("daemon west"); err != nil {
		t.Fatal(err)
	}
	everywhere(string(before))
	l.awaitVoters("witness", "dr", "primary", "witness")
	if asked, failed := stop(); failed > 0 || asked == 0 {
		t.Errorf("%d of %d users were not served", failed, asked)
	}
}
