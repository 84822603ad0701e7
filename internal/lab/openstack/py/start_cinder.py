#!/usr/bin/python3
"""cinder's API in one process, with nothing behind it: volume types, their specs
and quotas are rows of its database."""
import sys
from cinder.cmd import api as _api  # noqa: monkey patches eventlet
from oslo_config import cfg
from oslo_log import log as logging
from oslo_service import service as oslo_service
from cinder.common import config  # noqa
from cinder import coordination, objects, rpc, service, utils, version

CONF = cfg.CONF


def main():
    objects.register_all()
    CONF(sys.argv[1:], project='cinder', version=version.version_string())
    config.set_middleware_defaults()
    logging.setup(CONF, 'cinder')
    utils.monkey_patch()
    rpc.init(CONF)
    coordination.COORDINATOR.start()
    launcher = oslo_service.ServiceLauncher(CONF)
    launcher.launch_service(service.WSGIService('osapi_volume'))
    launcher.wait()


main()
