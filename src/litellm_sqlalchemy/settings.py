"""Settings: environment variables `LEDGER_*` and `GATEWAY_*`, and secrets from systemd's credentials directory."""

import json
import os
import sys
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from litellm_sqlalchemy.ledger.policy import Policy, Redaction
from litellm_sqlalchemy.tls import TLS, SSLMode


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Only these have their bodies kept. A path that matches nothing is recorded without bodies: the answers of
# management endpoints carry fresh secrets, and a new one must not need a new line here to be safe.
LLM_PATHS = _words("""
    /chat/completions /completions /embeddings /moderations /rerank /responses* /messages* /images/* /audio/* /videos*
    /realtime /ocr /search /search/* /rag/* /interactions* /batches* /files* /fine_tuning/* /assistants* /threads*
    /containers* /vector_stores* /a2a/* /engines/* /evals* /skills* /decisions /systemone /guardrails/apply_guardrail
    /models/*:generateContent /models/*:streamGenerateContent /models/*:countTokens
    /openai/* /openai_passthrough/* /cursor/* /anthropic/* /azure/* /azure_ai/* /azure_speech/* /bedrock/* /cohere/*
    /gemini/* /mistral/* /openrouter/* /vertex_ai/* /vertex-ai/* /vllm/* /watsonx/* /nvidia_nim/* /deepgram/* /fal_ai/*
    /gigachat/* /assemblyai/* /eu.assemblyai/* /comprehendmedical* /transcribe* /tinyfish/* /typesafe/* /laya/*
    /bespoke/*
""")
# Under /v1/mcp the MCP servers and their secrets are managed: that is not among these.
OTHER_PATHS = _words("""
    /v2/rerank /v1beta/models/* /v1beta/interactions* /queue/chat/completions /apply_guardrail
    /{provider}/v1/batches* /{provider}/v1/files* /claude_code_gateway/v1/messages* /mcp /mcp/* /{server}/mcp
    /toolset/{name}/mcp /mcp-rest/tools/*
""")
FULL_PATHS = (*LLM_PATHS, *(f"/v1{path}" for path in LLM_PATHS), *OTHER_PATHS)
# What is managed may have a name such as "mcp", so that its path looks like one of those.
MANAGEMENT_PATHS = _words("""
    /access_group/* /audit/* /credentials/* /fallback/* /guardrails/mcp /key/* /langfuse/* /lens/* /milvus/* /model/*
    /models/mcp /plugin-proxy/* /policies/* /prompts/* /search_tools/* /team/*
""")
# Among the paths above, these answer with fresh secrets: of realtime clients, of a provider's administration and
# login, of MCP's login.
SECRET_PATHS = _words("""
    */realtime/client_secrets */realtime/transcription_sessions */realtime*/sessions */realtime/calls*
    */chatkit/sessions* */organization/* */organizations/* */keys */keys/* */auth/* */auth_tokens* */sts/*
    */token */tokens */tokens/* */authorize */register */oauth*
""")
METADATA_PATHS = (*SECRET_PATHS, *MANAGEMENT_PATHS)
# Beside FULL_PATHS, what whoever asks models needs.
ASKING_PATHS = _words("""
    /models /v1/models /models/* /v1/models/* /health/live* /health/readiness
""")
# Of /health only what is asked all day: /health/test_connection and others are somebody's acts.
IGNORED_PATHS = _words("""
    / /ui /ui/* /_next/* /litellm-asset-prefix/* /swagger/* /docs /docs/oauth2-redirect /redoc /openapi.json
    /favicon.ico /get_favicon /get_image /get_logo_url /robots.txt /.well-known/* /litellm/.well-known/* /routes
    /health /health/backlog /health/drain /health/live* /health/readiness* /metrics /metrics/*
""")
# Columns are made of these, so they are recorded whatever the settings say.
NEEDED_REQUEST_HEADERS = _words("""
    content-type user-agent x-litellm-customer-id x-litellm-end-user-id
""")
NEEDED_RESPONSE_HEADERS = _words("""
    content-encoding content-type x-litellm-cache-key x-litellm-model-name x-litellm-response-cost
""")
REQUEST_HEADERS = _words("""
    accept anthropic-beta anthropic-version content-encoding content-length idempotency-key openai-beta
    traceparent x-request-id x-litellm-call-id x-litellm-session-id x-litellm-tags x-litellm-timeout x-litellm-trace-id
""")
# Not all of llm_provider-*: LiteLLM hands on whatever a provider sends under that prefix, its cookies too.
RESPONSE_HEADERS = _words("""
    content-length llm_provider-anthropic-ratelimit-* llm_provider-openai-processing-ms llm_provider-request-id
    llm_provider-retry-after llm_provider-x-ratelimit-* llm_provider-x-request-id retry-after x-litellm-* x-ratelimit-*
    x-request-id
""")


