"""What the running calls of a step tell of themselves, as readers are shown it: how far they are, and what they print.

A call may tell a thousand things a second; readers are shown the newest at a pace, a little slower the longer the step
takes. What a call prints goes out whole as long as it is not much. Of more there is the newest alone: the offsets say
what is left out, and the result has it. So what a step leaves in the stream, and in the owner's memory, is bounded
whatever its tools print.

Bytes become text here: a character is never cut, and what is no text is U+FFFD. ``offset`` and ``end`` of a piece count
bytes, so a reader joins pieces, from whatever replica, without a repeat: an owner that takes the call over tells it
from the first byte on.

What is shown belongs to an attempt, and a step begins a further one whenever a result becomes history. Readers that
come later begin with that, so the newest output is shown again in it (``show_again``).
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterator

import trio

from chatcluster.parts import Part, ToolOutputPart, ToolProgressPart, storable
from chatcluster.ports import Printed, Progressed

PACE_SECONDS = 0.25
"""Between two showings; more in a step that takes long."""
SHOWINGS = 500
PROGRESS_CHARACTERS_MAX = 500
PIECE_BYTES_MAX = 16 << 10
"""The most output in one frame."""
PENDING_BYTES_MAX = 64 << 10
"""The most output of a call that waits to be shown; of more the newest is kept."""
WHOLE_BYTES_MAX = 512 << 10
"""So much of a step's output is shown without leaving anything out."""
SHOWN_BYTES_MAX = 1 << 20
"""The most of a step's output that is shown in all."""
TAIL_BYTES = 1024
"""So much of a call's output each showing has, once ``WHOLE_BYTES_MAX`` were shown."""
_DECODER = codecs.getincrementaldecoder("utf-8")


class _Output:
    """What one call has printed: the part that readers were not shown yet, and the end of the part that they were."""

    def __init__(self) -> None:
        self.pending = bytearray()
        self.end = 0
        self.newest: ToolOutputPart | None = None

    @property
    def offset(self) -> int:
        return self.end - len(self.pending)

    def add(self, printed: Printed) -> None:
        if printed.offset != self.end:
            self.pending.clear()
        self.pending += printed.data
        self.end = printed.offset + len(printed.data)
        self.keep(PENDING_BYTES_MAX)

    def keep(self, bytes_max: int) -> None:
        """Forget all but the newest; what is left begins with a character."""
        if len(self.pending) <= bytes_max:
            return
        start = len(self.pending) - bytes_max
        while start < len(self.pending) and self.pending[start] & 0xC0 == 0x80:
            start += 1
        del self.pending[:start]


class CallProgress:
    """What the calls of one step tell; the step begins now. ``show_part`` puts a part on the stream; ``stir`` is called
    when there is something to show and there was nothing before."""

    def __init__(self, show_part: Callable[[Part], None], stir: Callable[[], None]) -> None:
        self._show_part = show_part
        self._stir = stir
        self._progress: dict[str, Progressed] = {}
        self._outputs: dict[str, _Output] = {}
        self._is_stirred = False
        self._next_at = -math.inf
        self._began_at = trio.current_time()
        self._shown_bytes = 0

    def __repr__(self) -> str:
        return f"<CallProgress of {len(self._outputs)} outputs, {self._shown_bytes} bytes shown>"

    @property
    def show_at(self) -> float:
        """When there is something to show next."""
        return self._next_at if self._is_stirred else math.inf

    def told(self, call_id: str, news: Progressed | Printed) -> None:
        """A call tells of itself."""
        if isinstance(news, Printed):
            self._outputs.setdefault(call_id, _Output()).add(news)
        elif math.isfinite(news.progress):
            self._progress[call_id] = news
        else:
            return
        if not self._is_stirred:
            self._is_stirred = True
            self._stir()

    def show(self) -> None:
        """Show the pending output, if it is time to."""
        if not self._is_stirred or trio.current_time() < self._next_at:
            return
        self._is_stirred = False
        progress, self._progress = self._progress, {}
        for call_id, news in progress.items():
            self._show_part(_progress_part(call_id, news))
        for call_id, output in self._outputs.items():
            self._show_output(call_id, output, is_over=False)
        now = trio.current_time()
        self._next_at = now + max(PACE_SECONDS, (now - self._began_at) / SHOWINGS)

    def show_again(self) -> None:
        """A new attempt has begun: show the newest output once more, for readers that join here."""
        for output in self._outputs.values():
            if output.newest is not None:
                self._show_part(output.newest)

    def ended(self, call_id: str, *, has_result: bool) -> None:
        """The call is over. What it printed last is shown before its result."""
        self._progress.pop(call_id, None)
        output = self._outputs.pop(call_id, None)
        if output is not None and has_result:
            self._show_output(call_id, output, is_over=True)

    def _show_output(self, call_id: str, output: _Output, *, is_over: bool) -> None:
        output.keep(self._bytes_allowed())
        for part in _pieces(call_id, output, is_over=is_over):
            output.newest = part
            self._shown_bytes += part.end - part.offset
            self._show_part(part)

    def _bytes_allowed(self) -> int:
        if self._shown_bytes < WHOLE_BYTES_MAX:
            return PENDING_BYTES_MAX
        return TAIL_BYTES if self._shown_bytes < SHOWN_BYTES_MAX else 0


def _pieces(call_id: str, output: _Output, *, is_over: bool) -> Iterator[ToolOutputPart]:
    """The pending output, without a last character whose rest is still to come."""
    while output.pending:
        piece, offset = bytes(output.pending[:PIECE_BYTES_MAX]), output.offset
        decoder = _DECODER("replace")
        text = decoder.decode(piece, final=is_over and len(piece) == len(output.pending))
        used = len(piece) - len(decoder.getstate()[0])
        if not used:
            return
        del output.pending[:used]
        yield ToolOutputPart(call_id, offset, offset + used, storable(text))


def _progress_part(call_id: str, progress: Progressed) -> ToolProgressPart:
    total = progress.total if progress.total is not None and math.isfinite(progress.total) else None
    message = None if progress.message is None else storable(progress.message)[:PROGRESS_CHARACTERS_MAX]
    return ToolProgressPart(call_id, progress.progress, total, message)
