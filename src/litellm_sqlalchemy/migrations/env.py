"""What Alembic runs for every command: on the connection that it is given, or offline for the DDL alone."""

from alembic import context
from sqlalchemy import Connection

from litellm_sqlalchemy.migrations import OPTIONS

connection: Connection | None = context.config.attributes["connection"]
if connection is None:
    context.configure(dialect_name="postgresql", literal_binds=True, **OPTIONS)
else:
    context.configure(connection, **OPTIONS)
with context.begin_transaction():
    context.run_migrations()
