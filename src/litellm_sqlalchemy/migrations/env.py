"""What Alembic runs for every command: on the connection that it is given, or offline for the DDL alone."""

from alembic import context
from sqlalchemy import Connection

from litellm_sqlalchemy.migrations import OPTIONS

connection: Connection | None = context.config.attributes["connection"]
if connection is None:
    # Named parameters: with the dialect's own style, each % would be written twice.
    context.configure(dialect_name="postgresql", dialect_opts={"paramstyle": "named"}, literal_binds=True, **OPTIONS)
else:
    context.configure(connection, **OPTIONS)
with context.begin_transaction():
    context.run_migrations()
