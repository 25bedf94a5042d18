"""Records the goldens; see scripts/record-contract."""

import sys

from tests.contract import contract
from tests.contract.fix_contract import litellm_cluster, url
from tests.contract.oracle.install import oracle


def main(wanted: list[str]) -> None:
    genuine = oracle()
    with litellm_cluster() as server:
        for name, made in contract.cases().items():
            if not wanted or name in wanted:
                contract.record(name, made, contract.run(genuine.python, genuine.environment, made, url(server)))
                print(f"{name}: {len(made)} cases")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
