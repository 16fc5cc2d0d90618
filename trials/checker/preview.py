"""The answer under way, as the frames that a reader was shown make it, and the place of the last of them."""

from __future__ import annotations

from typing import NamedTuple

from checker.history import START, Position


class Attempt(NamedTuple):
    """An attempt whose beginning was shown, and when."""

    epoch: int
    number: int
    began: float


class Preview:
    def __init__(self) -> None:
        self.text = ""
        self.attempt: Attempt | None = None
        self.position = START
        """The last frame that was shown, or that a message stands for."""
        self.epoch = 0
        """The tenure whose frames were shown last, since the history was told anew."""

    def advance(self, position: Position) -> bool:
        """Whether the frame at ``position`` is newer than everything shown. If so it is the last one now."""
        if position <= self.position:
            return False
        self.position, self.epoch = position, position.epoch
        return True

    def begin(self, attempt: Attempt) -> None:
        self.text, self.attempt = "", attempt

    def add(self, text: str) -> None:
        self.text += text

    def drop(self) -> None:
        self.text, self.attempt = "", None

    def begin_anew(self, position: Position) -> None:
        """The history is told anew, as it was at this place."""
        self.drop()
        self.position, self.epoch = position, 0

    def become(self, end: Position) -> None:
        """A message stands for the frames up to ``end``."""
        self.position = max(self.position, end)

    def text_of(self, epoch: int) -> str:
        """What was shown of the attempt of that tenure."""
        return self.text if self.attempt is not None and self.attempt.epoch == epoch else ""
