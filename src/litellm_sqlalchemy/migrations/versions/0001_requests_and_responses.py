"""Create requests and responses, partitioned by received_at.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = ("requests", "responses")


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.create_table(
        "requests",
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the request's headers had arrived, by the gateway's clock; the partition key",
        ),
        sa.Column(
            "id",
            sa.Uuid(),
            nullable=False,
            comment="The exchange: UUIDv7 of received_at's millisecond; the response has the same",
        ),
        sa.Column(
            "call_id",
            sa.Text(),
            nullable=False,
            comment="LiteLLM's call id: x-litellm-call-id as the client sent it, else the id of the exchange",
        ),
        sa.Column("method", sa.Text(), nullable=False, comment="HTTP method"),
        sa.Column("path", sa.Text(), nullable=False, comment="URL path; keys in it replaced"),
        sa.Column("query", sa.Text(), comment="URL query; values that may be secrets replaced"),
        sa.Column("model", sa.Text(), comment="Model that the client asked for"),
        sa.Column("stream", sa.Boolean(), nullable=False, comment="Whether the client asked for a streamed answer"),
        sa.Column(
            "key_hash",
            sa.Text(),
            comment="SHA-256 (hex) of the key that was presented: LiteLLM's own hash, the token of its key table",
        ),
        sa.Column("end_user", sa.Text(), comment="Whom the client acted for, as it said itself"),
        sa.Column(
            "client_address",
            postgresql.INET(),
            comment="Address the connection came from (behind a trusted proxy: the address that it reports)",
        ),
        sa.Column("user_agent", sa.Text(), comment="Header user-agent"),
        sa.Column("headers", postgresql.JSONB(), nullable=False, comment="Headers on the allow-list"),
        sa.Column("content_type", sa.Text(), comment="Header content-type"),
        sa.Column(
            "body_size",
            sa.BigInteger(),
            nullable=False,
            comment="Bytes of body that arrived, whether or not the body is kept",
        ),
        sa.Column(
            "body_complete",
            sa.Boolean(),
            nullable=False,
            comment="Whether the body was read to its end: false if the client left, or the gateway answered, before that",
        ),
        sa.Column(
            "body",
            postgresql.JSONB(),
            comment="The body as jsonb, to query; null if it is not JSON, or JSON that jsonb cannot hold, or of more than 8 MiB",
        ),
        sa.Column(
            "body_text",
            sa.Text(),
            comment="The body exactly as it came, if it is UTF-8 without NUL; null if not kept",
        ),
        sa.Column("body_bytes", sa.LargeBinary(), comment="The body exactly as it came, if it is anything else"),
        sa.CheckConstraint("key_hash ~ '^[0-9a-f]{64}$'", name=op.f("requests_key_hash_check")),
        sa.CheckConstraint("body_text IS NULL OR body_bytes IS NULL", name=op.f("requests_body_check")),
        sa.PrimaryKeyConstraint("received_at", "id", name=op.f("requests_pkey")),
        comment="What clients asked the gateway: one row an exchange",
        postgresql_partition_by="RANGE (received_at)",
    )
    op.create_index(op.f("requests_call_id_idx"), "requests", ["call_id"], unique=False)
    op.create_table(
        "responses",
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="The request's received_at; the partition key",
        ),
        sa.Column("id", sa.Uuid(), nullable=False, comment="The exchange: the request's id"),
        sa.Column("call_id", sa.Text(), nullable=False, comment="x-litellm-call-id as the client was answered it"),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the exchange ended, by the gateway's clock",
        ),
        sa.Column(
            "outcome",
            sa.Text(),
            nullable=False,
            comment="completed; error: a status of 400 or above, or an error within a stream; refused: the key or its rights; client_disconnected: before the end; interrupted: the gateway stopped before the end; upstream_timeout: the model's host took too long",
        ),
        sa.Column(
            "status",
            sa.SmallInteger(),
            comment="HTTP status; null if the exchange ended before there was one",
        ),
        sa.Column("model", sa.Text(), comment="Model that the answer names"),
        sa.Column("provider", sa.Text(), comment="LiteLLM's name of the provider that answered"),
        sa.Column("prompt_tokens", sa.BigInteger(), comment="Tokens of the prompt, as the answer counts them"),
        sa.Column("completion_tokens", sa.BigInteger(), comment="Tokens of the answer, as the answer counts them"),
        sa.Column("total_tokens", sa.BigInteger(), comment="Their sum, as the answer counts it"),
        sa.Column(
            "cost",
            sa.Numeric(),
            comment="US dollars, by LiteLLM's price list; null where it reports none (streams)",
        ),
        sa.Column("cache_hit", sa.Boolean(), nullable=False, comment="Whether LiteLLM answered from its cache"),
        sa.Column(
            "time_to_first_byte_ms",
            sa.Double(),
            comment="Milliseconds from received_at to the first byte of the answer's body",
        ),
        sa.Column("duration_ms", sa.Double(), nullable=False, comment="Milliseconds from received_at to finished_at"),
        sa.Column("error", sa.Text(), comment="What went wrong, in the answer's words"),
        sa.Column("headers", postgresql.JSONB(), nullable=False, comment="Headers on the allow-list"),
        sa.Column("content_type", sa.Text(), comment="Header content-type"),
        sa.Column(
            "body_size",
            sa.BigInteger(),
            nullable=False,
            comment="Bytes of body that were answered, whether or not the body is kept",
        ),
        sa.Column(
            "body",
            postgresql.JSONB(),
            comment="The answer as jsonb, to query; a streamed answer assembled into the shape of one that is not; null if it is not JSON, or JSON that jsonb cannot hold, or of more than 8 MiB",
        ),
        sa.Column(
            "body_text",
            sa.Text(),
            comment="The body exactly as answered (of a stream: its events), decompressed, if it is UTF-8 without NUL; null if not kept",
        ),
        sa.Column("body_bytes", sa.LargeBinary(), comment="The body exactly as answered, if it is anything else"),
        sa.CheckConstraint(
            "outcome IN ('completed', 'error', 'refused', 'client_disconnected', 'interrupted', 'upstream_timeout')",
            name=op.f("responses_outcome_check"),
        ),
        sa.CheckConstraint("body_text IS NULL OR body_bytes IS NULL", name=op.f("responses_body_check")),
        sa.ForeignKeyConstraint(
            ["received_at", "id"],
            ["requests.received_at", "requests.id"],
            name=op.f("responses_requests_fkey"),
        ),
        sa.PrimaryKeyConstraint("received_at", "id", name=op.f("responses_pkey")),
        comment="What the gateway answered: one row an exchange",
        postgresql_partition_by="RANGE (received_at)",
    )

    for table in TABLES:
        # What no other partition takes: nothing is refused for want of one.
        op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")


def downgrade() -> None:
    """Bring the tables back to the revision before: there are none, and no rows."""
    for table in reversed(TABLES):
        op.drop_table(table)
