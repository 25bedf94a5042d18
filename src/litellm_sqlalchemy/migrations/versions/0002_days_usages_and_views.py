"""Divide the tables into days, add usages, capture and redactions, and make the views that people read.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("requests", "responses")  # those of 0001

# The database's owner may make the extension, so all that belongs to it is the owner's; only its files need root.
PG_PARTMAN = r"""
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_partman' AND default_version ~ '^5\.') THEN
        RAISE EXCEPTION 'pg_partman 5 is not on the host of the database: install its package, postgresql-17-partman, '
                        'there (role postgres17 does), and run this again';
    END IF;
END
$$;
CREATE SCHEMA IF NOT EXISTS partman;
CREATE EXTENSION IF NOT EXISTS pg_partman SCHEMA partman;
"""

# Any client of the ledger may make the session's time zone its own; a day is UTC's.
MAKE_DAYS = """
CREATE FUNCTION make_days() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp
SET timezone = 'UTC'
SET lock_timeout = '10s'
AS $$
DECLARE
    missing timestamptz[];
    today timestamptz;
    name text;
BEGIN
    -- The days from today on, as far ahead as pg_partman's premake says, and those that have rows already: the
    -- default partitions took what came while nobody made days. What a gateway's wrong clock puts beyond stays there.
    SELECT array_agg(DISTINCT day ORDER BY day) INTO missing
      FROM (SELECT date_trunc('day', received_at) FROM requests_default
            UNION ALL SELECT date_trunc('day', received_at) FROM responses_default
            UNION ALL SELECT date_trunc('day', received_at) FROM usages_default
            UNION ALL SELECT date_trunc('day', now()) + ahead * interval '1 day'
                        FROM partman.part_config, generate_series(0, premake) AS ahead
                       WHERE to_regclass(format('%s_p%s', parent_table, to_char(now() + ahead * interval '1 day', 'YYYYMMDD'))) IS NULL
                         AND parent_table IN ('public.requests', 'public.responses', 'public.usages')) AS days (day)
     WHERE day <= now() + (SELECT max(premake) FROM partman.part_config) * interval '1 day';
    IF missing IS NULL THEN
        RETURN 0;
    END IF;

    -- All that is needed, in the order in which the drain and readers come to it: nobody waits for each other.
    LOCK TABLE ONLY requests, ONLY responses, ONLY usages IN SHARE ROW EXCLUSIVE MODE;
    LOCK TABLE requests_default, responses_default, usages_default IN ACCESS EXCLUSIVE MODE;
    CREATE TEMPORARY TABLE IF NOT EXISTS moved_requests (LIKE requests) ON COMMIT DROP;
    CREATE TEMPORARY TABLE IF NOT EXISTS moved_responses (LIKE responses) ON COMMIT DROP;
    CREATE TEMPORARY TABLE IF NOT EXISTS moved_usages (LIKE usages) ON COMMIT DROP;
    FOREACH today IN ARRAY missing LOOP
        -- PostgreSQL makes no day of which the default partition has rows. A response goes before its request.
        FOREACH name IN ARRAY ARRAY['usages', 'responses', 'requests'] LOOP
            EXECUTE format('WITH moved AS (DELETE FROM %I WHERE received_at >= %L AND received_at < %L RETURNING *) '
                           'INSERT INTO pg_temp.%I SELECT * FROM moved',
                           name || '_default', today, today + interval '1 day', 'moved_' || name);
        END LOOP;
        FOREACH name IN ARRAY ARRAY['requests', 'responses', 'usages'] LOOP
            PERFORM partman.create_partition_time('public.' || name, ARRAY[today]);
            EXECUTE format('INSERT INTO %I SELECT * FROM pg_temp.%I', name, 'moved_' || name);
            EXECUTE format('TRUNCATE pg_temp.%I', 'moved_' || name);
        END LOOP;
    END LOOP;
    RETURN cardinality(missing);
END
$$;
COMMENT ON FUNCTION make_days() IS
    'Make the partitions of today and of the days ahead, and of days whose rows are in the default partitions. '
    'Gives how many days were missing.';
