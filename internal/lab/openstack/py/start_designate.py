#!/usr/bin/python3
"""designate central + worker + producer + mdns + api in ONE process over fake:// RPC."""
import os
import sys
import designate.cmd  # noqa: monkey patches if this release does
from oslo_config import cfg
from oslo_log import log as logging
from oslo_service import service as oslo_service
from designate.central import service as central_service
from designate.api import service as api_service
from designate.worker import service as worker_service
from designate.producer import service as producer_service
from designate.mdns import service as mdns_service
import designate.conf
from designate import utils

CONF = designate.conf.CONF
for m, g in (('central', 'central'), ('api', 'api'), ('worker', 'worker'),
             ('producer', 'producer'), ('mdns', 'mdns')):
    CONF.import_opt('workers', 'designate.' + m, group='service:' + g)
cfg.CONF.import_group('keystone_authtoken', 'keystonemiddleware.auth_token')


def main():
    utils.read_config('designate', sys.argv)
    logging.setup(CONF, 'designate')
    launcher = oslo_service.ServiceLauncher(CONF)
    launcher.launch_service(central_service.Service())
    # "designate-manage pool update" asks central by RPC; over fake:// that only works in here
    if os.environ.get('LAB_POOLS'):
        from designate.manage.pool import PoolCommands
        PoolCommands().update(os.environ['LAB_POOLS'], False)
    for mod in (worker_service, mdns_service,
                producer_service, api_service):
        launcher.launch_service(mod.Service())
    launcher.wait()


main()
