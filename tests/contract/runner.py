"""Runs cases with whichever `prisma` this interpreter has, and writes what came of each: the genuine one or ours.

usage: runner.py CASES.jsonl URL   one outcome a line to standard output. Needs psycopg2 beside `prisma`.

A case is {"name": …, "sql": …, "steps": […], "undo": sql}; its steps are

    {"call": "litellm_usertable.find_many", "arguments": {…}}       a method of a model, or of the client
    {"call": "query_raw", "parameters": ["SELECT $1", 1]}           one with positional arguments
    {"call": …, "keep": "user_id"}                                  of the rows, one field
    {"rows": {step}, "do": ["dict", …]}                             what a row object does
    {"tx": [steps], "timeout": seconds, "fail": bool}               a transaction, left by an exception or not
    {"batch": [steps]}                                              a batch
    {"sleep": seconds}, {"disconnected": {step}}, {"attributes": "litellm_usertable"}

Values that JSON has none for are {"$json": …}, {"$datetime": text}, {"$base64": text}, {"$enum": text},
{"$bytes": text}, {"$decimal": text}, {"$float": text}, {"$set": […]}, {"$tuple": […]}, {"$range": count},
{"$repeat": count}; the outcomes have the same.
"""

import asyncio
import base64
import datetime as dt
import decimal
import enum
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psycopg2
import pydantic

import prisma
from prisma import Base64, Json, Prisma

SEED = Path(__file__).with_name("seed.sql")
WITHOUT_ROWS = {"LiteLLM_Lens", "LiteLLM_PromptTable", "LiteLLM_SSOConfig"}
TABLES = sorted({*re.findall(r'INTO "(\w+)"', SEED.read_text()), *WITHOUT_ROWS})
READS = ("find_", "count", "group_by", "query_")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
CUID = re.compile(r"c[0-9a-z]{24}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?")
CRASHED = "RemoteProtocolError"  # so an engine's end shows: that of the oracle does not outlive every wrong argument
# Texts that differ in nothing that matters, and of which each implementation has its own.
OWN_WORDS = {"P2009", "P2012", "P2019", None}


def changed(row: Any) -> Any:
    setattr(row, next(iter(type(row).model_fields)), "changed")
    return row


ROW_ACTIONS: dict[str, Callable[[Any], Any]] = {
    "dict": lambda row: row.dict(),
    "model_dump": lambda row: row.model_dump(),
    "model_dump exclude_none": lambda row: row.model_dump(exclude_none=True),
    "model_dump exclude_unset": lambda row: row.model_dump(exclude_unset=True),
    "model_dump json": lambda row: row.model_dump(mode="json"),
    "json": lambda row: json.loads(row.json()),
    "model_dump_json": lambda row: json.loads(row.model_dump_json(exclude_none=True)),
    "names": lambda row: [name for name, _ in row],
    "equals its copy": lambda row: row == row.model_copy(),
    "equals its dump": lambda row: row == row.model_dump(),
    "repr": lambda row: repr(row).split("(")[0],
    "hash": lambda row: hash(row) and None,
    "get": lambda row: row.get("token"),
    "subscript": lambda row: row["token"],
    "unknown attribute": lambda row: row.no_such_attribute,
    "set attribute": changed,
    "set unknown attribute": lambda row: setattr(row, "no_such_attribute", 1),
    "fields set": lambda row: sorted(row.model_fields_set),
    "validate its dump": lambda row: type(row).model_validate(row.model_dump()) == row,
    "construct": lambda row: type(row)(**row.model_dump()) == row,
}


class Deliberate(Exception):  # noqa: N818
    """Raised within a transaction."""


# --- values -----------------------------------------------------------------------------------------------------------


def decode(value: Any) -> Any:
    """Make Python's value of a case's."""
    if isinstance(value, list):
        return [decode(one) for one in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, content),) = value.items()
        if name in DECODERS:
            return DECODERS[name](content)
    return {name: decode(one) for name, one in value.items()}


class JobStatus(enum.StrEnum):
    """The schema's one enum, as an Enum that is a text."""

    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    x = "x"


