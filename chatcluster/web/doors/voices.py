"""What a model speaks, and in which voice: text, and reasoning; and the sources that it cites. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from chatcluster.parts import OpaquePart, Part, ReasoningPart, SourcePart, TextPart, coalesced

UNSPOKEN = (OpaquePart, SourcePart)
"""Parts that end no item, wherever they stand."""


class Voice(StrEnum):
    TEXT = "text"
    REASONING = "reasoning"


class Citation(NamedTuple):
    """A source, and how many characters of the item come before it."""

    at: int
    source: SourcePart

    @property
    def annotation(self) -> dict[str, Any]:
        """Where and what it is, in OpenAI's words. What exactly it is for is not known: it stands at the end of
        that."""
        return {
            "start_index": self.at,
            "end_index": self.at,
            "title": self.source.title or self.source.url,
            "url": self.source.url,
        }


def voice_of(part: Part) -> Voice | None:
    """None for what is not spoken."""
    if isinstance(part, TextPart):
        return Voice.TEXT
    return Voice.REASONING if isinstance(part, ReasoningPart) else None


def spoken_in(parts: Iterable[Part]) -> list[tuple[Voice, str]]:
    """What a message says, in items: neighbours of one voice are one, as they were when they were streamed."""
    shown = coalesced(part for part in parts if not isinstance(part, UNSPOKEN))
    return [
        (Voice.TEXT if isinstance(part, TextPart) else Voice.REASONING, part.text)
        for part in shown
        if isinstance(part, TextPart | ReasoningPart) and part.text
    ]


def spoken_at(parts: Iterable[Part]) -> Iterator[int]:
    """Where in the message each item of ``spoken_in`` begins."""
    begins, before, is_told = 0, None, False
    for place, part in enumerate(parts):
        if isinstance(part, UNSPOKEN):
            continue
        voice = voice_of(part)
        if voice is not before:
            begins, before, is_told = place, voice, False
        if isinstance(part, TextPart | ReasoningPart) and part.text and not is_told:
            is_told = True
            yield begins


def cited_in(parts: Iterable[Part]) -> list[list[Citation]]:
    """The sources that each item of ``spoken_in`` cites. Those that stand behind no text are left out."""
    cited: list[list[Citation]] = []
    before: Voice | None = None
    length = 0
    for part in parts:
        match part:
            case OpaquePart():
                continue
            case SourcePart():
                if before is Voice.TEXT and length:
                    cited[-1].append(Citation(length, part))
            case TextPart(text=text) | ReasoningPart(text=text):
                voice = voice_of(part)
                if voice is not before:
                    before, length = voice, 0
                if text and not length:
                    cited.append([])
                length += len(text)
            case _:
                before = None
    return cited