REVOKE ALL ON FUNCTION make_days() FROM PUBLIC;
"""

# Not pg_partman's drop_partition_time(): PostgreSQL does not drop a partition that a foreign key refers to, be it
# empty or not; it must be detached first.
DROP_DAYS = """
CREATE FUNCTION drop_days() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp
SET timezone = 'UTC'
SET lock_timeout = '10s'
AS $$
DECLARE
    old record;
    dropped integer := 0;
BEGIN
    FOR old IN
        SELECT parent_table::regclass AS parent, format('%I.%I', partition_schemaname, partition_tablename) AS partition
          FROM partman.part_config
         CROSS JOIN LATERAL partman.show_partitions(parent_table)
         CROSS JOIN LATERAL partman.show_partition_info(
                   partition_schemaname || '.' || partition_tablename, partition_interval, parent_table)
         WHERE parent_table IN ('public.requests', 'public.responses', 'public.usages')
           AND child_end_time <= now() - retention::interval  -- null: none
         ORDER BY parent_table DESC, child_start_time  -- responses before the requests that they refer to
    LOOP
        IF dropped = 0 THEN
            LOCK TABLE ONLY requests, ONLY responses, ONLY usages IN ACCESS EXCLUSIVE MODE;  -- in the drain's order
        END IF;
        EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', old.parent, old.partition);
        EXECUTE format('DROP TABLE %s', old.partition);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;
COMMENT ON FUNCTION drop_days() IS
    'Drop the partitions of days that ended longer ago than the retention. Gives how many partitions it dropped.';
REVOKE ALL ON FUNCTION drop_days() FROM PUBLIC;
"""

# The tables' rows are copied once, without an index of a foreign key that is looked at for each; it is proven at the
# end for all of them.
CONVERT = """
ALTER TABLE responses DROP CONSTRAINT responses_requests_fkey;
DO $$
DECLARE
    name text;
    days timestamptz[];
    horizon timestamptz;
BEGIN
    SET LOCAL timezone = 'UTC';
    horizon := date_trunc('day', now()) + interval '8 days';
    FOREACH name IN ARRAY ARRAY['requests', 'responses', 'usages'] LOOP
        EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', name, name || '_default');
        PERFORM partman.create_parent('public.' || name, 'received_at', '1 day', p_premake := 7,
            p_start_partition := now()::text, p_default_table := false, p_automatic_maintenance := 'off',
            p_template_table := 'false', p_jobmon := false);
        EXECUTE format('SELECT array_agg(DISTINCT date_trunc(''day'', received_at)) FROM %I WHERE received_at < %L',
                       name || '_default', horizon) INTO days;
        PERFORM partman.create_partition_time('public.' || name, days || date_trunc('day', now()) + interval '7 days');
        EXECUTE format('INSERT INTO %I SELECT * FROM %I WHERE received_at < %L', name, name || '_default', horizon);
        EXECUTE format('DELETE FROM %I WHERE received_at < %L', name || '_default', horizon);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I DEFAULT', name, name || '_default');
    END LOOP;
END
$$;
ALTER TABLE responses ADD CONSTRAINT responses_requests_fkey FOREIGN KEY (received_at, id) REFERENCES requests;
"""

EXCHANGES = """
SELECT received_at,
       id,
       coalesce(responses.call_id, requests.call_id) AS call_id,
       responses.outcome,
       responses.status,
       requests.method,
       requests.path,
       requests.model,
       coalesce(responses.model, usages.model) AS answered_by,
       coalesce(usages.provider, responses.provider) AS provider,
       requests.key_hash,
       usages.key_alias,
       usages.team,
       usages.user_id,
       coalesce(requests.end_user, usages.end_user) AS end_user,
       coalesce(usages.prompt_tokens, responses.prompt_tokens) AS prompt_tokens,
       coalesce(usages.completion_tokens, responses.completion_tokens) AS completion_tokens,
       coalesce(usages.total_tokens, responses.total_tokens) AS total_tokens,
       coalesce(usages.cost, responses.cost) AS cost,
       requests.stream,
       coalesce(usages.cache_hit, responses.cache_hit) AS cache_hit,
       responses.time_to_first_byte_ms,
       responses.duration_ms,
       responses.error,
       coalesce(jsonb_path_query_first(requests.said, '$[last].content.text'),
                jsonb_path_query_first(requests.said, '$[last].content'),
                jsonb_path_query_first(requests.said, '$[last]')) #>> '{}' AS question,
       coalesce(jsonb_path_query_first(responses.body, '$.choices[0].message.content'),
                jsonb_path_query_first(responses.body, '$.choices[0].text'),
                jsonb_path_query_first(responses.body, '$.content.text'),
                jsonb_path_query_first(responses.body, '$.output.content.text')) #>> '{}' AS answer,
       requests.body_size AS request_size,
       responses.body_size AS response_size,
       requests.capture
  FROM (SELECT *, coalesce(body -> 'messages', body -> 'input', body -> 'prompt', body -> 'query') AS said
          FROM requests BETWEEN) AS requests
  LEFT JOIN (SELECT * FROM responses BETWEEN) AS responses USING (received_at, id)
  LEFT JOIN (SELECT * FROM usages BETWEEN) AS usages USING (received_at, id)
