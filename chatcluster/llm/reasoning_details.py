"""The reasoning of one Chat Completions answer as OpenRouter and MiniMax tell it besides its words. Pure.

``reasoning_details`` is a list of texts, summaries, and encrypted blocks, with signatures of the model's own vendor. It
comes in pieces. Those of one text have its number, and grow it; a signature comes behind it; an encrypted block is
whole. The list goes back with the calls that it led to: Gemini and Claude refuse those without.
"""

from __future__ import annotations

from typing import Any

from chatcluster.llm.answers import BLOCK_CHARACTERS, KEPT_CHARACTERS_MAX
from chatcluster.llm.chunks import BLOCKS_MAX
from chatcluster.parts import encode

ENCRYPTED = "reasoning.encrypted"
_GROWING = ("text", "summary")


def words_in(pieces: Any) -> str:
    """What people can read of a chunk's part of the list."""
    known = [piece for piece in pieces[:BLOCKS_MAX] if isinstance(piece, dict)] if isinstance(pieces, list) else []
    texts = (piece.get(name) for piece in known for name in _GROWING)
    return "".join(text for text in texts if isinstance(text, str))


class ReasoningDetails:
    """``take`` what comes of the list; ``whole`` is it."""

    def __init__(self) -> None:
        self._details: list[_Detail] = []
        self._characters = 0

    @property
    def whole(self) -> list[dict[str, Any]]:
        """Empty also where there was more than is kept: half of it would be refused."""
        return [] if self._characters > KEPT_CHARACTERS_MAX else [detail.whole for detail in self._details]

    def take(self, pieces: Any) -> None:
        """Add what a chunk has of the list. What has another form is passed over."""
        for piece in pieces[:BLOCKS_MAX] if isinstance(pieces, list) else ():
            if not isinstance(piece, dict) or self._characters > KEPT_CHARACTERS_MAX:
                continue
            self._characters += len(encode(piece))
            if not (self._details and self._details[-1].goes_on_with(piece)):
                self._characters += BLOCK_CHARACTERS
                self._details.append(_Detail())
            self._details[-1].grow(piece)


class _Detail:
    """One member of the list."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}

    @property
    def whole(self) -> dict[str, Any]:
        return self._fields | {name: "".join(pieces) for name, pieces in self._texts.items()}

    def goes_on_with(self, piece: dict[str, Any]) -> bool:
        kind, number = piece.get("type"), piece.get("index")
        known = self._fields.get("type"), self._fields.get("index")
        return kind != ENCRYPTED and number is not None and (kind, number) == known

    def grow(self, piece: dict[str, Any]) -> None:
        for name, value in piece.items():
            if name in _GROWING and isinstance(value, str):
                self._texts.setdefault(name, []).append(value)
            elif value is not None or name not in self._fields:
                self._fields[name] = value