DECODERS: dict[str, Callable[[Any], Any]] = {
    "$json": Json,
    "$datetime": dt.datetime.fromisoformat,
    "$date": dt.date.fromisoformat,
    "$base64": Base64.fromb64,
    "$bytes": base64.b64decode,
    "$enum": JobStatus,
    "$range": lambda count: [f"key-{n}" for n in range(count)],
    "$repeat": lambda count: "x" * count,
    "$decimal": decimal.Decimal,
    "$float": float,
    "$set": lambda values: set(decode(values)),
    "$tuple": lambda values: tuple(decode(values)),
}


def encode(value: Any) -> Any:  # noqa: PLR0911
    """Make JSON of an outcome, so that other types are other texts; generated values become placeholders."""
    if isinstance(value, enum.Enum):
        return {"$enum": str(value.value)}
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float):
        return {"$float": repr(value)}
    if isinstance(value, dt.datetime):
        return {"$datetime": text(value.isoformat())}
    if isinstance(value, pydantic.BaseModel):
        fields = {name: encode(getattr(value, name)) for name in type(value).model_fields}
        return {"$row": type(value).__name__, **{name: one for name, one in fields.items() if one is not None}}
    if isinstance(value, dict):
        return {str(name): encode(one) for name, one in value.items()}
    if isinstance(value, list):
        return [encode(one) for one in value]
    return {f"${type(value).__name__.lower()}": str(value)}


def text(value: str) -> str:
    """Put placeholders for what is generated."""
    if UUID.fullmatch(value):
        return "<uuid>"
    if CUID.fullmatch(value):
        return "<cuid>"
    if MOMENT.fullmatch(value):
        try:
            moment = dt.datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return value
        moment = moment.replace(tzinfo=moment.tzinfo or dt.UTC)
        if abs(moment - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=30):
            return MOMENT.sub(lambda found: f"<now>{found[2] or ''}", value)
    return value


def encode_error(error: BaseException) -> Any:
    """Say what of an error a caller can depend on; `words` are not compared."""
    mro = [kind.__name__ for kind in type(error).__mro__]
    code, meta = getattr(error, "code", None), getattr(error, "meta", None)
    found: dict[str, Any] = {"error": mro[: mro.index("Exception")], "code": code}
    message = str(error)
    if not isinstance(error, prisma.errors.PrismaError) or code in OWN_WORDS:
        found["words"] = message[:300]
    elif code == "P2010":
        found |= {"sqlstate": (meta or {}).get("code"), "words": message[:300]}
    else:
        found |= {"message": message, "meta": encode(meta)}
    return found


# --- steps ------------------------------------------------------------------------------------------------------------


async def run_step(client: Any, step: dict[str, Any]) -> Any:
    """Run one, and give its encoded result or error."""
    try:
        return {"result": await perform(client, step)}
    except Exception as error:  # noqa: BLE001
        return encode_error(error)


def called(client: Any, step: dict[str, Any]) -> Any:
    """Call the method; a batch's gives nothing, all others' something to await."""
    target = client
    for name in step["call"].split("."):
        target = getattr(target, name)
    return target(*decode(step.get("parameters", [])), **decode(step.get("arguments", {})))


async def perform(client: Any, step: dict[str, Any]) -> Any:  # noqa: PLR0911, PLR0912
    if "keep" in step:
        return encode([getattr(row, step["keep"]) for row in await called(client, step)])
    if "call" in step:
        return encode(await called(client, step))
    if "sleep" in step:
        return await asyncio.sleep(step["sleep"])
    if "rows" in step:
        return await row_actions(client, step)
    if "attributes" in step:
        model = getattr(prisma.models, step["attributes"])
        return {name: info.is_required() for name, info in model.model_fields.items()}
    if "disconnected" in step:
        return await perform(Prisma(datasource={"url": sys.argv[2]}), step["disconnected"])
    if "batch" in step:
        async with client.batch_() as batch:
            for one in step["batch"]:
                called(batch, one)
            if step.get("fail"):
                raise Deliberate
        return None
    # By default there is time: a machine that is busy for 5 s is no difference between the two.
    limits = {name: dt.timedelta(seconds=step.get(name, 60)) for name in ("timeout", "max_wait")}
    outcomes: list[Any] = []
    try:
        async with client.tx(**limits) as transaction:
            for one in step["tx"]:
                outcomes.append(await run_step(transaction, one))
                if "error" in outcomes[-1] and step.get("strict"):
                    raise Deliberate  # noqa: TRY301
            if step.get("fail"):
                raise Deliberate  # noqa: TRY301
    except Exception as error:  # noqa: BLE001
        return {"within": outcomes, "left by": encode_error(error)}
    return {"within": outcomes}


