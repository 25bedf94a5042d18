"""The ledger's tables: the single definition that migrations, db_init.py and the drain take them from.

All are partitioned by day of `received_at`, so a row is found by (received_at, id). The id is a UUIDv7 made from
the same millisecond: whoever has an id knows where to look. The primary key also serves what is asked by time; each
further index says which question it answers.
"""

import datetime as dt
import decimal
import ipaddress
import uuid
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, MetaData, text
from sqlalchemy.dialects.postgresql import INET, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import (
    BigInteger,
    Boolean,
    DateTime,
    Double,
    LargeBinary,
    Numeric,
    SmallInteger,
    Text,
    Uuid,
)

OUTCOMES = ("completed", "error", "refused", "client_disconnected", "interrupted", "upstream_timeout")
CAPTURES = ("full", "metadata")


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


class Base(DeclarativeBase):
    """Declarative base: PostgreSQL's types for Python's, and names for constraints that migrations can rely on."""

    metadata = MetaData(
        naming_convention={
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "fk": "%(table_name)s_%(referred_table_name)s_fkey",
            "pk": "%(table_name)s_pkey",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy declares it without ClassVar
        bool: Boolean,
        bytes: LargeBinary,
        dt.datetime: DateTime(timezone=True),
        decimal.Decimal: Numeric,
        dict[str, Any]: JSONB,
        float: Double,
        int: BigInteger,
        ipaddress.IPv4Address | ipaddress.IPv6Address: INET,
        str: Text,
        uuid.UUID: Uuid,
    }


class Request(Base):
    """What a client asked."""

    __tablename__ = "requests"

    received_at: Mapped[dt.datetime] = mapped_column(
        primary_key=True,
        comment="When the request's headers had arrived, by the gateway's clock; the partition key",
    )
    id: Mapped[uuid.UUID] = mapped_column(
        primary_key=True,
        comment="The exchange: UUIDv7 of received_at's millisecond; the response has the same",
    )
    call_id: Mapped[str] = mapped_column(
        comment="LiteLLM's call id: x-litellm-call-id as the client sent it, else the id of the exchange"
    )
    method: Mapped[str] = mapped_column(comment="HTTP method")
    path: Mapped[str] = mapped_column(comment="URL path; keys in it replaced")
    query: Mapped[str | None] = mapped_column(comment="URL query; values that may be secrets replaced")
    model: Mapped[str | None] = mapped_column(comment="Model that the client asked for")
    stream: Mapped[bool] = mapped_column(comment="Whether the client asked for a streamed answer")
    key_hash: Mapped[str | None] = mapped_column(
        comment="SHA-256 (hex) of the key that was presented: LiteLLM's own hash, the token of its key table"
    )
    end_user: Mapped[str | None] = mapped_column(comment="Whom the client acted for, as it said itself")
    client_address: Mapped[ipaddress.IPv4Address | ipaddress.IPv6Address | None] = mapped_column(
        comment="Address the connection came from (behind a trusted proxy: the address that it reports)"
    )
    user_agent: Mapped[str | None] = mapped_column(comment="Header user-agent")
    headers: Mapped[dict[str, Any]] = mapped_column(comment="Headers on the allow-list")
    content_type: Mapped[str | None] = mapped_column(comment="Header content-type")
    body_size: Mapped[int] = mapped_column(comment="Bytes of body that arrived, whether or not the body is kept")
    body_complete: Mapped[bool] = mapped_column(
        comment="Whether the body was read to its end: false if the client left, or the gateway answered, before that"
    )
    body: Mapped[dict[str, Any] | None] = mapped_column(
        comment="The body as jsonb, to query; null if it is not JSON, or JSON that jsonb cannot hold, or of more than "
        "8 MiB"
    )
    body_text: Mapped[str | None] = mapped_column(
        comment="The body exactly as it came, if it is UTF-8 without NUL; null if not kept"
    )
    body_bytes: Mapped[bytes | None] = mapped_column(comment="The body exactly as it came, if it is anything else")
    capture: Mapped[str] = mapped_column(
        server_default="full", comment="What was kept: full; metadata: sizes and hashes, and no body"
    )
    body_sha256: Mapped[bytes | None] = mapped_column(
        comment="SHA-256 of the body as it came, kept or not; null if it was not taken"
    )
    redactions: Mapped[int] = mapped_column(
        server_default=text("0"), comment="Pieces of the body and of errors that were replaced before they were stored"
    )

    __table_args__ = (
        CheckConstraint("key_hash ~ '^[0-9a-f]{64}$'", name="key_hash"),
        CheckConstraint("body_text IS NULL OR body_bytes IS NULL", name="body"),
        _one_of("capture", CAPTURES),
        Index(None, "call_id"),  # support has a call id from the client's answer, and nothing else: exchange()
        # Whom to forget: forget_end_user(). Most clients name nobody.
        Index(None, "end_user", postgresql_where=text("end_user IS NOT NULL")),
        {
            "comment": "What clients asked the gateway: one row an exchange",
            "postgresql_partition_by": "RANGE (received_at)",
        },
    )


class Response(Base):
    """What the client was answered."""

    __tablename__ = "responses"

    received_at: Mapped[dt.datetime] = mapped_column(
        primary_key=True, comment="The request's received_at; the partition key"
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="The exchange: the request's id")
    call_id: Mapped[str] = mapped_column(comment="x-litellm-call-id as the client was answered it")
    finished_at: Mapped[dt.datetime | None] = mapped_column(
        comment="When the exchange ended, by the gateway's clock; null if nobody saw the end: the gateway was killed"
    )
    outcome: Mapped[str] = mapped_column(
        comment="completed; error: a status of 400 or above, or an error within a stream; refused: the key or its "
        "rights; client_disconnected: before the end; interrupted: the gateway stopped before the end; "
        "upstream_timeout: the model's host took too long"
    )
    status: Mapped[int | None] = mapped_column(
        SmallInteger, comment="HTTP status; null if the exchange ended before there was one"
    )
    model: Mapped[str | None] = mapped_column(comment="Model that the answer names")
    provider: Mapped[str | None] = mapped_column(comment="LiteLLM's name of the provider that answered")
    prompt_tokens: Mapped[int | None] = mapped_column(comment="Tokens of the prompt, as the answer counts them")
    completion_tokens: Mapped[int | None] = mapped_column(comment="Tokens of the answer, as the answer counts them")
    total_tokens: Mapped[int | None] = mapped_column(comment="Their sum, as the answer counts it")
    cost: Mapped[decimal.Decimal | None] = mapped_column(
        comment="US dollars, by LiteLLM's price list; null where it reports none (streams)"
    )
    cache_hit: Mapped[bool] = mapped_column(comment="Whether LiteLLM answered from its cache")
    time_to_first_byte_ms: Mapped[float | None] = mapped_column(
        comment="Milliseconds from received_at to the first byte of the answer's body"
    )
    duration_ms: Mapped[float | None] = mapped_column(
        comment="Milliseconds from received_at to finished_at; null as that is"
    )
    error: Mapped[str | None] = mapped_column(comment="What went wrong, in the answer's words")
    headers: Mapped[dict[str, Any]] = mapped_column(comment="Headers on the allow-list")
    content_type: Mapped[str | None] = mapped_column(comment="Header content-type")
    body_size: Mapped[int] = mapped_column(comment="Bytes of body that were answered, whether or not the body is kept")
    body: Mapped[dict[str, Any] | None] = mapped_column(
        comment="The answer as jsonb, to query; a streamed answer assembled into the shape of one that is not; "
        "null if it is not JSON, or JSON that jsonb cannot hold, or of more than 8 MiB"
    )
    body_text: Mapped[str | None] = mapped_column(
        comment="The body exactly as answered (of a stream: its events), decompressed, if it is UTF-8 without NUL; "
        "null if not kept"
    )
    body_bytes: Mapped[bytes | None] = mapped_column(comment="The body exactly as answered, if it is anything else")
    capture: Mapped[str] = mapped_column(
        server_default="full", comment="What was kept: full; metadata: sizes and hashes, and no body"
    )
    body_sha256: Mapped[bytes | None] = mapped_column(
        comment="SHA-256 of the body as answered, kept or not; null if it was not taken"
    )
    redactions: Mapped[int] = mapped_column(
        server_default=text("0"), comment="Pieces of the body and of errors that were replaced before they were stored"
    )

    __table_args__ = (
        ForeignKeyConstraint(["received_at", "id"], ["requests.received_at", "requests.id"]),
        _one_of("outcome", OUTCOMES),
        CheckConstraint("body_text IS NULL OR body_bytes IS NULL", name="body"),
        _one_of("capture", CAPTURES),
        # What ended in the minute of an incident. Rows come in that order, so a few kilobytes are enough.
        Index(None, "finished_at", postgresql_using="brin"),
        {
            "comment": "What the gateway answered: one row an exchange",
            "postgresql_partition_by": "RANGE (received_at)",
        },
    )


class Usage(Base):
    """What LiteLLM says of an exchange, and its bytes do not: whose key it was, and what a streamed answer cost."""

    __tablename__ = "usages"

    received_at: Mapped[dt.datetime] = mapped_column(
        primary_key=True, comment="The request's received_at; the partition key"
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="The exchange: the request's id")
    call_id: Mapped[str | None] = mapped_column(comment="LiteLLM's call id")
    call_type: Mapped[str | None] = mapped_column(comment="LiteLLM's name of the kind of call, such as acompletion")
    key_alias: Mapped[str | None] = mapped_column(comment="The key's name")
    team: Mapped[str | None] = mapped_column(comment="The id of the key's team")
    team_alias: Mapped[str | None] = mapped_column(comment="The team's name")
    user_id: Mapped[str | None] = mapped_column(comment="The id of the key's user")
    end_user: Mapped[str | None] = mapped_column(comment="Whom the client acted for, as LiteLLM understood it")
    model: Mapped[str | None] = mapped_column(comment="Model that answered, in LiteLLM's words")
    model_group: Mapped[str | None] = mapped_column(
        comment="The gateway's name for a group of models: what was asked for"
    )
    provider: Mapped[str | None] = mapped_column(comment="LiteLLM's name of the provider that answered")
    prompt_tokens: Mapped[int | None] = mapped_column(comment="Tokens of the prompt, as LiteLLM counts them")
    completion_tokens: Mapped[int | None] = mapped_column(comment="Tokens of the answer, as LiteLLM counts them")
    total_tokens: Mapped[int | None] = mapped_column(comment="Their sum")
    cost: Mapped[decimal.Decimal | None] = mapped_column(comment="US dollars, by LiteLLM's price list")
    cache_hit: Mapped[bool | None] = mapped_column(comment="Whether LiteLLM answered from its cache")

    __table_args__ = (
        # Whom to forget, where only LiteLLM knew the name: forget_end_user().
        Index(None, "end_user", postgresql_where=text("end_user IS NOT NULL")),
        {
            "comment": "What LiteLLM counted: at most one row an exchange, and none for what it did not count",
            "postgresql_partition_by": "RANGE (received_at)",
        },
    )