def _split(value: object) -> object:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _root_paths() -> tuple[str, ...]:
    """Name the prefixes under which LiteLLM serves its paths as well."""
    named = f"{os.environ.get('SERVER_ROOT_PATHS', '')},{os.environ.get('SERVER_ROOT_PATH', '')}".split(",")
    return tuple({path.strip().rstrip("/") for path in named} - {""})


def _none_if_empty(value: object) -> object:
    return value or None


List = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
SMALLEST_SPOOL_BYTES = 64 << 20  # a quarter of it is kept for SQLite's write-ahead log


def _json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value or "[]")
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None


class CaptureSettings(BaseSettings):
    """What the gateway's workers need: where the spool is, and what is recorded of which path.

    Patterns are those of fnmatch: `*` stands for any characters, the slash included; `{name}` for one segment.
    A list is written with commas.
    """

    model_config = SettingsConfigDict(env_prefix="LEDGER_")

    spool_path: Path = Field(
        default=Path("/var/lib/litellm/spool/spool.sqlite3"),
        description="SQLite file that holds what is not yet in the database; its directory is private (mode 0700)",
    )
    full_paths: List = Field(
        default=FULL_PATHS, description="paths recorded with bodies; any other path is recorded without"
    )
    metadata_paths: List = Field(
        default=METADATA_PATHS, description="paths recorded without bodies although full_paths has them"
    )
    ignored_paths: List = Field(
        default=IGNORED_PATHS, description="paths not recorded at all; these come before full_paths"
    )
    root_paths: List = Field(
        default_factory=_root_paths,
        description="prefixes that are no part of the paths above (default: LiteLLM's SERVER_ROOT_PATH and _PATHS)",
    )
    request_headers: List = Field(
        default=REQUEST_HEADERS,
        description="patterns of the request headers that are recorded beside those that columns are made of",
    )
    response_headers: List = Field(
        default=RESPONSE_HEADERS,
        description="patterns of the response headers that are recorded beside those that columns are made of",
    )

    on_spool_failure: Literal["refuse", "serve"] = Field(
        default="refuse",
        description="what becomes of requests that cannot be recorded: refuse (503), or serve without a record",
    )
    spool_max_bytes: int = Field(
        default=10 << 30, ge=0, description="most bytes of the spool on the disk; 0: as many as the disk has"
    )
    spool_alarm_ratio: float = Field(
        default=0.5, ge=0, le=1, description="part of spool_max_bytes from which on there is an alarm"
    )
    metrics_directory: Annotated[Path | None, BeforeValidator(_none_if_empty)] = Field(
        default=None, description="directory in which all processes keep their metrics; empty: no metrics"
    )

    @field_validator("spool_path")
    @classmethod
    def _is_absolute(cls, path: Path) -> Path:
        if not path.is_absolute():
            raise ValueError("must be an absolute path, for example /var/lib/litellm/spool/spool.sqlite3")
        return path

    @field_validator("spool_max_bytes")
    @classmethod
    def _is_large_enough(cls, size: int) -> int:
        if 0 < size < SMALLEST_SPOOL_BYTES:
            raise ValueError(f"must be 0 (as many as the disk has) or at least {SMALLEST_SPOOL_BYTES} (64 MiB)")
        return size

    @field_validator("metrics_directory")
    @classmethod
    def _is_absolute_or_none(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError("must be an absolute path, for example /run/litellm/metrics, or empty")
        return path


class DrainSettings(CaptureSettings):
    """What the drain needs: the spool, and the database."""

    database_host: str = Field(description="PostgreSQL's address", min_length=1)
    database_port: int = Field(default=5432, ge=1, le=65535, description="PostgreSQL's port")
    database_name: str = Field(default="litellm_db", min_length=1, description="database")
    database_user: str = Field(default="litellm", min_length=1, description="role that inserts")
    database_password: SecretStr = Field(
        description="its password: the credential ledger_database_password of the unit", min_length=1
    )
    database_sslmode: SSLMode = Field(default=TLS.sslmode, description="libpq's sslmode")
    database_sslrootcert: str = Field(
        default=TLS.sslrootcert, description="file of the CA certificates to verify the server's by"
    )
    database_sslcert: str = Field(default=TLS.sslcert, description="file of the role's certificate")
    database_sslkey: str = Field(default=TLS.sslkey, description="file of that certificate's key")
    batch_records: int = Field(default=2_000, ge=1, le=100_000, description="most records in one transaction")
    batch_bytes: int = Field(default=16 << 20, ge=1, description="bytes of bodies after which a batch is closed")
    policies: Annotated[tuple[Policy, ...], NoDecode, BeforeValidator(_json)] = Field(
        default=(), description="JSON list: what is stored of which exchanges; the first that matches decides"
    )
    redactions: Annotated[tuple[Redaction, ...], NoDecode, BeforeValidator(_json)] = Field(
        default=(), description="JSON list: what texts of bodies are not to have in the database"
    )
    metrics_port: int = Field(
        default=4001, ge=0, le=65535, description="port on 127.0.0.1 that shows the metrics; 0: none"
    )

    @field_validator("database_password", mode="before")
    @classmethod
    def _without_newline(cls, password: object) -> object:
        return password.rstrip("\r\n") if isinstance(password, str) else password

    @property
    def tls(self) -> TLS:
        """How the drain and PostgreSQL prove to each other who they are."""
        return TLS(
            sslmode=self.database_sslmode,
            sslrootcert=self.database_sslrootcert,
            sslcert=self.database_sslcert,
            sslkey=self.database_sslkey,
        )


class AccessSettings(BaseSettings):
    """Who may do what at the gateway."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    admin_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(), description="networks from which the gateway is managed, with commas; empty: everywhere"
    )
    master_key: SecretStr = Field(
        default=SecretStr(""), validation_alias="LITELLM_MASTER_KEY", description="LiteLLM's master key"
    )
    previous_master_keys: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="LITELLM_PREVIOUS_MASTER_KEYS",
        description="master keys that do what the current one does, a line each, while they are rotated",
    )


Settings = TypeVar("Settings", bound=BaseSettings)


def load(settings: type[Settings]) -> Settings:
    """Read settings from the environment and the credentials directory.

    Args:
        settings: The class to read.

    Raises:
        SystemExit: A setting is missing or wrong; one line for each names it, the rule and where it is set. Values
            are not repeated: one of them may be the password.
    """
    try:
        return settings(_secrets_dir=os.environ.get("CREDENTIALS_DIRECTORY"))
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False):
            name = str(problem["loc"][0])
            where = "credential" if name == "database_password" else "environment variable"
            prefix = settings.model_config.get("env_prefix", "")
            variable = "ledger_database_password" if name == "database_password" else f"{prefix}{name.upper()}"
            meaning = settings.model_fields[name].description
            part = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem["loc"][1:])
            lines.append(f"{where} {variable}{part} ({meaning}): {problem['msg']}")
        print("\n".join(lines), file=sys.stderr)  # noqa: T201 - a command's message to its user
        raise SystemExit(2) from None