async def row_actions(client: Any, step: dict[str, Any]) -> Any:
    row = await called(client, step["rows"])
    results = {}
    for name in step["do"]:
        try:
            results[name] = encode(ROW_ACTIONS[name](row))
        except Exception as error:  # noqa: BLE001
            results[name] = {"error": type(error).__name__}
    return results


# --- the database -----------------------------------------------------------------------------------------------------


class Tables:
    """The tables that cases work on."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg2.connect(url)
        self.connection.autocommit = True
        self.seeded = False
        self.seed = SEED.read_text()
        quoted = ", ".join(f'"{name}"' for name in TABLES)
        self.truncate = f"TRUNCATE {quoted} CASCADE;"
        self.dump = " UNION ALL ".join(f"SELECT '{name}', to_jsonb(t) FROM \"{name}\" t" for name in TABLES)  # noqa: S608

    def reset(self) -> None:
        """Put the seed's rows into them, and nothing else."""
        if not self.seeded:
            with self.connection.cursor() as cursor:
                cursor.execute(self.truncate + self.seed)
            self.before = self.rows()
        self.seeded = True

    def rows(self) -> dict[str, list[str]]:
        """Read all rows."""
        found: dict[str, list[str]] = {}
        with self.connection.cursor() as cursor:
            cursor.execute(self.dump)
            for table, row in cursor.fetchall():
                found.setdefault(table, []).append(json.dumps(clean(row), sort_keys=True, ensure_ascii=False))
        return {table: sorted(rows) for table, rows in found.items()}

    def changes(self) -> dict[str, Any]:
        """Say which rows are no longer there, and which are new; columns that are NULL are left out."""
        after = self.rows()
        changed = {}
        for table in TABLES:
            old, new = self.before.get(table, []), after.get(table, [])
            gone, come = [row for row in old if row not in new], [row for row in new if row not in old]
            if gone or come or len(old) != len(new):
                changed[table] = {"gone": [json.loads(row) for row in gone], "new": [json.loads(row) for row in come]}
                self.seeded = False
        return changed

    def execute(self, sql: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
        self.seeded = False


def clean(row: dict[str, Any]) -> dict[str, Any]:
    return {name: text(one) if isinstance(one, str) else one for name, one in row.items() if one is not None}


def writes(steps: list[dict[str, Any]]) -> bool:
    """Say whether these may change rows."""
    for step in steps:
        if "tx" in step or "batch" in step:
            return True
        if "call" in step and not step["call"].split(".")[-1].startswith(READS):
            return True
    return False


async def run_case(client: Any, tables: Tables, case: dict[str, Any]) -> dict[str, Any]:
    """Run a case on the seed's rows."""
    tables.reset()
    if case.get("sql"):
        tables.execute(case["sql"])
        tables.before = tables.rows()
    outcome: dict[str, Any] = {"steps": [await run_step(client, step) for step in case["steps"]]}
    if writes(case["steps"]):
        outcome["changes"] = tables.changes()
    if case.get("undo"):
        tables.execute(case["undo"])
    return outcome


async def main(lines: Iterable[str], url: str) -> None:
    """Run cases, one a line; one after the other, so that a pipe may wait for each answer."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    tables = Tables(url)
    client = Prisma(datasource={"url": url})
    await client.connect()
    for line in lines:
        case = json.loads(line)
        outcome = json.dumps({"name": case["name"], **await run_case(client, tables, case)})
        print(outcome, flush=True)  # noqa: T201
        if CRASHED in outcome:  # a new one for the next case
            await client.disconnect()
            client = Prisma(datasource={"url": url})
            await client.connect()
    await client.disconnect()


if __name__ == "__main__":
    with Path(sys.argv[1]).open() as cases:
        asyncio.run(main(cases, sys.argv[2]))
