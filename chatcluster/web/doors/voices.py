"""What a model speaks, and in which voice: text, and reasoning. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from chatcluster.parts import OpaquePart, Part, ReasoningPart, TextPart, coalesced


class Voice(StrEnum):
    TEXT = "text"
    REASONING = "reasoning"


def voice_of(part: Part) -> Voice | None:
    """None for what is not spoken."""
    if isinstance(part, TextPart):
        return Voice.TEXT
    return Voice.REASONING if isinstance(part, ReasoningPart) else None


def spoken_in(parts: Iterable[Part]) -> list[tuple[Voice, str]]:
    """What a message says, in items: neighbours of one voice are one, as they were when they were streamed."""
    shown = coalesced(part for part in parts if not isinstance(part, OpaquePart))
    return [
        (Voice.TEXT if isinstance(part, TextPart) else Voice.REASONING, part.text)
        for part in shown
        if isinstance(part, TextPart | ReasoningPart) and part.text
    ]


def spoken_at(parts: Iterable[Part]) -> Iterator[int]:
    """Where in the message each item of ``spoken_in`` begins."""
    begins, before, is_told = 0, None, False
    for place, part in enumerate(parts):
        if isinstance(part, OpaquePart):
            continue
        voice = voice_of(part)
        if voice is not before:
            begins, before, is_told = place, voice, False
        if isinstance(part, TextPart | ReasoningPart) and part.text and not is_told:
            is_told = True
            yield begins
