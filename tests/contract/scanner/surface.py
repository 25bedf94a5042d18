"""What LiteLLM wants of the package `prisma`: imports, private names, calls, operators, errors, commands."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.contract.scanner.source import Function, Module, Release, assigned, chain

ARGUMENTS = {
    *("by", "count", "cursor", "data", "distinct", "having", "include", "max", "min", "order", "avg", "select", "skip"),
    *("skip_duplicates", "sum", "take", "where"),
}
# Nothing but a model has them.
OF_MODELS_ONLY = {
    *("create_many", "delete_many", "find_first", "find_first_or_raise", "find_many", "find_unique"),
    *("find_unique_or_raise", "group_by", "update_many", "upsert"),
}
METHODS = OF_MODELS_ONLY | {"count", "create", "delete", "update"}
RAW = {"execute_raw", "query_first", "query_raw"}
# Names under which LiteLLM's code has a client of prisma-client-py, or its own wrapper of one.
CLIENTS = re.compile(r"^_?(?:\w*_)?(?:db|prisma|tx|transaction|batcher|prisma_obj|tx_ctx|database|executor)$")
NO_CLIENTS = {"prisma", "from_prisma", "to_prisma"}
WRAPPERS = {"PrismaWrapper", "RoutingPrismaWrapper"}
ENGINES = {"_engine", "_Prisma__engine", "_internal_engine"}
CODE = re.compile(r"P[1-6]\d{3}")


@dataclass(frozen=True, order=True)
class Use:
    """One thing that LiteLLM wants.

    Attributes:
        kind: Which chapter of the contract it belongs to.
        name: As the contract names it.
        where: File and line.
    """

    kind: str
    name: str
    where: str


def scan(release: Release) -> list[Use]:
    """List all that a release wants, in order.

    Args:
        release: The installed LiteLLM.
    """
    own = {name for module in release.modules.values() for name in _of_wrappers(module)}
    uses: set[Use] = set()
    for module in list(release.modules.values()):
        for part in (_imports, _private, _errors, _commands):
            uses.update(part(module))
        uses.update(_clients(module, own))
        uses.update(_calls(module, release))
    return sorted(uses)


def _of_wrappers(module: Module) -> Iterator[str]:
    """Name what LiteLLM's wrappers of a client have themselves, which is not asked of the client."""
    for node in module.nodes:
        if isinstance(node, ast.ClassDef) and node.name in WRAPPERS:
            for inner in ast.walk(node):
                if isinstance(inner, Function):
                    yield inner.name
                elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                    yield inner.attr


