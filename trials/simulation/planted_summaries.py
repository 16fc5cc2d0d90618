"""Known bugs in how chats are summarised, to plant: the simulation has to find them. See ``planted.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chatcluster import compaction
from chatcluster.parts import Message, Part, Role
from simulation.planted_harms import Patch


def unanswered_summarised() -> list[Patch]:
    """A summary takes the place of all messages, also of those that nothing has answered."""

    def keep(messages: Sequence[Message]) -> list[Message]:
        return [message for message in messages if message.role is Role.SYSTEM]

    return [(compaction, "kept_of", keep)]


def heard_summaries() -> list[Patch]:
    """The words of a summary are streamed like those of an answer."""

    def tell(self: Any, part: Part, sequence: int | None = None) -> None:
        self.flush.__self__.part(part, sequence)

    return [(compaction._Unheard, "part", tell)]


WITH_SUMMARIES: tuple[Callable[[], list[Patch]], ...] = (unanswered_summarised, heard_summaries)
