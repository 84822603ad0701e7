package fakecloud

import (
	"crypto/ed25519"
	"crypto/md5" // fingerprints of keys are MD5
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"strings"
)

func (c *Cloud) keyRoutes(on func(method, pattern string, h handler)) {
	owner := func(q *request) (string, error) {
		user := q.query().Get("user_id")
		if user == "" || q.micro() < 10 {
			return q.token.user, nil
		}
		if user != q.token.user {
			return user, q.needAdmin()
		}
		return user, nil
	}
	find := func(q *request) (*row, error) {
		user, err := owner(q)
		if err != nil {
			return nil, err
		}
		name := q.r.PathValue("name")
		r := q.compute.keys.get(user + "/" + name)
		if r == nil {
			return nil, failed(http.StatusNotFound, "Keypair %s not found for user %s", name, user)
		}
		return r, nil
	}
	on("GET", "/v2.1/os-keypairs", func(q *request) (reply, error) {
		user, err := owner(q)
		if err != nil {
			return reply{}, err
		}
		rows := q.compute.keys.all(func(r *row) bool { return text(r.f, "user_id") == user })
		sorted(rows, []string{"name"}, nil, false)
		marked := make([]*row, len(rows)) // the marker of a key is its name
		for i, r := range rows {
			marked[i] = &row{f: subset(r.f, []string{"name", "public_key", "fingerprint", "type"})}
		}
		page, next, err := q.cut(marked, paging{most: computeMost, lost: http.StatusBadRequest})
		if err != nil {
			return reply{}, err
		}
		list := []any{}
		for _, r := range page {
			list = append(list, fields{"keypair": r.f})
		}
		if q.micro() < 35 {
			next = ""
		}
		return ok(q.linked("keypairs", list, next))
	})
	on("POST", "/v2.1/os-keypairs", (*request).keyCreate)
	on("GET", "/v2.1/os-keypairs/{name}", func(q *request) (reply, error) {
		r, err := find(q)
		if err != nil {
			return reply{}, err
		}
		f := maps.Clone(r.f)
		f["id"] = int64(r.seq)
		return ok(fields{"keypair": f})
	})
	on("DELETE", "/v2.1/os-keypairs/{name}", func(q *request) (reply, error) {
		r, err := find(q)
		if err != nil {
			return reply{}, err
		}
		q.compute.keys.remove(r.id())
		if q.micro() < 2 {
			return reply{status: http.StatusAccepted}, nil
		}
		return gone()
	})
}

func (q *request) keyCreate() (reply, error) {
	in, err := q.input("keypair")
	if err != nil {
		return reply{}, err
	}
	user := text(in, "user_id")
	if user == "" || q.micro() < 10 {
		user = q.token.user
	}
	if user != q.token.user {
		if err := q.needAdmin(); err != nil {
			return reply{}, err
		}
	}
	name := text(in, "name")
	if q.compute.keys.get(user+"/"+name) != nil {
		return reply{}, failed(http.StatusConflict, "Key pair '%s' already exists.", name)
	}
	private := ""
	if in["public_key"] == nil && q.micro() >= 92 {
		return reply{}, failed(http.StatusBadRequest, "Invalid input for field/attribute keypair. 'public_key' is a required property")
	}
	if in["public_key"] == nil {
		in["public_key"], private = madeKey(q.hexID())
	}
	kind := text(in, "type")
	if kind == "" {
		kind = "ssh"
	}
	print, err := fingerprint(kind, text(in, "public_key"))
	if err != nil {
		return reply{}, err
	}
	r := q.compute.keys.add(fields{"id": user + "/" + name, "name": name, "user_id": user, "public_key": in["public_key"], "type": kind,
		"fingerprint": print, "created_at": q.now().UTC().Format("2006-01-02T15:04:05.000000"), "deleted": false, "deleted_at": nil, "updated_at": nil})
	body := subset(r.f, []string{"name", "user_id", "public_key", "type", "fingerprint"})
	if private != "" {
		body["private_key"] = private
	}
	if q.micro() < 2 {
		return ok(fields{"keypair": body})
	}
	return created(fields{"keypair": body})
}

// fingerprint is the MD5 of a key as ssh-keygen -l -E md5 tells it.
func fingerprint(kind, public string) (string, error) {
	blob := []byte(public)
	if kind == "ssh" {
		parts := strings.Fields(public)
		var err error
		if len(parts) < 2 {
			return "", failed(http.StatusBadRequest, "Keypair data is invalid: failed to generate fingerprint")
		}
		if blob, err = base64.StdEncoding.DecodeString(parts[1]); err != nil {
			return "", failed(http.StatusBadRequest, "Keypair data is invalid: failed to generate fingerprint")
		}
	}
	sum := md5.Sum(blob)
	return strings.TrimSuffix(strings.ReplaceAll(fmt.Sprintf("% x", sum), " ", ":"), ":"), nil
}

// madeKey is a key pair as Nova makes one when it is given none.
func madeKey(seed string) (public, private string) {
	key := ed25519.NewKeyFromSeed([]byte(seed))
	name, half := "ssh-ed25519", key.Public().(ed25519.PublicKey)
	wire := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	wire = binary.BigEndian.AppendUint32(append(wire, name...), uint32(len(half)))
	wire = append(wire, half...)
	return name + " " + base64.StdEncoding.EncodeToString(wire) + " Generated-by-Nova",
		"-----BEGIN PRIVATE KEY-----\n" + base64.StdEncoding.EncodeToString(key.Seed()) + "\n-----END PRIVATE KEY-----\n"
}
