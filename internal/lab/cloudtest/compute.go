package cloudtest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"net/http"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/qos"
	blockquotas "github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/quotasets"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/quotasets"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
)

func computeFacts() map[string]func(*fact) {
	return map[string]func(*fact){
		"the id of a flavor may be chosen, once":                       flavorID,
		"a flavor's name is unique":                                    flavorName,
		"a flavor's sizes cannot be changed":                           flavorFixed,
		"extra specs are listed with the flavors from 2.61":            flavorSpecs,
		"a private flavor has an access list, a public one none":       flavorAccess,
		"private flavors are listed when asked for":                    flavorPrivate,
		"keys belong to users, and an administrator imports them":      keyOfUser,
		"a list of keys ends after one page for gophercloud":           keyPages,
		"changes-since is no filter of flavors, and refused from 2.75": flavorSince,
		"from 2.92 keys are imported and not made":                     keyImport,
		"a bad public key is refused":                                  keyBad,
		"server groups belong to the token's project":                  groupProject,
		"a server group has one policy from 2.64":                      groupPolicy,
		"quotas are read by project and go back":                       computeQuota,
	}
}

func (f *fact) newFlavor(opts flavors.CreateOpts) *flavors.Flavor {
	f.Helper()
	disk := 1
	opts.RAM, opts.VCPUs, opts.Disk = 64, 1, &disk
	if opts.Name == "" {
		opts.Name = f.name("f")
	}
	flavor, err := flavors.Create(f.ctx, f.Compute, opts).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return flavors.Delete(ctx, f.Compute, flavor.ID).ExtractErr() })
	return flavor
}

func flavorID(f *fact) {
	id, disk := f.name("id"), 1
	same(f, "its id", f.newFlavor(flavors.CreateOpts{ID: id}).ID, id)
	_, err := flavors.Create(f.ctx, f.Compute, flavors.CreateOpts{ID: id, Name: f.name("other"), RAM: 1, VCPUs: 1, Disk: &disk}).Extract()
	f.refused(err, http.StatusConflict)
}

func flavorName(f *fact) {
	f.newFlavor(flavors.CreateOpts{})
	disk := 1
	_, err := flavors.Create(f.ctx, f.Compute, flavors.CreateOpts{Name: f.name("f"), RAM: 1, VCPUs: 1, Disk: &disk}).Extract()
	f.refused(err, http.StatusConflict)
}

func flavorFixed(f *fact) {
	flavor := f.newFlavor(flavors.CreateOpts{})
	c := micro(f.Compute, "2.61")
	f.call(c, "PUT", "flavors/"+flavor.ID, object{"flavor": object{"ram": 128, "description": "d"}}, http.StatusBadRequest)
	changed, err := flavors.Update(f.ctx, c, flavor.ID, flavors.UpdateOpts{Description: "words"}).Extract()
	f.ok(err)
	same(f, "its description", changed.Description, "words")
}

func flavorSpecs(f *fact) {
	flavor := f.newFlavor(flavors.CreateOpts{})
	_, err := flavors.CreateExtraSpecs(f.ctx, f.Compute, flavor.ID, flavors.ExtraSpecsOpts{"hw:cpu_policy": "dedicated", "a:b": "c"}).Extract()
	f.ok(err)
	_, err = flavors.UpdateExtraSpec(f.ctx, f.Compute, flavor.ID, flavors.ExtraSpecsOpts{"a:b": "d"}).Extract()
	f.ok(err)
	f.ok(flavors.DeleteExtraSpec(f.ctx, f.Compute, flavor.ID, "hw:cpu_policy").ExtractErr())
	f.refused(flavors.DeleteExtraSpec(f.ctx, f.Compute, flavor.ID, "hw:cpu_policy").ExtractErr(), http.StatusNotFound)
	for _, listed := range list(f, flavors.ListDetail(micro(f.Compute, "2.61"), flavors.ListOpts{AccessType: flavors.AllAccess}), flavors.ExtractFlavors) {
		if listed.ID == flavor.ID {
			same(f, "specs", len(listed.ExtraSpecs), 1)
			same(f, "the spec", listed.ExtraSpecs["a:b"], "d")
			return
		}
	}
	f.Fatal("the flavor is not listed")
}

