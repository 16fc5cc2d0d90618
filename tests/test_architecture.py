"""What the documents say of the code is true: the state diagram is the table, the settings are the settings."""

from __future__ import annotations

import re
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from checker.history import PROMISES
from simulation.planted import BUGS

from chatcluster.chat import TABLE, Phase
from chatcluster.config import SETTINGS, env_name
from chatcluster.errors import CallerError, ParentArchived, ToolCallNotFound
from chatcluster.setting_checks import flag_name

ROOT = Path(__file__).parent.parent


def load_script() -> ModuleType:
    script = ModuleType("generate")
    script.__file__ = str(ROOT / "scripts" / "generate")
    sys.modules["generate"] = script  # dataclasses look their module up
    SourceFileLoader("generate", script.__file__).exec_module(script)
    return script


SCRIPT = load_script()

each_section = pytest.mark.parametrize("section", SCRIPT.SECTIONS, ids=lambda section: str(section.name))


@each_section
def test_each_generated_section_is_up_to_date(section: Any) -> None:
    document = section.document.read_text()
    assert document == section.updated(document), "run scripts/generate"


@each_section
@pytest.mark.parametrize("marker", ["begin", "end"])
def test_a_document_without_its_markers_is_not_overwritten(section: Any, marker: str) -> None:
    document, text = section.document.read_text(), getattr(section, marker)
    for broken in (document.replace(text, ""), document + text):
        with pytest.raises(ValueError, match="markers"):
            section.updated(broken)


def test_the_state_diagram_has_every_edge_between_two_phases_and_no_other() -> None:
    drawn = set()
    for source, target, label in re.findall(r"^    (\w+) --> (\w+): (.+)$", SCRIPT.diagram(), re.MULTILINE):
        drawn |= {(event, Phase(source), Phase(target)) for event in label.split(", ")}
    edges = {
        (event, source, target)
        for event, row in TABLE.items()
        for source, targets in row.items()
        for target in targets
        if source is not target
    }
    assert drawn == edges


def test_every_setting_is_documented_with_its_flag_and_variable() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    for name in SETTINGS:
        assert f"`--{flag_name(name)}`" in page
        assert f"`{env_name(name)}`" in page


def test_every_code_that_a_caller_can_get_is_documented() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    of_later_features = {ParentArchived, ToolCallNotFound}
    for kind in subclasses(CallerError) - {CallerError} - of_later_features:
        assert f"`{kind.code}`" in pages, kind


def test_every_module_and_folder_has_its_line_among_the_rooms() -> None:
    """Somebody who has read the list finds the room of any behaviour without a search."""
    rooms = (ROOT / "ARCHITECTURE.md").read_text().partition("## The rooms")[2].partition("### ")[0]
    names = {name for words in re.findall(r"`([^`]+)`", rooms) for name in re.findall(r"\w+", words)}
    for path in (ROOT / "chatcluster").rglob("*.py"):
        name = path.parent.name if path.stem == "__init__" else path.stem
        assert name in names or name == "__main__", f"{path.relative_to(ROOT)} has no line in ARCHITECTURE.md"


TO_COME = {"tools/"}


def test_every_file_that_the_architecture_names_is_there() -> None:
    folders = [(ROOT / top).rglob("*") for top in ("chatcluster", "tests", "trials", "scripts")]
    files = [path.as_posix() for paths in (*folders, (ROOT / "site").glob("*.py")) for path in paths]
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for name in re.findall(r"`([\w/]+\.(?:py|sql)|[\w/]+/)`", text):
        is_there = (ROOT / name).exists() or any(path.endswith(f"/{name.rstrip('/')}") for path in files)
        assert is_there or name in TO_COME, name
    for name in re.findall(r"`((?:loops/)?test_\w+)`", text):
        assert (ROOT / "tests" / f"{name}.py").exists(), name


def test_the_architecture_has_every_count_of_the_checker_in_its_promise_and_every_planted_bug() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rows = [
        row.split("|") for row in text.split("| | what the checker counts")[1].splitlines() if row.startswith("| P")
    ]
    counted = {row[1].strip(): re.findall(r"`(\w+)`", row[2]) for row in rows}
    for kind, promise in PROMISES.items():
        assert any(kind == name or (name[0] == "_" and kind.endswith(name)) for name in counted[promise]), kind
    named = {name.strip() for row in rows for name in row[3].split(",")} - {""}
    assert named == set(BUGS)


def subclasses(kind: type[CallerError]) -> set[type[CallerError]]:
    return {kind}.union(*map(subclasses, kind.__subclasses__()))
