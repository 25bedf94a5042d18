"""What goes wrong, by the names of prisma-client-py, and which of them an error of PostgreSQL is.

PrismaError
├── ClientNotConnectedError, ClientNotRegisteredError, ClientAlreadyRegisteredError, HTTPClientClosedError
├── BuilderError: UnknownModelError, UnknownRelationalFieldError, InvalidModelError
├── TransactionError: TransactionExpiredError, TransactionNotStartedError
├── EngineError: EngineConnectionError (P1001 and its like: worth another try), EngineRequestError, …
└── DataError: the database, or the check before it, refused the arguments; code and meta say why
    ├── UniqueViolationError P2002, ForeignKeyViolationError P2003, RecordNotFoundError P2025
    ├── MissingRequiredValueError P2009/P2012, FieldNotFoundError P2009, InputError P2019
    └── RawQueryError P2010, TableNotFoundError P2021

Codes and their texts: https://www.prisma.io/docs/orm/reference/error-reference
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import exc

Meta = Mapping[str, Any]


class PrismaError(Exception):
    """Any of these errors."""


class ClientNotRegisteredError(PrismaError):
    """No client is registered: call prisma.register(prisma.Prisma()) first."""

    def __init__(self) -> None:
        super().__init__("No client instance registered; You must call prisma.register(prisma.Prisma())")


class ClientAlreadyRegisteredError(PrismaError):
    """A client is registered already."""

    def __init__(self) -> None:
        super().__init__("A client has already been registered.")


class ClientNotConnectedError(PrismaError):
    """The client is not connected: call connect() first."""

    def __init__(self) -> None:
        super().__init__(
            "Client is not connected to the query engine, you must call `connect()` before attempting to query data."
        )


class HTTPClientClosedError(PrismaError):
    """The client has been closed; there is no HTTP here, but LiteLLM knows this name."""

    def __init__(self) -> None:
        super().__init__("Cannot make a request from a closed client.")


class UnsupportedDatabaseError(PrismaError):
    """Not raised: PostgreSQL supports all."""


class DataError(PrismaError):
    """The arguments were refused.

    Args:
        data: Prisma's description: {"error": …, "user_facing_error": {"error_code", "message", "meta"}}.
        message: Instead of the description's.

    Attributes:
        data: The description.
        code: Prisma's code, such as P2002; None of what it has none for.
        meta: Details, by code.
    """

    def __init__(self, data: Any, *, message: str | None = None) -> None:
        self.data = data
        user_facing = data.get("user_facing_error", {})
        self.code: Any = user_facing.get("error_code")
        self.meta: Any = user_facing.get("meta")
        super().__init__(message or user_facing.get("message") or "An error occurred while processing data.")


class UniqueViolationError(DataError):
    """A row with these values is there already."""


class ForeignKeyViolationError(DataError):
    """A row refers to one that is not there, or is referred to by one that is."""


class MissingRequiredValueError(DataError):
    """A field that must have a value has none."""


class RawQueryError(DataError):
    """PostgreSQL refused a raw statement; meta has its SQLSTATE as `code`."""

    def __init__(self, data: Any) -> None:
        super().__init__(data, message=(data.get("user_facing_error", {}).get("meta") or {}).get("message"))


class TableNotFoundError(DataError):
    """A table is not there: the migrations have not run.

    Attributes:
        table: Which.
    """

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.table: str | None = self.meta.get("table")


class FieldNotFoundError(DataError):
    """An argument names a field or an operator that is not there."""


class RecordNotFoundError(DataError):
    """A row that is needed is not there."""


class InputError(DataError):
    """An argument is wrong."""


class TransactionError(PrismaError):
    """A transaction could not be begun, used or ended."""


class TransactionExpiredError(TransactionError):
    """A transaction took longer than it may."""


class TransactionNotStartedError(TransactionError):
    """A transaction has not been begun."""

    def __init__(self) -> None:
        super().__init__(
            "Transaction has not been started yet.\n"
            "Transactions must be used within a context manager or started manually."
        )


class BuilderError(PrismaError):
    """The arguments make no query."""


class InvalidModelError(BuilderError):
    """A class is no model."""

    def __init__(self, model: type) -> None:
        super().__init__(f"Expected the {model} type to have a `__prisma_model__` class variable set")


class UnknownModelError(BuilderError):
    """A model is not in the schema."""

    def __init__(self, model: str) -> None:
        super().__init__(f'Model: "{model}" does not exist.')


class UnknownRelationalFieldError(BuilderError):
    """An `include` names a field that leads nowhere."""

    def __init__(self, model: str, field: str) -> None:
        super().__init__(f'Field: "{field}" either does not exist or is not a relational field on the {model} model')


class PrismaWarning(Warning):
    """Any warning."""


class EngineError(PrismaError):
    """The way to the database fails."""


class BinaryNotFoundError(EngineError):
    """Not raised: there is no binary."""


class AlreadyConnectedError(EngineError):
    """The client is connected already."""


class NotConnectedError(EngineError):
    """The client is not connected."""


class MismatchedVersionsError(EngineError):
    """Not raised: there is one version."""


class EngineConnectionError(EngineError):
    """The database cannot be reached; it may come back.

    Args:
        message: What happened.
        code: Prisma's code.

    Attributes:
        code: The same.
        meta: None.
    """

    def __init__(self, message: str, code: str = "P1001") -> None:
        super().__init__(message)
        self.code = code
        self.meta = None


class EngineRequestError(EngineError):
    """Not raised: there are no requests over HTTP."""


class UnprocessableEntityError(EngineRequestError):
    """Not raised, for the same reason."""


# --- Prisma's codes -----------------------------------------------------------------------------------------------

CLASSES: Mapping[str, type[DataError]] = {
    "P2002": UniqueViolationError,
    "P2003": ForeignKeyViolationError,
    "P2009": FieldNotFoundError,
    "P2010": RawQueryError,
    "P2012": MissingRequiredValueError,
    "P2019": InputError,
    "P2021": TableNotFoundError,
    "P2025": RecordNotFoundError,
}


def data_error(
    code: str | None, message: str, meta: Meta | None = None, kind: type[DataError] | None = None
) -> DataError:
    """Make the error of a code.

    Args:
        code: Prisma's; None of what it has none for.
        message: Prisma's text.
        meta: Details.
        kind: The class, where the code alone does not say it.
    """
    user_facing = {"is_panic": False, "message": message, "meta": None if meta is None else dict(meta)}
    if code is not None:
        user_facing["error_code"] = code
    return (kind or CLASSES.get(code or "", DataError))({"error": message, "user_facing_error": user_facing})


def invalid(message: str, kind: type[DataError] = DataError) -> DataError:
    """Make the error of arguments that make no query.

    Args:
        message: Which argument, what is wrong, and what would be right.
        kind: The class.
    """
    return data_error("P2009", f"Failed to validate the query: `{message}`", {"query_validation_error": message}, kind)


def misfit(message: str) -> DataError:
    """Make the error of an argument that has no place in a query: a field, an operator, a value of another type.

    Args:
        message: Which argument, what is wrong, and what would be right.
    """
    return invalid(message, FieldNotFoundError)


def missing(message: str, code: str = "P2009") -> DataError:
    """Make the error of a value that must be there and is not, or is NULL.

    Args:
        message: Which.
        code: P2009, or P2012 of an argument.
    """
    text = f"A value is required but not set: {message}"
    return data_error(code, text, {"query_validation_error": text}, MissingRequiredValueError)


def needs_relation(name: str, models: tuple[str, str]) -> DataError:
    """Make the error of a row that would no longer refer to what it must refer to.

    Args:
        name: The relation's.
        models: Those that it joins.
    """
    text = (
        f"The change you are trying to make would violate the required relation '{name}' between the `{models[0]}` and "
        f"`{models[1]}` models."
    )
    meta = {"relation_name": name, "model_a_name": models[0], "model_b_name": models[1]}
    return data_error("P2014", text, meta)


def not_connected(details: str) -> DataError:
    """Make the error of rows that are to refer to another and are not there.

    Args:
        details: How many, and by which relation.
    """
    return data_error("P2018", f"The required connected records were not found. {details}", {"details": details})


def not_related(name: str, parent: str, child: str) -> DataError:
    """Make the error of a row that is to be deleted along with another, and does not belong to it.

    Args:
        name: The relation's.
        parent: The other one's model.
        child: The row's.
    """
    text = f"The records for relation `{name}` between the `{parent}` and `{child}` models are not connected."
    return data_error("P2017", text, {"relation_name": name, "parent_name": parent, "child_name": child})


def not_found(cause: str) -> DataError:
    """Make the error of a row that is needed and is not there.

    Args:
        cause: Why it is needed.
    """
    message = f"An operation failed because it depends on one or more records that were required but not found. {cause}"
    return data_error("P2025", message, {"cause": cause})


# --- PostgreSQL's errors ------------------------------------------------------------------------------------------

KEY_DETAIL = re.compile(r"^Key \((?P<columns>.*?)\)[ =]")
COLUMN = re.compile(r'column (?:"(?P<quoted>[^"]+)"|(?P<plain>\S+))')
QUOTED = re.compile(r'"([^"]+)"')


class DatabaseFault:
    """What a driver says of an error of PostgreSQL, or of the connection to it.

    Args:
        error: The driver's exception; SQLAlchemy's around it is looked through.
    """

    def __init__(self, error: BaseException) -> None:
        found = getattr(error, "orig", None) or error
        # That of SQLAlchemy's adapter to asyncpg is around asyncpg's own.
        is_adapted = type(found).__module__.startswith("sqlalchemy.") and found.__cause__ is not None
        native = found.__cause__ if is_adapted else found
        details = getattr(native, "diag", native)
        self.sqlstate: str | None = getattr(native, "sqlstate", None) or getattr(found, "sqlstate", None)
        self.message: str = getattr(details, "message_primary", None) or getattr(native, "message", None) or str(native)
        self.detail: str | None = getattr(details, "message_detail", None) or getattr(native, "detail", None)
        self.hint: str | None = getattr(details, "message_hint", None) or getattr(native, "hint", None)
        self.constraint: str | None = getattr(details, "constraint_name", None)
        self.table: str | None = getattr(details, "table_name", None)
        self.column: str | None = getattr(details, "column_name", None)
        self.severity: str = getattr(details, "severity", None) or "ERROR"
        self.is_about_connection = (
            isinstance(error, OSError | TimeoutError | exc.PendingRollbackError)
            or bool(getattr(error, "connection_invalidated", False))
            or (isinstance(error, exc.OperationalError) and self.sqlstate is None)
            or UNREACHABLE.fullmatch(self.sqlstate or "") is not None
        )

    @property
    def columns(self) -> list[str]:
        """The columns that a violated key has."""
        match = KEY_DETAIL.match(self.detail or "")
        return [name.strip().strip('"') for name in match["columns"].split(",")] if match else []

    @property
    def named(self) -> str:
        """The first name in the message."""
        match = QUOTED.search(self.message)
        return match[1] if match else "(not available)"

    def connector_text(self) -> str:
        """Write it as Prisma's engine shows errors that it has no code for: LiteLLM looks for the SQLSTATE in there."""

        def text(value: str | None) -> str:
            return "None" if value is None else f'Some("{value}")'

        message = self.message.replace('"', '\\"')
        return (
            "Error occurred during query execution:\nConnectorError(ConnectorError { user_facing_error: None, "
            f'kind: QueryError(PostgresError {{ code: "{self.sqlstate}", message: "{message}", '
            f'severity: "{self.severity}", detail: {text(self.detail)}, column: {text(self.column)}, '
            f"hint: {text(self.hint)} }}), transient: false }})"
        )


