"""What is depended on: true bounds, one set of versions for everybody, and no version with a known weakness.

Whether the bounds are true is for ``scripts/check-dependencies`` to try; here is what can be told by reading."""

from __future__ import annotations

import ast
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
EMBEDDED = [Requirement(text) for text in PROJECT["optional-dependencies"]["embedded"]]
DEV = [Requirement(text) for text in PROJECT["optional-dependencies"]["dev"]]
PINS = dict(
    line.lower().replace("_", "-").split("==")
    for line in (ROOT / "scripts" / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
)
WITHOUT_UPPER_BOUND = {"structlog"}  # versions are dates, and say nothing of what breaks


def operators(requirement: Requirement) -> set[str]:
    return {bound.operator for bound in requirement.specifier}


@pytest.mark.parametrize("requirement", RUNTIME, ids=lambda requirement: requirement.name)
def test_what_runs_has_both_bounds(requirement: Requirement) -> None:
    wanted = {">="} if requirement.name in WITHOUT_UPPER_BOUND else {">=", "<"}
    assert operators(requirement) == wanted


@pytest.mark.parametrize("requirement", [*RUNTIME, *EMBEDDED, *DEV], ids=lambda requirement: requirement.name)
def test_the_version_that_everybody_gets_is_within_the_bounds(requirement: Requirement) -> None:
    if requirement.name != PROJECT["name"]:
        assert requirement.specifier.contains(Version(PINS[requirement.name.lower()]))


def test_a_server_that_takes_malformed_chunks_is_excluded() -> None:
    (h11,) = (requirement for requirement in RUNTIME if requirement.name == "h11")
    assert not h11.specifier.contains("0.14.0")
    assert not h11.specifier.contains("0.15.0")
    assert h11.specifier.contains("0.16.0")


def test_scripts_and_image_install_the_same_versions() -> None:
    for user in ("scripts/virtualenv.sh", "deploy/Dockerfile"):
        assert "--constraint" in (ROOT / user).read_text(), user
    assert "!scripts/constraints.txt" in (ROOT / ".dockerignore").read_text()
    assert not any("/" in pin or "@" in pin for pin in PINS.values()), "versions, and not places"


PACKAGES = packages_distributions()
OF_ANOTHER = {"jsonschema-specifications"}
"""What a dependency of ours is split into by its own words."""


def imported() -> set[str]:
    """The distributions of all that the package imports when it runs."""
    names: set[str] = set()
    for path in (ROOT / PROJECT["name"]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
                names.add(node.module.partition(".")[0])
    return {canonicalize_name(found) for name in names for found in PACKAGES.get(name, ())}


def test_what_is_imported_is_depended_on_with_bounds_of_its_own() -> None:
    """Not by way of another package, which may leave it, or take another version, whenever it likes."""
    declared = {requirement.name.lower() for requirement in (*RUNTIME, *EMBEDDED)}
    assert imported() - declared - OF_ANOTHER - {PROJECT["name"]} == set()


@pytest.mark.parametrize("requirement", RUNTIME, ids=lambda requirement: requirement.name)
def test_no_lower_bound_is_below_what_another_dependency_needs(requirement: Requirement) -> None:
    """Nothing could be installed at the lower bounds."""
    wanted = [Requirement(text) for other in RUNTIME for text in requires(other.name) or ()]
    (lowest,) = (bound.version for bound in requirement.specifier if bound.operator == ">=")
    needs = [one for one in wanted if one.name.lower() == requirement.name and is_asked_for(one)]
    assert [str(one) for one in needs for bound in one.specifier if not bound.contains(lowest)] == []


def is_asked_for(requirement: Requirement) -> bool:
    """As a lower bound, of us. One version alone goes with that of the package which asks for it."""
    exact = operators(requirement) == {"=="}
    return not exact and (requirement.marker is None or requirement.marker.evaluate({"extra": ""}))
