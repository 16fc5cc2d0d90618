"""ARCHITECTURE.md says what is true: its state diagram is the table that decides."""

from __future__ import annotations

import re
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from chatcluster.chat import TABLE, Phase

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "ARCHITECTURE.md"


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    script = ModuleType("diagram")
    script.__file__ = str(ROOT / "scripts" / "diagram")
    SourceFileLoader("diagram", script.__file__).exec_module(script)
    return script


def test_the_state_diagram_is_up_to_date(drawing: ModuleType) -> None:
    document = DOCUMENT.read_text()
    assert document == drawing.updated(document), "run scripts/diagram"


def test_the_state_diagram_has_every_edge_between_two_phases_and_no_other(drawing: ModuleType) -> None:
    drawn = set()
    for source, target, label in re.findall(r"^    (\w+) --> (\w+): (.+)$", drawing.diagram(), re.MULTILINE):
        drawn |= {(event, Phase(source), Phase(target)) for event in label.split(", ")}
    edges = {
        (event, source, target)
        for event, row in TABLE.items()
        for source, targets in row.items()
        for target in targets
        if source is not target
    }
    assert drawn == edges


@pytest.mark.parametrize("marker", ["BEGIN", "END"])
def test_a_document_without_its_markers_is_not_overwritten(drawing: ModuleType, marker: str) -> None:
    document = DOCUMENT.read_text()
    text = getattr(drawing, marker)
    for broken in (document.replace(text, ""), document + text):
        with pytest.raises(ValueError, match="markers"):
            drawing.updated(broken)
