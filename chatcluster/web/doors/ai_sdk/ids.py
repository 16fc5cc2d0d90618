"""IDs of this door's messages. Pure."""

from __future__ import annotations

import re

_ANSWER = re.compile(r"answer_([0-9a-f]{1,15})")
_ASKED = re.compile(r"message_([0-9a-f]{1,15})")


def answer_id(message_id: int) -> str:
    """The ID of all that follows a user's message."""
    return f"answer_{message_id:x}"


def asked_id(message_id: int) -> str:
    """The ID of a user's message."""
    return f"message_{message_id:x}"


def message_of(text: str | None) -> int | None:
    """The user's message that one of our IDs is about; None for an ID that the client made."""
    match = _ANSWER.fullmatch(text or "") or _ASKED.fullmatch(text or "")
    return None if match is None else int(match[1], 16)
