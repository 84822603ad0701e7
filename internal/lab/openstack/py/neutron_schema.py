#!/usr/bin/python3
"""Create neutron's schema from the models (what neutron's unit tests do): the alembic
history takes a minute.  arg: database URL"""
import sys
import sqlalchemy as sa
from neutron_lib.db import model_base
from neutron.db.migration.models import head  # noqa: registers every model
from neutron.db.migration import cli

url = sys.argv[1]
eng = sa.create_engine(url)
model_base.BASEV2.metadata.create_all(eng)
# stamp
from alembic import script as a_script
heads = a_script.ScriptDirectory.from_config(cli.get_alembic_configs()[0]).get_heads() \
    if hasattr(cli, 'get_alembic_configs') else []
with eng.begin() as c:
    c.execute(sa.text('CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)'))
    for h in heads:
        c.execute(sa.text('INSERT INTO alembic_version VALUES (:v)'), {'v': h})
print('neutron schema: %d tables, heads %s' % (len(model_base.BASEV2.metadata.tables), heads))
