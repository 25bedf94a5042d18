"""Reports what a release of LiteLLM wants of `prisma`: python -m tests.contract.scanner SITE_PACKAGES."""

import argparse
import sys
from itertools import groupby
from pathlib import Path

from tests.contract.scanner.contract import outside, read
from tests.contract.scanner.source import Release
from tests.contract.scanner.statements import HOLES, statements
from tests.contract.scanner.surface import scan


def main() -> int:
    """Print the report; fail when something is outside the contract."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("site_packages", type=Path, help="where litellm is installed")
    release = Release(options.parse_args().site_packages)
    uses = scan(release)
    report = [f"LiteLLM {release.version}"]
    for kind, of_kind in groupby(uses, lambda use: use.kind):
        report.append(f"\n{kind}")
        for name, same in groupby(of_kind, lambda use: use.name):
            places = [use.where for use in same]
            report.append(f"  {name:<75} {len(places):>4}  {places[0]}")
    raw = statements(release)
    report.append(f"\nraw statements: {len({one.text for one in raw})} of {len({one.where for one in raw})} calls")
    for where, of_call in groupby(raw, lambda one: one.where):
        alternatives = list(of_call)
        report += sorted({f"  {where} cannot be read: {one.reason}" for one in alternatives if one.text is None})
        if holes := sorted({hole for one in alternatives for hole in HOLES.findall(one.text or "")}):
            report.append(f"  {where} depends on {', '.join(holes)}")
    missing = outside(read(), uses)
    report.append("\noutside the contract" if missing else "\nAll is within the contract.")
    report += [f"  {line}" for line in missing]
    sys.stdout.write("\n".join(report) + "\n")
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
