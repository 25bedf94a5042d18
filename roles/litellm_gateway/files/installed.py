"""Prints, as JSON, what is installed beside the interpreter that runs it; scripts/sbom.py makes an SBOM of it."""

import importlib.metadata
import json
import platform
from typing import Any


def described(found: importlib.metadata.Distribution) -> dict[str, Any]:
    """Say of a package what an SBOM has.

    Args:
        found: The package.
    """
    expression = found.metadata.get_all("License-Expression") or []
    classifiers = [text for text in found.metadata.get_all("Classifier") or [] if text.startswith("License ::")]
    return {
        "name": found.metadata["Name"],
        "version": found.version,
        "license": next(iter([*expression, *classifiers]), None),
        "requires": found.requires or [],
    }


distributions = [described(found) for found in importlib.metadata.distributions()]
distributions.sort(key=lambda found: str(found["name"]).lower())
print(json.dumps({"python": platform.python_version(), "distributions": distributions}))
