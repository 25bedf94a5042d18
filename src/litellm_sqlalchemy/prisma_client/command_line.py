"""The command `prisma`, as far as LiteLLM calls it: migrations, without Prisma's engine and without Node.

Its options, exit codes and what LiteLLM reads of its output are Prisma's
(https://www.prisma.io/docs/orm/reference/prisma-cli-reference). Nothing that it prints has a password or a URL in it.
"""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras

from litellm_sqlalchemy.prisma_client import migrate as ledger
from litellm_sqlalchemy.prisma_client.database_url import DatabaseURL, DatabaseURLError, parse_url
from litellm_sqlalchemy.prisma_client.migrate import MigrateError
from litellm_sqlalchemy.prisma_client.schema import Call, Schema, SchemaError, parse

if TYPE_CHECKING:  # SQLAlchemy takes its time, and LiteLLM may call `migrate resolve` hundreds of times
    from litellm_sqlalchemy.prisma_client.difference import Database, Step

PRISMA = "5.17.0"  # whose behaviour it is
FOUND = ("schema.prisma", "prisma/schema.prisma")
NOT_EMPTY = 2  # exit code of `migrate diff --exit-code`
schema_option = click.option("--schema", "schema_path", help="the schema's file", metavar="PATH")


@dataclass(frozen=True, slots=True)
class Project:
    """A schema's file, and what lies beside it.

    Attributes:
        path: The file's.
        schema: What it says.
    """

    path: Path
    schema: Schema

    @property
    def migrations(self) -> tuple[ledger.Migration, ...]:
        """The migrations, in order."""
        return ledger.migrations(self.path.parent / "migrations")

    @property
    def url(self) -> DatabaseURL:
        """Where the database is: migrations go past the pooler, where the schema knows a way.

        Raises:
            MigrateError: P1012 or P1013.
        """
        setting = next((name for name in ("directUrl", "url") if name in self.schema.datasource), None)
        value = self.schema.datasource[setting] if setting else None
        if isinstance(value, Call) and value.function == "env":
            ((_, variable),) = value.arguments
            if variable not in os.environ:
                raise MigrateError(f"Environment variable not found: {variable}. Set it to the database's URL", "P1012")
            return _url(os.environ[variable], variable)
        if isinstance(value, str):
            return _url(value, f"{setting} in {self.path}")
        raise MigrateError(f'{self.path} has no datasource with url = env("DATABASE_URL")', "P1012")


def _project(path: str | None) -> Project:
    candidates = [Path(path)] if path else [Path(name) for name in FOUND]
    file = next((one / "schema.prisma" if one.is_dir() else one for one in candidates if one.exists()), None)
    if file is None or not file.is_file():
        raise MigrateError(
            f"Could not find the Prisma schema ({', '.join(map(str, candidates))}). LiteLLM's is in the package "
            "litellm_proxy_extras: go to its folder, or give --schema"
        )
    try:
        return Project(file, parse(file.read_text(encoding="utf-8")))
    except SchemaError as error:
        raise MigrateError(f"{file}: {error}", "P1012") from None


def _url(text: str, source: str) -> DatabaseURL:
    try:
        return parse_url(text)
    except DatabaseURLError as error:
        raise MigrateError(f"{error} ({source})", error.code) from None


@contextlib.contextmanager
def _connected(url: DatabaseURL, *, create: bool = False) -> Iterator[ledger.Connection]:
    try:
        with contextlib.closing(ledger.connect(url, create=create)) as connection:
            # From here on, a signal ends a statement, and what PostgreSQL says of that is written down as of any error.
            # Not before: libpq does not know of its connect_timeout like this.
            psycopg2.extensions.set_wait_callback(psycopg2.extras.wait_select)
            yield connection
    except psycopg2.errors.InsufficientPrivilege as error:
        raise ledger.denied(error, url) from None
    except psycopg2.Error as error:
        told = ledger.described(error)
        raise MigrateError(f"Database error code: {error.pgcode or 'none'}\n\nDatabase error:\n{told}") from None
    finally:
        psycopg2.extensions.set_wait_callback(None)


def _introduce(project: Project, url: DatabaseURL) -> None:
    hosts = ",".join(f"{host}:{port}" for host, port in url.hosts)
    click.echo(f"Prisma schema loaded from {project.path}")
    click.echo(f'Datasource: PostgreSQL database "{url.database}", schema "{url.schema}" at "{hosts}"\n')


