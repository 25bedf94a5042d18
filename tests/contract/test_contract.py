"""Our client answers as the genuine one did."""

import fnmatch
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract import contract
from tests.contract.fix_contract import litellm_cluster, url
from tests.fix_postgres import VERSIONS

CRASHED = "RemoteProtocolError"
# Cases, by pattern of `file: name`, that may differ, and why; one that does not differ any more fails.
DIFFERENCES = {
    "reads: page: *take=1.5)": "Node takes 1.5 for 1; Prisma's own binary reads GraphQL, and refuses",
    "errors: 1.5 for *": "the same",
    "writes: update: *'max_parallel_requests': 5.5})": "the same",
    "writes: create: config.create(*u2028*": "prisma-client-py's GraphQL gains spaces at U+2028; ours keeps the text",
    "flow: tx expires *": "the oracle's HTTP status makes another class of it; Prisma's binary says P2028, as ours",
    "flow: NULL in a column that must not have one": "ours reads on: it takes a schema that is not the database's",
    "flow: special numbers": "Node has no JSON for the largest float",
    "errors: {'$bytes': 'AA=='} for *": "both refuse it, before anything is done, by another class",
    "errors: {'$date': '2024-01-01'} for *": "the same",
    "errors: [[]None] for String*": "the same",
    "errors: {} for String*": "the same",
    "errors: {'a': 1} for String*": "the same",
    "errors: call: budgettable.create(*": "the same",
    "errors: call: *'a b'*": "prisma-client-py writes a name that is no word into its query, which then is none",
    "raw: result *": "types that LiteLLM does not select; ours gives a text where Prisma's drivers give an error",
    "raw: raw: *; SELECT 2*": "node-pg sends two statements; Prisma's binary prepares them and is refused, as ours",
    "raw: raw: query_raw('SELECT $1::int AS a*": "another number of parameters: another SQLSTATE",
    "raw: raw: *'$datetime'*": "node-pg sends parameters without a type, Prisma's binary a text; so does ours",
    "raw: raw: query_raw(*interval*": "an interval: as of the types above",
    "raw: raw: execute_raw(*max_parallel_requests = $1*": "node-pg again",
    "raw: parameter *": "node-pg sends parameters without a type, Prisma's binary by their value; so does ours",
}


@pytest.fixture(scope="module", params=[pytest.param(VERSIONS[0], marks=pytest.mark.long), VERSIONS[1]])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with litellm_cluster(request.param) as server:
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
        if CRASHED in json.dumps(golden):  # there is no answer to be the same as
            continue
        lines = contract.differences(golden, outcome)
        accepted = {pattern for pattern in DIFFERENCES if fnmatch.fnmatchcase(label, pattern)}
        if lines and not accepted:
            different.append("\n    ".join([label, *lines[:12]]))
        used |= accepted if lines else set()
    assert not different, f"{len(different)} of {len(made)} differ:\n\n" + "\n\n".join(different)
    stale = {pattern for pattern in DIFFERENCES if pattern.startswith(f"{name}: ")} - used
    assert not stale, f"no longer different, though DIFFERENCES has them: {stale}"