def _imports(module: Module) -> Iterator[Use]:
    """Find what is imported, and what is then read or called of it; types that no process ever asks for, apart."""
    of_prisma = {name: path for name, path in module.imports.items() if path[0].split(".")[0] == "prisma"}
    for_types: set[str] = set()
    for node in module.nodes if of_prisma else ():
        if isinstance(node, ast.Import | ast.ImportFrom):
            unused = module.only_for_types(node)
            for alias in node.names:
                path = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
                if path.split(".")[0] == "prisma":
                    for_types |= {alias.asname or alias.name} if unused else set()
                    yield Use("import for types" if unused else "import", path, module.where(node))
    inner = {node.value for node in module.nodes if isinstance(node, ast.Attribute)}
    for node in module.nodes if of_prisma else ():
        if isinstance(node, ast.Attribute) and node not in inner and (names := chain(node))[0] in of_prisma:
            unused = module.only_for_types(node) or (names[0] in for_types and _in_annotation(module, node))
            path = ".".join([*filter(None, of_prisma[names[0]]), *names[1:]])
            yield Use("import for types" if unused else "import", path, module.where(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in of_prisma:
            source, name = of_prisma[node.func.id]
            yield Use("import", f"{source}.{name}()", module.where(node))  # it must be there and callable


def _in_annotation(module: Module, node: ast.AST) -> bool:
    """Say whether it is (a part of) an annotation or a subscript of a type, as in `Table[models.Row]`."""
    child, above = node, module.parents.get(node)
    while above is not None and not isinstance(above, ast.Module):
        if isinstance(above, ast.arg) or (isinstance(above, ast.AnnAssign) and above.annotation is child):
            return True
        if isinstance(above, Function) and above.returns is child:
            return True
        if isinstance(above, ast.stmt):
            return False
        child, above = above, module.parents.get(above)
    return False


def _private(module: Module) -> Iterator[Use]:
    """Find what is read and written of a client's engine."""
    if not module.path.startswith("litellm/proxy"):
        return  # focus and others have engines of their own
    engines = {
        (module.function(node), name)
        for node in module.nodes
        for name, value in assigned(node)
        if isinstance(value, ast.Attribute | ast.Call)
        and (chain(value)[-1] in ENGINES or chain(value.func if isinstance(value, ast.Call) else value)[-1] in READERS)
    }
    for node in module.nodes:
        if isinstance(node, ast.Call) and chain(node.func) == ["getattr"] and isinstance(node.args[0], ast.Name):
            attribute = node.args[1]
            if (module.function(node), node.args[0].id) in engines and isinstance(attribute, ast.Constant):
                yield Use("engine", str(attribute.value), module.where(node))
        if not isinstance(node, ast.Attribute):
            continue
        names = chain(node)
        if names[-1] in ENGINES and (names[0] != "self" or len(names) > 2):
            written = " =" if isinstance(node.ctx, ast.Store) else ""
            yield Use("client", f"{names[-1]}{written}", module.where(node))
        for index, name in enumerate(names[:-1]):
            read = index == 0 and ((module.function(node), name) in engines or name.rstrip("()") in READERS)
            if (name in ENGINES or read) and names[index + 1] != "tracker":  # LiteLLM's own, around the engine
                arguments = ""
                call = module.parents.get(node)
                if isinstance(call, ast.Call) and call.func is node:
                    arguments = _arguments(call)
                yield Use("engine", ".".join(names[index + 1 :]) + arguments, module.where(node))


READERS = {"_read_engine"}


def _arguments(call: ast.Call) -> str:
    given = ["*" if isinstance(one, ast.Starred) else "_" for one in call.args]
    given += sorted(f"{keyword.arg}=" if keyword.arg else "**" for keyword in call.keywords)
    return f"({', '.join(given)})"


def _clients(module: Module, own: set[str]) -> Iterator[Use]:
    """Find what is asked of a client but models and raw queries."""
    for node in module.nodes:
        if isinstance(node, ast.Call) and chain(node.func)[-1] == "Prisma":
            if "Prisma" in module.imports and module.imports["Prisma"][0] == "prisma":
                yield Use("client", f"Prisma{_arguments(node)}", module.where(node))
            continue
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = node.func.attr
        names = chain(node.func)
        if name in {"tx", "batch_"}:
            yield Use("client", f"{name}{_arguments(node)}", module.where(node))
        elif len(names) > 1 and CLIENTS.match(names[-2]) and names[-2] not in NO_CLIENTS:
            bare = bool(re.search("original|replacement|prisma_obj", names[-2]))
            if name in RAW or (name in own - OF_CLIENTS and not bare) or name.startswith("litellm_") or name in METHODS:
                continue
            if name in NOT_OF_CLIENTS:
                continue
            yield Use("client", f"{name}{_arguments(node)}", module.where(node))


# What else is named db, transaction, executor…: lists, dicts, thread pools, LiteLLM's PrismaClient and its parts.
NOT_OF_CLIENTS = {
    *("append", "distinct", "get", "get_data", "get_usage_data", "model_dump", "sort", "submit", "transaction"),
}
OF_CLIENTS = {"connect", "disconnect", "is_connected"}


def _calls(module: Module, release: Release) -> Iterator[Use]:
    fields = release.fields
    for node in module.nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in METHODS or not _is_table(node, release.models):
            continue
        keywords = [keyword.arg for keyword in node.keywords if keyword.arg]
        arguments = ", ".join(sorted(f"{name}=" for name in keywords))
        positional = ["_"] * len(node.args)
        yield Use(
            "method",
            f"{node.func.attr}({', '.join([*positional, *([arguments] if arguments else [])])})",
            module.where(node),
        )
        model = chain(node.func)[-2]
        if model.startswith("litellm_") and not model.endswith(")"):
            yield Use("model", model, module.where(node))
        for keyword in node.keywords:
            if keyword.arg in {"where", "data", "include", "order", "having", "cursor"} or (
                keyword.arg in {"sum", "count", "avg", "min", "max"} and isinstance(keyword.value, ast.Dict)
            ):
                yield from _operators(module, node, keyword.arg, keyword.value, fields)


def _is_table(call: ast.Call, models: frozenset[str]) -> bool:
    """Say whether a call is one of a model's methods.

    Many tables come through variables and repositories, so the arguments decide where the receiver's name does not.
    """
    assert isinstance(call.func, ast.Attribute)
    receiver = chain(call.func)[-2]
    keywords = {keyword.arg for keyword in call.keywords}
    if receiver in models or receiver in {"table", "_table", "table()", "_table()", "actions"}:
        return True
    if not keywords <= ARGUMENTS | {None}:
        return False
    if call.func.attr in OF_MODELS_ONLY:
        return bool(keywords) or "table" in receiver.lower()
    return bool(keywords & {"where", "data"}) or receiver.rstrip("()").endswith("_table")


def _operators(module: Module, call: ast.Call, argument: str, value: ast.expr, fields: frozenset[str]) -> Iterator[Use]:
    for key, where, depth in _keys(module, value, 0, set()):
        if key not in fields or (depth and key in OPERATORS):
            yield Use("operator", f"{argument}: {key}", where)


# Of those that are names of fields as well.
OPERATORS = {
    *("AND", "NOT", "OR", "connect", "contains", "create", "decrement", "delete", "disconnect", "endswith", "equals"),
    *("every", "gt", "gte", "has", "has_every", "has_some", "hasSome", "in", "include", "increment", "is", "is_empty"),
    *("is_not", "lt", "lte", "mode", "none", "not", "not_in", "order_by", "path", "push", "set", "skip", "some"),
    *("startswith", "string_contains", "take", "update", "upsert", "where"),
}


def _keys(module: Module, value: ast.AST, depth: int, seen: set[ast.AST]) -> Iterator[tuple[str, str, int]]:
    """Give the literal keys of what an argument can be: dicts, also through variables of the function."""
    if value in seen:
        return
    seen.add(value)
    if isinstance(value, ast.Dict):
        yield from _keys_of_dict(module, value, depth, seen)
    elif isinstance(value, ast.Call):
        yield from _keys_of_call(module, value, depth, seen)
    elif isinstance(value, ast.Name):
        yield from _keys_of_variable(module, value, depth, seen)
    elif isinstance(value, ast.DictComp):
        yield from _keys(module, value.value, depth + 1, seen)
    else:
        for inner in _passed_on(value):
            yield from _keys(module, inner, depth, seen)


# The parts of an expression that its value is made of.
PASSED_ON: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Await: ("value",),
    ast.BinOp: ("left", "right"),
    ast.BoolOp: ("values",),
    ast.GeneratorExp: ("elt",),
    ast.IfExp: ("body", "orelse"),
    ast.List: ("elts",),
    ast.ListComp: ("elt",),
    ast.Starred: ("value",),
    ast.Subscript: ("value",),
    ast.Tuple: ("elts",),
}


def _passed_on(value: ast.AST) -> Iterator[ast.AST]:
    for name in PASSED_ON.get(type(value), ()):
        part = getattr(value, name)
        yield from part if isinstance(part, list) else [part]


def _keys_of_dict(module: Module, value: ast.Dict, depth: int, seen: set[ast.AST]) -> Iterator[tuple[str, str, int]]:
    for key, inner in zip(value.keys, value.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value, module.where(key), depth
        yield from _keys(module, inner, depth + (key is not None), seen)  # None: **inner


# What LiteLLM's code calls to make a part of an argument: the types of prisma.types and functions of its own.
MAKERS = re.compile(r"^(?:cast|dict|.*(?:Filter|Where|WhereInput|WhereUniqueInput|Include|Update|Data|Input))$")
OWN_MAKERS = re.compile("where|filter|include|condition|search")


def _keys_of_call(module: Module, call: ast.Call, depth: int, seen: set[ast.AST]) -> Iterator[tuple[str, str, int]]:
    name = chain(call.func)[-1]
    if MAKERS.match(name):
        for keyword in call.keywords:
            if keyword.arg:
                yield keyword.arg, module.where(keyword), depth
            yield from _keys(module, keyword.value, depth + bool(keyword.arg), seen)
        for inner in call.args:
            yield from _keys(module, inner, depth, seen)
    elif isinstance(call.func, ast.Name) and OWN_MAKERS.search(name):
        for function in module.functions.get(name, ()):
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value:
                    yield from _keys(module, node.value, depth, seen)


def _keys_of_variable(module: Module, name: ast.Name, depth: int, seen: set[ast.AST]) -> Iterator[tuple[str, str, int]]:
    function = module.function(name)
    if function is None:
        return
    values = [value for node in ast.walk(function) for other, value in assigned(node) if other == name.id]
    for value in values or module.constants.get(name.id, []):
        yield from _keys(module, value, depth, seen)
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            yield from _keys_of_items(module, node, name.id, depth, seen)
        elif isinstance(node, ast.Call) and chain(node.func) in ([name.id, method] for method in GROWS):
            for inner in node.args:
                yield from _keys(module, inner, depth, seen)


GROWS = ("append", "update", "extend")


def _keys_of_items(
    module: Module, node: ast.Assign, name: str, depth: int, seen: set[ast.AST]
) -> Iterator[tuple[str, str, int]]:
    """Give the keys of `name["key"] = …`."""
    for target in node.targets:
        if isinstance(target, ast.Subscript) and chain(target.value) == [name]:
            key = target.slice
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, module.where(target), depth
                yield from _keys(module, node.value, depth + 1, seen)


def _errors(module: Module) -> Iterator[Use]:
    """Find which codes, attributes and texts of errors and of the CLI's output are read."""
    for node in module.nodes:
        if text := _string(node, CODE):
            yield Use("error", f"code {text}", module.where(node))
        for part in (_attributes_of_errors, _searched, _compared, _phrases):
            yield from part(module, node)


def _string(node: ast.AST, pattern: re.Pattern[str] = re.compile(".*", re.DOTALL)) -> str | None:
    """Give a literal text, when all of it is as the pattern."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and pattern.fullmatch(node.value):
        return node.value
    return None


def _handles(module: Module) -> bool:
    return module.path.endswith("db/exception_handler.py")


def _runs_commands(module: Module) -> bool:
    return module.path.startswith("litellm_proxy_extras") or module.path.endswith("check_migration.py")


# What the handler reads of any exception, or of LiteLLM's own ProxyException.
NOT_OF_PRISMA = {"__traceback__", "type"}


def _attributes_of_errors(module: Module, node: ast.AST) -> Iterator[Use]:
    if isinstance(node, ast.Attribute) and _handles(module):
        names = chain(node)
        if names[0] == "e" and len(names) == 2 and names[1] not in NOT_OF_PRISMA:
            yield Use("error", f"attribute {names[1]}", module.where(node))
    elif isinstance(node, ast.Call) and chain(node.func) == ["getattr"]:
        about, name = chain(node.args[0]), _string(node.args[1])
        knows_codes = name in {"code", "meta"} and CODE.search(ast.unparse(module.function(node) or node))
        if name and name not in NOT_OF_PRISMA and ((_handles(module) and about == ["e"]) or knows_codes):
            yield Use("error", f"attribute {name}", module.where(node))


OUTPUT = re.compile("stderr|stdout")


def _searched(module: Module, node: ast.AST) -> Iterator[Use]:
    """Find `re.search(pattern, output)`."""
    if (
        isinstance(node, ast.Call)
        and _runs_commands(module)
        and chain(node.func) == ["re", "search"]
        and OUTPUT.search(ast.unparse(node.args[1]))
    ):
        yield Use("output", _template(node.args[0]), module.where(node))


def _compared(module: Module, node: ast.AST) -> Iterator[Use]:
    """Find `text in output` and `text in str(error)`."""
    if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.In | ast.NotIn):
        return
    text, function = _string(node.left), module.function(node)
    if text is None or function is None:
        return
    about = ast.unparse(node.comparators[0])
    if _runs_commands(module) and OUTPUT.search(about):
        yield Use("output", text, module.where(node))
    elif re.search(r"str\(|error|err_|exc", about) and (_handles(module) or _about_prisma(function)):
        yield Use("error", f"text {text}", module.where(node))


def _phrases(module: Module, node: ast.AST) -> Iterator[Use]:
    """Find the handler's lists of phrases and its patterns."""
    if not _handles(module):
        return
    for name, value in assigned(node):
        if re.search("keywords|phrase", name.lower()):
            for inner in ast.walk(value):
                if text := _string(inner):
                    yield Use("error", f"text {text}", module.where(inner))
        elif isinstance(value, ast.Call) and chain(value.func) == ["re", "compile"]:
            yield Use("error", f"pattern {_template(value.args[0])}", module.where(value))


def _template(node: ast.expr) -> str:
    """Give a text, with _ for what an f-string puts in."""
    if (text := _string(node)) is not None:
        return text
    return re.sub(r"\{[^}]*\}", "_", ast.unparse(node)[2:-1])


def _about_prisma(function: ast.AST) -> bool:
    return bool(
        re.search(r"UniqueViolation|RecordNotFound|P[1-6]\d{3}|prisma\.errors|PrismaError", ast.unparse(function))
    )


def _commands(module: Module) -> Iterator[Use]:
    """Find the command lines of the CLI."""
    for node in module.nodes:
        if not isinstance(node, ast.List | ast.Tuple) or not node.elts:
            continue
        words = [_word(element) for element in node.elts]
        if words[0] == "prisma":
            yield Use("command", " ".join(words), module.where(node))
        elif words[1:3] == ["-m", "prisma"]:
            yield Use("command", " ".join(words[2:]), module.where(node))


def _word(node: ast.expr) -> str:
    """Give a word of a command line; LiteLLM's functions that look for the CLI are its name."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return _template(node)
    return "prisma" if re.search("prisma_command", ast.unparse(node)) else "_"