def main() -> NoReturn:
    """Run the command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(prisma.main(prog_name="prisma", standalone_mode=False) or 0)
    except MigrateError as error:
        click.echo(f"Error: {error.code}\n\n{error}\n" if error.code else f"Error: {error}\n", err=True)
    except click.UsageError as error:
        click.echo(f"Error: {_usage(error)}", err=True)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Error: interrupted", err=True)
        sys.exit(130)
    sys.exit(1)


def _usage(error: click.UsageError) -> str:
    """Say what is wrong with a call, without its arguments: one may be a URL, or a piece of one."""
    command = error.ctx.command_path if error.ctx else "prisma"
    option = getattr(error, "option_name", None) or getattr(getattr(error, "param", None), "opts", [""])[0]
    named = f" ({option})" if re.fullmatch(r"--?[a-z-]+", option) else ""
    return f"the arguments are not understood{named}. See {command} --help; quote a URL in the shell"


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--version", "wants_version", is_flag=True, help="print the version")
@click.pass_context
def prisma(context: click.Context, *, wants_version: bool) -> None:
    """Migrate LiteLLM's database: Prisma's command, on SQLAlchemy and psycopg2."""
    if wants_version:
        context.invoke(version)
    elif context.invoked_subcommand is None:
        click.echo(context.get_help())


@prisma.command()
def version() -> None:
    """Print the version."""
    import importlib.metadata  # noqa: PLC0415  # as SQLAlchemy, it takes its time

    click.echo(f"prisma          : {PRISMA}, as litellm-sqlalchemy does it")
    click.echo(f"Python          : {sys.version.split()[0]}")
    click.echo(f"psycopg2-binary : {importlib.metadata.version('psycopg2-binary')}")


@prisma.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def generate(arguments: tuple[str, ...]) -> None:
    """Do nothing."""
    del arguments  # what there is to generate from, and how
    click.echo("Nothing to generate: the client reads LiteLLM's schema.prisma when it is imported")


@prisma.group()
def migrate() -> None:
    """Bring LiteLLM's migrations into the database."""


@migrate.command()
@schema_option
def deploy(schema_path: str | None) -> None:
    """Apply the migrations that the database does not have yet."""
    project = _project(schema_path)
    url, known = project.url, project.migrations
    _introduce(project, url)
    with _connected(url, create=True) as connection:
        click.echo(f"{_counted(len(known))} found in {project.path.parent / 'migrations'}\n")
        applied = []
        for name in ledger.deploy(connection, url, known):
            applied.append(name)
            click.echo(f"Applied migration {name}")
    click.echo("\nAll migrations have been successfully applied." if applied else "No pending migrations to apply.")


def _counted(number: int) -> str:
    return f"{number or 'No'} migration{'' if number == 1 else 's'}"


@migrate.command()
@schema_option
def status(schema_path: str | None) -> int:
    """Say which migrations the database has; exit code 1 if these are not all."""
    project = _project(schema_path)
    url, known = project.url, project.migrations
    _introduce(project, url)
    with _connected(url) as connection:
        found = ledger.status(connection, known)
    click.echo(f"{_counted(len(known))} found in {project.path.parent / 'migrations'}\n")
    if not found.has_ledger and (not known or not found.pending):
        click.echo("The current database is not managed by Prisma Migrate.", err=True)
    elif found.failed:
        click.echo(
            f"Following migrations have failed:\n{chr(10).join(found.failed)}\n\nFind out how far they came; then "
            "either undo that and run prisma migrate resolve --rolled-back NAME, or do the rest and run prisma migrate "
            "resolve --applied NAME",
            err=True,
        )
    elif found.pending and found.unknown:
        click.echo(
            "Your local migration history and the migrations table from your database are different:\n\n"
            f"The last common migration is: {found.last_common}\n\n"
            f"The migrations have not yet been applied:\n{chr(10).join(found.pending)}\n\n"
            f"The migrations from the database are not found locally:\n{chr(10).join(found.unknown)}",
            err=True,
        )
    elif found.pending:
        click.echo(f"Following migrations have not yet been applied:\n{chr(10).join(found.pending)}\n")
        click.echo("To apply migrations in production run prisma migrate deploy.")
    else:
        click.echo("Database schema is up to date!")
        return 0
    return 1


@migrate.command()
@click.option("--applied", help="record this migration as applied", metavar="NAME")
@click.option("--rolled-back", help="record this failed migration as undone", metavar="NAME")
@schema_option
def resolve(applied: str | None, rolled_back: str | None, schema_path: str | None) -> None:
    """Correct the ledger, after the database has been looked at."""
    if bool(applied) == bool(rolled_back):
        raise MigrateError("Pass either --applied NAME or --rolled-back NAME")
    project = _project(schema_path)
    url = project.url
    _introduce(project, url)
    with _connected(url, create=False) as connection:
        if applied:
            ledger.mark_applied(connection, url, project.migrations, applied)
            click.echo(f"Migration {applied} marked as applied.")
        elif rolled_back:
            ledger.mark_rolled_back(connection, url, rolled_back)
            click.echo(f"Migration {rolled_back} marked as rolled back.")


