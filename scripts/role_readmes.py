#!/usr/bin/env python3
"""Writes each role's README.md from its argument_specs; with --check only says which ones are stale."""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).parents[1] / "roles"


def plain(text: str) -> str:
    """Turn Ansible's markup, such as V(value) and C(code), into Markdown's."""
    return re.sub(r"\b[VCOEPM]\(((?:[^()\\]|\\.|\([^()]*\))*)\)", r"`\1`", text.strip())


def sentences(description: str | list[str]) -> list[str]:
    """Return the paragraphs of a description, which may be one string or a list."""
    return [plain(text) for text in ([description] if isinstance(description, str) else description)]


def rows(options: dict[str, Any], parent: str = "") -> list[str]:
    """Return a table's row for each option, and for what a dictionary holds below it."""
    lines = []
    for name, option in options.items():
        kind = option.get("type", "str") + (f" of {option['elements']}" if "elements" in option else "")
        default = option.get("default")
        default = "required" if option.get("required") else "" if default is None else f"`{default or repr(default)}`"
        text = " ".join(sentences(option.get("description", "")))
        if "choices" in option:
            text += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        cells = [f"`{parent}{name}`", kind, default, text]
        lines.append("| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |")
        lines += rows(option.get("options", {}), f"{parent}{name}.")
    return lines


def readme(role: Path) -> str:
    """Return the text of the role's README.md."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    lines = [f"# {role.name}", "", "<!-- Written by `make docs` from meta/argument_specs.yml: change that file. -->"]
    for name, spec in specs.items():
        heading = spec["short_description"]
        lines += ["", f"## {heading}" if name == "main" else f"## {heading} (`tasks_from: {name}`)"]
        for paragraph in sentences(spec.get("description", [])):
            lines += ["", paragraph]
        if spec.get("options"):
            lines += ["", "| variable | type | default | meaning |", "|---|---|---|---|", *rows(spec["options"])]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write what is stale, or tell it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a README is stale")
    check = parser.parse_args().check
    stale = []
    for specs in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        role = specs.parents[1]
        file, text = role / "README.md", readme(role)
        if not file.exists() or file.read_text() != text:
            stale.append(file)
            if not check:
                file.write_text(text)
    for file in stale:
        state = "stale; run `make docs`" if check else "written"
        sys.stdout.write(f"{file.relative_to(ROLES.parent)}: {state}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
