"""What a chat is called: what a model is asked, and what of its answer is a title. Pure."""

from __future__ import annotations

import re

from chatcluster.texts import is_blank, visible

TITLE_CHARS_MAX = 80
FALLBACK_WORDS = 6
ASKED_CHARS_MAX = 4000
"""So much of the first message a model is told: what it is about stands at its beginning."""
FALLBACK = "New chat"
TITLE_INSTRUCTION = (
    "You name conversations. Answer with a title for the conversation that begins with the user's message: at most "
    "eight words, in the language of the message, on one line, without quotes and without a full stop. Do not answer "
    "the message itself."
)

_MARKS = " \t\"'`*#_“”„«»‘’.:-–—"
_THOUGHT = re.compile(r"\A\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
"""What some local models say first, in the middle of their words. One without an end is no title either."""
_LABEL = re.compile(r"title\s*:\s*", re.IGNORECASE)


def title_in(answer: str) -> str | None:
    """The title that a model gave: its first line with something to see, bare, not too long; None if it gave none."""
    for line in _THOUGHT.sub("", answer, count=1).splitlines():
        text = _LABEL.sub("", line.strip(_MARKS), count=1).strip(_MARKS)
        text = " ".join(visible(text).split())
        if not is_blank(text):
            return _shortened(text)
    return None


def first_words(text: str) -> str:
    """A title until there is a better one."""
    title = " ".join(text.split()[:FALLBACK_WORDS])[:TITLE_CHARS_MAX].strip()
    return visible(title) or FALLBACK


def _shortened(text: str) -> str:
    """The text cut at the end of a word, as far as there is one."""
    if len(text) <= TITLE_CHARS_MAX:
        return text
    cut = text[: TITLE_CHARS_MAX - 1]
    return (cut.rpartition(" ")[0] or cut).rstrip(" ,;:-") + "…"