func flavorAccess(f *fact) {
	hidden := false
	public, private, p := f.newFlavor(flavors.CreateOpts{}), f.newFlavor(flavors.CreateOpts{Name: f.name("private"), IsPublic: &hidden}), f.newProject("p")
	if _, err := flavors.ListAccesses(f.Compute, public.ID).AllPages(f.ctx); codeOf(err) != http.StatusNotFound {
		f.Fatalf("the access list of a public flavor: %v", err)
	}
	_, err := flavors.AddAccess(f.ctx, micro(f.Compute, "2.7"), public.ID, flavors.AddAccessOpts{Tenant: p.ID}).Extract()
	f.refused(err, http.StatusConflict)
	_, err = flavors.AddAccess(f.ctx, micro(f.Compute, "2.6"), public.ID, flavors.AddAccessOpts{Tenant: p.ID}).Extract()
	f.ok(err)
	access, err := flavors.AddAccess(f.ctx, f.Compute, private.ID, flavors.AddAccessOpts{Tenant: p.ID}).Extract()
	f.ok(err)
	same(f, "projects", len(access), 1)
	_, err = flavors.AddAccess(f.ctx, f.Compute, private.ID, flavors.AddAccessOpts{Tenant: p.ID}).Extract()
	f.refused(err, http.StatusConflict)
	same(f, "projects listed", len(list(f, flavors.ListAccesses(f.Compute, private.ID), flavors.ExtractAccesses)), 1)
	_, err = flavors.RemoveAccess(f.ctx, f.Compute, private.ID, flavors.RemoveAccessOpts{Tenant: p.ID}).Extract()
	f.ok(err)
}

func flavorPrivate(f *fact) {
	hidden := false
	private := f.newFlavor(flavors.CreateOpts{IsPublic: &hidden})
	for access, want := range map[flavors.AccessType]bool{flavors.AllAccess: true, flavors.PrivateAccess: true, flavors.PublicAccess: false} {
		found := false
		for _, listed := range list(f, flavors.ListDetail(f.Compute, flavors.ListOpts{AccessType: access}), flavors.ExtractFlavors) {
			found = found || listed.ID == private.ID
		}
		same(f, "listed under "+string(access), found, want)
	}
}

// publicKey is a key as ssh writes it.
func publicKey() string {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // the system has no randomness
	}
	name := "ssh-ed25519"
	wire := append(binary.BigEndian.AppendUint32(nil, uint32(len(name))), name...)
	wire = append(binary.BigEndian.AppendUint32(wire, uint32(len(public))), public...)
	return name + " " + base64.StdEncoding.EncodeToString(wire) + " fact"
}

func (f *fact) newKey(user, name string) *keypairs.KeyPair {
	f.Helper()
	c := micro(f.Compute, "2.35")
	k, err := keypairs.Create(f.ctx, c, keypairs.CreateOpts{Name: name, UserID: user, PublicKey: publicKey(), Type: "ssh"}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error {
		return keypairs.Delete(ctx, c, name, keypairs.DeleteOpts{UserID: user}).ExtractErr()
	})
	return k
}

func keyOfUser(f *fact) {
	u, c := f.newUser("u"), micro(f.Compute, "2.35")
	k := f.newKey(u.ID, f.name("k"))
	same(f, "its user", k.UserID, u.ID)
	same(f, "the private key", k.PrivateKey, "")
	_, err := keypairs.Create(f.ctx, c, keypairs.CreateOpts{Name: k.Name, UserID: u.ID, PublicKey: publicKey()}).Extract()
	f.refused(err, http.StatusConflict)
	theirs := list(f, keypairs.List(c, keypairs.ListOpts{UserID: u.ID}), keypairs.ExtractKeyPairs)
	same(f, "keys", len(theirs), 1)
	same(f, "its fingerprint", theirs[0].Fingerprint, k.Fingerprint)
	for _, own := range list(f, keypairs.List(c, nil), keypairs.ExtractKeyPairs) {
		if own.Name == k.Name {
			f.Fatal("the key is listed as the administrator's own")
		}
	}
}

func keyPages(f *fact) {
	u, c := f.newUser("u"), micro(f.Compute, "2.35")
	for _, name := range []string{"a", "b", "c"} {
		f.newKey(u.ID, f.name(name))
	}
	body, _ := f.call(c, "GET", "os-keypairs?limit=2&user_id="+u.ID, nil, http.StatusOK)
	same(f, "keys of the first page", len(items(body, "keypairs")), 2)
	if len(items(body, "keypairs_links")) == 0 {
		f.Fatal("no link to the next page")
	}
	body, _ = f.call(c, "GET", "os-keypairs?limit=2&marker="+f.name("b")+"&user_id="+u.ID, nil, http.StatusOK)
	same(f, "keys of the second page", len(items(body, "keypairs")), 1)
}

func flavorSince(f *fact) {
	f.call(micro(f.Compute, "2.61"), "GET", "flavors/detail?changes-since=2020-01-01T00:00:00Z", nil, http.StatusOK)
	f.call(micro(f.Compute, "2.75"), "GET", "flavors/detail?changes-since=2020-01-01T00:00:00Z", nil, http.StatusBadRequest)
}