"""

SPEND = """
SELECT (received_at AT TIME ZONE 'UTC')::date AS day,
       key_hash,
       key_alias,
       team,
       model,
       count(*) AS exchanges,
       sum(prompt_tokens) AS prompt_tokens,
       sum(completion_tokens) AS completion_tokens,
       sum(total_tokens) AS total_tokens,
       sum(cost) AS cost
"""
BY = "GROUP BY day, key_hash, key_alias, team, model"

# PostgreSQL looks only into the days that literal bounds leave, and only of the table that has them: a bound on the
# view is not one on all three tables. A function's is, and it is planned as if its text stood in the query.
VIEWS = """
CREATE VIEW exchanges AS {all};
COMMENT ON VIEW exchanges IS 'One readable row an exchange. Give bounds of time by exchanges_between()';

CREATE FUNCTION exchanges_between(since timestamptz, until timestamptz) RETURNS SETOF exchanges
LANGUAGE sql STABLE
AS $${between}$$;
COMMENT ON FUNCTION exchanges_between(timestamptz, timestamptz) IS
    'The exchanges that were received at since or later, and before until. Literal times are the fastest: '
    'only their days are looked at';

CREATE FUNCTION exchange(name text) RETURNS SETOF exchanges
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    moment timestamptz;
    their_id uuid;
BEGIN
    IF name ~* '^[0-9a-f]{{8}}-[0-9a-f]{{4}}-7[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}$' THEN
        -- A UUIDv7 begins with the milliseconds since 1970, as 48 bits.
        moment := timestamptz 'epoch'
                  + ('x' || left(replace(name, '-', ''), 12))::bit(48)::bigint * interval '1 millisecond';
        RETURN QUERY EXECUTE format('SELECT * FROM exchanges_between(%L, %L) WHERE id = %L',
                                    moment, moment + interval '1 millisecond', name);
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    FOR moment, their_id IN SELECT received_at, requests.id FROM requests WHERE requests.call_id = name LOOP
        RETURN QUERY EXECUTE format('SELECT * FROM exchanges_between(%L, %L) WHERE id = %L',
                                    moment, moment + interval '1 microsecond', their_id);
    END LOOP;
END
$$;
COMMENT ON FUNCTION exchange(text) IS 'The exchange with an id, or those with a call id';

CREATE VIEW spend AS {spend} FROM exchanges {by};
COMMENT ON VIEW spend IS 'What each key, team and model took on each day (UTC), ever';

CREATE FUNCTION spend_between(since timestamptz, until timestamptz) RETURNS SETOF spend
LANGUAGE sql STABLE
AS $${spend} FROM exchanges_between(since, until) {by}$$;
COMMENT ON FUNCTION spend_between(timestamptz, timestamptz) IS 'What each key, team and model took in a time';

CREATE VIEW slowest AS
SELECT duration_ms, time_to_first_byte_ms, received_at, id, call_id, outcome, path, model, answered_by, provider, stream,
       prompt_tokens, completion_tokens
  FROM exchanges
 WHERE duration_ms IS NOT NULL
 ORDER BY duration_ms DESC;
COMMENT ON VIEW slowest IS 'Exchanges, the slowest first';

CREATE VIEW errors AS
SELECT received_at, id, call_id, outcome, status, path, model, provider, key_hash, key_alias, team, end_user, duration_ms, error
  FROM exchanges
 WHERE outcome <> 'completed'
 ORDER BY received_at DESC;
