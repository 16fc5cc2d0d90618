"""The frames of one tenure, from a runner's hands: numbered, encoded, and kept until they are history.

``publisher.py`` sends them, and has the states. Deltas of text, and of a call's arguments, are coalesced: the first
goes at once, then at most one frame per ``coalesce_ms``. No frame is long: what is long goes out in several, but of a
tool's result only the beginning does, as the message that follows has all of it.

The frames of the attempt under way stay in memory, because Redis is never the truth: if it loses them, they are
appended again at the same positions, and readers drop what they have seen. Older ones are history, or dropped: nobody
needs them any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Protocol
from uuid import UUID

import msgspec
import trio

from chatcluster.backoff import grown_seconds
from chatcluster.parts import (
    AttemptFrame,
    CloseFrame,
    CommittedFrame,
    Frame,
    FrameBody,
    OpenFrame,
    Part,
    PartFrame,
    Position,
    ReasoningPart,
    ResumedFrame,
    TextPart,
    ToolArgumentsPart,
    ToolCallPart,
    ToolResultPart,
    TurnFrame,
    coalesced,
    frame,
)

EPOCH_MAX = 2**53
"""Above an epoch of this size there is no room: a stream that has one is dropped."""
REFUSED_SECONDS = 0.5
REFUSED_CAP_SECONDS = 10.0
"""Between tries on a stream that Redis refuses to work on."""
FRAME_CHARACTERS_MAX = 16 << 10
"""Text of a frame. Streams are read some hundred frames at a time, and Redis cuts a listener that has megabytes to
take: that would be every chat's listener on that replica."""


class Sender(Protocol):
    """The publisher, as a stream sees it."""

    coalesce_seconds: float

    @property
    def cut_off(self) -> bool: ...

    def pending(self, stream: TenureStream) -> None: ...

    def flush_at(self, deadline: float, stream: TenureStream) -> None: ...

    def closing(self, stream: TenureStream) -> None: ...


class State(Enum):
    NEW = auto()
    LIVE = auto()
    BROKEN = auto()
    FENCED = auto()


class Refusals:
    """How often in a row Redis refused to work on one stream, and until when it is left alone for that."""

    def __init__(self) -> None:
        self.count = 0
        self.left_alone_until = 0.0

    def refused(self, now: float) -> float:
        """Once more; until when the stream is left alone now."""
        self.left_alone_until = now + grown_seconds(REFUSED_SECONDS, self.count, REFUSED_CAP_SECONDS)
        self.count += 1
        return self.left_alone_until


