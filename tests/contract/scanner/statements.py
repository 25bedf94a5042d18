"""LiteLLM's raw SQL: the text of each statement and the kinds of its parameters, as far as its source tells them.

A text is put together by walking back from the call: constants, f-strings, joins, variables along the branches that
lead to the call, functions that return text, and the callers of a function that is given one. What only a running
LiteLLM knows stays as a hole: its source between HOLE and END.
"""

import ast
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.contract.scanner.source import Function, Module, Release, assigned, chain
from tests.contract.scanner.surface import RAW

HOLE, END = "\x02", "\x03"
HOLES = re.compile(f"{HOLE}([^{END}]*){END}")
MOST_TEXTS = 6  # of one call: branches multiply
DEEPEST = 24
Texts = list[str]
Kinds = tuple[str | None, ...]
ANY_MORE: Kinds = ("*",)
# What well-known functions return, as a raw query's JSON has it: a time is a text.
RETURNED = (
    dict.fromkeys(("int", "len", "round"), "int")
    | dict.fromkeys(("float", "monotonic", "timestamp", "total_seconds"), "float")
    | dict.fromkeys(("combine", "datetime", "fromisoformat", "now", "strptime", "today", "utcnow"), "str")
    | dict.fromkeys(("decode", "dumps", "hash_token", "isoformat", "join", "lower", "str", "strftime"), "str")
    | dict.fromkeys(("strip", "upper", "uuid4"), "str")
)


class UnresolvedError(Exception):
    """A text is not to be had from the source: why."""


@dataclass(frozen=True)
class Statement:
    """A raw query.

    Attributes:
        where: File and line of its call.
        place: File and function of what gives the text; the same from release to release.
        text: The SQL, with holes.
        parameters: The kinds of its values, such as "str", "list[int]"; None: not known.
        reason: Why there is no text.
    """

    where: str
    place: str
    text: str | None
    parameters: tuple[str | None, ...] = ()
    reason: str = ""


@dataclass
class Context:
    """Where an expression stands: its function, and what this one is called with."""

    module: Module
    at: ast.AST
    bound: dict[str, tuple[ast.expr, "Context"]] = field(default_factory=dict)
    rest: tuple[list[ast.expr], "Context"] | None = None

    @property
    def function(self) -> Function | None:
        return self.module.function(self.at)


def statements(release: Release) -> list[Statement]:
    """List a release's raw statements.

    Args:
        release: The installed LiteLLM.
    """
    reader = Reader(release)
    found: dict[Statement, None] = {}
    for module in list(release.modules.values()):
        for node in module.nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RAW:
                found.update(dict.fromkeys(reader.of_call(module, node)))
    return list(found)


