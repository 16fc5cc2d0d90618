"""What a transition returns is what a read of the chat would bring: a feed takes the one for the other (P3)."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest
from chat_states import assistant, text, user
from contract_worlds import OWNER, PAGE_BYTES, World, fence_of

from chatcluster.chat import (
    Archive,
    ChooseModel,
    ErrorInfo,
    Fail,
    FinishInterruption,
    FinishTurn,
    Insert,
    Interrupt,
    KeepAnswer,
    OwnerCommand,
    Pin,
    Release,
    Rename,
    Retry,
    ScheduleRetry,
    Send,
    StartAttempt,
    Unarchive,
    UserCommand,
)
from chatcluster.ports import Chat, ChatRead, Idempotency, Outcome
from chatcluster.usage import Spent, SpentOutcome

pytest_plugins = ["contract_fixtures"]

ANSWER = FinishTurn((assistant("hi"),))


class Followed:
    """A chat, each of whose transitions is compared with a read of what is new."""

    def __init__(self, world: World, chat: Chat) -> None:
        self.chat = chat
        self._world = world

    async def apply(self, command: UserCommand, *, claims: bool = False, key: Idempotency | None = None) -> Outcome:
        claimer = await self._world.worker() if claims else None
        act = self._world.store.apply(self.chat.id, command, owner_id=OWNER, idempotency=key, claimer=claimer)
        outcome = await self._is_as_read(act)
        assert (outcome.claimed is not None) == claims
        return outcome

    async def commit(self, command: OwnerCommand, *spent: Spent, is_known: bool = True) -> Outcome:
        known = self.chat if is_known else None
        return await self._is_as_read(self._world.store.commit(fence_of(self.chat), command, known=known, spent=spent))

    async def claim(self) -> None:
        self.chat = (await self._world.claim()).chat

    async def _is_as_read(self, act: Awaitable[Outcome]) -> Outcome:
        before, outcome = self.chat, await act
        self.chat = outcome.chat
        assert self.chat.snapshot_version == before.snapshot_version + 1
        read = await self._world.store.read_newer(
            self.chat.id,
            after_version=before.snapshot_version,
            after_id=0,
            queue_version=before.queue_version,
            limit=100,
            bytes_max=PAGE_BYTES,
            turns_after=before.snapshot_version,
        )
        ended = () if outcome.ended is None else (outcome.ended,)
        assert read == ChatRead(outcome.chat, outcome.messages, (), turns=ended)
        return outcome


@pytest.fixture
async def chat(world: World) -> Followed:
    """One that runs, for a worker of its own."""
    await world.chat()
    return Followed(world, (await world.claim()).chat)


@pytest.mark.parametrize("is_known", [True, False], ids=["in one statement", "under the lock"])
async def test_what_an_owner_commits(chat: Followed, is_known: bool) -> None:
    spent = Spent(chat.chat.history_version, 1, chat.chat.epoch, SpentOutcome.COMMITTED, "large", cost_micros=3)
    retry = Retry(1, 10, "busy", "rate_limited")
    for command in (KeepAnswer("answer-1"), ScheduleRetry(retry), StartAttempt(2)):
        await chat.commit(command, is_known=is_known)
    ended = (await chat.commit(ANSWER, spent, is_known=is_known)).ended
    assert ended is not None
    assert ended.usage is not None


@pytest.mark.parametrize("key", [None, Idempotency("key", b"digest")], ids=["in one statement", "under the lock"])
@pytest.mark.parametrize("claims", [True, False], ids=["with the claim", "alone"])
async def test_what_a_message_does(chat: Followed, key: Idempotency | None, claims: bool) -> None:
    await chat.commit(ANSWER)
    sent = await chat.apply(Send(text("again")), claims=claims, key=key)
    assert len(sent.messages) == 1


async def test_how_a_turn_ends_that_does_not_go_well(chat: Followed) -> None:
    await chat.apply(Interrupt())
    await chat.commit(FinishInterruption(assistant("half", finish_reason="interrupted")))
    await chat.apply(Send(text("again")), claims=True)
    await chat.commit(Release())
    await chat.claim()
    failed = await chat.commit(Fail(ErrorInfo("refused", "no")))
    assert failed.ended is not None


async def test_what_concerns_the_chat_alone(chat: Followed) -> None:
    await chat.commit(ANSWER)
    for command in (Rename("named"), Pin(True), ChooseModel("large"), Insert((user("aside"), assistant("noted")))):
        await chat.apply(command)
    await chat.apply(Archive())
    await chat.apply(Unarchive())
