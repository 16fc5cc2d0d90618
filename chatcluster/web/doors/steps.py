"""A turn as steps of spoken pieces and calls, for doors whose clients are told piece by piece. Pure.

A fold over the log of a turn (``turn_log.py``): the same on every replica, in whatever parts the words came. What it
yields is one word of each door's own, so a door is a mapping of these and nothing more.

States: ``begun`` with the first thing that is told, then steps, one after the other, then over, with the one ``Over``,
after which there is nothing. A step is what one answer of the model says and calls, and the results of its calls; it
begins with its first piece or call.

An attempt that comes to nothing cannot be taken back. If the next one says the same again, as far as that was told, it
goes on from there, and nobody notices. If it says something else, the open piece is closed, the step is ``Restarted``,
and all of the new attempt is told in a step of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from chatcluster.parts import (
    Message,
    NoticePart,
    ReasoningPart,
    Role,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolProgressPart,
    ToolResultPart,
    Usage,
)
from chatcluster.ports import Action
from chatcluster.turn_log import Attempted, Awaiting, Ended, Rested, Told, Withdrawn
from chatcluster.usage import added
from chatcluster.web.doors.chunks import Cutter
from chatcluster.web.doors.voices import Voice, spoken_in, voice_of

INTERRUPTED = "interrupted"
ANSWERED_BY_THE_CLIENT = ("client", "approval")
"""What a call waits for that ends what there is to tell: the client has to come back with it. Where a client can do
more, its door says so."""


class Ending(StrEnum):
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    WAITS = "waits"
    """The chat waits for the client: for results of its tools, or an approval."""


class Begun(NamedTuple):
    pass


class StepBegun(NamedTuple):
    pass


class Opened(NamedTuple):
    number: int
    voice: Voice


class Spoke(NamedTuple):
    number: int
    voice: Voice
    text: str


class Closed(NamedTuple):
    number: int
    voice: Voice


class Restarted(NamedTuple):
    """What was told of this step is no part of the answer."""


class Cited(NamedTuple):
    """A source of what the step's answer says, which is all told."""

    source: SourcePart


class Called(NamedTuple):
    call: ToolCallPart


class Answered(NamedTuple):
    result: ToolResultPart


class Aside(NamedTuple):
    """What is worth a line while it happens, and is kept nowhere."""

    part: ToolProgressPart | NoticePart


class Asked(NamedTuple):
    """A call waits for somebody."""

    action: Action


class StepEnded(NamedTuple):
    pass


class Over(NamedTuple):
    """``reason`` is the last answer's finish reason; ``code`` and ``text`` say what failed, or why it stopped."""

    ending: Ending
    reason: str | None = None
    usage: Usage | None = None
    code: str = ""
    text: str = ""


Happened = (
    Begun
    | StepBegun
    | Opened
    | Spoke
    | Closed
    | Restarted
    | Cited
    | Called
    | Answered
    | Aside
    | Asked
    | StepEnded
    | Over
)


class Piece:
    """Words of one voice, as far as they are told."""

    def __init__(self, number: int, voice: Voice) -> None:
        self.number, self.voice = number, voice
        self.is_open = True
        self._texts: list[str] = []
        self._cutter = Cutter()

    @property
    def text(self) -> str:
        if len(self._texts) > 1:
            self._texts = ["".join(self._texts)]
        return self._texts[0] if self._texts else ""

    def add(self, text: str) -> Iterator[Happened]:
        self._texts.append(text)
        for delta in self._cutter.add(text):
            yield Spoke(self.number, self.voice, delta)

    def close(self) -> Iterator[Happened]:
        self.is_open = False
        if rest := self._cutter.rest():
            yield Spoke(self.number, self.voice, rest)
        yield Closed(self.number, self.voice)

    def leads_to(self, voice: Voice, text: str) -> bool:
        """Whether it is, or begins, this."""
        return self.voice is voice and (text.startswith(self.text) if self.is_open else text == self.text)


class Heard(NamedTuple):
    """How far an attempt has said again what was told: this piece, up to there."""

    place: int = 0
    length: int = 0