class Reader:
    """Reads texts and kinds.

    Args:
        release: The installed LiteLLM.
    """

    def __init__(self, release: Release) -> None:
        self.release = release
        self.calls: dict[str, list[tuple[Module, ast.Call]]] = {}
        self.annotations: dict[str, set[str]] = {}
        self.definitions = Counter(name for module in release.modules.values() for name in module.functions)
        for module in list(release.modules.values()):
            for node in module.nodes:
                if isinstance(node, ast.Call):
                    self.calls.setdefault(chain(node.func)[-1], []).append((module, node))
                elif isinstance(node, ast.ClassDef):
                    for inner in node.body:
                        if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                            kind = of_annotation(inner.annotation)
                            if kind:
                                self.annotations.setdefault(inner.target.id, set()).add(kind)

    def _calls_of(self, function: Function, home: Module) -> Iterator[tuple[Module, ast.Call]]:
        """Give the calls of a function, and not those of its namesakes in other modules."""
        for module, call in self.calls.get(function.name, ()):
            if module is home:
                yield module, call
            elif isinstance(call.func, ast.Name):
                source, _ = module.imports.get(function.name, ("", None))
                if home.path in {source.replace(".", "/") + ".py", source.replace(".", "/") + "/__init__.py"}:
                    yield module, call
            elif self.definitions[function.name] == 1:
                yield module, call

    def of_call(self, module: Module, call: ast.Call) -> Iterator[Statement]:
        """Give the statements that a call can send."""
        function = module.function(call)
        if function is not None and function.name in RAW:
            return  # hands on what its callers give, and those are calls themselves
        where, context = module.where(call), Context(module, call)
        given = [keyword.value for keyword in call.keywords if keyword.arg == "query"]
        sql, *values = [*given, *call.args]
        if isinstance(sql, ast.Starred):  # both come from a function
            for pair, own in self._values(sql.value, context, 0):
                if isinstance(pair, ast.Tuple):
                    (sql, *values), context = pair.elts, own
                    break
        for giver, own in self._callers(context, sql, 0):
            place = giver.module.qualified(giver.at)
            try:
                texts = self.texts(sql, own, 0)
            except UnresolvedError as error:
                yield Statement(where, place, None, reason=str(error))
                continue
            alternatives = self.kinds(values, own, 0)
            for text in texts:
                yield from (Statement(where, place, text, kinds) for kinds in fitting(text, alternatives))

    def _callers(self, context: Context, sql: ast.expr, depth: int) -> Iterator[tuple[Context, Context]]:
        """Give who can give a call its text, and the call's own context then.

        A function that is given the text by its callers is not where the text is from: they are, or their callers.
        """
        function = context.function
        found = False
        if function is not None and isinstance(sql, ast.Name) and sql.id in names_of(function) and depth <= 3:
            for module, call in self._calls_of(function, context.module):
                bound, _ = bind(function, call, Context(module, call), context.module)
                if sql.id in bound:
                    found = True
                    argument, above = bound[sql.id]
                    for giver, caller in self._callers(above, argument, depth + 1):
                        given = bind(function, call, caller, context.module)
                        yield giver, Context(context.module, context.at, *given)
        if not found:
            yield context, context

    # Texts

    def texts(self, node: ast.expr, context: Context, depth: int) -> Texts:
        """Give the texts that an expression can be."""
        if depth > DEEPEST:
            raise UnresolvedError("too deep")
        read = getattr(self, f"_of_{type(node).__name__.lower()}", None)
        if read is None:
            raise UnresolvedError(f"{type(node).__name__} `{ast.unparse(node)[:60]}`")
        found: Texts = read(node, context, depth + 1)
        return list(dict.fromkeys(found))[:MOST_TEXTS]

    def _of_constant(self, node: ast.Constant, _: Context, __: int) -> Texts:
        return [str(node.value)]

    def _of_await(self, node: ast.Await, context: Context, depth: int) -> Texts:
        return self.texts(node.value, context, depth)

    def _of_joinedstr(self, node: ast.JoinedStr, context: Context, depth: int) -> Texts:
        parts: list[Texts] = []
        for part in node.values:
            if isinstance(part, ast.Constant):
                parts.append([str(part.value)])
            else:
                assert isinstance(part, ast.FormattedValue)
                if parts and all(text.endswith("$") for text in parts[-1]):
                    parts.append([f"{HOLE}{ast.unparse(part.value)}{END}"])  # a parameter's number
                    continue
                try:
                    parts.append(self.texts(part.value, context, depth))
                except UnresolvedError:
                    parts.append([f"{HOLE}{ast.unparse(part.value)}{END}"])
        return products(parts)

    def _of_binop(self, node: ast.BinOp, context: Context, depth: int) -> Texts:
        if not isinstance(node.op, ast.Add):
            raise UnresolvedError(f"`{ast.unparse(node)[:60]}`")
        return products([self.texts(node.left, context, depth), self.texts(node.right, context, depth)])

    def _of_ifexp(self, node: ast.IfExp, context: Context, depth: int) -> Texts:
        return [*self.texts(node.body, context, depth), *self.texts(node.orelse, context, depth)]

    def _of_boolop(self, node: ast.BoolOp, context: Context, depth: int) -> Texts:
        return [text for value in node.values for text in self.texts(value, context, depth)]

    def _of_name(self, node: ast.Name, context: Context, depth: int) -> Texts:
        if node.id in context.bound:
            return self.texts(*context.bound[node.id], depth)
        function = context.function
        while function is not None:
            walk = Walk(self, node.id, context, depth)
            if found := walk.to(function, context.at):
                return found
            if node.id in names_of(function):
                return self._of_parameter(node.id, function, context, depth)
            if any(name == node.id for inner in ast.walk(function) for name, _ in assigned(inner)):
                raise UnresolvedError(walk.reason or f"variable {node.id}")
            if found := [text for one in looped(function, node.id) for text in self._of_loop(one, context, depth)]:
                return found
            function = context.module.function(function)
        return self._of_global(node.id, context.module, depth)

    def _of_loop(self, loop: tuple[ast.expr, int | None], context: Context, depth: int) -> Texts:
        items, index = loop
        if index is None:
            return [text for one in self.lists(items, context, depth) for text in one]
        for value, inner in self._values(items, context, depth):
            if isinstance(value, ast.List | ast.Tuple):
                return [
                    text
                    for one in value.elts
                    if isinstance(one, ast.Tuple)
                    for text in self._or_hole(one.elts[index], inner, depth)
                ]
        return []

    def _of_parameter(self, name: str, function: Function, context: Context, depth: int) -> Texts:
        found, reason = [], f"argument {name} of {function.name}"
        for module, call in self._calls_of(function, context.module):
            bound, _ = bind(function, call, Context(module, call), context.module)
            if name in bound:
                try:
                    found += self.texts(*bound[name], depth)
                except UnresolvedError as error:
                    reason = str(error)
        if not found:
            raise UnresolvedError(reason)
        return found

    def _of_global(self, name: str, module: Module, depth: int) -> Texts:
        if name in module.constants:
            return [
                text for value in module.constants[name] for text in self.texts(value, Context(module, value), depth)
            ]
        if name in module.imports:
            source, there = module.imports[name]
            other = self.release.module(source)
            if other is not None and there:
                return self._of_global(there, other, depth + 1)
        raise UnresolvedError(f"name {name}")

    def _of_subscript(self, node: ast.Subscript, context: Context, depth: int) -> Texts:
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int):
            for value, inner in self._values(node.value, context, depth):
                if isinstance(value, ast.Tuple | ast.List):
                    return self.texts(value.elts[node.slice.value], inner, depth)
        for given, inner in self._values(node.value, context, depth):
            value = given.args[0] if isinstance(given, ast.Call) and given.args else given  # MappingProxyType({…})
            if isinstance(value, ast.Dict):
                return [text for one in value.values for text in self.texts(one, inner, depth)]
            if isinstance(value, ast.DictComp):
                return self.texts(value.value, inner, depth)
        raise UnresolvedError(f"`{ast.unparse(node)[:60]}`")

    def _of_attribute(self, node: ast.Attribute, context: Context, depth: int) -> Texts:
        found: Texts = []
        reason = f"`{ast.unparse(node)[:60]}`"
        for value, inner in self._values(node.value, context, depth):
            if isinstance(value, ast.Call):
                found += [
                    text
                    for keyword in value.keywords
                    if keyword.arg == node.attr
                    for text in self.texts(keyword.value, inner, depth)
                ]
        if not found and isinstance(node.value, ast.Name):
            for module, call in self._constructed(node.value, context):
                for keyword in call.keywords:
                    if keyword.arg == node.attr:
                        found += self._or_hole(keyword.value, Context(module, call), depth)
        if not found:
            raise UnresolvedError(reason)
        return found

    def _constructed(self, name: ast.Name, context: Context) -> Iterator[tuple[Module, ast.Call]]:
        """Give the calls that make what an argument's annotation says."""
        arguments = context.function.args.args if context.function else []
        for argument in arguments:
            if argument.arg == name.id and isinstance(argument.annotation, ast.Name):
                kind = argument.annotation.id
                source, there = context.module.imports.get(kind, ("", kind))
                home = self.release.module(source)
                for node in home.nodes if home else ():
                    if home and isinstance(node, ast.Call) and chain(node.func)[-1] == there:
                        yield home, node

    def _of_call(self, node: ast.Call, context: Context, depth: int) -> Texts:
        name = chain(node.func)[-1]
        if isinstance(node.func, ast.Attribute) and name == "join":
            return [
                between.join(items)
                for between in self.texts(node.func.value, context, depth)
                for items in self.lists(node.args[0], context, depth)
            ]
        if isinstance(node.func, ast.Attribute) and name in {"strip", "lstrip", "rstrip"} and not node.args:
            return [text.strip() for text in self.texts(node.func.value, context, depth)]
        if name in {"dedent", "cast"}:
            return self.texts(node.args[-1], context, depth)
        if isinstance(node.func, ast.Attribute) and name == "format":
            fields = [self._or_hole(one.value, context, depth) for one in node.keywords]
            names = [one.arg for one in node.keywords]
            return [
                formatted(text, dict(zip(names, values, strict=True)))
                for text in self.texts(node.func.value, context, depth)
                for values in itertools.product(*fields)
            ]
        if isinstance(node.func, ast.Attribute) and name == "replace":
            return [
                text.replace(old, new)
                for text in self.texts(node.func.value, context, depth)
                for old in self.texts(node.args[0], context, depth)
                for new in self._or_hole(node.args[1], context, depth)
            ]
        found, reason = [], f"call `{ast.unparse(node)[:60]}`"
        for value, inner in self._returned(node, context):
            try:
                found += self.texts(value, inner, depth)
            except UnresolvedError as error:
                reason = str(error)
        if not found:
            raise UnresolvedError(reason)
        return found

    def _or_hole(self, node: ast.expr, context: Context, depth: int) -> Texts:
        try:
            return self.texts(node, context, depth)
        except UnresolvedError:
            return [f"{HOLE}{ast.unparse(node)}{END}"]

    def _returned(self, call: ast.Call, context: Context) -> Iterator[tuple[ast.expr, Context]]:
        """Give what the called function returns."""
        name, module = chain(call.func)[-1], context.module
        if isinstance(call.func, ast.Name) and name in module.imports:
            source, there = module.imports[name]
            module, name = self.release.module(source) or module, there or name
        for function in module.functions.get(name, ()):
            bound, rest = bind(function, call, context, module)
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value and module.function(node) is function:
                    yield node.value, Context(module, node, bound, rest)

    def _values(self, node: ast.expr, context: Context, depth: int) -> Iterator[tuple[ast.expr, Context]]:
        """Give the expressions that a name can stand for."""
        if depth > DEEPEST:
            return
        if isinstance(node, ast.Await):
            yield from self._values(node.value, context, depth + 1)
        elif isinstance(node, ast.Name) and node.id in context.bound:
            yield from self._values(*context.bound[node.id], depth + 1)
        elif isinstance(node, ast.Name):
            scope: ast.AST = context.function or context.module.tree
            values = [value for inner in ast.walk(scope) for name, value in assigned(inner) if name == node.id]
            values = values or context.module.constants.get(node.id, [])
            for value in values:
                yield from self._values(value, context, depth + 1)
            if not values and node.id in context.module.imports:
                source, there = context.module.imports[node.id]
                other = self.release.module(source)
                for value in other.constants.get(there or "", ()) if other else ():
                    assert other is not None
                    yield from self._values(value, Context(other, value), depth + 1)
        elif isinstance(node, ast.Call):
            returned = list(self._returned(node, context))
            if not returned:
                yield node, context
            for value, inner in returned:
                yield from self._values(value, inner, depth + 1)
        else:
            yield node, context

    def lists(self, node: ast.expr, context: Context, depth: int) -> list[list[str]]:
        """Give the lists of texts that an expression can be."""
        if depth > DEEPEST:
            raise UnresolvedError("too deep")
        read = getattr(self, f"_lists_of_{type(node).__name__.lower()}", self._lists_of_value)
        found: list[list[str]] = read(node, context, depth + 1)
        return found

    def _lists_of_tuple(self, node: ast.Tuple | ast.List, context: Context, depth: int) -> list[list[str]]:
        made: list[list[str]] = [[]]
        for element in node.elts:
            if isinstance(element, ast.Starred):
                more = self.lists(element.value, context, depth)
            else:
                more = [[text] for text in self._or_hole(element, context, depth)]
            made = [[*before, *after] for before in made for after in more][:MOST_TEXTS]
        return made

    _lists_of_list = _lists_of_tuple

    def _lists_of_listcomp(
        self, node: ast.ListComp | ast.GeneratorExp, context: Context, depth: int
    ) -> list[list[str]]:
        source = node.generators[0]
        try:
            return [
                [
                    self._or_hole(node.elt, self._bound(source.target, item, index, context), depth)[0]
                    for index, item in enumerate(items)
                ]
                for items in self._iterated(source.iter, context, depth)
            ]
        except UnresolvedError:
            return [[text] for text in self._or_hole(node.elt, context, depth)]

    _lists_of_generatorexp = _lists_of_listcomp

    def _lists_of_ifexp(self, node: ast.IfExp, context: Context, depth: int) -> list[list[str]]:
        return [*self.lists(node.body, context, depth), *self.lists(node.orelse, context, depth)]

    def _lists_of_binop(self, node: ast.BinOp, context: Context, depth: int) -> list[list[str]]:
        if not isinstance(node.op, ast.Add):
            return self._lists_of_value(node, context, depth)
        return [
            [*before, *after]
            for before in self.lists(node.left, context, depth)
            for after in self.lists(node.right, context, depth)
        ][:MOST_TEXTS]

    def _lists_of_call(self, node: ast.Call, context: Context, depth: int) -> list[list[str]]:
        if chain(node.func)[-1] in {"tuple", "list", "sorted", "frozenset", "filter"}:
            return self.lists(node.args[-1], context, depth) if node.args else [[]]
        return self._lists_of_value(node, context, depth)

    def _lists_of_name(self, node: ast.Name, context: Context, depth: int) -> list[list[str]]:
        if node.id in context.bound:
            return self.lists(*context.bound[node.id], depth)
        function = context.function
        if function is not None:
            if found := Walk(self, node.id, context, depth, of="lists").to(function, context.at):
                return [list(one) for one in found]
            for module, call in self._calls_of(function, context.module) if node.id in names_of(function) else ():
                bound, _ = bind(function, call, Context(module, call), context.module)
                if node.id in bound:
                    return self.lists(*bound[node.id], depth)
        return self._lists_of_value(node, context, depth)

    def _lists_of_value(self, node: ast.expr, context: Context, depth: int) -> list[list[str]]:
        for value, inner in self._values(node, context, depth):
            if value is not node:
                return self.lists(value, inner, depth)
        raise UnresolvedError(f"list `{ast.unparse(node)[:60]}`")

    def _iterated(self, node: ast.expr, context: Context, depth: int) -> list[list[str]]:
        """Give the items of what a comprehension goes through; numbers as texts."""
        if isinstance(node, ast.Call) and chain(node.func) == ["range"]:
            last = node.args[-1]
            if isinstance(last, ast.Call) and chain(last.func) == ["len"]:
                return self._iterated(last.args[0], context, depth)
            raise UnresolvedError(f"`{ast.unparse(node)}`")
        if isinstance(node, ast.Call) and chain(node.func) == ["enumerate"]:
            return self._iterated(node.args[0], context, depth)
        return self.lists(node, context, depth)

    @staticmethod
    def _bound(target: ast.expr, item: str, index: int, context: Context) -> Context:
        """Give a comprehension's variable its value."""
        bound = dict(context.bound)
        if isinstance(target, ast.Name):
            bound[target.id] = ast.Constant(item), context
        elif isinstance(target, ast.Tuple) and len(target.elts) == 2 and isinstance(target.elts[1], ast.Name):
            bound[target.elts[1].id] = ast.Constant(item), context
        return Context(context.module, context.at, bound, context.rest)

    # Kinds

    def kinds(self, values: Sequence[ast.expr], context: Context, depth: int) -> list[Kinds]:
        """Give the kinds that a call's parameters, or a list's items, can have; ANY_MORE: there are more of them."""
        made: list[Kinds] = [()]
        for value in values:
            more: list[Kinds]
            if isinstance(value, ast.Starred):
                more = self._kinds_of_list(value.value, context, depth + 1)
            else:
                more = [(self.kind(value, context, 0),)]
            made = list(dict.fromkeys((*before, *after) for before in made for after in more))[: 8 * MOST_TEXTS]
        return made

    def _kinds_of_list(self, node: ast.expr, context: Context, depth: int) -> list[Kinds]:
        found: list[Kinds] = []
        if depth > DEEPEST:
            return [ANY_MORE]
        if isinstance(node, ast.Tuple | ast.List):
            return self.kinds(node.elts, context, depth + 1)
        if isinstance(node, ast.IfExp):
            return [one for part in (node.body, node.orelse) for one in self._kinds_of_list(part, context, depth + 1)]
        if isinstance(node, ast.Call) and chain(node.func) in (["tuple"], ["list"]) and node.args:
            return self._kinds_of_list(node.args[0], context, depth + 1)
        if isinstance(node, ast.Name):
            found = self._kinds_of_variable(node, context, depth)
        elif isinstance(node, ast.Call | ast.Subscript):
            found = [
                one
                for value, inner in self._values(node, context, depth + 1)
                if value is not node and isinstance(value, ast.Tuple | ast.List | ast.Name | ast.IfExp)
                for one in self._kinds_of_list(value, inner, depth + 1)
            ]
        return found or [ANY_MORE]

    def _kinds_of_variable(self, node: ast.Name, context: Context, depth: int) -> list[Kinds]:
        if node.id in context.bound:
            value, outer = context.bound[node.id]
            return self._kinds_of_list(value, outer, depth + 1)
        function = context.function
        if function is None:
            return []
        if function.args.vararg and function.args.vararg.arg == node.id:
            return self.kinds(*context.rest, depth + 1) if context.rest else []
        found = Walk(self, node.id, context, depth, of="kinds").to(function, context.at)
        return [one for one in found if isinstance(one, tuple)]

    def kind(self, node: ast.expr, context: Context, depth: int) -> str | None:
        """Say which kind of value an expression is."""
        read = getattr(self, f"_kind_of_{type(node).__name__.lower()}", None)
        if read is None or depth > 6:
            return None
        found: str | None = read(node, context, depth + 1)
        return found

    def _kind_of_constant(self, node: ast.Constant, _: Context, __: int) -> str | None:
        return None if node.value is None else type(node.value).__name__

    def _kind_of_joinedstr(self, _: ast.JoinedStr, __: Context, ___: int) -> str:
        return "str"

    def _kind_of_compare(self, _: ast.Compare, __: Context, ___: int) -> str:
        return "bool"

    def _kind_of_await(self, node: ast.Await | ast.Starred, context: Context, depth: int) -> str | None:
        return self.kind(node.value, context, depth)

    _kind_of_starred = _kind_of_await

    def _kind_of_tuple(self, node: ast.Tuple | ast.List | ast.Set, context: Context, depth: int) -> str:
        inner = {self._kind_of_item(one, context, depth) for one in node.elts} - {None}
        return f"list[{inner.pop()}]" if len(inner) == 1 else "list[str]"

    def _kind_of_item(self, node: ast.expr, context: Context, depth: int) -> str | None:
        if not isinstance(node, ast.Starred):
            return self.kind(node, context, depth)
        items = self.kind(node.value, context, depth) or ""
        return items.removeprefix("list[").removesuffix("]") if items.startswith("list[") else None

    _kind_of_list = _kind_of_set = _kind_of_tuple

    def _kind_of_listcomp(
        self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp, context: Context, depth: int
    ) -> str:
        return f"list[{self.kind(node.elt, context, depth) or 'str'}]"

    _kind_of_generatorexp = _kind_of_setcomp = _kind_of_listcomp

    def _kind_of_ifexp(self, node: ast.IfExp, context: Context, depth: int) -> str | None:
        return self._first_kind([node.body, node.orelse], context, depth)

    def _kind_of_boolop(self, node: ast.BoolOp, context: Context, depth: int) -> str | None:
        return self._first_kind(node.values, context, depth)

    def _first_kind(self, nodes: Sequence[ast.expr], context: Context, depth: int) -> str | None:
        return next((kind for one in nodes if (kind := self.kind(one, context, depth))), None)

    def _kind_of_binop(self, node: ast.BinOp, context: Context, depth: int) -> str | None:
        kinds = [self.kind(part, context, depth) for part in (node.left, node.right)]
        return "float" if "float" in kinds else kinds[0] or kinds[1]

    def _kind_of_attribute(self, node: ast.Attribute, _: Context, __: int) -> str | None:
        kinds = self.annotations.get(node.attr, set())
        return next(iter(kinds)) if len(kinds) == 1 else None

    def _kind_of_call(self, node: ast.Call, context: Context, depth: int) -> str | None:
        name = chain(node.func)[-1]
        if name in RETURNED:
            return RETURNED[name]
        if name in {"list", "sorted", "tuple", "set", "frozenset"} and node.args:
            items = self.kind(node.args[0], context, depth) or ""
            return items if items.startswith("list") else "list[str]"
        if name in {"min", "max"}:
            return self._first_kind(node.args, context, depth)
        module = context.module
        if isinstance(node.func, ast.Name) and name in module.imports:
            source, there = module.imports[name]
            module, name = self.release.module(source) or module, there or name
        returns = [function.returns for function in module.functions.get(name, ()) if function.returns is not None]
        return next((kind for one in returns if (kind := of_annotation(one))), None)

    def _kind_of_name(self, node: ast.Name, context: Context, depth: int) -> str | None:
        if node.id in context.bound:
            value, inner = context.bound[node.id]
            if kind := self.kind(value, inner, depth):
                return kind
        function = context.function
        while function is not None:
            arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            for argument in arguments:
                if argument.arg == node.id and argument.annotation and (kind := of_annotation(argument.annotation)):
                    return kind
            for inner_node in ast.walk(function):
                if (
                    isinstance(inner_node, ast.AnnAssign)
                    and isinstance(inner_node.target, ast.Name)
                    and inner_node.target.id == node.id
                    and (kind := of_annotation(inner_node.annotation))
                ):
                    return kind
                for name, value in assigned(inner_node):
                    if name == node.id and (kind := self.kind(value, context, depth)):
                        return kind
            function = context.module.function(function)
        for value, inner in self._values(node, context, 0):
            if value is not node and (kind := self.kind(value, inner, depth)):
                return kind
        return None


