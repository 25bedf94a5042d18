"""Random cases: trees of filters, orders, includes and data. The same seed makes the same case.

usage: python -m tests.contract.random_trees record COUNT          records the digests of the genuine client's outcomes
       python -m tests.contract.random_trees compare FIRST COUNT   compares both clients, and shrinks what differs
"""

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract import contract
from tests.contract.cases.build import Case, call, case
from tests.contract.cases.build import json as json_value
from tests.contract.fix_contract import litellm_cluster, url
from tests.contract.oracle.install import oracle

DIGESTS = contract.GOLDENS / "random.txt"
COUNT = 5000


@dataclass(frozen=True)
class Model:
    """What trees are made of: fields by type, relations by field."""

    key: str
    fields: dict[str, str]
    one: dict[str, str]
    many: dict[str, str]


# ruff: noqa: E501  the two tables
MODELS = {
    "teamtable": Model(
        "team_id",
        {"team_alias": "String?", "organization_id": "String?", "spend": "Float", "max_budget": "Float?", "models": "String[]", "members": "String[]", "tpm_limit": "BigInt?", "blocked": "Boolean", "created_at": "DateTime", "metadata": "Json", "model_id": "Int?"},
        {"litellm_organization_table": "organizationtable", "object_permission": "objectpermissiontable"},
        {},
    ),
    "verificationtoken": Model(
        "token",
        {"key_alias": "String?", "spend": "Float", "expires": "DateTime?", "models": "String[]", "user_id": "String?", "max_parallel_requests": "Int?", "metadata": "Json", "blocked": "Boolean?", "tpm_limit": "BigInt?", "max_budget": "Float?", "budget_id": "String?"},
        {"litellm_budget_table": "budgettable", "litellm_organization_table": "organizationtable"},
        {"jwt_key_mappings": "jwtkeymapping"},
    ),
    "organizationtable": Model(
        "organization_id",
        {"organization_alias": "String", "metadata": "Json", "models": "String[]", "spend": "Float", "object_permission_id": "String?"},
        {"litellm_budget_table": "budgettable"},
        {"teams": "teamtable", "keys": "verificationtoken", "users": "usertable"},
    ),
    "usertable": Model(
        "user_id",
        {"user_alias": "String?", "user_email": "String?", "spend": "Float", "max_budget": "Float?", "teams": "String[]", "user_role": "String?", "tpm_limit": "BigInt?", "created_at": "DateTime?", "metadata": "Json"},
        {"litellm_organization_table": "organizationtable"},
        {},
    ),
    "budgettable": Model(
        "budget_id",
        {"max_budget": "Float?", "soft_budget": "Float?", "max_parallel_requests": "Int?", "tpm_limit": "BigInt?", "model_max_budget": "Json?", "budget_duration": "String?", "budget_reset_at": "DateTime?", "allowed_models": "String[]"},
        {},
        {"keys": "verificationtoken", "organization": "organizationtable"},
    ),
    "objectpermissiontable": Model(
        "object_permission_id",
        {"mcp_servers": "String[]", "mcp_tool_permissions": "Json?", "mcp_tool_search_enabled": "Boolean?"},
        {},
        {"teams": "teamtable", "users": "usertable"},
    ),
    "jwtkeymapping": Model("id", {"jwt_claim_name": "String", "description": "String?", "is_active": "Boolean"}, {"litellm_verification_token": "verificationtoken"}, {}),
}  # fmt: skip
VALUES: dict[str, list[Any]] = {
    "String": ["Alpha", "beta", "second", "user-1", "user-2", "org-1", "budget-1", "gpt-4o", "", "a", "A", "%", "_", "Acme", "30d", "internal_user", "none", "é"],
    "Int": [0, 1, 2, 3, 7, -7], "BigInt": [0, 5, 100, 1000, -1, 9007199254740993], "Float": [0, 0.1, 0.3, 1.5, 2, 5, 10, 100.0, -1], "Boolean": [True, False],
    "DateTime": ["2024-01-01T00:00:00Z", "2024-01-02T00:00:00+00:00", "2024-02-01T00:00:00Z", "2030-01-01T00:00:00Z"],
    "Json": [{}, [], None, "text", "plain", 1.5, {"level": 1}, ["prod"], {"tier": "gold"}, True],
}  # fmt: skip
PATHS = [["level"], ["tags"], ["tags", "0"], ["deep", "list"], ["tier"], ["score"], ["none"], []]


