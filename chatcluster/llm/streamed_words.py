"""The words of one Chat Completions answer, from the pieces as servers send them: text, reasoning, and sources. Pure.

Reasoning comes in one of several fields, and besides as a list that goes back as it is (``reasoning_details.py``), or
within the text (``streamed_text.py``). Sources are told behind the text (``sources.py``). An answer that can be
continued from its words tells with each piece how many tokens it has by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from chatcluster.llm.chunks import Chunk, Said, append_text
from chatcluster.llm.openai_request import REASONING, REASONING_DETAILS, REASONING_FIELDS
from chatcluster.llm.reasoning_details import ReasoningDetails, words_in
from chatcluster.llm.sources import Sources
from chatcluster.llm.streamed_text import FlaggedThoughts, StreamedText, Tokens
from chatcluster.llm.wire import Route
from chatcluster.parts import OpaquePart, Part, ReasoningPart, TextPart, Usage, encode, is_visible
from chatcluster.ports import Delta


class StreamedWords:
    """Those of one answer, or of the rest of one that was ``begun``, with so many tokens."""

    def __init__(self, route: Route, begun: str, begun_tokens: int) -> None:
        self._route = route
        self._text = StreamedText(route.options, begun)
        self._flagged = FlaggedThoughts()
        self._tokens = Tokens(begun_tokens) if route.goes_on_from_words else None
        self._sources = Sources()
        self._details = ReasoningDetails()
        self._reasoning_field = ""
        self.is_visible = is_visible((TextPart(begun),))
        """Whether there is something to show, calls aside."""

    def take(self, said: Said, parts: list[Part]) -> None:
        """Append what a piece, the first of its chunk, says."""
        for name in REASONING_FIELDS:
            if reasoning := getattr(said, name):  # some servers say it in two fields at once
                append_text(reasoning, parts, ReasoningPart)
                self._reasoning_field = name
                break
        if said.reasoning_details:
            self._details.take(said.reasoning_details)
            if not self._reasoning_field and (words := words_in(said.reasoning_details)):
                parts.append(ReasoningPart(words))  # MiniMax may say it there alone
        if said.content:
            self._flagged.take(said.content, said.extra_content, parts)
        if said.refusal:
            append_text(said.refusal, parts, TextPart)
        if not self._text.is_plain:
            parts[:] = self._text.told(parts)
        if not self.is_visible:
            self.is_visible = is_visible(parts)
        if said.annotations:
            self._sources.take(said.annotations)

    def take_beside(self, chunk: Chunk) -> None:
        """What some servers have found, and say beside the answer."""
        for found in (chunk.search_results, chunk.citations):  # the first have titles
            if found:
                self._sources.take(found)

    def sources(self) -> Sequence[Part]:
        """Those that were not told yet: here a text ends."""
        return self._sources.rest()

    def rest(self) -> list[Part]:
        """What was held back, now that nothing more comes."""
        rest = self._text.rest()
        self.is_visible = self.is_visible or is_visible(rest)
        return [*rest, *self.sources()]

    def reasoned(self) -> Iterator[OpaquePart]:
        """What has to go back with the calls: the server's own list, or in which field the reasoning was."""
        kind = REASONING
        data: dict[str, Any] = {"field": self._reasoning_field}
        if details := self._details.whole:
            kind, data = REASONING_DETAILS, {REASONING_DETAILS: details}
        elif not self._reasoning_field:
            return
        yield OpaquePart(self._route.server.name, self._route.model, kind, encode(data).decode())

    def told(self, parts: Sequence[Part], usage: Usage | None) -> list[Delta]:
        """The parts of one chunk as what is told of them."""
        return [*(map(Delta, parts) if self._tokens is None else self._tokens.told(parts, usage))]
