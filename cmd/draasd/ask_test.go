package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

func taken(kind failover.RecordKind, text string) *api.Answer {
	return &api.Answer{Accepted: true, Record: failover.Record{Kind: kind, Service: "shop", Epoch: 3, Text: text,
		Reasons: []failover.Reason{{Code: failover.ReasonOperator, OK: true, Text: "ada asked for it"}}}}
}

// What moves nothing is asked for with who asks and why; and what would be
// refused for its form is not asked for at all.
func TestAsk(t *testing.T) {
	two := healthyStatus()
	two.Services = append(two.Services, two.Services[0])
	two.Services[1].ID = "mail"
	two.Services[1].Pause = &failover.Pause{Operator: "bob", Reason: "drill", For: time.Hour, Since: noon}
	pause := failover.Request{Ask: failover.AskPause, Operator: "ada", Reason: "storage work", For: 2 * time.Hour}
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []api.Request
	}{
		{"pause", []string{"pause", "shop", "--for", "2h", "--reason", "storage work"}, exitOK, []api.Request{{Service: "shop", Request: pause}}},
		{"pause-all", []string{"pause", "--all", "--for", "2h", "--reason", "storage work"}, exitOK,
			[]api.Request{{Service: "shop", Request: pause}, {Service: "mail", Request: pause}}},
		{"pause-how-long", []string{"pause", "shop", "--reason", "x"}, exitUsage, nil},
		{"pause-too-long", []string{"pause", "shop", "--reason", "x", "--for", "721h"}, exitUsage, nil},
		{"pause-why", []string{"pause", "shop", "--for", "2h"}, exitUsage, nil},
		{"pause-what", []string{"pause", "--for", "2h", "--reason", "x"}, exitUsage, nil},
		{"pause-both", []string{"pause", "shop", "--all", "--for", "2h", "--reason", "x"}, exitUsage, nil},
		{"pause-unknown", []string{"pause", "shpo", "--for", "2h", "--reason", "x"}, exitFailed, nil},
		{"resume-all", []string{"resume", "--all"}, exitOK, []api.Request{{Service: "mail", Request: failover.Request{Ask: failover.AskResume, Operator: "ada"}}}},
		{"enter", []string{"enter", "shop", "dr", "--reason", "works"}, exitOK, []api.Request{{Service: "shop", Site: "dr",
			Request: failover.Request{Ask: failover.AskEnter, Operator: "ada", Reason: "works", Expect: two.Services[0].Epoch}}}},
		{"enter-where", []string{"enter", "shop"}, exitUsage, nil},
		{"enter-unknown", []string{"enter", "shpo", "dr"}, exitFailed, nil},
		{"ack", []string{"ack", "shop", "--operator", "bob"}, exitOK, []api.Request{{Service: "shop", Request: failover.Request{Ask: failover.AskAcknowledge, Operator: "bob"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t)
			f.status = two
			f.answer = taken(failover.RecordPause, "ada paused automatic moves of shop for 2h0m0s: storage work")
			c := newConsole("", false)
			if code := c.run(t.Context(), append(slices.Clone(tt.args), "--socket", f.socket)); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if got := f.seen(); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("requests %+v, want %+v", got, tt.want)
			}
			c.golden(t, "ask-"+tt.name, f)
		})
	}
}

// A refusal ends with 1 and its reasons.
func TestAskRefused(t *testing.T) {
	f := startFake(t)
	f.answer = &api.Answer{Record: failover.Record{Kind: failover.RecordRefusal, Service: "shop", Text: "resume refused",
		Reasons: []failover.Reason{{Code: failover.ReasonPause, Text: "automatic moves of shop are not paused"}}}}
	c := newConsole("", false)
	if code := c.run(t.Context(), []string{"resume", "shop", "--socket", f.socket}); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	c.golden(t, "ask-refused", f)
}

func TestReload(t *testing.T) {
	inForce := &api.Reload{File: "/etc/draas/failover.toml", At: noon, Digest: "90aa31c7d2e4f5061728394a", InForce: true}
	for _, tt := range []struct {
		name string
		set  func(*fakeDaemon)
		code int
	}{
		{"at-once", func(f *fakeDaemon) { f.reload = inForce }, exitOK},
		{"others-follow", func(f *fakeDaemon) {
			f.reload, f.watches = offered(), [][]*api.Status{{reloaded(offered()), reloaded(inForce)}}
		}, exitOK},
		{"waiting", func(f *fakeDaemon) { f.reload, f.watches = offered(), [][]*api.Status{{reloaded(offered())}} }, exitOK},
		{"no-majority", func(f *fakeDaemon) {
			f.reload = offered()
			f.reload.Waiting = nil
		}, exitOK},
		{"refused", func(f *fakeDaemon) {
			f.reload = &api.Reload{File: "/etc/draas/failover.toml", At: noon, Digest: "7166f554c95b0e11aa22bb33", Refused: []string{
				`/etc/draas/failover.toml:12: service.shop.home: there is no site "primry", want dr or primary`,
				`data: it is "/var/lib/draas" and the file says "/srv/draas": this needs a restart of draasd`}}
		}, exitUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t)
			tt.set(f)
			c := newConsole("", false)
			if code := c.run(t.Context(), strings.Fields("reload --timeout 300ms --socket "+f.socket)); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			c.golden(t, "reload-"+tt.name, f)
		})
	}
}