func keyImport(f *fact) {
	c := micro(f.Compute, "2.92")
	_, err := keypairs.Create(f.ctx, c, keypairs.CreateOpts{Name: f.name("k"), Type: "ssh"}).Extract()
	f.refused(err, http.StatusBadRequest)
}

func keyBad(f *fact) {
	_, err := keypairs.Create(f.ctx, micro(f.Compute, "2.35"), keypairs.CreateOpts{Name: f.name("k"), PublicKey: "no key at all", Type: "ssh"}).Extract()
	f.refused(err, http.StatusBadRequest)
}

func groupProject(f *fact) {
	p := f.newProject("p")
	theirs := f.scoped(p.ID)
	g, err := servergroups.Create(f.ctx, micro(theirs.Compute, "2.64"), servergroups.CreateOpts{Name: f.name("g"), Policy: "anti-affinity"}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error {
		return servergroups.Delete(ctx, theirs.Compute, g.ID).ExtractErr()
	})
	same(f, "its project", g.ProjectID, p.ID)
	count := func(opts servergroups.ListOpts) (n int) {
		for _, listed := range list(f, servergroups.List(micro(f.Compute, "2.64"), opts), servergroups.ExtractServerGroups) {
			if listed.ID == g.ID {
				n++
			}
		}
		return n
	}
	same(f, "in the administrator's project", count(servergroups.ListOpts{}), 0)
	same(f, "in all projects", count(servergroups.ListOpts{AllProjects: true}), 1)
}

func groupPolicy(f *fact) {
	c := micro(f.Compute, "2.64")
	g, err := servergroups.Create(f.ctx, c, servergroups.CreateOpts{Name: f.name("g"), Policy: "anti-affinity",
		Rules: &servergroups.Rules{MaxServerPerHost: 3}}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return servergroups.Delete(ctx, c, g.ID).ExtractErr() })
	same(f, "its rule", g.Rules.MaxServerPerHost, 3)
	old, err := servergroups.Get(f.ctx, f.Compute, g.ID).Extract()
	f.ok(err)
	same(f, "its policies of old", len(old.Policies), 1)
	_, err = servergroups.Create(f.ctx, c, servergroups.CreateOpts{Name: f.name("g"), Policy: "no-such-policy"}).Extract()
	f.refused(err, http.StatusBadRequest)
}

func computeQuota(f *fact) {
	p, cores := f.newProject("p"), 77
	before, err := quotasets.Get(f.ctx, f.Compute, p.ID).Extract()
	f.ok(err)
	changed, err := quotasets.Update(f.ctx, f.Compute, p.ID, quotasets.UpdateOpts{Cores: &cores}).Extract()
	f.ok(err)
	same(f, "cores", changed.Cores, 77)
	f.ok(quotasets.Delete(f.ctx, f.Compute, p.ID).Err)
	after, err := quotasets.Get(f.ctx, f.Compute, p.ID).Extract()
	f.ok(err)
	same(f, "cores after", after.Cores, before.Cores)
}

func blockFacts() map[string]func(*fact) {
	return map[string]func(*fact){
		"a volume type's name is unique":              typeName,
		"extra specs are listed with the types":       typeSpecs,
		"a private type has an access list":           typeAccess,
		"QoS specs are joined with types":             typeQoS,
		"a type says how it is encrypted, or nothing": typeEncryption,
		"quotas know every volume type":               typeQuota,
		"quotas are read by project and go back":      blockQuota,
		"another project's path is refused":           otherPath,
	}
}

func (f *fact) newType(opts volumetypes.CreateOpts) *volumetypes.VolumeType {
	f.Helper()
	opts.Name = f.name("t")
	v, err := volumetypes.Create(f.ctx, f.Block, opts).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return volumetypes.Delete(ctx, f.Block, v.ID).ExtractErr() })
	return v
}

func typeName(f *fact) {
	f.newType(volumetypes.CreateOpts{})
	_, err := volumetypes.Create(f.ctx, f.Block, volumetypes.CreateOpts{Name: f.name("t")}).Extract()
	f.refused(err, http.StatusConflict)
}

func typeSpecs(f *fact) {
	v := f.newType(volumetypes.CreateOpts{Description: "d", ExtraSpecs: map[string]string{"volume_backend_name": "lab"}})
	_, err := volumetypes.CreateExtraSpecs(f.ctx, f.Block, v.ID, volumetypes.ExtraSpecsOpts{"a": "b"}).Extract()
	f.ok(err)
	f.ok(volumetypes.DeleteExtraSpec(f.ctx, f.Block, v.ID, "a").ExtractErr())
	for _, listed := range list(f, volumetypes.List(f.Block, volumetypes.ListOpts{IsPublic: volumetypes.VisibilityDefault}), volumetypes.ExtractVolumeTypes) {
		if listed.ID == v.ID {
			same(f, "specs", len(listed.ExtraSpecs), 1)
			same(f, "the spec", listed.ExtraSpecs["volume_backend_name"], "lab")
			return
		}
	}
	f.Fatal("the type is not listed")
}

