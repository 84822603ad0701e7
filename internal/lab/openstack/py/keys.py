#!/usr/bin/python3
"""What "keystone-manage fernet_setup" and "credential_setup" do, without two
starts of two seconds. argument: the folder"""
import base64
import os
import sys

for folder in ('fernet', 'credential'):
    path = f'{sys.argv[1]}/{folder}'
    os.makedirs(path, mode=0o700, exist_ok=True)
    for name in '01':
        with open(f'{path}/{name}', 'w') as f:
            f.write(base64.urlsafe_b64encode(os.urandom(32)).decode())
        os.chmod(f'{path}/{name}', 0o600)