def _unique(fault: DatabaseFault) -> DataError:
    if fault.columns:
        target: Any = fault.columns
        where = f"fields: ({','.join(f'`{name}`' for name in target)})"
    else:
        target = fault.constraint
        where = f"constraint: `{target}`" if target else "(not available)"
    return data_error("P2002", f"Unique constraint failed on the {where}", {"target": target})


def _foreign_key(fault: DatabaseFault) -> DataError:
    name = f"{fault.constraint} (index)"
    return data_error("P2003", f"Foreign key constraint failed on the field: `{name}`", {"field_name": name})


def _null(fault: DatabaseFault) -> DataError:
    return data_error(
        "P2011", f"Null constraint violation on the fields: (`{fault.column}`)", {"constraint": [fault.column]}
    )


def _conflict(_: DatabaseFault) -> DataError:
    text = "Transaction failed due to a write conflict or a deadlock. Please retry your transaction"
    return data_error("P2034", text)


def _table(fault: DatabaseFault) -> DataError:
    table = fault.named if "." in fault.named else f"public.{fault.named}"
    return data_error("P2021", f"The table `{table}` does not exist in the current database.", {"table": table})


def _column(fault: DatabaseFault) -> DataError:
    match = COLUMN.search(fault.message)
    column = (match["quoted"] or match["plain"]) if match else fault.named
    return data_error("P2022", f"The column `{column}` does not exist in the current database.", {"column": column})


