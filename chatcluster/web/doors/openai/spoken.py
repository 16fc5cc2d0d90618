"""Items that the model speaks, text and reasoning, as events of the Responses API. Pure.

An item is opened with its first word and closed with its last. One that comes to nothing, because another attempt takes
its place, is closed as ``incomplete``, and the next one is another item.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chatcluster.web.doors.chunks import Cutter
from chatcluster.web.doors.voices import Voice

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

    def close(self) -> Iterator[Event]:
        if rest := self._cutter.rest():
            yield self._delta(rest)
        text = self.text
        if self.voice is Voice.TEXT:
            yield self._event("response.output_text.done", text=text, logprobs=[])
            yield self._event("response.content_part.done", part=_text_part(text))
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
            content = [_text_part(text)] if is_begun else []
            return {"id": self.id, "type": "message", "role": "assistant", "status": status, "content": content}
        summary = [_summary_part(text)] if is_begun else []
        return {"id": self.id, "type": "reasoning", "status": status, "summary": summary}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _summary_part(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}