func typeAccess(f *fact) {
	hidden, p := false, f.newProject("p")
	v := f.newType(volumetypes.CreateOpts{IsPublic: &hidden})
	f.ok(volumetypes.AddAccess(f.ctx, f.Block, v.ID, volumetypes.AddAccessOpts{Project: p.ID}).ExtractErr())
	f.refused(volumetypes.AddAccess(f.ctx, f.Block, v.ID, volumetypes.AddAccessOpts{Project: p.ID}).ExtractErr(), http.StatusConflict)
	same(f, "projects", len(list(f, volumetypes.ListAccesses(f.Block, v.ID), volumetypes.ExtractAccesses)), 1)
	f.ok(volumetypes.RemoveAccess(f.ctx, f.Block, v.ID, volumetypes.RemoveAccessOpts{Project: p.ID}).ExtractErr())
}

func typeQoS(f *fact) {
	v := f.newType(volumetypes.CreateOpts{})
	q, err := qos.Create(f.ctx, f.Block, qos.CreateOpts{Name: f.name("q"), Consumer: qos.ConsumerFront, Specs: map[string]string{"read_iops_sec": "100"}}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error {
		return qos.Delete(ctx, f.Block, q.ID, qos.DeleteOpts{Force: true}).ExtractErr()
	})
	f.ok(qos.Associate(f.ctx, f.Block, q.ID, qos.AssociateOpts{VolumeTypeID: v.ID}).ExtractErr())
	joined := list(f, qos.ListAssociations(f.Block, q.ID), qos.ExtractAssociations)
	same(f, "types", len(joined), 1)
	same(f, "the type", joined[0].ID, v.ID)
	f.refused(qos.Delete(f.ctx, f.Block, q.ID, qos.DeleteOpts{}).ExtractErr(), http.StatusBadRequest)
	f.ok(qos.Disassociate(f.ctx, f.Block, q.ID, qos.DisassociateOpts{VolumeTypeID: v.ID}).ExtractErr())
	read, err := qos.Get(f.ctx, f.Block, q.ID).Extract()
	f.ok(err)
	same(f, "the spec", read.Specs["read_iops_sec"], "100")
	same(f, "the consumer", read.Consumer, "front-end")
}

func typeQuota(f *fact) {
	v, p := f.newType(volumetypes.CreateOpts{}), f.newProject("p")
	q, err := blockquotas.Get(f.ctx, f.Block, p.ID).Extract()
	f.ok(err)
	if _, known := q.Extra["volumes_"+v.Name]; !known {
		f.Fatalf("the quotas are %v", q.Extra)
	}
}

func blockQuota(f *fact) {
	p, volumes := f.newProject("p"), 77
	before, err := blockquotas.Get(f.ctx, f.Block, p.ID).Extract()
	f.ok(err)
	changed, err := blockquotas.Update(f.ctx, f.Block, p.ID, blockquotas.UpdateOpts{Volumes: &volumes}).Extract()
	f.ok(err)
	same(f, "volumes", changed.Volumes, 77)
	f.ok(blockquotas.Delete(f.ctx, f.Block, p.ID).ExtractErr())
	after, err := blockquotas.Get(f.ctx, f.Block, p.ID).Extract()
	f.ok(err)
	same(f, "volumes after", after.Volumes, before.Volumes)
}

func otherPath(f *fact) {
	p := f.newProject("p")
	copied := *f.Block
	copied.Endpoint = f.Block.Endpoint[:len(f.Block.Endpoint)-len(f.Project)-1] + p.ID + "/"
	f.call(&copied, "GET", "types", nil, http.StatusBadRequest)
}

func typeEncryption(f *fact) {
	v := f.newType(volumetypes.CreateOpts{})
	none, _ := f.call(f.Block, "GET", "types/"+v.ID+"/encryption", nil, http.StatusOK)
	same(f, "fields of one that is not", len(none), 0)
	made, err := volumetypes.CreateEncryption(f.ctx, f.Block, v.ID, volumetypes.CreateEncryptionOpts{KeySize: 256, Provider: "luks",
		ControlLocation: "front-end", Cipher: "aes-xts-plain64"}).Extract()
	f.ok(err)
	read, err := volumetypes.GetEncryption(f.ctx, f.Block, v.ID).Extract()
	f.ok(err)
	same(f, "the cipher", read.Cipher, "aes-xts-plain64")
	same(f, "the size of its key", read.KeySize, 256)
	f.ok(volumetypes.DeleteEncryption(f.ctx, f.Block, v.ID, made.EncryptionID).ExtractErr())
}
