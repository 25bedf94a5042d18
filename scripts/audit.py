#!/usr/bin/env python3
"""Asks an advisory source (PyPI's, else OSV's) for known vulnerabilities of the locked packages, by pip-audit.

    audit.py [LIST…]   locks; without one: all that is deployed or runs on the controller

pip-audit itself says "no known vulnerabilities" where a source knows nothing of any package, which is no audit.
Exit codes: 0 every package was looked up, and none is known to be vulnerable; 1 some are; 3 no source answered for some
package, or for any: those were not audited.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTS = ["gateway", "controller", "test", "model"]
PIP_AUDIT = [sys.executable, "-m", "pip_audit", "--disable-pip", "--progress-spinner=off", "--format=json"]


def ask(service: str, lists: list[str]) -> tuple[dict[str, list[str]] | None, str]:
    """Ask one source.

    Args:
        service: Its name, as pip-audit has it.
        lists: The locks.

    Returns:
        What is known of each package that it knows (None: it does not answer), and what it says of the others.
    """
    command = [*PIP_AUDIT, f"--vulnerability-service={service}", *(f"--requirement={file}" for file in lists)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - names of files
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return None, (done.stderr.strip().splitlines() or ["no word"])[-1]
    known = {f"{one['name']} {one['version']}": [v["id"] for v in one["vulns"]] for one in found if "vulns" in one}
    return known, "\n  ".join(one["skip_reason"] for one in found if "vulns" not in one)


def main() -> None:
    """Do what the command is for."""
    lists = sys.argv[1:] or [str(ROOT / f"requirements/{name}.txt") for name in LISTS]
    silent = []
    for service in ("pypi", "osv"):
        known, others = ask(service, lists)
        if known:
            break
        silent.append(f"  {service}: {others[:300] if known is None else 'knows none of these packages'}")
    else:
        print("NOTHING WAS AUDITED: no advisory source answers for these packages from here.", *silent, sep="\n")
        print("  Cure: run it where pypi.org or api.osv.dev can be reached, in CI of your own for example.")
        sys.exit(3)
    for package, vulnerabilities in known.items():
        if vulnerabilities:
            print(f"{package}: {', '.join(vulnerabilities)}")
    vulnerable = sum(map(bool, known.values()))
    print(f"{len(known)} packages were audited ({service}); {vulnerable} are known to be vulnerable.")
    if others:
        print(f"NOT audited:\n  {others}")
    sys.exit(1 if any(known.values()) else 3 if others else 0)


main()
