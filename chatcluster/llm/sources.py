"""The sources of an answer, as the decoders of all wires find them. Pure.

Servers say them in four forms: in citations of a text (Anthropic), in annotations of it (OpenAI, flat or one level
deeper), as a list of addresses, or of results, beside the whole answer (Perplexity, xAI). Each address is told once,
behind the text that it is for: between two pieces of one text it would make two of it.
"""

from __future__ import annotations

from typing import Any

from chatcluster.content import SourcePart
from chatcluster.texts import visible

SOURCES_MAX = 200
"""Of one answer. The others are left out."""
LOOKS_MAX = 20_000
"""At what an answer cites, most of it again and again."""
URL_CHARACTERS_MAX = 2000
TITLE_CHARACTERS_MAX = 300
TITLE_CHARACTERS_READ = 400
_SCHEMES = ("https://", "http://")
_NOT_IN_ADDRESSES = ' "<>'


class Sources:
    """Those of one answer: ``take`` what the server says, and tell the ``rest`` where a text ends."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._held: list[SourcePart] = []
        self._looks_left = LOOKS_MAX

    def take(self, cited: Any) -> None:
        """A citation, or a list of some; what names no address of the web is passed over."""
        if isinstance(cited, list):
            for one in cited[:SOURCES_MAX]:
                self._take_one(one)
        else:
            self._take_one(cited)

    def rest(self) -> list[SourcePart]:
        """What was not told yet."""
        held, self._held = self._held, []
        return held

    def _take_one(self, cited: Any) -> None:
        self._looks_left -= 1
        if self._looks_left < 0 or len(self._known) >= SOURCES_MAX:
            return
        fields = {"url": cited} if isinstance(cited, str) else cited if isinstance(cited, dict) else {}
        inner = fields.get("url_citation")
        fields = inner if isinstance(inner, dict) else fields
        url, title = fields.get("url"), fields.get("title")
        if not isinstance(url, str) or url in self._known or not _is_address(url):
            return
        self._known.add(url)
        words = title[:TITLE_CHARACTERS_READ].split() if isinstance(title, str) else ()
        self._held.append(SourcePart(url, visible(" ".join(words))[:TITLE_CHARACTERS_MAX] or None))


def _is_address(url: str) -> bool:
    is_short = len(url) <= URL_CHARACTERS_MAX and url.startswith(_SCHEMES)
    return is_short and url.isprintable() and not any(mark in url for mark in _NOT_IN_ADDRESSES)
