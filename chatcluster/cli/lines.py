"""One short line of what may be anything: arguments and results of tools, and what agents did. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from chatcluster.agents import SPAWN, WAIT
from chatcluster.parts import UNDECODABLE
from chatcluster.texts import visible

FEW_WORDS_CHARS_MAX = 200


def few_words(text: str) -> str:
    """One short line of what may be anything."""
    words = visible(" ".join(text[: 4 * FEW_WORDS_CHARS_MAX].split()))
    return words if len(words) <= FEW_WORDS_CHARS_MAX else words[: FEW_WORDS_CHARS_MAX - 1] + "…"


def agent_line(tool: str, text: str) -> str:
    """What an agent did, in one line, if that is what a result of this tool tells of; else nothing."""
    if tool not in (SPAWN, WAIT) or "{" not in text:
        return ""
    try:
        told = msgspec.json.decode(text[text.index("{") :], type=dict[str, Any])
    except UNDECODABLE:
        return ""
    if "title" not in told:
        return ""
    done = "began" if tool == SPAWN else "is still at work" if "timed_out" in told else "has finished"
    said = few_words(str(told.get("error") or told.get("report", "")))
    return f"agent {few_words(str(told['title']))!r} {done}{': ' + said if said else ''}"
