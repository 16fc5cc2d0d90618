"""A user who writes: sends, interrupts, edits, promotes, deletes, archives and renames, through any replica.

A write is repeated, on whatever replica, under one idempotency key until it is answered, or until the user has
had enough. What it was told goes to the checker. A refusal that comes after a try without an answer says
nothing about that try: it counts as no answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import trio
from checker import Write

from chatcluster.chat import (
    Archive,
    Busy,
    ClientTool,
    Compact,
    DeleteQueued,
    Edit,
    Interrupt,
    Promote,
    Rename,
    Send,
    SubmitToolResults,
    Unarchive,
    UserCommand,
    event_name,
)
from chatcluster.errors import CallerError, UnavailableError
from chatcluster.memory.tables import ChatRow
from chatcluster.parts import NewMessage, Role, TextPart
from chatcluster.ports import Idempotency, NewChat, Outcome
from simulation.call_watch import Answer
from simulation.http_server import Disconnected
from simulation.process import ReplicaProcess
from simulation.tools import CLIENT_TOOL

if TYPE_CHECKING:
    from simulation.run import World

OWNER = UUID(int=100)
ANSWER_SECONDS_MAX = 1.5
RETRY_SECONDS = 0.1
IMPATIENT_SECONDS = 1.0

Handle = Callable[[ReplicaProcess, Idempotency], Awaitable[Outcome]]

CREATED, ACCEPTED = 201, 202


class Client:
    def __init__(self, name: str, world: World, draw: Random) -> None:
        self.name = name
        self._world = world
        self._draw = draw
        self._serial = count(1)

    async def create(self) -> UUID:
        """Create a chat, and insist until it is there."""
        text = self._text()
        chat_id = UUID(int=self._draw.getrandbits(128), version=4)
        tools = (ClientTool(CLIENT_TOOL, "the client's own", {"type": "object"}),) if self._world.plan.tools else ()
        new = NewChat(chat_id, OWNER, "a chat", None, (NewMessage(Role.USER, (TextPart(text),)),), tools)

        async def handle(process: ReplicaProcess, key: Idempotency) -> Outcome:
            return await process.transitions.create(new, key)

        await self._write("create", chat_id, handle, text=text)
        return chat_id

    async def use(self, chats: list[UUID], operations: int, think_seconds: float) -> None:
        """So many operations, each after some thought."""
        for _ in range(operations):
            await trio.sleep(self._draw.expovariate(1 / think_seconds))
            await self._one_of_many(self._draw.choice(chats))

    async def _one_of_many(self, chat_id: UUID) -> None:
        row = self._world.witness.database.chats[chat_id]
        chance = self._draw.random()
        if row.state.archived:
            await (self.apply(chat_id, Unarchive()) if chance < 0.7 else self.send(chat_id))
        elif row.state.queue and chance < 0.2:
            await self._touch_queue(chat_id, row)
        elif chance < 0.55:
            steers = self._world.plan.tools and self._draw.random() < 0.4
            await self.send(chat_id, Busy.STEER if steers else Busy.QUEUE)
        elif chance < 0.65:
            await self.send(chat_id, Busy.INTERRUPT)
        elif chance < 0.8:
            await self.apply(chat_id, Interrupt())
        elif chance < 0.9:
            await self._edit(chat_id, row)
        elif chance < 0.95:
            summarises = self._world.plan.window is not None and self._draw.random() < 0.6
            await self.apply(chat_id, Compact() if summarises else Archive())
        else:
            await self.apply(chat_id, Rename(self._text()))

    async def send(self, chat_id: UUID, busy: Busy = Busy.QUEUE) -> None:
        text = self._text()
        await self.apply(chat_id, Send((TextPart(text),), busy), text=text)

    async def answer(self, chat_id: UUID, command: Answer) -> None:
        """What a person, or the client, says to a call that waits."""
        outcome = await self.apply(chat_id, command)
        if outcome is not None:
            self._world.witness.calls.acknowledged(chat_id, command)

    async def _edit(self, chat_id: UUID, row: ChatRow) -> None:
        messages = [message.id for message in row.messages if message.role is Role.USER]
        target, text = self._draw.choice(messages[-3:]), self._text()
        await self.apply(chat_id, Edit(target, (TextPart(text),)), text=text, target=target)

    async def _touch_queue(self, chat_id: UUID, row: ChatRow) -> None:
        target = self._draw.choice(row.state.queue).id
        command = Promote(target) if self._draw.random() < 0.6 else DeleteQueued(target)
        await self.apply(chat_id, command, target=target)

    async def apply(
        self, chat_id: UUID, command: UserCommand, *, text: str = "", target: int | None = None
    ) -> Outcome | None:
        """What came of it, if that was told."""

        async def handle(process: ReplicaProcess, key: Idempotency) -> Outcome:
            return await process.transitions.apply(chat_id, command, owner_id=OWNER, idempotency=key)

        return await self._write(_operation(command), chat_id, handle, text=text, target=target)

    async def _write(
        self, operation: str, chat_id: UUID, handle: Handle, *, text: str = "", target: int | None = None
    ) -> Outcome | None:
        began, status, outcome = self._world.now, None, None
        key = Idempotency(f"key {self.name}-{next(self._serial)}", b"")
        what = (self.name, operation, chat_id, text or (f"queued {target}" if target else "-"))
        self._world.witness.note("asks", *what, key.key)
        impatient = operation != "create" and self._draw.random() < 0.1
        try:
            with trio.move_on_after(IMPATIENT_SECONDS if impatient else float("inf")):
                status, outcome = await self._insist(what, handle, key)
        finally:
            if status is None:
                self._world.witness.note("gives up", *what)
            self._world.checker.wrote(
                Write(
                    chat=str(chat_id),
                    op=operation,
                    began=began,
                    ended=float("inf") if status is None else self._world.now,
                    status=status,
                    text=text,
                    target=target,
                    message_id=_inserted(outcome, text),
                    queued_id=outcome.queued.id if outcome and outcome.queued else None,
                )
            )
        return outcome

    async def _insist(
        self, what: tuple[object, ...], handle: Handle, key: Idempotency
    ) -> tuple[int | None, Outcome | None]:
        """The HTTP status and the outcome, once there is an answer. ``what`` is for the trace."""
        world, unanswered = self._world, False
        while True:
            process = await world.processes.accepting(self._draw)
            told = (*what, f"through {process.name}")
            try:
                outcome = await process.request(partial(handle, process, key), patience_seconds=ANSWER_SECONDS_MAX)
            except CallerError as error:
                world.witness.note("refused", *told, type(error).__name__)
                return (None if unanswered else error.status), None
            except (Disconnected, UnavailableError) as error:
                unanswered = True
                world.witness.note("unanswered", *told, repr(error))
                await trio.sleep(RETRY_SECONDS)
            else:
                chat = outcome.chat
                message = "replayed" if outcome.replayed else f"v{chat.snapshot_version}"
                world.witness.note("answered", *told, message, chat.status)
                return (ACCEPTED if outcome.queued else CREATED), outcome

    def _text(self) -> str:
        return f"{self.name}-{next(self._serial)}"


def _inserted(outcome: Outcome | None, text: str) -> int | None:
    """The message that the request itself brought into the history."""
    if outcome is None or not text:
        return None
    return next((message.id for message in outcome.messages if message.parts == (TextPart(text),)), None)


def _operation(command: UserCommand) -> str:
    """The checker's word for it."""
    match command:
        case Send(busy=Busy.INTERRUPT):
            return "interrupting_send"
        case Send(busy=Busy.STEER):
            return "steering_send"
        case SubmitToolResults():
            return "submit"
        case DeleteQueued():
            return "delete"
        case _:
            return event_name(command).partition("(")[0].lower()
