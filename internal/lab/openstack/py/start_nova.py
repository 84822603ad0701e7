#!/usr/bin/python3
"""nova's API in one process, with nothing behind it: flavors, keypairs, server
groups and quotas are rows of its database."""
import sys
import nova.cmd  # noqa: monkey patches first
from oslo_log import log as logging
from oslo_service import service as oslo_service
import nova.conf
from nova import config, objects, service

CONF = nova.conf.CONF


def main():
    config.parse_args(sys.argv)
    logging.setup(CONF, 'nova')
    objects.register_all()
    objects.Service.enable_min_version_cache()
    launcher = oslo_service.ServiceLauncher(CONF)
    launcher.launch_service(service.WSGIService('osapi_compute'))
    launcher.wait()


main()
