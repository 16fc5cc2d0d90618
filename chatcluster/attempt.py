"""One attempt at a model response: what the model says goes to the readers and into the answer, in the same words.

``Attempt.run`` ends in one of three ways: with the answer to commit; with a ``ProviderError``, after which nothing of
it is kept; or cancelled, when the chat moved under it, after which ``partial`` is what an interrupt keeps.
"""

from __future__ import annotations

import msgspec
import trio

from chatcluster.config import Settings
from chatcluster.errors import ProviderError
from chatcluster.parts import NewMessage, Part, Position, ReasoningPart, Role, TextPart, joined
from chatcluster.ports import Delta, Finished, Model, ModelRequest
from chatcluster.publisher import TenureStream

PART_BYTES = 64
"""What a part counts for besides its text: those of alternating kinds are neither joined nor coalesced."""


JOIN_DELTAS = 1000
"""Millions of words are kept as a few texts."""


class Attempt:
    def __init__(self, model: Model, stream: TenureStream, settings: Settings) -> None:
        self._model = model
        self._stream = stream
        self._settings = settings
        self._deltas: list[Part] = []
        self._joined = 0
        """So many of them are joined already."""
        self._streamed_bytes = 0

    async def run(self, request: ModelRequest) -> NewMessage:
        """Call the model and stream what it says. Raises ``ProviderError``; silence and an empty answer are such."""
        finished = await self._until_finished(request)
        if not self._deltas:
            raise ProviderError("the model's answer is empty", kind="empty_answer", retryable=True)
        return NewMessage(
            Role.ASSISTANT,
            joined(self._deltas),
            finish_reason=finished.reason,
            model=finished.model or request.model,
            usage=finished.usage,
            position=str(self._stream.flush()),
        )

    def partial(self) -> tuple[list[Part], Position]:
        """What was said so far, and the position of the last frame that said it."""
        return self._deltas, self._stream.flush()

    async def _until_finished(self, request: ModelRequest) -> Finished:
        silence_seconds = self._settings.model_silence_seconds or float("inf")
        with trio.move_on_after(silence_seconds) as silence:
            async with self._model.stream(request) as events:
                async for event in events:
                    silence.deadline = trio.current_time() + silence_seconds
                    if isinstance(event, Delta):
                        self._say(event.part)
                    elif isinstance(event, Finished):
                        return event
            raise ProviderError("the answer ended without a terminal event", kind="stream_incomplete", retryable=True)
        raise ProviderError(
            f"the model was silent for {silence_seconds:g} s", kind="stream_silence_timeout", retryable=True
        )

    def _say(self, part: Part) -> None:
        if isinstance(part, TextPart | ReasoningPart):
            if not part.text:
                return
            if "\0" in part.text:  # Postgres stores no NUL in text
                part = type(part)(part.text.replace("\0", "\ufffd"))
        self._streamed_bytes += _size(part)
        if not self._deltas or type(self._deltas[-1]) is not type(part):
            self._streamed_bytes += PART_BYTES
        if self._streamed_bytes > self._settings.attempt_bytes_max:
            raise ProviderError(f"the answer is longer than {self._settings.attempt_bytes_max} bytes", kind="config")
        self._deltas.append(part)
        if len(self._deltas) - self._joined >= JOIN_DELTAS:
            self._deltas[self._joined :] = joined(self._deltas[self._joined :])
            self._joined = len(self._deltas)
        self._stream.part(part)


def _size(part: Part) -> int:
    return sum(len(value.encode()) for value in msgspec.structs.astuple(part) if isinstance(value, str))
