"""The tables of LiteLLM's schema.prisma are those that LiteLLM's own migrations make."""

from pathlib import Path

import litellm_proxy_extras
import pytest
from sqlalchemy import create_engine

from litellm_sqlalchemy.prisma_client.schema import parse
from litellm_sqlalchemy.prisma_client.tables import tables
from tests.fix_postgres import SUPERUSER_PASSWORD, Database

EXTRAS = Path(litellm_proxy_extras.__file__).parent
CATALOG = {
    "columns": """
        SELECT relname || '.' || attname,
               format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
               || coalesce(' DEFAULT ' || pg_get_expr(adbin, adrelid), '')
          FROM pg_attribute
          JOIN pg_class ON pg_class.oid = attrelid
          LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
         WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped""",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "constraints": """
        SELECT conrelid::regclass || ' ' || conname, pg_get_constraintdef(oid)
          FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f', 'p', 'u')""",
    "enums": """
        SELECT typname || '.' || enumlabel, enumsortorder::text FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid""",
}
# LiteLLM's migrations and its schema differ in these themselves: Prisma's language has neither partial indexes nor
# those on expressions, and some indexes LiteLLM makes beside its migrations, when it runs.
ONLY_IN_MIGRATIONS = {
    "columns": {"LiteLLM_ShadowEvalJob.models", "LiteLLM_ShadowEvalJob.router_names"},  # NOT NULL
    "indexes": {
        "LiteLLM_LensRun_completed_executions_idx",
        "LiteLLM_LensWorker_active_scope_idx",
        "LiteLLM_Lens_jobs_idx",
        "LiteLLM_ShadowEvalJob_one_active_per_target_direction",
        "LiteLLM_UserTable_user_email_lower_idx",
        "idx_autorouter_baseline_dirty",
    },
    "constraints": {'"LiteLLM_LensWorker" LiteLLM_LensWorker_token_hash_key'},  # an index would do
    "enums": set(),
}
ONLY_IN_SCHEMA = {
    "columns": ONLY_IN_MIGRATIONS["columns"],
    "indexes": {"LiteLLM_SpendLogs_api_key_startTime_idx", "LiteLLM_SpendLogs_litellm_call_id_idx"},
    "constraints": set(),
    "enums": set(),
}


@pytest.fixture
def migrated(empty_database: Database) -> Database:
    for migration in sorted(EXTRAS.glob("migrations/*/migration.sql")):
        empty_database.cluster.execute(migration.read_text(), empty_database.name)
    return empty_database


def test_the_tables_are_those_of_the_migrations(migrated: Database) -> None:
    cluster, made = migrated.cluster, f"{migrated.name}_made"
    cluster.execute(f"CREATE DATABASE {made}")
    engine = create_engine(f"postgresql+psycopg2://postgres:{SUPERUSER_PASSWORD}@{cluster.host}:{cluster.port}/{made}")
    tables(parse((EXTRAS / "schema.prisma").read_text())).create_all(engine)
    engine.dispose()
    for what, query in CATALOG.items():
        theirs, ours = (set(cluster.execute(query, name)) for name in (migrated.name, made))
        assert len(theirs & ours) > (1 if what == "enums" else 100), what
        assert {name for name, _ in theirs - ours} == ONLY_IN_MIGRATIONS[what]
        assert {name for name, _ in ours - theirs} == ONLY_IN_SCHEMA[what]