class Steps:
    """``tell`` it what happens."""

    def __init__(self, answered_by_the_client: Collection[str] = ANSWERED_BY_THE_CLIENT) -> None:
        self._clients = answered_by_the_client
        self.is_over = False
        self._has_begun = False
        self._is_in_step = False
        self._is_committed = False
        """What the step's answer says is all told."""
        self._count = 0
        self._pieces: list[Piece] = []
        """What is told of the answer under way. The last one may be open."""
        self._heard: Heard | None = None
        """While the attempt is behind what was told."""
        self._asked: set[tuple[str, str]] = set()
        self._usage: Usage | None = None
        self._reason: str | None = None

    def tell(self, told: Told) -> Iterator[Happened]:
        """What follows from it."""
        if not self._has_begun:
            self._has_begun = True
            yield Begun()
        if self.is_over:
            return
        match told:
            case Attempted():
                self._heard = Heard() if self._pieces else None
            case TextPart() | ReasoningPart() if told.text:
                yield from self._hear(voice_of(told) or Voice.TEXT, told.text)
            case ToolCallPart() if self._heard is None:
                yield from self._close()
            case ToolProgressPart() | NoticePart():
                yield Aside(told)
            case Message(role=Role.ASSISTANT):
                yield from self._commit(told)
            case Message(role=Role.TOOL):
                yield from (Answered(part) for part in told.parts if isinstance(part, ToolResultPart))
            case Awaiting() | Ended() | Rested() | Withdrawn():
                yield from self._end(told)

    # --- what is being said -------------------------------------------------------------------

    def _hear(self, voice: Voice, text: str) -> Iterator[Happened]:
        """Words of the attempt under way: told, unless they are told already."""
        if self._heard is None:
            yield from self._say(voice, text)
            return
        again = self._again(self._heard, voice, text)
        if again is None:
            yield from self._restart(self._heard, voice, text)
            return
        self._heard, rest = again
        if rest:
            yield from self._hear(voice, rest)

    def _again(self, heard: Heard, voice: Voice, text: str) -> tuple[Heard | None, str] | None:
        """How far it is with this text, and what of that is new; None where it says something else."""
        place, length = heard
        if length == len(self._pieces[place].text):
            place, length = place + 1, 0
        piece = self._pieces[place]
        common = min(len(text), len(piece.text) - length)
        if piece.voice is not voice or piece.text[length : length + common] != text[:common]:
            return None
        is_caught_up = place == len(self._pieces) - 1 and length + common == len(piece.text)
        if text[common:] and not is_caught_up:
            return None
        return (None if is_caught_up else Heard(place, length + common)), text[common:]

    def _restart(self, heard: Heard, voice: Voice, text: str) -> Iterator[Happened]:
        place, length = heard
        said = [(piece.voice, piece.text) for piece in self._pieces[:place]]
        said.append((self._pieces[place].voice, self._pieces[place].text[:length]))
        yield from self._abandon()
        for one in (*said, (voice, text)):
            if one[1]:
                yield from self._say(*one)

    def _say(self, voice: Voice, text: str) -> Iterator[Happened]:
        if not (self._pieces and self._pieces[-1].is_open and self._pieces[-1].voice is voice):
            yield from self._close()
            yield from self._step()
            self._pieces.append(Piece(self._count, voice))
            self._count += 1
            yield Opened(self._pieces[-1].number, voice)
        yield from self._pieces[-1].add(text)

    def _close(self) -> Iterator[Happened]:
        if self._pieces and self._pieces[-1].is_open:
            yield from self._pieces[-1].close()

    def _abandon(self) -> Iterator[Happened]:
        """What was told of the answer under way counts no more."""
        yield from self._close()
        if self._pieces:
            self._is_in_step = False
            yield Restarted()
            yield StepEnded()
        self._pieces, self._heard = [], None

    def _step(self) -> Iterator[Happened]:
        """Be in a step that is not committed."""
        if self._is_in_step and not self._is_committed:
            return
        if self._is_in_step:
            yield StepEnded()
        self._is_in_step, self._is_committed = True, False
        yield StepBegun()

    # --- what is history ----------------------------------------------------------------------

    def _commit(self, message: Message) -> Iterator[Happened]:
        """Tell what is not told yet of the message."""
        spoken = spoken_in(message.parts)
        if not self._lead_to(spoken):
            yield from self._abandon()
        for place, (voice, text) in enumerate(spoken):
            if place >= len(self._pieces):
                yield from self._close()
                yield from self._say(voice, text)
            elif place == len(self._pieces) - 1 and self._pieces[place].is_open:
                yield from self._pieces[place].add(text[len(self._pieces[place].text) :])
        yield from self._close()
        if spoken:
            yield from (Cited(part) for part in message.parts if isinstance(part, SourcePart))
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                yield from self._step()
                yield Called(part)
        self._pieces, self._heard, self._is_committed = [], None, True
        self._usage = added(self._usage, message.usage)
        self._reason = message.finish_reason

    def _lead_to(self, spoken: Sequence[tuple[Voice, str]]) -> bool:
        """Whether what is told is how the message begins."""
        if len(self._pieces) > len(spoken):
            return False
        return all(piece.leads_to(*one) for piece, one in zip(self._pieces, spoken, strict=False))

    # --- the end ------------------------------------------------------------------------------

    def _end(self, told: Awaiting | Ended | Rested | Withdrawn) -> Iterator[Happened]:
        if isinstance(told, Awaiting):
            yield from self._ask(told.actions)
        over = self._over(told)
        if over is None:
            return
        yield from self._abandon()
        if self._is_in_step:
            yield StepEnded()
        self.is_over = True
        yield over

    def _ask(self, actions: Sequence[Action]) -> Iterator[Happened]:
        for action in actions:
            key = action.call_id, action.digest
            if key not in self._asked:
                self._asked.add(key)
                yield Asked(action)

    def _over(self, told: Awaiting | Ended | Rested | Withdrawn) -> Over | None:
        match told:
            case Awaiting(actions=actions):
                ends = any(action.kind in self._clients for action in actions)
                return Over(Ending.WAITS, "tool_calls", self._usage) if ends else None
            case Ended(turn=turn, error=error) if turn.outcome == "error":
                code = turn.code or "unknown"
                text = error.message if error is not None else f"the turn failed: {code}"
                return Over(Ending.FAILED, self._reason, self._usage, code, text)
            case Ended(turn=turn) if turn.outcome != INTERRUPTED:
                return Over(Ending.FINISHED, self._reason, self._usage)
            case Rested() if self._reason not in (None, INTERRUPTED):
                return Over(Ending.FINISHED, self._reason, self._usage)
            case Withdrawn():
                return Over(Ending.STOPPED, INTERRUPTED, self._usage, "edited", "the message was edited")
        return Over(Ending.STOPPED, INTERRUPTED, self._usage, INTERRUPTED, "the answer was stopped")
