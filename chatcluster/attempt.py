"""One attempt at a model response: what the model says goes to the readers and into the answer, in the same words.

``Attempt.run`` ends in one of three ways: with the answer to commit; with a ``ProviderError``, after which nothing of
it is kept; or cancelled, when the chat moved under it, after which ``partial`` is what an interrupt keeps.

Two guards bound it. **Silence**: nothing at all comes from the server for ``model_silence_seconds``. **Standstill**:
signs of life come, such as keep-alive comments, empty deltas or usage, but no text, reasoning or piece of a tool call
for ``model_standstill_seconds``: the server in front is alive, and the model behind it is not.

An answer whose provider goes on with it, also while nobody listens (``Attachable``), outlives its **connection**: if
that breaks it is attached to again, behind the last word that came, up to ``ATTACHED_MAX`` times in a row. The attempt
goes on as if nothing had been; nothing is paid twice. Where a word has no place, or a call that had begun has no name
at its provider, or the provider refuses, in whatever words, that cannot be done: the attempt has failed, with the
connection that broke.

This is also the one place where what comes from outside is made fit to be stored: no NUL and no half of a surrogate
pair gets further, in whatever string it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.answer_clock import AnswerClock
from chatcluster.backoff import grown_seconds
from chatcluster.config import Settings
from chatcluster.content import seen
from chatcluster.errors import ProviderError
from chatcluster.parts import (
    PAUSED,
    NewMessage,
    OpaquePart,
    Part,
    Position,
    ReasoningPart,
    Role,
    SourcePart,
    TextPart,
    ToolArgumentsPart,
    ToolCallPart,
    coalesced,
    is_visible,
    joined,
    storable,
    strings_of,
)
from chatcluster.ports import Attachable, Attachment, Delta, Finished, KeepAlive, Meter, Model, ModelRequest
from chatcluster.turn import OF_THE_CONVERSATION

ATTACHED_MAX = 6
"""Connections that break without a word, one after the other, over some 10 seconds."""
ATTACH_SECONDS, ATTACH_SECONDS_MAX = 0.1, 5.0
PART_BYTES = 64
"""What a part counts for besides its text: those of alternating kinds are neither joined nor coalesced."""
JOIN_DELTAS = 1000
"""Millions of words are kept as a few texts."""


class Said(NamedTuple):
    """What was streamed of an attempt: its deltas in order, and the position of the frame with the last of them."""

    deltas: Sequence[Part] = ()
    position: Position | None = None
    model: str | None = None
    """Who says it, by the name that people use, as far as that is known."""


class Listener(Protocol):
    """Takes what the model says. As a rule it is the stream to the readers."""

    def part(self, part: Part, sequence: int | None = None) -> None: ...

    def flush(self) -> Position: ...


class Attempt:
    """One call of the model. ``keep_answer`` is told of the ID of an answer that can be attached to, before a word of
    it is shown."""

    def __init__(
        self,
        model: Model,
        stream: Listener,
        settings: Settings,
        keep_answer: Callable[[str], Awaitable[None]],
    ) -> None:
        self.has_heard = False
        """The model's server has answered, with success or with an error."""
        self.is_resumed = False
        self._attachment: Attachment | None = None
        """How to get at an answer that its provider goes on with, also while nobody listens: behind the last delta."""
        self._model = model
        self._stream = stream
        self._settings = settings
        self._keep_answer = keep_answer
        self._deltas: list[Part] = []
        self._joined = 0
        """How many of the deltas, from the first on, are joined already."""
        self._streamed_bytes = 0
        self.meter = Meter()
        self.finished: Finished | None = None
        self.asked_model: str | None = None
        self._clock = AnswerClock()

    async def run(self, request: ModelRequest) -> NewMessage:
        """Call the model and stream what it says. Raises ``ProviderError``; an answer that shows nothing is one."""
        self.asked_model = request.model
        self._clock.asked(trio.current_time())
        finished = self.finished = await self._until_finished(msgspec.structs.replace(request, meter=self.meter))
        now = trio.current_time()
        self._tell(self._clock.end_thought(now))
        first_at = self._clock.first_at or now
        telemetry.event("stage.ended", stage="stream", duration_seconds=now - first_at)
        telemetry.event(
            "model.answered",
            first_token_ms=int((first_at - self._clock.asked_at) * 1000),
            output_tokens=finished.usage.output_tokens if finished.usage else None,
        )
        if not is_visible(self._deltas) and finished.reason != PAUSED:
            raise ProviderError("the model's answer is empty", kind="empty_answer", retryable=True)
        return NewMessage(
            Role.ASSISTANT,
            joined(self._deltas),
            finish_reason=storable(finished.reason),
            model=storable(finished.model) if finished.model else self.meter.model or request.model,
            usage=finished.usage,
            position=str(self._stream.flush()),
        )

    @property
    def has_started(self) -> bool:
        """Whether the model began to answer, so that it may cost something."""
        return self.meter.has_started or self.has_heard

    @property
    def answer_id(self) -> str:
        """The ID of an answer that its provider goes on with, also while nobody listens; empty: it does not."""
        return "" if self._attachment is None else self._attachment.answer_id

    @property
    def told(self) -> dict[str, object]:
        """The fields of an event on it, whatever became of it."""
        finished, first_at = self.finished, self._clock.first_at
        fields = self.meter.told
        return fields | {
            "model": fields["model"] or self.asked_model,
            "answered_model": finished and finished.model,
            "finish_reason": finished and finished.reason,
            "first_token_ms": None if first_at is None else int((first_at - self._clock.asked_at) * 1000),
            "resumed": self.is_resumed or None,
        }

    def resume(self, said: Said, attachment: Attachment | None) -> None:
        """The answer has these words already, and they were shown."""
        self.is_resumed = True
        self._clock.taken_over()
        self._attachment = attachment
        self._deltas = coalesced(said.deltas)
        self._joined = len(self._deltas)
        self._streamed_bytes = sum(_size(part) + PART_BYTES for part in self._deltas)

    def partial(self) -> Said:
        """What was said so far, and what it cites: of a text that is broken off that was not told yet."""
        texts = (part for part in self._deltas if isinstance(part, TextPart))
        if self.finished is None and self.meter.cited and is_visible(texts):
            told = {part for part in self._deltas if isinstance(part, SourcePart)}
            for source in dict.fromkeys(self.meter.cited):  # each connection tells those that it knows
                if source not in told:
                    self._deltas.append(source)
                    self._stream.part(source)
        return Said(self._deltas, self._stream.flush(), self.meter.model)

    async def _until_finished(self, request: ModelRequest) -> Finished:
        """Follow the answer to its end, on one connection or on several."""
        broken = 0
        end: ProviderError | None = None
        while True:
            streamed_bytes, has_heard, self.has_heard = self._streamed_bytes, self.has_heard, False
            try:
                return await self._heard(request)
            except ProviderError as error:
                if self._streamed_bytes > streamed_bytes:
                    broken = 0
                is_refused = not self.has_heard and error.kind not in OF_THE_CONVERSATION
                self.has_heard = has_heard or self.has_heard
                end = end if end is not None and is_refused else error
                if not self._outlives(error, broken):
                    raise end from None
            broken += 1
            telemetry.event("answer.attached_again", chat_id=str(request.chat_id), count=broken)
            await trio.sleep(grown_seconds(ATTACH_SECONDS, broken - 1, ATTACH_SECONDS_MAX))
            request = msgspec.structs.replace(request, attach=self._with_calls(self._attachment))

    def _outlives(self, error: ProviderError, broken: int) -> bool:
        """Whether the answer goes on although this was the end of its connection, and can be attached to; so many in a
        row broke before without a word."""
        attachment = self._attachment
        if attachment is None or not self.has_heard or error.kind == "answer_forgotten":
            return False
        is_lost = error.kind == "stream_incomplete" or (broken > 0 and error.retryable)
        has_place = attachment.after is not None or not self._deltas
        has_names = all(part.provider_id for part in self._deltas if isinstance(part, ToolCallPart))
        return is_lost and has_place and has_names and broken < ATTACHED_MAX

    def _with_calls(self, attachment: Attachment | None) -> Attachment | None:
        calls = tuple(part for part in joined(self._deltas) if isinstance(part, ToolCallPart))
        return msgspec.structs.replace(attachment, calls=calls) if attachment is not None and calls else attachment

    async def _heard(self, request: ModelRequest) -> Finished:
        """What comes on one connection."""
        silence_seconds = self._settings.turns.model_silence_seconds or float("inf")
        standstill_seconds = self._settings.turns.standstill_seconds
        stands_still_at = trio.current_time() + standstill_seconds
        with trio.move_on_after(min(silence_seconds, standstill_seconds)) as guard:
            async with self._model.stream(request) as events:
                async for event in events:
                    now = trio.current_time()
                    if type(event) is not KeepAlive:
                        stands_still_at = now + standstill_seconds
                    guard.deadline = min(now + silence_seconds, stands_still_at)
                    self.has_heard = True
                    if isinstance(event, Delta):
                        if self._attachment is not None:
                            self._attachment = Attachment(self.answer_id, event.sequence)
                        self._say(event.part, event.sequence)
                    elif isinstance(event, Attachable):
                        self._attachment = self._attachment or Attachment(event.answer_id)
                        await self._keep_answer(event.answer_id)
                    elif isinstance(event, Finished):
                        self.meter.count(event.usage)
                        return event
            raise ProviderError("the answer ended without a terminal event", kind="stream_incomplete", retryable=True)
        if guard.deadline < stands_still_at:
            raise ProviderError(
                f"the model was silent for {silence_seconds:g} s", kind="stream_silence_timeout", retryable=True
            )
        raise ProviderError(
            f"the model's server gave signs of life for {standstill_seconds:g} s, and no word of an answer",
            kind="stream_standstill_timeout",
            retryable=True,
        )

    def _say(self, part: Part, sequence: int | None) -> None:
        if isinstance(part, TextPart | ReasoningPart | ToolArgumentsPart):
            if not part.text:
                return
            if not _is_plain(part.text):
                part = msgspec.structs.replace(part, text=storable(part.text))
        else:
            part = _storable(part)
        self._streamed_bytes += _size(part)
        now = trio.current_time()
        if self._clock.first_at is None:
            self.meter.has_started = True
            telemetry.event("stage.ended", stage="time_to_first_token", duration_seconds=now - self._clock.asked_at)
        self._tell(self._clock.hear(part, sequence, now))
        if not self._deltas or not _goes_on(self._deltas[-1], part):
            self._streamed_bytes += PART_BYTES
        if self._streamed_bytes > self._settings.streaming.attempt_bytes_max:
            raise ProviderError(
                f"the answer is longer than {self._settings.streaming.attempt_bytes_max} bytes (attempt-bytes-max)",
                kind="answer_too_large",
            )
        self._tell(Delta(part, sequence))

    def _tell(self, delta: Delta | None) -> None:
        if delta is None:
            return
        self._deltas.append(delta.part)
        if len(self._deltas) - self._joined >= JOIN_DELTAS:
            self._deltas[self._joined :] = coalesced(self._deltas[self._joined :])
            self._joined = len(self._deltas)
        if not isinstance(delta.part, OpaquePart):
            self._stream.part(delta.part, delta.sequence)