COMMENT ON VIEW errors IS 'Exchanges that did not end well, the newest first';

CREATE FUNCTION forget_end_user(name text) RETURNS TABLE (table_name text, rows_removed bigint)
LANGUAGE sql
AS $$
WITH theirs AS (
    SELECT received_at, id FROM requests WHERE end_user = name
    UNION
    SELECT received_at, id FROM usages WHERE end_user = name
), of_usages AS (
    DELETE FROM usages USING theirs
     WHERE (usages.received_at, usages.id) = (theirs.received_at, theirs.id) RETURNING 1
), of_responses AS (
    DELETE FROM responses USING theirs
     WHERE (responses.received_at, responses.id) = (theirs.received_at, theirs.id) RETURNING 1
), of_requests AS (
    DELETE FROM requests USING theirs
     WHERE (requests.received_at, requests.id) = (theirs.received_at, theirs.id) RETURNING 1
)
SELECT 'requests', (SELECT count(*) FROM of_requests)
UNION ALL
SELECT 'responses', (SELECT count(*) FROM of_responses)
UNION ALL
SELECT 'usages', (SELECT count(*) FROM of_usages)
$$;
COMMENT ON FUNCTION forget_end_user(text) IS
    'Remove all exchanges that a client had for somebody. Gives the rows removed of each table';
"""

NO_VIEWS = """
DROP FUNCTION forget_end_user(text);
DROP VIEW errors, slowest;
DROP FUNCTION spend_between(timestamptz, timestamptz);
DROP VIEW spend;
DROP FUNCTION exchange(text);
DROP FUNCTION exchanges_between(timestamptz, timestamptz);
DROP VIEW exchanges;
DROP FUNCTION drop_days();
DROP FUNCTION make_days();
"""

MERGE = """
ALTER TABLE responses DROP CONSTRAINT responses_requests_fkey;
DO $$
DECLARE
    day record;
BEGIN
    FOR day IN
        SELECT inhparent::regclass AS parent, inhrelid::regclass AS partition
          FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
         WHERE inhparent IN ('requests'::regclass, 'responses'::regclass)
           AND pg_get_expr(relpartbound, inhrelid) <> 'DEFAULT'
    LOOP
        EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', day.parent, day.partition);
        EXECUTE format('INSERT INTO %s SELECT * FROM %s', day.parent, day.partition);
        EXECUTE format('DROP TABLE %s', day.partition);
    END LOOP;