def _too_long(_: DatabaseFault) -> DataError:
    column = "<unknown>"
    text = f"The provided value for the column is too long for the column's type. Column: {column}"
    return data_error("P2000", text, {"column_name": column})


BY_SQLSTATE: Mapping[str, Callable[[DatabaseFault], DataError]] = {
    "22001": _too_long,
    "23502": _null,
    "23503": _foreign_key,
    "23505": _unique,
    "40001": _conflict,
    "40P01": _conflict,
    "42703": _column,
    "42P01": _table,
}
# 08: connection exceptions; 57P: the server is stopped, crashed or not up yet; 53300: it takes no more connections.
UNREACHABLE = re.compile(r"08...|57P0[1-5]")
# psycopg has no SQLSTATE of a connection that PostgreSQL refuses, only its text.
REFUSALS = {
    "password authentication failed": "28P01",
    "no password supplied": "28P01",
    "not permitted to log in": "28000",
    "pg_hba.conf": "28000",
    "does not exist": "3D000",
    "too many clients": "53300",
}
REFUSED: Mapping[str, tuple[str, str]] = {
    "28P01": (
        "P1000",
        "Authentication failed against database server, the provided database credentials are not valid",
    ),
    "28000": ("P1010", "User was denied access on the database"),
    "3D000": ("P1003", "Database does not exist on the database server"),
    "53300": ("P2037", "Too many database connections opened"),
}


