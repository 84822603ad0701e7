package quorum

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"testing"

	"github.com/draasd/draas"
)

// oneFile is a disk that holds one file, and is only read.
type oneFile struct {
	Disk
	name string
	data []byte
}

func (d oneFile) ReadFile(name string) ([]byte, error) {
	if name != d.name {
		return nil, fs.ErrNotExist
	}
	return d.data, nil
}

// FuzzMeta: what says to whom a data directory belongs is read whole or called
// damaged, and what is accepted is written as it was. So that the fuzzer gets
// past the checksums, its input is also framed.
func FuzzMeta(f *testing.F) {
	for _, meta := range []ClusterMeta{
		{ClusterID: ClusterID{1}, Self: "b", Members: []draas.MemberID{"a", "b", "c"}},
		{ClusterID: ClusterID{2}, Self: "d", RaftID: 1 << 40, Joining: true, Generation: Generation{3, 1 << 62}},
		{ClusterID: ClusterID{3}, Self: "a", Members: []draas.MemberID{"a"}, Void: noticeCloned.String()},
	} {
		payload, err := json.Marshal(meta)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(appendRecord(appendHeader(nil, magicMeta, meta, 0), 0, recordMeta, payload), payload)
	}
	f.Fuzz(func(t *testing.T, raw, payload []byte) {
		framed := appendRecord(appendHeader(nil, magicMeta, ClusterMeta{}, 0), 0, recordMeta, payload)
		for _, data := range [][]byte{raw, framed} {
			meta, err := ReadMeta(oneFile{name: metaName, data: data})
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("untyped error %v", err)
				}
				continue
			}
			if meta.ClusterID == (ClusterID{}) || meta.Self == "" || !validRaftID(meta.raftID()) && !meta.Joining {
				t.Fatalf("accepted %+v", meta)
			}
			again, err := json.Marshal(meta)
			if err != nil {
				t.Fatalf("accepted what cannot be written: %v", err)
			}
			back, err := ReadMeta(oneFile{name: metaName, data: appendRecord(appendHeader(nil, magicMeta, meta, 0), 0, recordMeta, again)})
			if err != nil || !reflect.DeepEqual(back, meta) {
				t.Fatalf("%+v became %+v, %v", meta, back, err)
			}
		}
	})
}

// FuzzFileName: a file is one of the log's only under the name that the log
// gives it.
func FuzzFileName(f *testing.F) {
	for _, name := range []string{segmentName(1), segmentName(1<<64 - 1), snapshotName(0xabc), "log-", "log-000000000000000A", "log-+00000000000001f", metaName} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if n, ok := numbered(name, segmentPrefix); ok != (segmentName(n) == name && ok) {
			t.Fatalf("%q is taken for segment %d", name, n)
		}
		if n, ok := numbered(name, snapshotPrefix); ok != (snapshotName(n) == name && ok) {
			t.Fatalf("%q is taken for snapshot %d", name, n)
		}
	})
}

// FuzzCertificates: what a PEM file of certificates gives is what it holds, and
// a certificate names a member that there is, by its common name if it has one.
func FuzzCertificates(f *testing.F) {
	v := Validity{}
	ca, err := NewCA("fuzz", v)
	if err != nil {
		f.Fatal(err)
	}
	id, err := ca.Issue("dr", []string{"127.0.0.1", "dr.example"}, v)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slices.Concat([]byte("a comment\n"), id.CertPEM, id.KeyPEM, ca.CertPEM))
	f.Add(id.CertPEM[:len(id.CertPEM)-30])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	members := []draas.MemberID{"dr", "primary", "witness"}
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := parseCertificates(data)
		if err != nil {
			if len(all) > 0 {
				t.Fatalf("%d certificates and %v", len(all), err)
			}
			return
		}
		var written []byte
		for _, cert := range all {
			written = append(written, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
			m, err := MemberOf(cert, members)
			if err != nil {
				if !errors.Is(err, ErrNotMember) || m != "" {
					t.Fatalf("%q, %v", m, err)
				}
				continue
			}
			cn := cert.Subject.CommonName
			if !slices.Contains(members, m) || cn != "" && cn != string(m) || cn == "" && !slices.Contains(cert.DNSNames, string(m)) {
				t.Fatalf("common name %q, DNS names %q: taken for %q", cn, cert.DNSNames, m)
			}
		}
		again, err := parseCertificates(written)
		if err != nil || len(again) != len(all) {
			t.Fatalf("%d certificates became %d, %v", len(all), len(again), err)
		}
		for i := range all {
			if !bytes.Equal(all[i].Raw, again[i].Raw) {
				t.Fatalf("certificate %d is another when it is read again", i)
			}
		}
	})
}
