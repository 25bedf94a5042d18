"""files/prometheus-rules.yml: its alarms are about metrics that exist, and lead to sections that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from litellm_sqlalchemy.ledger.metrics import METRICS

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load(Path("files/prometheus-rules.yml").read_text())["groups"]
    for rule in group["rules"]
]


def anchor(heading: str) -> str:
    """The name by which Markdown's readers link to a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


SECTIONS = {anchor(heading) for heading in re.findall(r"^#+ (.+)$", Path("RUNBOOK.md").read_text(), re.MULTILINE)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_rule(rule: dict[str, Any]) -> None:
    named = set(re.findall(r"\bledger_\w+", rule["expr"]))
    assert named
    assert named <= {metric.name for metric in METRICS}
    assert rule["annotations"].keys() == {"summary", "runbook"}
    file, _, section = rule["annotations"]["runbook"].partition("#")
    assert file == "RUNBOOK.md"
    assert section in SECTIONS


def test_each_alarm_has_a_name_of_its_own() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 0
