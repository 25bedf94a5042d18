"""LiteLLM's schema.prisma, read into an immutable description.

The language is Prisma's (https://www.prisma.io/docs/orm/reference/prisma-schema-reference), as far as LiteLLM's schemas
use it for PostgreSQL. What is not known here is refused: a description that leaves something out would be a wrong one.
Pure: text in, description out.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

Scalar = Literal["String", "Int", "BigInt", "Float", "Decimal", "Boolean", "DateTime", "Json", "Bytes"]
SCALARS: frozenset[str] = frozenset(get_args(Scalar))
Action = Literal["Cascade", "Restrict", "NoAction", "SetNull", "SetDefault"]
ACTIONS: frozenset[str] = frozenset(get_args(Action))
LONGEST_NAME = 63  # bytes; PostgreSQL's
Value = Any  # a text, a number, a boolean, a Call, a Name, or a tuple of these
FUNCTIONS = frozenset({"autoincrement", "cuid", "dbgenerated", "now", "uuid"})

TOKEN = re.compile(
    r"""
    (?P<space>[^\S\n]+|//[^\n]*)
    |(?P<newline>\n)
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<number>-?\d+(?:\.\d+)?)
    |(?P<name>[A-Za-z]\w*(?:\.[A-Za-z]\w*)*)
    |(?P<sign>@@|[@{}()\[\]:,?=])
    """,
    re.VERBOSE,
)
ESCAPED = re.compile(r"\\(.)")


class SchemaError(Exception):
    """The schema cannot be read: the message names the line, what is wrong there, and what to do."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function's call, such as now().

    Attributes:
        function: Its name.
        arguments: What is between the parentheses.
    """

    function: str
    arguments: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Name:
    """A name that stands for a value: a field, an enum's value, an option.

    Attributes:
        text: The name.
    """

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """How a model's field leads to rows of another model.

    Attributes:
        model: The other model.
        inverse: The other model's field that leads back.
        fields: This model's fields that refer to the other's; empty if the other model has them.
        references: The other model's fields that they refer to.
        on_delete: What becomes of the referring row when the other one is deleted.
        on_update: The same when what is referred to changes.
    """

    model: str
    inverse: str
    fields: tuple[str, ...]
    references: tuple[str, ...]
    on_delete: Action
    on_update: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A model's field.

    Attributes:
        name: Prisma's name of it.
        column: PostgreSQL's; None of a relation, which has none.
        type: A scalar, an enum's name or a model's.
        is_list: Whether it has many values.
        is_required: Whether it has a value always; lists have.
        default: What it has if nothing else is said; None: there is none.
        is_updated_at: Whether each update sets it to the time.
        relation: Where it leads to; None of a column.
    """

    name: str
    column: str | None
    type: str
    is_list: bool
    is_required: bool
    default: Value
    is_updated_at: bool
    relation: Relation | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """What no two rows have in common.

    Attributes:
        name: By which a `where` calls it: the field's, or fields joined by underscores, or what the schema says.
        fields: The fields.
        constraint: PostgreSQL's name of the index.
    """

    name: str
    fields: tuple[str, ...]
    constraint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index that is not unique.

    Attributes:
        fields: The fields, and whether the order is descending.
        method: PostgreSQL's access method.
        name: PostgreSQL's name of it.
    """

    fields: tuple[tuple[str, bool], ...]
    method: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model.

    Attributes:
        name: Prisma's name of it.
        table: PostgreSQL's name of its table.
        fields: By name, in the schema's order.
        primary_key: Which also names a row.
        uniques: What else names a row.
        indexes: The other indexes.
    """

    name: str
    table: str
    fields: Mapping[str, Field]
    primary_key: Unique
    uniques: tuple[Unique, ...]
    indexes: tuple[Index, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """All of it.

    Attributes:
        models: By name.
        enums: Each one's values, by name.
        datasource: What is said of the database: provider, url…
    """

    models: Mapping[str, Model]
    enums: Mapping[str, tuple[str, ...]]
    datasource: Mapping[str, Value]


def parse(text: str) -> Schema:
    """Read a schema.

    Args:
        text: The file's.

    Raises:
        SchemaError: Something in it is wrong, or not known here.
    """
    blocks = _Reader(text).blocks()
    enums = {block.name: block.values() for block in blocks if block.kind == "enum"}
    models = {block.name: block for block in blocks if block.kind == "model"}
    for block in models.values():
        for line in block.lines:
            if line.type not in SCALARS and line.type not in enums and line.type not in models:
                raise line.problem(f"type {line.type} is neither a scalar nor an enum nor a model")
    return Schema(
        models=MappingProxyType({name: _model(block, models) for name, block in models.items()}),
        enums=enums,
        datasource=MappingProxyType(
            {name: value for block in blocks if block.kind == "datasource" for name, value in block.settings}
        ),
    )


# --- the text's structure ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Attribute:
    """What follows a @ or @@: positional arguments have the name ""."""

    number: int
    name: str
    arguments: tuple[tuple[str, Value], ...]

    def get(self, argument: str, *, positional: bool = False) -> Value:
        for given, value in self.arguments:
            if given == argument or (positional and given == ""):
                return value
        return None

    def text(self, argument: str, *, positional: bool = False) -> str | None:
        value = self.get(argument, positional=positional)
        if value is None or isinstance(value, str):
            return value
        raise self.problem(f"{argument} of @{self.name} must be a text")

    def option(self, argument: str) -> str | None:
        value = self.get(argument)
        if value is None:
            return None
        if isinstance(value, Name):
            return value.text
        raise self.problem(f"{argument} of @{self.name} must be a name")

    def keys(self, argument: str, *, positional: bool = False) -> tuple[tuple[str, bool], ...]:
        """Read fields, and whether their order is descending: a, or a(sort: Desc)."""
        found: list[tuple[str, bool]] = []
        values = self.get(argument, positional=positional)
        for value in values if isinstance(values, tuple) else filter(None, [values]):
            if isinstance(value, Name):
                found.append((value.text, False))
            elif isinstance(value, Call) and value.arguments in {(("sort", Name("Desc")),), (("sort", Name("Asc")),)}:
                found.append((value.function, value.arguments[0][1].text == "Desc"))
            else:
                raise self.problem(f"{argument} of @{self.name} must name fields")
        return tuple(found)

    def names(self, argument: str) -> tuple[str, ...]:
        return tuple(name for name, _ in self.keys(argument))

    def problem(self, what: str) -> SchemaError:
        return _problem(self.number, what)


@dataclass(frozen=True, slots=True)
class _Line:
    """A field, or with type "" an enum's value."""

    number: int
    name: str
    type: str
    is_list: bool
    is_optional: bool
    attributes: tuple[_Attribute, ...]

    def attribute(self, name: str) -> _Attribute | None:
        return next((attribute for attribute in self.attributes if attribute.name == name), None)

    def problem(self, what: str) -> SchemaError:
        return _problem(self.number, what)


@dataclass(frozen=True, slots=True)
class _Block:
    kind: str
    name: str
    number: int
    lines: tuple[_Line, ...]
    attributes: tuple[_Attribute, ...]
    settings: tuple[tuple[str, Value], ...]

    def values(self) -> tuple[str, ...]:
        return tuple(line.name for line in self.lines)


def _problem(line: int, what: str) -> SchemaError:
    return SchemaError(
        f"schema.prisma, line {line}: {what}. Either the file is damaged (install LiteLLM anew), or it is of a LiteLLM "
        "that is newer than what is supported"
    )


class _Reader:
    """Reads tokens."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0

    @property
    def _line(self) -> int:
        return self._tokens[self._at][2]

    def _peek(self, *signs: str) -> bool:
        kind, text, _ = self._tokens[self._at]
        return kind in {"sign", "newline"} and text in signs

    def _skip(self, *signs: str) -> bool:
        if self._peek(*signs):
            self._at += 1
            return True
        return False

    def _take(self, kind: str, sign: str = "") -> str:
        found, text, line = self._tokens[self._at]
        if found != kind or (sign and text != sign):
            raise _problem(line, f"{sign or kind} is expected, and {text or 'the end'!r} is there")
        self._at += 1
        return text

    def blocks(self) -> list[_Block]:
        found: list[_Block] = []
        while True:
            while self._skip("\n"):
                pass
            if self._tokens[self._at][0] == "end":
                return found
            found.append(self._block())

    def _block(self) -> _Block:
        number, kind, name = self._line, self._take("name"), self._take("name")
        if kind not in {"datasource", "generator", "enum", "model"}:
            raise _problem(number, f"{kind} is not known")
        lines: list[_Line] = []
        attributes: list[_Attribute] = []
        settings: list[tuple[str, Value]] = []
        self._take("sign", "{")
        while not self._skip("}"):
            if self._skip("\n"):
                continue
            if self._skip("@@"):
                attributes.append(self._attribute())
            elif kind in {"datasource", "generator"}:
                setting = self._take("name")
                self._take("sign", "=")
                settings.append((setting, self._value()))
            else:
                lines.append(self._field(is_value=kind == "enum"))
            if not self._peek("}"):
                self._take("newline")
        return _Block(kind, name, number, tuple(lines), tuple(attributes), tuple(settings))

    def _field(self, *, is_value: bool) -> _Line:
        number, name = self._line, self._take("name")
        kind = "" if is_value else self._take("name")
        is_list = self._skip("[") and bool(self._take("sign", "]"))
        is_optional = self._skip("?")
        attributes = []
        while self._skip("@"):
            attributes.append(self._attribute())
        return _Line(number, name, kind, is_list, is_optional, tuple(attributes))

    def _attribute(self) -> _Attribute:
        number, name = self._line, self._take("name")
        return _Attribute(number, name, self._arguments() if self._peek("(") else ())

    def _arguments(self) -> tuple[tuple[str, Value], ...]:
        found: list[tuple[str, Value]] = []
        self._take("sign", "(")
        while not self._skip(")"):
            value = self._value()
            if isinstance(value, Name) and self._skip(":"):
                found.append((value.text, self._value()))
            else:
                found.append(("", value))
            if not self._peek(")"):
                self._take("sign", ",")
        return tuple(found)

    def _value(self) -> Value:
        kind, text, line = self._tokens[self._at]
        self._at += 1
        if kind == "string":
            return ESCAPED.sub(r"\1", text[1:-1])
        if kind == "number":
            return float(text) if "." in text else int(text)
        if kind == "name" and text in {"true", "false"}:
            return text == "true"
        if kind == "name":
            if self._peek("("):
                return Call(text, self._arguments())
            return Name(text)
        if text == "[":
            values = []
            while not self._skip("]"):
                values.append(self._value())
                if not self._peek("]"):
                    self._take("sign", ",")
            return tuple(values)
        raise _problem(line, f"a value is expected, and {text or 'the end'!r} is there")


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    at, line = 0, 1
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _problem(line, f"{text[at : at + 20]!r} is not understood")
        if match.lastgroup != "space":
            yield match.lastgroup, match[0], line
        line += match[0] == "\n"
        at = match.end()
    yield "newline", "\n", line
    yield "end", "", line


# --- what it means ----------------------------------------------------------------------------------------------

FIELD_ATTRIBUTES = frozenset({"id", "unique", "default", "updatedAt", "map", "relation"})
MODEL_ATTRIBUTES = frozenset({"id", "unique", "index", "map"})
METHODS = {"BTree": "btree", "Hash": "hash", "Gin": "gin", "Gist": "gist", "SpGist": "spgist", "Brin": "brin"}


def _model(block: _Block, models: Mapping[str, _Block]) -> Model:
    fields = {line.name: _field(line, block, models) for line in block.lines}
    renamed = next((one.text("name", positional=True) for one in block.attributes if one.name == "map"), None)
    table: str = renamed or block.name
    primary_key: Unique | None = None
    uniques: list[Unique] = []
    indexes: list[Index] = []
    for line in block.lines:
        if line.attribute("id"):
            primary_key = Unique(name=line.name, fields=(line.name,), constraint=constraint_name(table, (), "pkey"))
        if unique := line.attribute("unique"):
            constraint = unique.text("map") or constraint_name(table, _columns(fields, (line.name,)), "key")
            uniques.append(Unique(name=line.name, fields=(line.name,), constraint=constraint))
    for attribute in block.attributes:
        if attribute.name not in MODEL_ATTRIBUTES:
            raise attribute.problem(f"@@{attribute.name} of model {block.name} is not known")
        if attribute.name == "map":
            continue
        keys = attribute.keys("fields", positional=True)
        names = tuple(name for name, _ in keys)
        if missing := [name for name in names if name not in fields or fields[name].column is None]:
            raise attribute.problem(f"@@{attribute.name} of model {block.name} names {missing[0]}: no such column")
        given = attribute.text("map")
        if attribute.name == "index":
            method = attribute.option("type") or "BTree"
            if method not in METHODS:
                raise attribute.problem(f"an index of model {block.name} has type {method}: not known")
            name = given or constraint_name(table, _columns(fields, names), "idx")
            indexes.append(Index(fields=keys, method=METHODS[method], name=name))
            continue
        called = attribute.text("name") or "_".join(names)
        if attribute.name == "id":
            constraint = given or constraint_name(table, (), "pkey")
            primary_key = Unique(name=called, fields=names, constraint=constraint)
        else:
            constraint = given or constraint_name(table, _columns(fields, names), "key")
            uniques.append(Unique(name=called, fields=names, constraint=constraint))
    if primary_key is None:
        raise _problem(block.number, f"model {block.name} has neither @id nor @@id")
    return Model(
        name=block.name,
        table=table,
        fields=MappingProxyType(fields),
        primary_key=primary_key,
        uniques=tuple(uniques),
        indexes=tuple(indexes),
    )


def _columns(fields: Mapping[str, Field], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(fields[name].column or name for name in names)


def constraint_name(table: str, columns: tuple[str, ...], suffix: str) -> str:
    """Name an index or a constraint as Prisma does: what is too long is cut before the suffix.

    Args:
        table: PostgreSQL's name.
        columns: The same.
        suffix: Of its kind: pkey, key, idx or fkey.
    """
    return f"{'_'.join((table, *columns))[: LONGEST_NAME - len(suffix) - 1]}_{suffix}"


def _field(line: _Line, block: _Block, models: Mapping[str, _Block]) -> Field:
    for attribute in line.attributes:
        if attribute.name not in FIELD_ATTRIBUTES:
            raise line.problem(f"@{attribute.name} of field {line.name} is not known")
    is_relation = line.type in models
    mapped, default = line.attribute("map"), line.attribute("default")
    value = default.get("value", positional=True) if default else None
    if isinstance(value, Call):
        if value.function not in FUNCTIONS:
            raise line.problem(f"@default({value.function}()) of field {line.name} is not known")
        value = Call(value.function, tuple(argument for _, argument in value.arguments))
    return Field(
        name=line.name,
        column=None if is_relation else (mapped and mapped.text("name", positional=True)) or line.name,
        type=line.type,
        is_list=line.is_list,
        is_required=not line.is_optional,
        default=value,
        is_updated_at=line.attribute("updatedAt") is not None,
        relation=_relation(line, block, models) if is_relation else None,
    )


def _relation(line: _Line, block: _Block, models: Mapping[str, _Block]) -> Relation:
    other = models[line.type]
    name = _relation_name(line)
    inverses = [
        candidate
        for candidate in other.lines
        if candidate.type == block.name
        and _relation_name(candidate) == name
        and (candidate.name != line.name or other.name != block.name)
    ]
    if len(inverses) != 1:
        raise line.problem(f"relation {line.name} has {len(inverses)} fields in {other.name} that lead back, not one")
    (inverse,) = inverses
    own, others = _names(line, "fields"), _names(inverse, "fields")
    if bool(own) == bool(others):
        raise line.problem(f"relation {line.name}: one of both sides must have fields")
    owner, owning = (line, block) if own else (inverse, other)
    optional = all(_column_line(owning, owner, name).is_optional for name in own or others)
    referred = _names(owner, "references")
    if len(referred) != len(own or others):
        raise owner.problem(f"relation {owner.name} has fields and references of different lengths")
    for name in referred:
        _column_line(block if owner is inverse else other, owner, name)
    return Relation(
        model=other.name,
        inverse=inverse.name,
        fields=own,
        references=_names(line, "references"),
        on_delete=_action(owner, "onDelete", "SetNull" if optional else "Restrict"),
        on_update=_action(owner, "onUpdate", "Cascade"),
    )


def _relation_name(line: _Line) -> str | None:
    attribute = line.attribute("relation")
    return attribute.text("name", positional=True) if attribute else None


def _names(line: _Line, argument: str) -> tuple[str, ...]:
    attribute = line.attribute("relation")
    return attribute.names(argument) if attribute else ()


def _column_line(block: _Block, relation: _Line, name: str) -> _Line:
    found = next((line for line in block.lines if line.name == name), None)
    if found is None:
        raise relation.problem(f"relation {relation.name} names {name}, which model {block.name} does not have")
    return found


def _action(line: _Line, argument: str, otherwise: Action) -> Action:
    attribute = line.attribute("relation")
    given = attribute.option(argument) if attribute else None
    if given is None:
        return otherwise
    if given not in ACTIONS:
        raise line.problem(f"{argument}: {given} of relation {line.name} is not known")
    return cast("Action", given)
