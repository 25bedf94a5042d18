"""An installed LiteLLM as syntax trees: nothing of it is imported or run."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

PACKAGES = ("litellm", "litellm_enterprise", "litellm_proxy_extras")
# What a file has that can touch the database: to parse the other thousand is a waste.
TOUCHES = re.compile(
    r"prisma|query_raw|query_first|execute_raw|\.litellm_\w+table|find_(?:many|unique|first)|batch_\(|\.tx\("
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Module:
    """One file.

    Attributes:
        path: As messages name it, below site-packages.
        tree: Its syntax.
        nodes: All of the tree.
        parents: Of each node.
        functions: Those at its top and in its classes, by their names.
        constants: What is assigned at its top, by name.
        imports: Where a name comes from: its module and its name there; None: the module itself.
    """

    path: str
    tree: ast.Module
    nodes: list[ast.AST] = field(default_factory=list)
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    functions: dict[str, list[Function]] = field(default_factory=dict)
    constants: dict[str, list[ast.expr]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.nodes = list(ast.walk(self.tree))
        for node in self.nodes:
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
            if isinstance(node, Function):
                self.functions.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = (node.module, alias.name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports[alias.asname or alias.name.split(".")[0]] = (
                        (alias.asname and alias.name) or (alias.name.split(".")[0]),
                        None,
                    )
        for statement in self.tree.body:
            for name, value in assigned(statement):
                self.constants.setdefault(name, []).append(value)

    def where(self, node: ast.AST) -> str:
        """Name a place: file and line."""
        return f"{self.path}:{getattr(node, 'lineno', 0)}"

    def function(self, node: ast.AST) -> Function | None:
        """Give the function that a node is in."""
        above = self.parents.get(node)
        while above is not None and not isinstance(above, Function):
            above = self.parents.get(above)
        return above

    def qualified(self, node: ast.AST) -> str:
        """Name the function that a node is in; lines move from release to release, names seldom do."""
        names, above = [], self.parents.get(node)
        while above is not None:
            if isinstance(above, Function | ast.ClassDef):
                names.append(above.name)
            above = self.parents.get(above)
        return f"{self.path}:{'.'.join(reversed(names)) or '<module>'}"

    def only_for_types(self, node: ast.AST) -> bool:
        """Say whether it is below `if TYPE_CHECKING:`, which never runs."""
        child, above = node, self.parents.get(node)
        while above is not None:
            if isinstance(above, ast.If) and "TYPE_CHECKING" in ast.unparse(above.test) and child in above.body:
                return True
            child, above = above, self.parents.get(above)
        return False


def assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Give the names and values of an assignment."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id, node.value


class Release:
    """An installed LiteLLM.

    Args:
        site_packages: Where it is.
    """

    def __init__(self, site_packages: Path) -> None:
        self.site_packages = site_packages

    @cached_property
    def version(self) -> str:
        """Its number, as its installer wrote it."""
        found = sorted(self.site_packages.glob("litellm-*.dist-info"))
        return found[-1].name.removeprefix("litellm-").removesuffix(".dist-info") if found else "unknown"

    @cached_property
    def modules(self) -> dict[str, Module]:
        """Those that can touch the database, by their dotted names."""
        made = {}
        for package in PACKAGES:
            for file in sorted((self.site_packages / package).rglob("*.py")):
                text = file.read_text(encoding="utf-8")
                if TOUCHES.search(text):
                    path = file.relative_to(self.site_packages)
                    made[dotted(path)] = Module(str(path), ast.parse(text))
        return made

    def module(self, name: str) -> Module | None:
        """Give a module by its dotted name, also one that touches nothing, for its constants."""
        if name not in self.modules and name.split(".", maxsplit=1)[0] in PACKAGES:
            base = self.site_packages.joinpath(*name.split("."))
            for file in (base.with_suffix(".py"), base / "__init__.py"):
                if file.is_file():
                    path = file.relative_to(self.site_packages)
                    self.modules[name] = Module(str(path), ast.parse(file.read_text(encoding="utf-8")))
        return self.modules.get(name)

    @cached_property
    def schema(self) -> str:
        """LiteLLM's schema.prisma, the one that the stand-in reads."""
        return (self.site_packages / "litellm/proxy/schema.prisma").read_text(encoding="utf-8")

    @cached_property
    def models(self) -> frozenset[str]:
        """The names of all models, as a client's attributes have them."""
        return frozenset(name.lower() for name in re.findall(r"^model (\w+)", self.schema, re.MULTILINE))

    @cached_property
    def fields(self) -> frozenset[str]:
        """The names of all models' fields and compound keys."""
        names = set(re.findall(r"^\s+(\w+)\s+\w", self.schema, re.MULTILINE))
        for inside in re.findall(r"@@(?:unique|id)\(\[([^\]]*)\]", self.schema):
            names.add("_".join(part.strip().split("(")[0] for part in inside.split(",")))
        names.update(re.findall(r'@@(?:unique|id)\([^)]*name:\s*"(\w+)"', self.schema))
        return frozenset(names)


@cache
def installed(site_packages: Path) -> Release:
    """Give an installed release, read once however many tests ask.

    Args:
        site_packages: Where it is.
    """
    return Release(site_packages)


def dotted(path: Path) -> str:
    """Name a module by its file."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def chain(node: ast.expr) -> list[str]:
    """Give the names of `a.b.c`; what comes before the first dot may be any expression, named as it is written."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        names.append(node.id)
    elif isinstance(node, ast.Call):
        names.append(f"{chain(node.func)[-1]}()")
    else:
        names.append("?")
    return names[::-1]