END
$$;
ALTER TABLE responses ADD CONSTRAINT responses_requests_fkey FOREIGN KEY (received_at, id) REFERENCES requests;
DROP EXTENSION pg_partman;
DROP SCHEMA partman;
"""


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.execute(PG_PARTMAN)
    for table, came in (("requests", "as it came"), ("responses", "as answered")):
        op.add_column(
            table,
            sa.Column(
                "capture",
                sa.Text(),
                server_default="full",
                nullable=False,
                comment="What was kept: full; metadata: sizes and hashes, and no body",
            ),
        )
        op.add_column(
            table,
            sa.Column(
                "body_sha256",
                sa.LargeBinary(),
                comment=f"SHA-256 of the body {came}, kept or not; null if it was not taken",
            ),
        )
        op.add_column(
            table,
            sa.Column(
                "redactions",
                sa.BigInteger(),
                server_default=sa.text("0"),
                nullable=False,
                comment="Pieces of the body and of errors that were replaced before they were stored",
            ),
        )
        op.create_check_constraint(op.f(f"{table}_capture_check"), table, "capture IN ('full', 'metadata')")
        for part in (table, f"{table}_default"):  # it is not passed on to a partition that there is
            for column in ("body", "body_text", "body_bytes"):
                op.execute(f"ALTER TABLE {part} ALTER COLUMN {column} SET COMPRESSION lz4")
    op.alter_column(
        "responses",
        "finished_at",
        existing_type=sa.DateTime(timezone=True),
        nullable=True,
        comment="When the exchange ended, by the gateway's clock; null if nobody saw the end: the gateway was killed",
        existing_comment="When the exchange ended, by the gateway's clock",
    )
    op.alter_column(
        "responses",
        "duration_ms",
        existing_type=sa.Double(),
        nullable=True,
        comment="Milliseconds from received_at to finished_at; null as that is",
        existing_comment="Milliseconds from received_at to finished_at",
    )
    op.create_table(
        "usages",
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="The request's received_at; the partition key",
        ),
        sa.Column("id", sa.Uuid(), nullable=False, comment="The exchange: the request's id"),
        sa.Column("call_id", sa.Text(), comment="LiteLLM's call id"),
        sa.Column("call_type", sa.Text(), comment="LiteLLM's name of the kind of call, such as acompletion"),
        sa.Column("key_alias", sa.Text(), comment="The key's name"),
        sa.Column("team", sa.Text(), comment="The id of the key's team"),
        sa.Column("team_alias", sa.Text(), comment="The team's name"),
        sa.Column("user_id", sa.Text(), comment="The id of the key's user"),
        sa.Column("end_user", sa.Text(), comment="Whom the client acted for, as LiteLLM understood it"),
        sa.Column("model", sa.Text(), comment="Model that answered, in LiteLLM's words"),
        sa.Column("model_group", sa.Text(), comment="The gateway's name for a group of models: what was asked for"),
        sa.Column("provider", sa.Text(), comment="LiteLLM's name of the provider that answered"),
        sa.Column("prompt_tokens", sa.BigInteger(), comment="Tokens of the prompt, as LiteLLM counts them"),
        sa.Column("completion_tokens", sa.BigInteger(), comment="Tokens of the answer, as LiteLLM counts them"),
        sa.Column("total_tokens", sa.BigInteger(), comment="Their sum"),
        sa.Column("cost", sa.Numeric(), comment="US dollars, by LiteLLM's price list"),
        sa.Column("cache_hit", sa.Boolean(), comment="Whether LiteLLM answered from its cache"),
        sa.PrimaryKeyConstraint("received_at", "id", name=op.f("usages_pkey")),
        comment="What LiteLLM counted: at most one row an exchange, and none for what it did not count",
        postgresql_partition_by="RANGE (received_at)",
    )
    op.execute("CREATE TABLE usages_default PARTITION OF usages DEFAULT")
    for table in ("requests", "usages"):
        op.create_index(
            op.f(f"{table}_end_user_idx"),
            table,
            ["end_user"],
            unique=False,
            postgresql_where=sa.text("end_user IS NOT NULL"),
        )
    op.create_index(
        op.f("responses_finished_at_idx"), "responses", ["finished_at"], unique=False, postgresql_using="brin"
    )
    op.execute(CONVERT)
    op.execute(MAKE_DAYS)
    op.execute(DROP_DAYS)
    op.execute(
        VIEWS.format(
            all=EXCHANGES.replace("BETWEEN", ""),
            between=EXCHANGES.replace("BETWEEN", "WHERE received_at >= since AND received_at < until"),
            spend=SPEND,
            by=BY,
        )
    )


def downgrade() -> None:
    """Bring the tables back to the revision before: usages, captures and redactions are gone, the rest stays."""
    op.execute(NO_VIEWS)
    op.drop_table("usages")
    op.execute(MERGE)
    op.drop_index(op.f("responses_finished_at_idx"), table_name="responses")
    op.drop_index(op.f("requests_end_user_idx"), table_name="requests")
    op.execute("UPDATE responses SET finished_at = received_at, duration_ms = 0 WHERE finished_at IS NULL")
    op.alter_column(
        "responses",
        "duration_ms",
        existing_type=sa.Double(),
        nullable=False,
        comment="Milliseconds from received_at to finished_at",
    )
    op.alter_column(
        "responses",
        "finished_at",
        existing_type=sa.DateTime(timezone=True),
        nullable=False,
        comment="When the exchange ended, by the gateway's clock",
    )
    for table in TABLES:
        op.drop_constraint(op.f(f"{table}_capture_check"), table)
        for column in ("redactions", "body_sha256", "capture"):
            op.drop_column(table, column)
        for part in (table, f"{table}_default"):
            for column in ("body", "body_text", "body_bytes"):
                op.execute(f"ALTER TABLE {part} ALTER COLUMN {column} SET COMPRESSION default")