def fitting(text: str, alternatives: Sequence[Kinds]) -> list[Kinds]:
    """Choose the kinds that are as many as a text has parameters; what is not known fills the rest."""
    wanted = max((int(number) for number in re.findall(r"\$(\d+)", text)), default=0)
    wanted += len(re.findall(rf"\${HOLE}", text))
    known = [kinds for kinds in alternatives if "*" not in kinds and len(kinds) == wanted]
    if known:
        return known[:3]
    head = max((kinds[: kinds.index("*")] if "*" in kinds else kinds for kinds in alternatives), key=len)
    return [(*head[:wanted], *[None] * (wanted - len(head)))]


class Walk:
    """Follows a variable along the statements that lead to a place."""

    def __init__(self, reader: Reader, name: str, context: Context, depth: int, *, of: str = "texts") -> None:
        self.reader, self.name, self.context, self.depth, self.of = reader, name, context, depth, of
        self.reason = ""
        self.way: set[ast.AST] = set()  # the place and all that it is in

    def to(self, function: Function, at: ast.AST) -> list[Any]:
        """Give what the variable can be at a place: texts, or tuples."""
        parents, above = self.context.module.parents, at
        self.way = {at}
        while above in parents:
            above = parents[above]
            self.way.add(above)
        return [state for state in self._block(function.body, [None]) if state is not None]

    def _block(self, statements: Sequence[ast.stmt], states: list[object]) -> list[object]:
        for statement in statements:
            states = list(dict.fromkeys(self._statement(statement, states)))
            if len(states) > MOST_TEXTS:
                states = [*states[: MOST_TEXTS // 2], *states[-MOST_TEXTS // 2 :]]
            if statement in self.way:
                break
        return states

    def _statement(self, node: ast.stmt, states: list[object]) -> list[object]:
        inside = node in self.way
        if isinstance(node, ast.With | ast.AsyncWith) or (isinstance(node, Function | ast.ClassDef) and inside):
            return self._block(node.body, states)
        branches = branches_of(node)
        if inside:
            way = next((branch for branch in branches if self.way.intersection(branch)), ())
            return self._block(way, states)
        if not branches:
            return self._simple(node, states)
        results = [state for branch in branches for state in self._block(branch, states) if not leaves(branch)]
        if isinstance(node, ast.Try):
            return self._block(node.finalbody, results)
        return results or states

    def _simple(self, node: ast.stmt, states: list[object]) -> list[object]:
        if (value := self._assigned(node)) is not None:
            return self._read(value)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id == self.name:
            return [join(state, more) for state in states for more in self._read(node.value)]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.args:
            if chain(node.value.func) == [self.name, "append"]:
                items = self._items(node.value.args[0], node)
                return [join(state, (item,)) for state in states for item in items]
            if chain(node.value.func) == [self.name, "extend"]:
                return [join(state, more) for state in states for more in self._read(node.value.args[0])]
        return states

    def _items(self, value: ast.expr, node: ast.stmt) -> Sequence[str | None]:
        if self.of == "kinds":
            return [self.reader.kind(value, self._here(node), 0)]
        return self.reader._or_hole(value, self._here(node), self.depth)

    def _assigned(self, node: ast.stmt) -> ast.expr | None:
        """Give what a statement assigns to the variable."""
        for name, value in assigned(node):
            if name == self.name:
                return value
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            for index, target in enumerate(node.targets[0].elts):
                if isinstance(target, ast.Name) and target.id == self.name:
                    if isinstance(node.value, ast.Tuple):
                        return node.value.elts[index]
                    return ast.Subscript(node.value, ast.Constant(index))
        return None

    def _here(self, node: ast.AST) -> Context:
        return Context(self.context.module, node, self.context.bound, self.context.rest)

    def _read(self, value: ast.expr) -> list[object]:
        at = (
            value
            if value in self.context.module.parents
            else self.context.module.parents.get(
                value.value if isinstance(value, ast.Subscript) else value, self.context.at
            )
        )
        try:
            if self.of == "kinds":
                return list(self.reader._kinds_of_list(value, self._here(at), self.depth))
            if self.of == "lists":
                return [tuple(one) for one in self.reader.lists(value, self._here(at), self.depth)]
            return list(self.reader.texts(value, self._here(at), self.depth))
        except UnresolvedError as error:
            self.reason = str(error)
            return [None]


def join(state: object, more: object) -> object:
    """Put two texts or two lists together; one that is not known makes all unknown."""
    if isinstance(state, str) and isinstance(more, str):
        return state + more
    if isinstance(state, tuple) and isinstance(more, tuple):
        return state + more
    return None


def branches_of(node: ast.stmt) -> list[list[ast.stmt]]:
    """Give the blocks of which a statement runs some."""
    if isinstance(node, ast.If | ast.For | ast.AsyncFor | ast.While):
        return [node.body, node.orelse]
    if isinstance(node, ast.Try):
        return [node.body, *(handler.body for handler in node.handlers)]
    return []


def leaves(branch: Sequence[ast.stmt]) -> bool:
    """Say whether a branch does not go on after its end."""
    return bool(branch) and isinstance(branch[-1], ast.Return | ast.Raise | ast.Continue | ast.Break)


def formatted(text: str, values: Mapping[str | None, str]) -> str:
    """Put values into a text as `str.format` does; what has none stays."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), text)


def products(parts: Sequence[Texts]) -> Texts:
    """Put the alternatives of the parts together."""
    made = [""]
    for part in parts:
        made = [before + after for before in made for after in part][: 4 * MOST_TEXTS]
    return made


def names_of(function: Function) -> set[str]:
    """Name a function's arguments."""
    given = function.args
    return {argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)}


def looped(function: Function, name: str) -> Iterator[tuple[ast.expr, int | None]]:
    """Give what a loop's variable goes through, and which part of its items it is."""
    for node in ast.walk(function):
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            targets = node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
            for index, target in enumerate(targets):
                if isinstance(target, ast.Name) and target.id == name:
                    yield node.iter, index if isinstance(node.target, ast.Tuple) else None


def bind(
    function: Function, call: ast.Call, context: Context, home: Module
) -> tuple[dict[str, tuple[ast.expr, Context]], tuple[list[ast.expr], Context] | None]:
    """Give a function's arguments as a call has them."""
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    if names[:1] in (["self"], ["cls"]) and isinstance(call.func, ast.Attribute | ast.Name):
        names = names[1:]
    bound = {name: (value, context) for name, value in zip(names, call.args, strict=False)}
    bound |= {keyword.arg: (keyword.value, context) for keyword in call.keywords if keyword.arg}
    rest = (list(call.args[len(names) :]), context) if function.args.vararg else None
    defaults = function.args.defaults
    for name, default in zip(names[len(names) - len(defaults) :], defaults, strict=False):
        bound.setdefault(name, (default, Context(home, default)))
    return bound, rest


def of_annotation(node: ast.expr) -> str | None:
    """Say which kind of parameter an annotation means."""
    text = ast.unparse(node).strip("'\"")
    text = re.sub(r"\s*\|\s*None|None\s*\|\s*", "", text)
    if match := re.fullmatch(r"(?:Optional|Final|ClassVar|Annotated)\[(.*)\]", text):
        text = match[1].split(",")[0] if text.startswith("Annotated") else match[1]
    simple = {"str": "str", "int": "int", "float": "float", "bool": "bool", "datetime": "str", "date": "str"}
    if text in simple:
        return simple[text]
    if match := re.fullmatch(
        r"(?:[Ll]ist|[Ss]equence|[Tt]uple|[Ss]et|[Ff]rozen[Ss]et|Iterable|Collection)\[(\w+).*\]", text
    ):
        return f"list[{simple.get(match[1], 'str')}]"
    return None
