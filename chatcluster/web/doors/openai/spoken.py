"""Items that the model speaks, text and reasoning, as events of the Responses API. Pure.

An item is opened with its first word and closed with its last. One that comes to nothing, because another attempt takes
its place, is closed as ``incomplete``, and the next one is another item. Sources are annotations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from chatcluster.parts import SourcePart
from chatcluster.web.doors.chunks import Cutter
from chatcluster.web.doors.voices import Citation, Voice

Event = dict[str, Any]


class Spoken:
    """One item. Each method yields events without their numbers."""

    def __init__(self, voice: Voice, response_id: str, index: int) -> None:
        self.voice = voice
        self.index = index
        prefix = "msg" if voice is Voice.TEXT else "rs"
        self.id = f"{prefix}_{response_id.partition('_')[2]}_{index}"
        self._pieces: list[str] = []
        self._cutter = Cutter()
        self.cited: list[Citation] = []

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def open(self) -> Iterator[Event]:
        yield {"type": "response.output_item.added", "output_index": self.index, "item": self._item("in_progress", "")}
        if self.voice is Voice.TEXT:
            yield self._event("response.content_part.added", part=_text_part(""))
        else:
            yield self._event("response.reasoning_summary_part.added", part=_summary_part(""))

    def add(self, text: str) -> Iterator[Event]:
        self._pieces.append(text)
        for delta in self._cutter.add(text):
            yield self._delta(delta)

    def cite(self, source: SourcePart) -> Iterator[Event]:
        """What was said up to here has this source."""
        if self.voice is not Voice.TEXT:
            return
        self.cited.append(Citation(len(self.text), source))
        place, told = len(self.cited) - 1, annotation(self.cited[-1])
        yield self._event("response.output_text.annotation.added", annotation_index=place, annotation=told)

    def tell_to_the_end(self, text: str, cited: Sequence[Citation]) -> Iterator[Event]:
        """The rest of an item that says this, and has said and cited the beginning of it."""
        for at, source in cited[len(self.cited) :]:
            if more := text[len(self.text) : at]:
                yield from self.add(more)
            yield from self.cite(source)
        if more := text[len(self.text) :]:
            yield from self.add(more)

    def leads_to(self, text: str, cited: Sequence[Citation], *, is_open: bool) -> bool:
        """Whether it is, or where it is open begins, an item that says this."""
        if not is_open:
            return text == self.text and list(cited) == self.cited
        return text.startswith(self.text) and list(cited[: len(self.cited)]) == self.cited

    def close(self) -> Iterator[Event]:
        if rest := self._cutter.rest():
            yield self._delta(rest)
        text = self.text
        if self.voice is Voice.TEXT:
            yield self._event("response.output_text.done", text=text, logprobs=[])
            yield self._event("response.content_part.done", part=_text_part(text, self.cited))
        else:
            yield self._event("response.reasoning_summary_text.done", text=text)
            yield self._event("response.reasoning_summary_part.done", part=_summary_part(text))
        yield self._done("completed")

    def abandon(self) -> Iterator[Event]:
        if rest := self._cutter.rest():
            yield self._delta(rest)
        yield self._done("incomplete")

    def item(self) -> dict[str, Any]:
        """The whole item, as it is in the response."""
        return self._item("completed", self.text)

    def _done(self, status: str) -> Event:
        item = self._item(status, self.text)
        return {"type": "response.output_item.done", "output_index": self.index, "item": item}

    def _delta(self, delta: str) -> Event:
        if self.voice is Voice.TEXT:
            return self._event("response.output_text.delta", delta=delta, logprobs=[])
        return self._event("response.reasoning_summary_text.delta", delta=delta)

    def _event(self, kind: str, **fields: Any) -> Event:
        place = "content_index" if self.voice is Voice.TEXT else "summary_index"
        return {"type": kind, "item_id": self.id, "output_index": self.index, place: 0, **fields}

    def _item(self, status: str, text: str) -> dict[str, Any]:
        is_begun = status != "in_progress"
        if self.voice is Voice.TEXT:
            content = [_text_part(text, self.cited)] if is_begun else []
            return {"id": self.id, "type": "message", "role": "assistant", "status": status, "content": content}
        summary = [_summary_part(text)] if is_begun else []
        return {"id": self.id, "type": "reasoning", "status": status, "summary": summary}


def _text_part(text: str, cited: Sequence[Citation] = ()) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [*map(annotation, cited)], "logprobs": []}


def annotation(cited: Citation) -> dict[str, Any]:
    """A source, as it stands beside a text."""
    return {"type": "url_citation", **cited.annotation}


def _summary_part(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}
