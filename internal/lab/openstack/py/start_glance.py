#!/usr/bin/python3
"""glance-api on its own eventlet server, in one process (workers = 0): with the
threads of a WSGI server SQLite answers "database is locked" under parallel uploads."""
from glance.cmd.api import main
main()
