"""Answers that the model's server broke off, as it was ordered to: faults of the provider, to the checker.

Nothing is kept of a failed attempt, and its readers are told so (``retry``), unless a stop comes in the same moment:
then a reader that learns of both at once is told of the stop alone, and what it was shown of the attempt is void. Only
the model's ledger knows such a stop from one that lost what it had to keep.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import msgspec
from checker import Fault

from chaos.money import group_of
from chatcluster.llm.simulator.ledger import Line

TOLD_SECONDS_MAX = 6.0
"""By then every reader has been told, even of a chat whose owner was killed at once."""
EARLY_SECONDS = 0.1
"""The ledger is written once the client is sent the end."""


class BrokenAnswers:
    """Reads the ledger as it grows. ``clock_offset`` is what its clock is ahead of the run's."""

    def __init__(self, ledger: Path, clock_offset: float) -> None:
        self._ledger = ledger
        self._clock_offset = clock_offset
        self._read_bytes = 0
        self._times: defaultdict[str, list[float]] = defaultdict(list)

    def of(self, talk: str, chat: str) -> list[Fault]:
        """Of the conversation of that name, which is the chat's, since its last look."""
        with self._ledger.open("rb") as file:
            file.seek(self._read_bytes)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read_bytes += len(whole) + len(newline)
        for line in map(msgspec.json.Decoder(Line).decode, whole.splitlines()):
            if line.broken:
                self._times[group_of(line.text)].append(line.at - self._clock_offset)
        return [
            Fault(kind="provider", time=time - EARLY_SECONDS, until=time + TOLD_SECONDS_MAX, chats=(chat,))
            for time in self._times.pop(talk, ())
        ]
