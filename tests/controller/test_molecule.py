"""Molecule passes over in silence what it does not know: the scenarios must say enough."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("scenario", sorted(ROOT.glob("molecule/*/molecule.yml")), ids=lambda file: file.parent.name)
def test_what_a_sequence_names_is_there(scenario: Path) -> None:
    config = yaml.safe_load(scenario.read_text())
    steps = [step.split() for step in config["scenario"]["test_sequence"]]
    for step, *arguments in steps:
        assert all((scenario.parent / argument).exists() for argument in arguments)
        if step == "side_effect":
            assert config["ansible"]["playbooks"]["side_effect"], "without one, Molecule skips them all"
        if step == "prepare":
            assert (scenario.parent / "prepare.yml").exists()
