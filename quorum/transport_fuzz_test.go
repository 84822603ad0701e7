package quorum

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/draasd/draas"
)

// spoken is a connection whose other end has said it all already, and reads
// nothing before it has.
type spoken struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (s *spoken) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *spoken) Write(b []byte) (int, error) { return s.out.Write(b) }

// frames writes a stream of them.
func frames(all ...frame) []byte {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	for _, fr := range all {
		_ = writeFrame(w, fr) // of memory
	}
	_ = w.Flush()
	return b.Bytes()
}

// FuzzConversation: whatever a peer says after the welcome, what is handed on
// is what it framed, in order; a beat is echoed, a question asked, an answer
// taken only to what was asked, and the first thing that is none of these ends
// it. On the connection that is dialled only echoes come.
func FuzzConversation(f *testing.F) {
	eight := binary.BigEndian.AppendUint64(nil, 7)
	h := fullHead()
	message := appendRaft(h.append(nil), someMessage(rand.New(rand.NewPCG(1, 2))))
	f.Add(frames(frame{frameMessage, message}, frame{frameBeat, eight}, frame{frameAsk, eight}, frame{frameAnswer, eight}), false)
	f.Add(frames(frame{frameMessage, nil}, frame{frameBeat, eight[:7]}), false)
	f.Add(frames(frame{frameAnswer, eight}, frame{frameAnswer, eight}, frame{frameHello, nil}), false)
	f.Add(frames(frame{frameEcho, eight}, frame{frameEcho, eight}), true)
	f.Add(frames(frame{frameEcho, append(eight, 0)}), true)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, byte(frameMessage)}, true)
	f.Fuzz(func(t *testing.T, data []byte, dialled bool) {
		conn := &spoken{in: bytes.NewReader(data)}
		if dialled {
			l := &link{}
			err := l.readEchoes(conn, time.Now())
			want := io.EOF
			for in := bufio.NewReader(bytes.NewReader(data)); want == io.EOF; {
				fr, err := readFrame(in, maxEcho)
				if err != nil || fr.Type != frameEcho || len(fr.Payload) != 8 {
					want = err
					break
				}
			}
			if err == nil || errors.Is(err, io.EOF) != (want == io.EOF) || l.status.RoundTrip < 0 {
				t.Fatalf("%v, want %v; a round trip of %v", err, want, l.status.RoundTrip)
			}
			return
		}
		asked := make(chan struct{}, 1)
		var got []frame
		tr := &Transport{
			cfg: TransportConfig{Self: "dr", Cluster: ClusterID{1}, Incarnation: 5, Log: slog.New(slog.DiscardHandler),
				Inbox: func(m Message) {
					if m.From != "primary" || m.To != "dr" {
						t.Errorf("message %v", m)
					}
					got = append(got, frame{frameMessage, m.Data})
				},
				Asked: func(m draas.MemberID, answer func()) {
					if m != "primary" {
						t.Errorf("asked by %q", m)
					}
					answer() // there is no connection to it: nothing happens
					got = append(got, frame{Type: frameAsk})
				}},
			asks: map[uint64]chan struct{}{7: asked},
		}
		err := tr.listenTo(conn, bufio.NewReader(conn), hello{From: "primary"}, &inbound{expires: time.Now().Add(time.Hour)})
		if err == nil {
			t.Fatal("it never ends")
		}
		want := []frame{{frameWelcome, tr.hello("primary").encode()}} // what is said back
		answered := false
		in := bufio.NewReader(bytes.NewReader(data))
		for {
			fr, ferr := readFrame(in, maxFrame)
			if ferr != nil {
				break
			}
			if fr.Type == frameMessage || fr.Type == frameAsk && len(fr.Payload) == 8 {
				if len(got) == 0 || got[0].Type != fr.Type || fr.Type == frameMessage && !bytes.Equal(got[0].Payload, fr.Payload) {
					t.Fatalf("%v was not handed on", fr)
				}
				got = got[1:]
				continue
			}
			if len(fr.Payload) != 8 || fr.Type != frameBeat && fr.Type != frameAnswer {
				break
			}
			if fr.Type == frameBeat {
				want = append(want, frame{frameEcho, fr.Payload})
			}
			answered = answered || fr.Type == frameAnswer && binary.BigEndian.Uint64(fr.Payload) == 7
		}
		if len(got) > 0 || !bytes.Equal(conn.out.Bytes(), frames(want...)) {
			t.Fatalf("%d more were handed on; said %x, want %v", len(got), conn.out.Bytes(), want)
		}
		select {
		case <-asked:
		default:
			if answered {
				t.Fatal("an answer was not taken")
			}
			return
		}
		if !answered {
			t.Fatal("an answer that nobody gave")
		}
	})
}

// FuzzCredentials: of three files that anything may stand in, either all is
// read, and the key is the certificate's, or nothing.
func FuzzCredentials(f *testing.F) {
	v := Validity{From: time.Unix(0, 0), To: time.Unix(1<<37, 0)}
	ca, err := NewCA("fuzz", v)
	if err != nil {
		f.Fatal(err)
	}
	id, err := ca.Issue("dr", nil, v)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ca.CertPEM, id.CertPEM, id.KeyPEM)
	f.Add(append(ca.CertPEM, id.CertPEM...), append(id.CertPEM, ca.CertPEM...), id.KeyPEM)
	f.Add(ca.CertPEM, id.CertPEM, ca.KeyPEM)
	f.Add(ca.CertPEM, []byte{}, id.KeyPEM)
	dir := f.TempDir()
	files := TLSFiles{CA: dir + "/ca.crt", Cert: dir + "/member.crt", Key: dir + "/member.key"}
	f.Fuzz(func(t *testing.T, ca, cert, key []byte) {
		for name, data := range map[string][]byte{files.CA: ca, files.Cert: cert, files.Key: key} {
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, err := files.load()
		if err != nil {
			if c != nil {
				t.Fatalf("half of it is taken: %v", err)
			}
			return
		}
		if c.cert.Leaf == nil || len(c.cert.Certificate) == 0 || c.cert.PrivateKey == nil {
			t.Fatalf("took %+v", c.cert)
		}
		again, err := files.load()
		if err != nil || again.sum != c.sum || again.issuer != c.issuer {
			t.Fatalf("it is another when it is read again, %v", err)
		}
	})
}