class Trees:
    """Makes one case."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"tree {seed}")

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def some(self, values: Any, most: int) -> list[Any]:
        return [self.random.choice(list(values)) for _ in range(self.random.randint(0, most))]

    def value(self, kind: str) -> Any:
        kind = kind.rstrip("?")
        chosen = self.random.choice(VALUES[kind])
        return json_value(chosen) if kind == "Json" else chosen

    def text(self) -> Any:
        return self.random.choice(VALUES["String"])

    def field_filter(self, kind: str) -> Any:
        if kind == "String[]":
            makers: list[Callable[[], Any]] = [
                lambda: {"has": self.text()},
                lambda: {"has_some": self.some(VALUES["String"], 3)},
                lambda: {"has_every": self.some(VALUES["String"], 2)},
                lambda: {"is_empty": self.chance(0.5)},
                lambda: {"equals": self.some(VALUES["String"], 2)},
            ]
            return self.random.choice(makers)()
        if kind.startswith("Json"):
            makers = [
                lambda: {"equals": self.value("Json")},
                lambda: {"not": self.value("Json")},
                lambda: {"path": self.random.choice(PATHS), "equals": self.value("Json")},
                lambda: {"path": self.random.choice(PATHS), "string_contains": self.text()},
                lambda: {"path": self.random.choice(PATHS), "array_contains": json_value([self.text()])},
            ]
            return self.random.choice(makers)()
        if kind.endswith("?") and self.chance(0.15):
            return self.random.choice([None, {"not": None}, {"equals": None}])
        if self.chance(0.25):
            return self.value(kind)
        operators = ["equals", "not", "in", "not_in"]
        if kind.rstrip("?") != "Boolean":
            operators += ["lt", "lte", "gt", "gte"]
        else:
            operators = ["equals", "not"]
        if kind.startswith("String"):
            operators += ["contains", "startswith", "endswith"]
        chosen = {}
        for name in self.random.sample(operators, self.random.randint(1, 2)):
            chosen[name] = (
                [self.value(kind) for _ in range(self.random.randint(0, 3))]
                if name in {"in", "not_in"}
                else self.value(kind)
            )
        if kind.startswith("String") and self.chance(0.2):
            chosen["mode"] = "insensitive"
        if self.chance(0.1):
            return {"not": {name: one for name, one in chosen.items() if name != "mode"}}
        return chosen

    def where(self, name: str, depth: int) -> Any:
        model, made = MODELS[name], {}
        for _ in range(self.random.choice([0, 1, 1, 2, 2, 3])):
            kind = self.random.random()
            if kind < 0.6 or depth == 0:
                field = self.random.choice([model.key, *model.fields])
                made[field] = self.field_filter(model.fields.get(field, "String"))
            elif kind < 0.8:
                group = self.random.choice(["AND", "OR", "NOT"])
                parts = [self.where(name, depth - 1) for _ in range(self.random.choice([0, 1, 2, 2, 3]))]
                made[group] = parts[0] if group != "OR" and len(parts) == 1 and self.chance(0.5) else parts
            elif model.one and (self.chance(0.5) or not model.many):
                field, target = self.random.choice(list(model.one.items()))
                inner = self.where(target, depth - 1)
                made[field] = self.random.choice([{"is": inner}, {"is_not": inner}, inner, None])
            elif model.many:
                field, target = self.random.choice(list(model.many.items()))
                made[field] = {self.random.choice(["some", "every", "none"]): self.where(target, depth - 1)}
        return made

    def order(self, name: str) -> Any:
        model = MODELS[name]
        sortable = [
            field for field, kind in model.fields.items() if not kind.startswith("Json") and not kind.endswith("[]")
        ]
        return [
            *({field: self.random.choice(["asc", "desc"])} for field in self.some(sortable, 2)),
            {model.key: self.random.choice(["asc", "desc"])},
        ]

    def include(self, name: str, depth: int) -> Any:
        model, made = MODELS[name], {}
        for field, target in [*model.one.items(), *model.many.items()]:
            if not self.chance(0.4):
                continue
            inner: dict[str, Any] = {}
            if field in model.many:
                inner["order_by"] = self.order(target)
                if self.chance(0.3):
                    inner["where"] = self.where(target, 1)
                if self.chance(0.3):
                    inner["take"] = self.random.choice([1, 2, -1])
                if self.chance(0.2):
                    inner["skip"] = 1
            if depth and self.chance(0.5) and (nested := self.include(target, depth - 1)):
                inner["include"] = nested
            made[field] = inner or True
        return made

    def data(self, name: str) -> Any:
        made: dict[str, Any] = {}
        for field in self.some(MODELS[name].fields, 4):
            kind = MODELS[name].fields[field]
            if field.endswith("_id"):
                continue
            if kind == "String[]":
                made[field] = self.random.choice(
                    [
                        self.some(VALUES["String"], 3),
                        {"push": self.text()},
                        {"push": self.some(VALUES["String"], 2)},
                        {"set": self.some(VALUES["String"], 2)},
                    ]
                )
            elif kind.rstrip("?") in {"Int", "BigInt", "Float"} and self.chance(0.6):
                operand = self.random.choice([1, 2, 3, -1])
                made[field] = {self.random.choice(["increment", "decrement", "multiply", "set"]): operand}
            elif kind.endswith("?") and kind != "Json?" and self.chance(0.2):
                made[field] = None
            else:
                made[field] = self.value(kind)
        return made

    def step(self) -> Any:
        name = self.random.choice([model for model in MODELS if model != "jwtkeymapping"])
        key, kind = MODELS[name].key, self.random.random()
        if kind < 0.75:
            given: dict[str, Any] = {"where": self.where(name, 3), "order": self.order(name)}
            if self.chance(0.3):
                given["take"] = self.random.choice([1, 2, 3, -1, -2])
            if self.chance(0.2):
                given["skip"] = self.random.choice([1, 2])
            if self.chance(0.1):
                given["distinct"] = [
                    self.random.choice([field for field, type_ in MODELS[name].fields.items() if type_ != "Json"])
                ]
            if self.chance(0.3) and (include := self.include(name, 1)):
                return call(f"{name}.find_many", **given, include=include)
            return {**call(f"{name}.find_many", **given), "keep": key}
        if kind < 0.82:
            return call(f"{name}.count", where=self.where(name, 3))
        if kind < 0.9:
            by = self.random.choice(
                [field for field, type_ in MODELS[name].fields.items() if type_.rstrip("?") in {"String", "Boolean"}]
            )
            sums = {
                field: True
                for field, type_ in MODELS[name].fields.items()
                if type_.rstrip("?") in {"Int", "BigInt"} and self.chance(0.5)
            }
            return call(
                f"{name}.group_by",
                by=[by],
                where=self.where(name, 1),
                count=True,
                order={by: "asc"},
                **({"sum": sums, "max": sums} if sums else {}),
            )
        if kind < 0.95:
            return call(f"{name}.update_many", where=self.where(name, 2), data=self.data(name))
        row = {
            "teamtable": "team-1",
            "verificationtoken": "key-1",
            "organizationtable": "org-1",
            "usertable": "user-1",
            "budgettable": "budget-1",
            "objectpermissiontable": "permission-1",
        }[name]
        return call(f"{name}.update", where={key: row}, data=self.data(name))


def tree(seed: int) -> Case:
    """Make the case of a seed."""
    return case(f"tree {seed}", Trees(seed).step())


def digest(outcome: Any) -> str:
    """Shorten an outcome to what two equal ones share."""
    known = _without_words({name: one for name, one in outcome.items() if name != "name"})
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:8]


def _without_words(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_words(one) for name, one in value.items() if name != "words"}
    return [_without_words(one) for one in value] if isinstance(value, list) else value


class Client:
    """A runner that waits for cases.

    Args:
        python: Its interpreter.
        environment: Its environment.
        database: Its database's URL.
    """

    def __init__(self, python: Path, environment: dict[str, str], database: str) -> None:
        self.process = subprocess.Popen(
            [str(python), str(contract.RUNNER), "/dev/stdin", database],
            env=environment or None, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, made: Case) -> Any:
        """Run a case."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(made) + "\n")
        self.process.stdin.flush()
        outcome = json.loads(self.process.stdout.readline())
        return {name: one for name, one in outcome.items() if name != "name"}

    def stop(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def smaller(value: Any) -> Iterator[Any]:
    """Make a case's parts smaller in each way that is one step."""
    if isinstance(value, dict) and not (len(value) == 1 and next(iter(value)).startswith("$")):
        for name, one in value.items():
            if name not in {"call", "keep", "name", "steps", "arguments", "order", "where", "data"}:
                yield {key: kept for key, kept in value.items() if key != name}
            yield from ({**value, name: less} for less in smaller(one))
    elif isinstance(value, list):
        for n, one in enumerate(value):
            if not (isinstance(one, dict) and "call" in one):
                yield [*value[:n], *value[n + 1 :]]
            yield from ([*value[:n], less, *value[n + 1 :]] for less in smaller(one))


def shrink(made: Case, differs: Callable[[Case], bool]) -> Case:
    """Make a case as small as it can be and still differ."""
    while True:
        for less in smaller(made):
            if differs(less):
                made = less
                break
        else:
            return made


def record(count: int) -> None:
    """Record the digests."""
    genuine = oracle()
    with litellm_cluster() as server:
        made = [tree(seed) for seed in range(count)]
        outcomes = contract.run(genuine.python, genuine.environment, made, url(server))
    errors = sum("error" in outcome["steps"][0] for outcome in outcomes)
    DIGESTS.write_text("".join(digest(outcome) + "\n" for outcome in outcomes))
    print(f"{count} trees recorded, {errors} of them errors")  # noqa: T201


def compare(first: int, count: int) -> int:
    """Compare both clients, and print the smallest case of each difference; return how many there are."""
    genuine, different = oracle(), 0
    with litellm_cluster() as server:
        server.execute("CREATE DATABASE other TEMPLATE contract")
        theirs = Client(genuine.python, genuine.environment, url(server))
        ours = Client(Path(sys.executable), {}, url(server).replace("/contract", "/other"))

        def lines(made: Case) -> list[str]:
            return contract.differences(theirs.ask(made), ours.ask(made))

        def differs(made: Case) -> bool:
            return "error" not in theirs.ask(made)["steps"][0] and bool(lines(made))

        for seed in range(first, first + count):
            if lines(tree(seed)):
                different += 1
                least = shrink(tree(seed), differs)  # what Prisma refuses is another difference
                print(f"tree {seed}: {json.dumps(least['steps'])}", *lines(least), sep="\n    ", flush=True)  # noqa: T201
        theirs.stop()
        ours.stop()
    print(f"{different} of {count} trees differ")  # noqa: T201
    return different


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(int(sys.argv[2]) if len(sys.argv) > 2 else COUNT)
    else:
        sys.exit(bool(compare(int(sys.argv[2]), int(sys.argv[3]))))
