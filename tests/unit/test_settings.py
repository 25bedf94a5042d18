"""Settings: where they come from, and what is said about wrong ones."""

from pathlib import Path

import pytest

from litellm_sqlalchemy import settings
from litellm_sqlalchemy.tls import TLS

DATABASE = {"LEDGER_DATABASE_HOST": "192.0.2.1", "LEDGER_DATABASE_PASSWORD": "hidden-from-everybody"}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*settings.DrainSettings.model_fields]:
        monkeypatch.delenv(f"LEDGER_{name.upper()}", raising=False)


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], values: dict[str, str]) -> list[str]:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        settings.load(settings.DrainSettings)
    assert stop.value.code == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert "hidden-from-everybody" not in written.err
    return written.err.splitlines()


def test_the_defaults_are_those_of_production(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in DATABASE.items():
        monkeypatch.setenv(name, value)
    found = settings.load(settings.DrainSettings)
    assert str(found.spool_path) == "/var/lib/litellm/spool/spool.sqlite3"
    assert (found.database_port, found.database_name, found.database_user) == (5432, "litellm_db", "litellm")
    assert found.tls == TLS(sslmode="verify-full")
    assert found.tls.channel_binding == "require"
    assert (found.on_spool_failure, found.spool_max_bytes, found.spool_alarm_ratio) == ("refuse", 10 * 2**30, 0.5)
    assert found.metrics_directory is None
    assert "hidden-from-everybody" not in repr(found)


def test_the_password_is_a_credential(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ledger_database_password").write_text("hidden-from-everybody\n")
    monkeypatch.setenv("LEDGER_DATABASE_HOST", "192.0.2.1")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    found = settings.load(settings.DrainSettings)
    assert found.database_password.get_secret_value() == "hidden-from-everybody"


def test_lists_have_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_FULL_PATHS", "/a, /b/*,")
    monkeypatch.setenv("LEDGER_IGNORED_PATHS", "")
    found = settings.load(settings.CaptureSettings)
    assert found.full_paths == ("/a", "/b/*")
    assert found.ignored_paths == ()


def test_zero_and_empty_switch_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPOOL_MAX_BYTES", "SPOOL_ALARM_RATIO"):
        monkeypatch.setenv(f"LEDGER_{name}", "0")
    monkeypatch.setenv("LEDGER_METRICS_DIRECTORY", "")
    found = settings.load(settings.CaptureSettings)
    assert (found.spool_max_bytes, found.spool_alarm_ratio, found.metrics_directory) == (0, 0, None)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"LEDGER_DATABASE_HOST": "192.0.2.1"},
            "credential ledger_database_password (its password: the credential ledger_database_password of the unit): "
            "Field required",
        ),
        (
            {"LEDGER_DATABASE_PASSWORD": "hidden-from-everybody"},
            "environment variable LEDGER_DATABASE_HOST (PostgreSQL's address): Field required",
        ),
        (
            {**DATABASE, "LEDGER_DATABASE_HOST": ""},
            "environment variable LEDGER_DATABASE_HOST (PostgreSQL's address): String should have at least 1 character",
        ),
        (
            {**DATABASE, "LEDGER_DATABASE_PASSWORD": "\n"},
            "credential ledger_database_password (its password: the credential ledger_database_password of the unit): "
            "Value should have at least 1 item after validation, not 0",
        ),
        (
            {**DATABASE, "LEDGER_DATABASE_PORT": "0"},
            "environment variable LEDGER_DATABASE_PORT (PostgreSQL's port): Input should be greater than or equal to 1",
        ),
        (
            {**DATABASE, "LEDGER_BATCH_RECORDS": "many"},
            "environment variable LEDGER_BATCH_RECORDS (most records in one transaction): "
            "Input should be a valid integer, unable to parse string as an integer",
        ),
        (
            {**DATABASE, "LEDGER_DATABASE_SSLMODE": "yes"},
            "environment variable LEDGER_DATABASE_SSLMODE (libpq's sslmode): "
            "Input should be 'disable', 'prefer', 'require', 'verify-ca' or 'verify-full'",
        ),
        (
            {**DATABASE, "LEDGER_ON_SPOOL_FAILURE": "ignore"},
            "environment variable LEDGER_ON_SPOOL_FAILURE (what becomes of requests that cannot be recorded: refuse "
            "(503), or serve without a record): Input should be 'refuse' or 'serve'",
        ),
        (
            {**DATABASE, "LEDGER_SPOOL_MAX_BYTES": "1000000"},
            "environment variable LEDGER_SPOOL_MAX_BYTES (most bytes of the spool on the disk; 0: as many as the disk "
            "has): Value error, must be 0 (as many as the disk has) or at least 67108864 (64 MiB)",
        ),
        (
            {**DATABASE, "LEDGER_SPOOL_ALARM_RATIO": "50"},
            "environment variable LEDGER_SPOOL_ALARM_RATIO (part of spool_max_bytes from which on there is an alarm): "
            "Input should be less than or equal to 1",
        ),
        (
            {**DATABASE, "LEDGER_METRICS_DIRECTORY": "metrics"},
            "environment variable LEDGER_METRICS_DIRECTORY (directory in which all processes keep their metrics; "
            "empty: no metrics): Value error, must be an absolute path, for example /run/litellm/metrics, or empty",
        ),
        (
            {**DATABASE, "LEDGER_SPOOL_PATH": "spool"},
            "environment variable LEDGER_SPOOL_PATH (SQLite file that holds what is not yet in the database; its "
            "directory is private (mode 0700)): Value error, must be an absolute path, for example "
            "/var/lib/litellm/spool/spool.sqlite3",
        ),
    ],
)
def test_wrong_settings_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], values: dict[str, str], line: str
) -> None:
    assert refused(monkeypatch, capsys, values) == [line]


def test_every_wrong_setting_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = refused(monkeypatch, capsys, {"LEDGER_DATABASE_PORT": "x", "LEDGER_SPOOL_PATH": "x"})
    assert len(lines) == 4