class HeldBack:
    """Deltas of one kind that are to be one frame, and until when."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.sequence: int | None = None
        """The sequence number of the newest of them."""
        self.until = -1.0


class TenureStream:
    """The frames of one tenure. Every method is synchronous; the publisher does the rest."""

    def __init__(
        self, publisher: Sender, chat_id: UUID, worker_id: UUID, epoch: int, *, on_fenced: Callable[[], None]
    ) -> None:
        self.chat_id = chat_id
        self.epoch = epoch
        self.state = State.NEW
        self.trim = False
        self.unsent: list[Frame] = []
        self.memory: list[Frame] = []
        self.settled = trio.Event()
        """Set once the tenure is open in the stream, or known to be over."""
        self.overtaken_by: int | None = None
        """The highest epoch in the stream, where that is why we are fenced."""
        self.refusals = Refusals()
        self._worker_id = str(worker_id)
        self._publisher = publisher
        self._on_fenced = on_fenced
        self._next_seq = 0
        self._attempt = 0
        self._held = HeldBack()

    def __repr__(self) -> str:
        return f"<TenureStream {self.epoch}-{self._next_seq} {self.state.name} unsent={len(self.unsent)}>"

    def open(self, history_version: int, snapshot_version: int = 0, *, trim: bool) -> None:
        """Announce the tenure. ``trim``: nothing before it is needed any more."""
        self.trim = trim
        self._add(OpenFrame(self._worker_id, history_version, snapshot_version))

    def attempt(self, number: int, history_version: int, snapshot_version: int) -> None:
        self.flush()
        self._attempt = number
        self.memory = self.memory[:1]
        self._add(AttemptFrame(number, history_version, snapshot_version))

    def resume(self, after: Position, how: str, number: int, history_version: int, snapshot_version: int) -> None:
        """An older tenure's attempt goes on here, behind its frame at ``after``; ``how`` as in ``ResumedFrame``."""
        self.flush()
        self._attempt = number
        self.memory = self.memory[:1]
        self._add(ResumedFrame(number, history_version, snapshot_version, how, str(after)))

    def part(self, part: Part, sequence: int | None = None) -> None:
        """A delta of the current attempt; text, reasoning and arguments may be held back to be coalesced. ``sequence``
        as in ``PartFrame``."""
        now = trio.current_time()
        mergeable = isinstance(part, TextPart | ReasoningPart | ToolArgumentsPart)
        if self._held.parts and (not mergeable or type(self._held.parts[0]) is not type(part)):
            self.flush()
        if mergeable and (self._held.parts or now < self._held.until):
            self._held.parts.append(part)
            self._held.sequence = sequence
            if len(self._held.parts) == 1:
                self._publisher.flush_at(self._held.until, self)
            return
        if not _is_silent(part):
            self._held.until = now + self._publisher.coalesce_seconds
        self._add_part(part, sequence)

    def flush(self) -> Position:
        """Turn what is held back into a frame now; the position of the last frame."""
        if self._held.parts:
            held, self._held.parts = self._held.parts, []
            self._held.until = trio.current_time() + self._publisher.coalesce_seconds
            *others, last = coalesced(held)  # more than one where calls are written side by side
            for merged in others:
                self._add_part(merged, None)
            self._add_part(last, self._held.sequence)
        return Position(self.epoch, self._next_seq - 1)

    def committed(self, history_version: int) -> None:
        """What came before is history now, and need not be kept for the readers' sake."""
        self._forget()
        self._add(CommittedFrame(history_version))

    def turn(self, message_id: int, history_version: int) -> None:
        self._add(TurnFrame(message_id, history_version, self._worker_id))

    def close(self, outcome: str) -> None:
        """The tenure's last frame. The publisher lets go of the stream when it is sent."""
        self.flush()
        self._forget()  # what the tenure achieved is committed
        self._add(CloseFrame(outcome))
        self._publisher.closing(self)

    def fenced(self, by_epoch: int) -> None:
        """Another tenure is on the stream. What is in memory is kept: it is needed if Postgres says that we go on."""
        self.state = State.FENCED
        self.unsent.clear()
        self.overtaken_by = by_epoch
        self._on_fenced()

    @property
    def has_attempted(self) -> bool:
        """Whether there is an attempt of this tenure."""
        return self._attempt > 0

    @property
    def epoch_above(self) -> int:
        """An epoch that is above ours, and above what is in the stream unless that leaves no room."""
        found = self.overtaken_by or 0
        return max(self.epoch, found if found < EPOCH_MAX else 0) + 1

    def overrule(self, epoch: int) -> None:
        """Postgres says that this tenure goes on, under this epoch: what there is of it is sent under that."""
        if self.overtaken_by is None:
            return  # it was given up meanwhile
        self.epoch = epoch
        self.memory = [Frame(Position(epoch, kept.position.seq), kept.kind, kept.data) for kept in self.memory]
        self.state, self.overtaken_by = State.NEW, None
        self._publisher.pending(self)

    def given_up(self) -> None:
        """Nothing of this tenure is published any more."""
        self.state, self.overtaken_by = State.FENCED, None
        self.unsent.clear()
        self.memory.clear()
        self.settled.set()

    def _forget(self) -> None:
        """Keep the first frame alone; all of them where the stream is about to be opened and will get them."""
        if self.state is not State.NEW or self._publisher.cut_off:
            self.memory = self.memory[:1]

    def _add_part(self, part: Part, sequence: int | None) -> None:
        """Add a part in several frames, if it is long: the last of them tells the place."""
        if isinstance(part, TextPart) and 0 < len(part.text) <= FRAME_CHARACTERS_MAX:
            self._add(PartFrame(self._attempt, part, sequence))  # as nearly all are
            return
        pieces = list(_pieces(part))
        for piece in pieces[:-1]:
            self._add(PartFrame(self._attempt, piece))
        if pieces:
            self._add(PartFrame(self._attempt, pieces[-1], sequence))

    def _add(self, body: FrameBody) -> None:
        if not isinstance(body, PartFrame):
            self.flush()
        if self.state is State.FENCED and self.overtaken_by is None:
            return
        added = frame(Position(self.epoch, self._next_seq), body)
        self._next_seq += 1
        self.memory.append(added)
        if self.state is State.LIVE:
            self.unsent.append(added)
        self._publisher.pending(self)


def _is_silent(part: Part) -> bool:
    """Whether it only says how long was thought: the word that follows is the first one, and goes at once."""
    return isinstance(part, ReasoningPart) and not part.text


def _pieces(part: Part) -> Iterator[Part]:
    """The part as parts that are short enough for a frame, and say the same to those who join them."""
    match part:
        case ReasoningPart(text="", duration_ms=int()):
            yield part
        case ReasoningPart(text=text, duration_ms=int(duration_ms)):
            yield from _pieces(ReasoningPart(text))
            yield ReasoningPart("", duration_ms)
        case TextPart(text=text) | ReasoningPart(text=text) | ToolArgumentsPart(text=text):
            for start in range(0, len(text), FRAME_CHARACTERS_MAX):
                yield msgspec.structs.replace(part, text=text[start : start + FRAME_CHARACTERS_MAX])
        case ToolCallPart(id=call_id, arguments=arguments) if len(arguments) > FRAME_CHARACTERS_MAX:
            yield msgspec.structs.replace(part, arguments="")
            yield from _pieces(ToolArgumentsPart(call_id, arguments))
        case ToolResultPart(call_id=call_id, is_error=is_error):
            yield ToolResultPart(call_id, part.text[:FRAME_CHARACTERS_MAX], is_error)
        case _:
            yield part
