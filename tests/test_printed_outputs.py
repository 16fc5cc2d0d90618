"""What a running call prints, in a terminal."""

from __future__ import annotations

from chatcluster.cli.printed import OutputLines
from chatcluster.parts import ToolOutputPart


def shown(*pieces: tuple[int, str]) -> list[str]:
    lines = OutputLines()
    told: list[str] = []
    for offset, text in pieces:
        told.extend(lines.add(ToolOutputPart("c1", offset, offset + len(text.encode()), text)))
    return [*told, *lines.rest()]


def test_lines_are_shown_when_they_end_and_the_last_one_with_the_call() -> None:
    assert shown((0, "on"), (2, "e\ntwo\r\nth"), (11, "ree")) == ["one", "two", "three"]


def test_what_another_replica_tells_again_is_not_shown_twice() -> None:
    assert shown((0, "one\ntwo\n"), (0, "one\n"), (4, "two\nthree\n")) == ["one", "two", "three"]


def test_a_gap_is_shown_as_one() -> None:
    assert shown((0, "one\n"), (100, "two\n")) == ["one", "…", "two"]


def test_nothing_commands_the_terminal() -> None:
    assert shown((0, "\x1b[2Jred\x07\n")) == ["[2Jred"]
