"""What was generated, noted in a file for a judge: one line of JSON for each answer, once nothing more of it is said.

An answer that is noted has a number, which its usage tells as the tokens that were read from the cache: by that a judge
knows which line a row of somebody's books is of. ``told``: its client was sent how many tokens it took. ``broken``: it
was ordered to fail in the middle, and got there.
"""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

import msgspec

from chatcluster.errors import ConfigError
from chatcluster.llm.simulator.answer import Answer
from chatcluster.llm.simulator.said import Ending
from chatcluster.llm.simulator.summaries import asks_for_summary

TEXT_CHARACTERS_MAX = 200


class Line(msgspec.Struct, frozen=True):
    """``text`` is what the conversation begins with, ``sent`` how many of the ``output`` tokens were sent."""

    number: int
    purpose: str
    """``answer``, ``summary`` or ``title``."""
    text: str
    input: int
    output: int
    reasoning: int
    sent: int
    told: bool
    broken: bool = False
    at: float = 0.0
    """When nothing more was said, in seconds since 1970."""


class Ledger:
    """Raises ``ConfigError`` if nothing can be written there."""

    def __init__(self, path: str) -> None:
        self._numbers = count(1)
        self._path = Path(path)
        try:
            self._append(b"")
        except OSError as error:
            raise ConfigError(f"--ledger: cannot write to {path}: {error.strerror}") from None

    def begin(self, answer: Answer) -> None:
        """Give the answer its number."""
        answer.number = next(self._numbers)

    def note(self, answer: Answer, *, told: bool) -> None:
        """Nothing more of it is said."""
        self._append(msgspec.json.encode(line_of(answer, told=told)) + b"\n")

    def _append(self, data: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            file.write(data)


def line_of(answer: Answer, *, told: bool) -> Line:
    question = answer.question
    purpose = "title" if question.wants_title else "summary" if asks_for_summary(question.prompt) else "answer"
    text = next((one.text for one in question.spoken if one.role == "user"), "")
    return Line(
        number=answer.number,
        purpose=purpose,
        text=text[:TEXT_CHARACTERS_MAX],
        input=question.words,
        output=answer.count,
        reasoning=answer.reasoning_count,
        sent=answer.sent,
        told=told,
        broken=answer.ending is not Ending.COMPLETE and answer.sent == answer.sent_count,
        at=time.time(),
    )


def read_ledger(path: Path) -> list[Line]:
    """The lines that are there by now."""
    return [msgspec.json.decode(line, type=Line) for line in path.read_bytes().splitlines()]
