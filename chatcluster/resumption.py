"""An answer that was begun, and whose owner is gone: how the next owner goes on with it, if its model can.

* ``background``: the provider goes on also while nobody listens. The ID of the answer is on the chat's row
  (``KeepAnswer``), put there before a word of it is shown. The next owner **attaches** to it, behind the last frame of
  the dead tenure.
* ``prefix``: the model is given the words that the frames have, and **continues** from there. Only text can be so. The
  frames tell as well how many tokens those are, so the rest is no longer than what the answer's limit has left.

Either way readers keep what they have: the tenure says in a ``resumed`` frame that the attempt goes on in it, and what
follows is the rest. So the frames are authoritative for what was said, and the row for which answer it was.

What happens on failure: without frames (Redis lost them) there is nothing to continue, and an answer in the background
is listened to from its beginning, as a new attempt. The same is done where a call had begun, or a frame has no place to
attach behind. If the provider has forgotten the answer, or refuses to go on, the model is asked anew at once, and that
counts as no failure. While Redis cannot be reached, ``SALVAGE_SECONDS_MAX`` pass before that.

While its owner lives, a connection that breaks is another matter: it is made anew, see ``attempt.py``.

An answer that nobody wants any more, after a stop or an edit, is cancelled at its provider (``Forsaken``), beside the
work, and for ``CANCEL_SECONDS_MAX`` at most. Not before Postgres has said that nobody goes on with it: an owner that
was frozen learns there that it is none any more, while its successor listens to that answer. The row of an edited chat
keeps the ID until the next answer, for the owner whose predecessor died before it could tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.attempt import Attempt, Said
from chatcluster.chat import Underway
from chatcluster.context import tokens_of_text
from chatcluster.errors import Moved, ProviderError
from chatcluster.held_chat import HeldChat
from chatcluster.models import Continuation
from chatcluster.parts import NoticePart, Position, TextPart, ToolArgumentsPart, ToolCallPart, text_of
from chatcluster.ports import Attachment, Chat, Model, ModelRequest, Outside
from chatcluster.salvage import Half, salvage

CANCEL_SECONDS_MAX = 5.0
ATTACHED = "attached"
CONTINUED = "continued"


class Resumption(NamedTuple):
    """How an attempt begins that goes on with what another tenure had begun."""

    request: ModelRequest
    said: Said = Said()
    after: Position | None = None
    """The frame that it goes on behind; None: it is told from its beginning, as a new attempt."""
    how: str = ATTACHED


async def begin(
    attempt: Attempt, request: ModelRequest, held: HeldChat, outside: Outside, *, takes_over: bool
) -> ModelRequest:
    """Tell readers that an attempt begins, or that another tenure's goes on in this one; what to ask the model for.

    ``takes_over``: the chat may have been in the middle of an answer when this tenure began.
    """
    chat, stream = held.chat, held.stream
    resumed = await _resumption(held, request, outside) if takes_over else None
    if resumed is not None:
        request = resumed.request
        attempt.resume(resumed.said, request.attach)
    if resumed is None or resumed.after is None:
        stream.attempt(chat.attempt, chat.history_version, chat.snapshot_version)
    else:
        stream.resume(resumed.after, resumed.how, chat.attempt, chat.history_version, chat.snapshot_version)
    return request


async def _resumption(held: HeldChat, request: ModelRequest, outside: Outside) -> Resumption | None:
    """How to go on with what the tenures before this one had begun; None: the model is asked anew."""
    able = outside.model.continuation(request)
    if able is Continuation.NONE:
        return None
    half = await _half(held, outside)
    found = _attached(half, request, held.chat) if able is Continuation.BACKGROUND else _continued(half, request)
    if found is not None:
        telemetry.event("chat.resumed", chat_id=str(held.chat.id), how=found.how, whole=found.after is None)
    return found


async def last_words(held: HeldChat, outside: Outside) -> Said:
    """What the tenures before this one had said of the answer that was under way."""
    return (await _half(held, outside)).said


async def _half(held: HeldChat, outside: Outside) -> Half:
    return await salvage(outside.streams, lambda: held.chat, held.stream.settled)


def _attached(half: Half, request: ModelRequest, chat: Chat) -> Resumption | None:
    underway = Underway.of(chat)
    if underway is None:
        return None
    said = [part for part in half.said.deltas if not isinstance(part, NoticePart)]
    has_place = not said or half.sequence is not None
    has_calls = any(isinstance(part, ToolCallPart | ToolArgumentsPart) for part in said)
    if half.last is None or underway.attempt not in half.attempts or has_calls or not has_place or not half.is_readable:
        return Resumption(msgspec.structs.replace(request, attach=Attachment(underway.answer_id)))
    attach = Attachment(underway.answer_id, half.sequence)
    return Resumption(msgspec.structs.replace(request, attach=attach), half.said, half.last)


def _continued(half: Half, request: ModelRequest) -> Resumption | None:
    is_text = all(isinstance(part, TextPart | NoticePart) for part in half.said.deltas)
    words = text_of(half.said.deltas)
    if half.last is None or not half.is_readable or not is_text or not words.strip():
        return None
    tokens = tokens_of_text(words) if half.sequence is None else half.sequence
    begun = msgspec.structs.replace(request, begun=words, begun_tokens=tokens)
    return Resumption(begun, half.said, half.last, CONTINUED)


class Forsaken:
    """Answers in the background that nobody wants any more. Their providers are told in ``nursery``."""

    def __init__(self, model: Model, nursery: trio.Nursery) -> None:
        self._model = model
        self._nursery = nursery
        self._untold = 0
        self._told = trio.Event()
        self._given_up: list[tuple[ModelRequest, str]] = []

    def __repr__(self) -> str:
        return f"<Forsaken {self._untold} to be told>"

    def tell(self, request: ModelRequest, answer_id: str) -> None:
        """``request`` is what was asked, or would be, as it says which provider it is."""
        if answer_id:
            self._untold += 1
            self._nursery.start_soon(self._tell, msgspec.structs.replace(request, attach=Attachment(answer_id)))

    @contextmanager
    def unless_whole(self, request: ModelRequest, attempt: Attempt) -> Iterator[None]:
        """An attempt takes place in this block. If it ends in an error its answer is not wanted: ``tell_given_up``."""
        try:
            yield
        except (ProviderError, Moved) as error:
            if not isinstance(error, ProviderError) or error.kind != "answer_forgotten":
                self._given_up.append((request, attempt.answer_id))
            raise

    def tell_given_up(self) -> None:
        """A transaction has shown that the chat is ours, and that no later owner goes on with what was given up."""
        given_up, self._given_up = self._given_up, []
        for request, answer_id in given_up:
            self.tell(request, answer_id)

    async def told(self) -> None:
        """Return when all were told, or could not be."""
        while self._untold:
            self._told = trio.Event()
            await self._told.wait()

    async def _tell(self, request: ModelRequest) -> None:
        try:
            with trio.move_on_after(CANCEL_SECONDS_MAX):
                await self._model.cancel(request)
        except ProviderError as error:
            telemetry.event("answer.not_cancelled", chat_id=str(request.chat_id), error=str(error))
        finally:
            self._untold -= 1
            self._told.set()
