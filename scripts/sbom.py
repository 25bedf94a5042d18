#!/usr/bin/env python3
"""Writes the software bill of materials of a release (CycloneDX 1.6, JSON), or validates one.

    sbom.py < what roles/litellm_gateway/files/installed.py printed on the host
    sbom.py --validate < an SBOM        exit code 1, and why, if it is not valid

A dependency is what a package names and the release has: required, or an extra that it can use. It runs on the
controller, so that the gateway's own environment has no package for it.
"""

import json
import re
import sys
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

RELEASE = "litellm-sqlalchemy"


def normalized(name: str) -> str:
    """A package's name as an index writes it.

    Args:
        name: As its author writes it; what follows it in a requirement is left out.
    """
    found = re.match(r"[A-Za-z0-9._-]+", name)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def bill(installed: dict[str, Any]) -> str:
    """Write the SBOM of what is installed.

    Args:
        installed: The interpreter's version and the distributions, as installed.py prints them.
    """
    licenses = LicenseFactory()
    components: dict[str, Component] = {}
    requirements: dict[str, set[str]] = {}
    for found in installed["distributions"]:
        name = normalized(found["name"])
        components[name] = Component(
            type=ComponentType.APPLICATION if name == RELEASE else ComponentType.LIBRARY,
            name=name,
            version=found["version"],
            purl=PackageURL("pypi", name=name, version=found["version"]),
            bom_ref=f"pkg:pypi/{name}@{found['version']}",
            licenses=[licenses.make_from_string(found["license"].rpartition(":: ")[2])] if found["license"] else (),
        )
        requirements[name] = {normalized(text) for text in found["requires"]}
    python = Component(type=ComponentType.PLATFORM, name="python", version=installed["python"], bom_ref="python")
    sbom = Bom(components=[python, *(component for name, component in components.items() if name != RELEASE)])
    sbom.metadata.component = components[RELEASE]
    for name, component in components.items():
        used = [components[other] for other in sorted(requirements[name] & components.keys())]
        sbom.register_dependency(component, used)
    sbom.register_dependency(components[RELEASE], [python])
    return JsonV1Dot6(sbom).output_as_string(indent=2)


def main() -> None:
    """Do what the command is for."""
    if sys.argv[1:] == ["--validate"]:
        problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
        sys.exit(f"The SBOM is not valid CycloneDX 1.6: {problem}" if problem else 0)
    print(bill(json.load(sys.stdin)))


main()
