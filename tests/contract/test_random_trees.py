"""Our client answers random trees as the genuine one did; what differs is shrunk by `make contract-full`."""

import sys
from pathlib import Path

from tests.contract import contract, random_trees
from tests.contract.fix_contract import litellm_cluster, url


def test_same_as_prisma() -> None:
    digests = random_trees.DIGESTS.read_text().split()
    assert len(digests) >= random_trees.COUNT
    made = [random_trees.tree(seed) for seed in range(len(digests))]
    with litellm_cluster() as server:
        outcomes = contract.run(Path(sys.executable), {}, made, url(server))
    different = [seed for seed, outcome in enumerate(outcomes) if random_trees.digest(outcome) != digests[seed]]
    assert not different, (
        f"{len(different)} trees differ; see the first by "
        f"`python -m tests.contract.random_trees compare {different[0]} 1`: {different[:20]}"
    )
