"""A response, or a chat completion, as its clients get it: events, or one JSON object when it is over. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from chatcluster.parts import encode
from chatcluster.turn_log import Told
from chatcluster.web.doors.door_stream import HEAD
from chatcluster.web.doors.openai.completion_fold import CompletionFold
from chatcluster.web.doors.openai.response_fold import ResponseFold
from chatcluster.web.doors.openai.spoken import Event
from chatcluster.web.http.sse import StreamWire

DONE = b"data: [DONE]\n\n"
EVENTS = StreamWire(
    ((b"content-type", b"text/event-stream; charset=utf-8"), *HEAD), opening=b": open\n", heartbeat=b": ping\n"
)
OBJECT = StreamWire(
    ((b"content-type", b"application/json"), *HEAD[:-1], (b"connection", b"close")), opening=b"", heartbeat=b"\n"
)
"""JSON may begin with white space: signs of life, so that no proxy gives the request up. Nobody takes a part of it for
whole, so it says that its connection ends."""


class _Narrator:
    """``tell`` gives the bytes of what was said, and of the end once it has come. Each piece is there for the sign of
    life as well, so it may be empty."""

    def __init__(self, fold: ResponseFold | CompletionFold) -> None:
        self._fold = fold

    @property
    def is_over(self) -> bool:
        return self._fold.is_over

    def tell(self, told: Told) -> Iterator[bytes]:
        was_over = self.is_over
        for said in self._fold.tell(told):
            yield self._piece(said)
        if self.is_over and not was_over:
            yield self._end()

    def _piece(self, said: Event) -> bytes:  # noqa: ARG002
        """Nothing: what is one object has no pieces."""
        return b""

    def _end(self) -> bytes:
        return DONE


class Narrated(_Narrator):
    """The events of a response from the one after number ``after`` on. One that is over ends with its last event, for
    those as well whose number is of another count."""

    def __init__(self, fold: ResponseFold, after: int = -1) -> None:
        super().__init__(fold)
        self._after = after

    def _piece(self, said: Event) -> bytes:
        number = said["sequence_number"]
        is_wanted = number > self._after or (self.is_over and number < self._after)
        return encoded(said) if is_wanted else b""


class Summed(_Narrator):
    """The response as one object, when it is over."""

    def __init__(self, fold: ResponseFold) -> None:
        super().__init__(fold)
        self._response = fold.response

    def _end(self) -> bytes:
        return encode(self._response())


class Chunked(_Narrator):
    """A chat completion as chunks."""

    def _piece(self, said: Event) -> bytes:
        return b"data: %s\n\n" % encode(said)


class Completed(_Narrator):
    """A chat completion as one object, or the error in its place, when it is over."""

    def __init__(self, fold: CompletionFold) -> None:
        super().__init__(fold)
        self._completion = fold

    @property
    def status(self) -> int:
        failure = self._completion.failure
        return 200 if failure is None else failure.status

    @property
    def headers(self) -> dict[str, str]:
        failure = self._completion.failure
        return {} if failure is None else failure.headers

    def _end(self) -> bytes:
        failure = self._completion.failure
        return encode(self._completion.completion() if failure is None else {"error": failure.error})


def encoded(event: Event) -> bytes:
    kind: str = event["type"]
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), encode(event))