def of_model_query(fault: DatabaseFault) -> PrismaError:
    """Say which error a model's query fails with.

    Args:
        fault: PostgreSQL's.
    """
    known = BY_SQLSTATE.get(fault.sqlstate or "")
    return known(fault) if known else data_error(None, fault.connector_text())


def of_raw_query(fault: DatabaseFault) -> PrismaError:
    """Say which error a raw statement fails with.

    Args:
        fault: PostgreSQL's.
    """
    message = fault.detail if fault.sqlstate == "23505" and fault.detail else fault.message
    text = f"Raw query failed. Code: `{fault.sqlstate or 'N/A'}`. Message: `{message}`"
    return data_error("P2010", text, {"code": fault.sqlstate or "N/A", "message": message})


def of_connection(fault: DatabaseFault, server: str) -> PrismaError | None:
    """Say which error it is that the database cannot be reached; None if it is about something else.

    Args:
        fault: The driver's or PostgreSQL's.
        server: Host and port.
    """
    sqlstate = fault.sqlstate
    if sqlstate is None and fault.is_about_connection:
        sqlstate = next((code for text, code in REFUSALS.items() if text in fault.message), None)
    if (refused := REFUSED.get(sqlstate or "")) is not None:
        code, text = refused
        return EngineConnectionError(f"{text}: {fault.message}", code)
    if fault.is_about_connection:
        text = f"Can't reach database server at `{server}`\n\nPlease make sure your database server is running at"
        return EngineConnectionError(f"{text} `{server}`. ({fault.message})")
    return None
