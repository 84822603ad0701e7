package main

import (
	"strings"
	"testing"
)

const fakeEvents = `{"Action":"run","Test":"TestSuite"}
{"Action":"run","Test":"TestSuite/a"}
{"Action":"pass","Test":"TestSuite/a/create"}
{"Action":"pass","Test":"TestSuite/a/list"}
{"Action":"pass","Test":"TestSuite/a"}
{"Action":"pass","Test":"TestSuite"}
{"Action":"pass","Test":"TestFacts/x"}
{"Action":"pass","Test":"TestFacts"}
{"Action":"pass","Test":"TestStory"}
{"Action":"pass","Test":"TestKeystoneOutage"}
{"Action":"pass","Package":"p"}
`

func real(events string) string {
	return strings.NewReplacer("TestSuite", "TestSuiteOnRealServices", "TestFacts", "TestRealServices", "TestStory", "TestStoryOnRealServices",
		"TestKeystoneOutage", "TestKeystoneOutageOnRealServices").Replace(events)
}

func counted(t *testing.T, fake, actual string) (string, error) {
	t.Helper()
	var out strings.Builder
	a, err := read(strings.NewReader(fake), &out)
	if err != nil {
		t.Fatal(err)
	}
	b, err := read(strings.NewReader(actual), &out)
	if err != nil {
		t.Fatal(err)
	}
	text, differ := compare(a, b)
	return out.String() + text, differ
}

func TestCounts(t *testing.T) {
	text, err := counted(t, fakeEvents, real(fakeEvents))
	if want := "conformance: suite of kinds: fake 2, real 2; facts: fake 1, real 1; stories: fake 1, real 1; outages: fake 1, real 1"; text != want || err != nil {
		t.Errorf("said %q, %v\nwanted %q", text, err, want)
	}
}

// Which one has not what the other has is said, whatever the counts are; and so
// is what a test that fails has said.
func TestDiffers(t *testing.T) {
	for _, events := range []string{
		strings.Replace(fakeEvents, "a/list", "a/other", 1),
		strings.Replace(fakeEvents, `"pass","Test":"TestSuite/a/list"`, `"skip","Test":"TestSuite/a/list"`, 1),
		strings.Replace(fakeEvents, `{"Action":"pass","Test":"TestSuite/a/list"}`, `{"Action":"output","Test":"TestSuite/a/list","Output":"why\n"}
{"Action":"fail","Test":"TestSuite/a/list"}`, 1),
		strings.Replace(fakeEvents, `{"Action":"pass","Test":"TestFacts/x"}`, "", 1),
		"no events at all\n",
	} {
		text, err := counted(t, fakeEvents, real(events))
		if err == nil {
			t.Errorf("nothing differs: %s", text)
		}
		if strings.Contains(events, "why") && !strings.Contains(text, "why\n") {
			t.Errorf("a failure is not shown: %s", text)
		}
		if _, err := counted(t, events, real(fakeEvents)); err == nil {
			t.Error("nothing differs the other way")
		}
	}
}

func TestCommandsThatFail(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), []string{"-fake", "exit 3", "-real", "true"}, &out); err == nil {
		t.Errorf("a command has failed, and it is well: %s", out.String())
	}
}
