package fence

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func told(kind uint16, family byte, attrs ...string) netlink.Message {
	m := netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind)}, Data: []byte{family, 0, 0, 0}}
	enc := netlink.NewAttributeEncoder()
	for i, a := range attrs {
		enc.String(uint16(i+1), a)
	}
	b, err := enc.Encode()
	if err != nil {
		panic(err)
	}
	m.Data = append(m.Data, b...)
	return m
}

// Renewals, and the changes of others' tables, are not looked at; everything
// else that touches ours is.
func TestTouches(t *testing.T) {
	r := newRuleset("shop", []uint16{443}, []byte{unix.IPPROTO_TCP}, nil)
	const inet = unix.NFPROTO_INET
	for name, c := range map[string]struct {
		m    netlink.Message
		want bool
	}{
		"table deleted":          {told(unix.NFT_MSG_DELTABLE, inet, "draas_shop"), true},
		"table made dormant":     {told(unix.NFT_MSG_NEWTABLE, inet, "draas_shop"), true},
		"rule deleted":           {told(unix.NFT_MSG_DELRULE, inet, "draas_shop", "input"), true},
		"rule added":             {told(unix.NFT_MSG_NEWRULE, inet, "draas_shop", "to"), true},
		"chain deleted":          {told(unix.NFT_MSG_DELCHAIN, inet, "draas_shop", "x", "permit"), true},
		"port deleted":           {told(unix.NFT_MSG_DELSETELEM, inet, "draas_shop", "ports"), true},
		"set deleted":            {told(unix.NFT_MSG_DELSET, inet, "draas_shop", "open"), true},
		"a renewal's element":    {told(unix.NFT_MSG_NEWSETELEM, inet, "draas_shop", "open"), false},
		"the old one's end":      {told(unix.NFT_MSG_DELSETELEM, inet, "draas_shop", "open"), false},
		"a renewal's rule":       {told(unix.NFT_MSG_NEWRULE, inet, "draas_shop", "permit"), false},
		"another table":          {told(unix.NFT_MSG_DELRULE, inet, "draas_mail", "input"), false},
		"another family":         {told(unix.NFT_MSG_DELTABLE, unix.NFPROTO_IPV4, "draas_shop"), false},
		"a generation":           {told(unix.NFT_MSG_NEWGEN, inet), false},
		"another subsystem":      {netlink.Message{Header: netlink.Header{Type: 1<<8 | unix.NFT_MSG_DELTABLE}}, false},
		"cut short":              {netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELTABLE)}, Data: []byte{inet}}, true},
		"an attribute cut short": {netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELTABLE)}, Data: []byte{inet, 0, 0, 0, 99, 0, 1, 0}}, true},
	} {
		if got := touches(c.m, r); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzTouches: only what a plain reading of the message finds to be another's,
// or a renewal, is passed over; what cannot be read is not.
func FuzzTouches(f *testing.F) {
	for _, m := range []netlink.Message{
		told(unix.NFT_MSG_DELTABLE, unix.NFPROTO_INET, "draas_shop"), told(unix.NFT_MSG_DELRULE, unix.NFPROTO_INET, "draas_shop", "input"),
		told(unix.NFT_MSG_NEWSETELEM, unix.NFPROTO_INET, "draas_shop", "open"), told(unix.NFT_MSG_DELSETELEM, unix.NFPROTO_INET, "draas_shop", "ports"),
	} {
		f.Add(uint16(m.Header.Type), m.Data)
	}
	f.Add(uint16(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELRULE), []byte{1, 0, 0, 0, 3, 0, 1, 0})
	f.Add(uint16(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWRULE), told(0, unix.NFPROTO_INET, "draas_shop", "permit", "x").Data)
	r := newRuleset("shop", []uint16{443}, []byte{unix.IPPROTO_TCP}, nil)
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		got := touches(netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind)}, Data: data}, r)
		renewal := map[uint16]string{unix.NFT_MSG_NEWRULE: "permit", unix.NFT_MSG_DELRULE: "permit", unix.NFT_MSG_NEWSETELEM: "open", unix.NFT_MSG_DELSETELEM: "open"}[kind&0xff]
		plain := slices.Contains([]uint16{unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_NEWSET, unix.NFT_MSG_DELSET}, kind&0xff)
		if kind>>8 != unix.NFNL_SUBSYS_NFTABLES || renewal == "" && !plain || len(data) >= 4 && data[0] != unix.NFPROTO_INET {
			if got {
				t.Fatalf("message %x is none of ours", kind)
			}
			return
		}
		texts := map[uint16]string{}
		readable := len(data) >= 4
		for rest := data[min(4, len(data)):]; len(rest) >= 4 && readable; {
			size := int(binary.NativeEndian.Uint16(rest))
			if size == 0 {
				size = 4 // the library reads an empty attribute
			}
			if readable = size >= 4 && size <= len(rest); readable {
				texts[binary.NativeEndian.Uint16(rest[2:])&0x3fff] = strings.TrimRight(string(rest[4:size]), "\x00")
				rest = rest[min((size+3)&^3, len(rest)):]
			}
		}
		if !readable && !got {
			t.Fatalf("passed over what cannot be read: %x %x", kind, data)
		}
		if ours := texts[1] == "draas_shop" && (renewal == "" || texts[2] != renewal); readable && ours && !got {
			t.Fatalf("passed over %v: %x %x", texts, kind, data)
		}
	})
}
