"""The chunks of a turn as bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from chatcluster.parts import encode
from chatcluster.turn_log import Told
from chatcluster.web.doors.ai_sdk.chunk_fold import ChunkFold
from chatcluster.web.doors.door_stream import HEAD
from chatcluster.web.doors.settled import Settled
from chatcluster.web.http.sse import StreamWire

DONE = b"data: [DONE]\n\n"
UI_MESSAGES = StreamWire(
    (
        (b"content-type", b"text/event-stream; charset=utf-8"),
        *HEAD,
        (b"x-vercel-ai-ui-message-stream", b"v1"),
    ),
    opening=b": open\n",
    heartbeat=b": ping\n",
)


class Chunked:
    """``anew``: what had come to nothing before is left out."""

    def __init__(self, fold: ChunkFold, *, anew: bool) -> None:
        self._fold = fold
        self._settled = Settled() if anew else None

    @property
    def is_over(self) -> bool:
        return self._fold.is_over

    def tell(self, told: Told) -> Iterator[bytes]:
        for one in (told,) if self._settled is None else self._settled.passed(told):
            was_over = self.is_over
            for chunk in self._fold.tell(one):
                yield b"data: %s\n\n" % encode(chunk)
            if self.is_over and not was_over:
                yield DONE
