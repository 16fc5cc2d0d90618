"""A response, or a chat completion, as its clients get it: events, or one JSON object when it is over. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from chatcluster.parts import encode
from chatcluster.turn_log import Told
from chatcluster.web.doors.openai.completion_fold import CompletionFold
from chatcluster.web.doors.openai.response_fold import ResponseFold
from chatcluster.web.doors.openai.spoken import Event
from chatcluster.web.http.sse import StreamWire

DONE = b"data: [DONE]\n\n"
_CLOSING = ((b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"), (b"connection", b"close"))
"""Such a response has no length, and its connection ends with it."""
EVENTS = StreamWire(
    ((b"content-type", b"text/event-stream; charset=utf-8"), *_CLOSING), opening=b": open\n", heartbeat=b": ping\n"
)
OBJECT = StreamWire(((b"content-type", b"application/json"), *_CLOSING), opening=b"", heartbeat=b"\n")
"""JSON may begin with white space: signs of life, so that no proxy gives the request up."""


class Narrated:
    """The events of a response from the one after number ``after`` on. One that is over ends with its last event, for
    those as well whose number is of another count."""

    def __init__(self, fold: ResponseFold, after: int = -1) -> None:
        self._fold = fold
        self._after = after

    @property
    def is_over(self) -> bool:
        return self._fold.is_over

    def tell(self, told: Told) -> Iterator[bytes]:
        was_over = self._fold.is_over
        for event in self._fold.tell(told):
            number = event["sequence_number"]
            is_wanted = number > self._after or (self._fold.is_over and number < self._after)
            yield encoded(event) if is_wanted else b""
        if self._fold.is_over and not was_over:
            yield DONE


class Summed:
    """The response as one object, when it is over."""

    def __init__(self, fold: ResponseFold) -> None:
        self._fold = fold

    @property
    def is_over(self) -> bool:
        return self._fold.is_over

    def tell(self, told: Told) -> Iterator[bytes]:
        was_over = self._fold.is_over
        for _ in self._fold.tell(told):
            yield b""
        if self._fold.is_over and not was_over:
            yield encode(self._fold.response())


class Chunked:
    """A chat completion as chunks."""

    def __init__(self, fold: CompletionFold) -> None:
        self._fold = fold

    @property
    def is_over(self) -> bool:
        return self._fold.is_over

    def tell(self, told: Told) -> Iterator[bytes]:
        was_over = self._fold.is_over
        for chunk in self._fold.tell(told):
            yield b"data: %s\n\n" % encode(chunk)
        if self._fold.is_over and not was_over:
            yield DONE


class Completed:
    """A chat completion as one object, or the error in its place, when it is over."""

    def __init__(self, fold: CompletionFold) -> None:
        self._fold = fold

    @property
    def is_over(self) -> bool:
        return self._fold.is_over

    @property
    def status(self) -> int:
        return 200 if self._fold.error is None else 500

    def tell(self, told: Told) -> Iterator[bytes]:
        was_over = self._fold.is_over
        for _ in self._fold.tell(told):
            yield b""
        if self._fold.is_over and not was_over:
            failed = self._fold.error
            yield encode(self._fold.completion() if failed is None else {"error": failed})


def encoded(event: Event) -> bytes:
    kind: str = event["type"]
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), encode(event))
