#!/usr/bin/python3
"""Makes the service users, roles, services and endpoints, in one process: the
openstack command would need some two seconds for each of sixty calls.
arguments: address, region, password, services"""
import sys
from keystoneauth1 import session
from keystoneauth1.identity import v3
from keystoneclient.v3 import client

host, region, password, names = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4].split()
auth = v3.Password(auth_url=f'http://{host}:5000/v3', username='admin', password=password,
                   project_name='admin', user_domain_id='default', project_domain_id='default')
keystone = client.Client(session=session.Session(auth=auth))
CATALOG = {
    'glance': ('image', f'http://{host}:9292'),
    'neutron': ('network', f'http://{host}:9696'),
    'nova': ('compute', f'http://{host}:8774/v2.1'),
    'cinder': ('volumev3', f'http://{host}:8776/v3/%(project_id)s'),
    'swift': ('object-store', f'http://{host}:8080/v1/AUTH_%(project_id)s'),
    'designate': ('dns', f'http://{host}:9001'),
}


def ensure(manager, name, **kw):
    for x in manager.list():
        if x.name == name:
            return x
    return manager.create(name=name, **kw)


roles = {r: ensure(keystone.roles, r) for r in
         ('admin', 'member', 'reader', 'service', 'ResellerAdmin')}
project = ensure(keystone.projects, 'service', domain='default')
admin = [u for u in keystone.users.list(domain='default') if u.name == 'admin'][0]
home = [p for p in keystone.projects.list(domain='default') if p.name == 'admin'][0]
for r in ('member', 'ResellerAdmin'):
    keystone.roles.grant(roles[r], user=admin, project=home)
for name in names:
    if name not in CATALOG:
        continue
    kind, url = CATALOG[name]
    user = keystone.users.create(name=name, domain='default', password=password, default_project=project)
    for r in ('admin', 'service', 'ResellerAdmin'):
        keystone.roles.grant(roles[r], user=user, project=project)
    made = keystone.services.create(name=name, type=kind)
    for interface in ('public', 'internal', 'admin'):
        keystone.endpoints.create(service=made, url=url, interface=interface, region=region)