@migrate.command()
@click.option("--from-empty", is_flag=True, help="from nothing")
@click.option("--from-url", help="from a database", metavar="URL")
@click.option("--from-schema-datasource", help="from the database that a schema names", metavar="PATH")
@click.option("--from-schema-datamodel", help="from what a schema describes", metavar="PATH")
@click.option("--to-empty", is_flag=True, help="to nothing")
@click.option("--to-url", help="to a database", metavar="URL")
@click.option("--to-schema-datasource", help="to the database that a schema names", metavar="PATH")
@click.option("--to-schema-datamodel", help="to what a schema describes", metavar="PATH")
@click.option("--script", "as_script", is_flag=True, help="print SQL instead of a summary")
@click.option("--exit-code", "tells", is_flag=True, help=f"exit with {NOT_EMPTY} if there is a difference")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="write to this file", metavar="PATH")
def diff(*, as_script: bool, tells: bool, output: Path | None, **sides: str | bool | None) -> int:
    """Compare two of: databases, schemas, nothing. Changes nothing."""
    from litellm_sqlalchemy.prisma_client import difference  # noqa: PLC0415  # see above: it is slow to import

    old, new = (_described(end, {name: value for name, value in sides.items() if value}) for end in ("from", "to"))
    steps = difference.difference(old, new)
    told = difference.script(steps) if as_script else _summary(steps)
    if output is None:
        click.echo(told, nl=False)
    else:
        output.write_text(told)
    return NOT_EMPTY if steps and tells else 0


def _described(end: str, sides: dict[str, str | bool]) -> "Database":
    from litellm_sqlalchemy.prisma_client import difference  # noqa: PLC0415

    given = [(name.removeprefix(f"{end}_"), str(value)) for name, value in sides.items() if name.startswith(f"{end}_")]
    if len(given) != 1:
        raise MigrateError(f"Give one option --{end}-…, not {len(given)}")
    ((kind, value),) = given
    if kind == "empty":
        return difference.NOTHING
    if kind == "schema_datamodel":
        return difference.of_schema(_project(value).schema)
    url = _url(value, f"--{end}-url") if kind == "url" else _project(value).url
    with _connected(url) as connection:
        return difference.of_connection(connection)


def _summary(steps: "tuple[Step, ...]") -> str:
    if not steps:
        return "No difference detected.\n"
    return "".join(f"[{step.kind}] {step.statement.splitlines()[0].removesuffix(' (')}\n" for step in steps)


@prisma.group()
def db() -> None:
    """Change the database without migrations."""


@db.command()
@click.option("--accept-data-loss", is_flag=True, help="make also changes that destroy data")
@click.option("--force-reset", is_flag=True, help="refused")
@click.option("--skip-generate", is_flag=True, help="as always")
@schema_option
def push(*, accept_data_loss: bool, force_reset: bool, skip_generate: bool, schema_path: str | None) -> None:
    """Make the database what the schema describes, in one transaction."""
    from litellm_sqlalchemy.prisma_client import difference  # noqa: PLC0415

    del skip_generate
    if force_reset:
        raise MigrateError("--force-reset is not supported: it deletes all data. Drop and create the database yourself")
    project = _project(schema_path)
    url = project.url
    _introduce(project, url)
    with _connected(url, create=True) as connection, ledger.lock(connection, url):
        steps = difference.difference(difference.of_connection(connection), difference.of_schema(project.schema))
        _refuse_losses(connection, steps, accept_data_loss=accept_data_loss)
        ledger.execute(connection, difference.script(steps))
    if steps:
        click.echo("Your database is now in sync with your Prisma schema.")
    else:
        click.echo("The database is already in sync with the Prisma schema.")


def _refuse_losses(connection: ledger.Connection, steps: "tuple[Step, ...]", *, accept_data_loss: bool) -> None:
    in_the_way: list[str] = []
    lost: list[str] = []
    with connection.cursor() as cursor:
        for loss in (loss for step in steps for loss in step.losses):
            cursor.execute(loss.count)
            ((count,),) = cursor.fetchall()
            if count:
                (in_the_way if loss.is_in_the_way else lost).append(loss.message.replace("{count}", str(count)))
    if in_the_way:
        told = "\n".join(f"  • {message}" for message in in_the_way)
        raise MigrateError(f"We found changes that cannot be executed:\n\n{told}\n\nChange these rows, and push again")
    if lost:
        told = "\n".join(f"  • {message}" for message in lost)
        click.echo(f"There might be data loss when applying the changes:\n\n{told}\n")
        if not accept_data_loss:
            raise MigrateError(
                "Nothing has been changed. Save what you need, then use the --accept-data-loss flag to ignore the data "
                "loss warnings: prisma db push --accept-data-loss"
            )


@db.command()
@click.option("--file", "file", help="the script", metavar="PATH")
@click.option("--stdin", is_flag=True, help="read the script from standard input")
@click.option("--url", "url_text", help="the database", metavar="URL")
@schema_option
def execute(*, file: str | None, stdin: bool, url_text: str | None, schema_path: str | None) -> None:
    """Run a script: PostgreSQL gets it as a whole, and runs it as one transaction."""
    if bool(file) == stdin:
        raise MigrateError("Give either --file PATH or --stdin")
    if bool(url_text) == bool(schema_path):
        raise MigrateError("Give either --url URL or --schema PATH")
    url = _url(url_text, "--url") if url_text else _project(schema_path).url
    try:
        script = Path(file).read_text(encoding="utf-8") if file else sys.stdin.read()
    except (OSError, UnicodeDecodeError) as error:
        raise MigrateError(f"The script cannot be read: {error}") from None
    with _connected(url) as connection:
        ledger.execute(connection, script)
    click.echo("Script executed successfully.")
