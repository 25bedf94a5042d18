"""Our client answers as the genuine one did."""

import fnmatch
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract import contract
from tests.contract.fix_contract import litellm_cluster, url

# Cases, by pattern of `file: name`, that may differ, and why; one that does not differ any more fails.
DIFFERENCES = {
    "reads: page: *take=1.5)": "Node takes 1.5 for 1; Prisma's own binary reads GraphQL, and refuses",
    "writes: update: *'max_parallel_requests': 5.5})": "the same",
    "writes: create: config.create(*u2028*": "prisma-client-py's GraphQL gains spaces at U+2028; ours keeps the text",
    "flow: tx expires *": "the oracle's HTTP status makes another class of the error; Prisma's binary says P2028, as ours",
    "flow: NULL in a column that must not have one": "ours reads on: it happens only where the schema is not the database's",
    "flow: special numbers": "Node has no JSON for the largest float",
    "raw: parameter *": "node-pg sends parameters without a type, Prisma's binary by their value; so does ours",
}


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    with litellm_cluster() as server:
        yield url(server)


@pytest.mark.parametrize("name", sorted(contract.cases()))
def test_same_as_prisma(name: str, database_url: str) -> None:
    made = contract.cases()[name]
    expected = contract.goldens(name, made)
    found = contract.run(Path(sys.executable), {}, made, database_url)
    different, used = [], set()
    for one, golden, outcome in zip(made, expected, found, strict=True):
        label = f"{name}: {one['name']}"
        outcome.pop("name")
        lines = contract.differences(golden, outcome)
        accepted = {pattern for pattern in DIFFERENCES if fnmatch.fnmatchcase(label, pattern)}
        if lines and not accepted:
            different.append("\n    ".join([label, *lines[:12]]))
        used |= accepted if lines else set()
    assert not different, f"{len(different)} of {len(made)} differ:\n\n" + "\n\n".join(different)
    stale = {pattern for pattern in DIFFERENCES if pattern.startswith(f"{name}: ")} - used
    assert not stale, f"no longer different, though DIFFERENCES has them: {stale}"