def interrupted(said: Said, asked_model: str | None) -> NewMessage | None:
    """What an interrupt keeps of an attempt: what was streamed of it, no more, no less, but for calls.

    A call is run once it is history. One that was being said is none, and is dropped. None: there is nothing to keep.
    """
    parts = tuple(part for part in seen(joined(said.deltas)) if isinstance(part, TextPart | ReasoningPart | SourcePart))
    if not parts:
        return None
    return NewMessage(
        Role.ASSISTANT,
        parts,
        finish_reason="interrupted",
        model=said.model or asked_model,
        position=None if said.position is None else str(said.position),
    )


def _storable(part: Part) -> Part:
    """The part, without what can neither be stored nor sent."""
    fields = {name: getattr(part, name) for name in part.__struct_fields__}
    made = {name: storable(text) for name, text in fields.items() if isinstance(text, str) and not _is_plain(text)}
    return msgspec.structs.replace(part, **made) if made else part


def _is_plain(text: str) -> bool:
    return text.isascii() and "\0" not in text


def _goes_on(last: Part, part: Part) -> bool:
    """Whether the two are one once they are coalesced."""
    if isinstance(last, ToolArgumentsPart) and isinstance(part, ToolArgumentsPart):
        return last.call_id == part.call_id
    return type(last) is type(part)


def _size(part: Part) -> int:
    return sum(len(text.encode()) for text in strings_of(part))
