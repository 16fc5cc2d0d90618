"""Both stores are one machine: the same random walk leads to the same chat, and to no row that Postgres refuses."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import msgspec
import pytest
from chat_states import EVENTS, Seen, command_for, user
from contract_worlds import OWNER, World, fence_of, memory_world, open_world

from chatcluster.chat import TABLE, Command, ExpireCalls, Fence, LookAgain, OpenCall, OwnerCommand, Phase, ReportAgents
from chatcluster.errors import CallerError, OwnershipError
from chatcluster.ports import Chat, ChatRead, NewChat, Outcome, Replica

STEPS = 120
FIELDS = sorted(set(Chat.__struct_fields__) - {"created_at", "updated_at", "retry_at"})

pytestmark = pytest.mark.postgres


@pytest.fixture
async def worlds(database_url: str) -> AsyncIterator[tuple[World, World]]:
    async with open_world(database_url) as world:
        yield memory_world(), world


@pytest.mark.parametrize("seed", range(4))
async def test_the_same_events_lead_to_the_same_chat_in_both_stores(worlds: tuple[World, World], seed: int) -> None:
    randomness = random.Random(seed)
    chat_id, worker = uuid4(), uuid4()
    for world in worlds:
        await world.registry.register(Replica(worker, "replica", "", "0.1.0", slots=1))
        await world.store.create(NewChat(chat_id, OWNER, "a chat", None, (user("message 0"),)))
    carried_out = 0
    for number in range(1, STEPS):
        reads = [await world.store.read(chat_id) for world in worlds]
        assert as_compared(reads[0]) == as_compared(reads[1])
        calls = [[as_asked(call) for call in await world.store.open_calls(chat_id)] for world in worlds]
        assert calls[0] == calls[1]
        event, choice = chosen(randomness, reads[0].chat)
        results = [
            await attempt(world, read, worker, event, number, choice) for world, read in zip(worlds, reads, strict=True)
        ]
        assert results[0] == results[1], event
        carried_out += not isinstance(results[0], type)
    assert carried_out > STEPS / 3


def chosen(randomness: random.Random, chat: Chat) -> tuple[str, int]:
    """An event that the table allows, now and then any other, and a claim where it is needed."""
    phase = Phase.ARCHIVED if chat.archived else Phase(chat.status)
    if chat.claimable and randomness.random() < 0.5:
        return "Claim", 0
    allowed = [event for event in EVENTS if TABLE[event][phase]]
    events = list(EVENTS) if randomness.random() < 0.1 else allowed
    return randomness.choice(events), randomness.randrange(1000)


async def attempt(world: World, read: ChatRead, worker: UUID, event: str, number: int, choice: int) -> object:
    """What came of the event: how a store answers it, or the type of the error with which it is refused."""
    if event == "Claim":
        claimed = await world.claim(worker)
        return as_compared(ChatRead(claimed.chat, await world.history(claimed.chat.id), ()))
    try:
        open_calls = await world.store.open_calls(read.chat.id)
        outcome = await carry_out(world, read.chat, worker, command_for(event, number, choice, seen(read, open_calls)))
    except (CallerError, OwnershipError) as error:
        return type(error)
    return as_compared(ChatRead(outcome.chat, outcome.messages, ()))


async def carry_out(world: World, chat: Chat, worker: UUID, command: Command) -> Outcome:
    if isinstance(command, OwnerCommand):
        fence = fence_of(chat) if chat.worker_id else Fence(chat.id, worker, chat.epoch, chat.history_version)
        return await world.store.commit(fence, command)
    if isinstance(command, ExpireCalls):
        await world.age_actions(chat.id, 1e6)
        return next(iter(await world.store.expire_actions(1)), Outcome(chat))
    if isinstance(command, ReportAgents):
        return await world.store.report_agents(chat.id) or Outcome(chat)
    if isinstance(command, LookAgain):  # an order that no chat without agents has
        return await world.store.obey(chat.id) or Outcome(chat)
    return await world.store.apply(chat.id, command, owner_id=OWNER)


def seen(read: ChatRead, open_calls: Sequence[OpenCall]) -> Seen:
    return Seen(
        [queued.id for queued in read.queue],
        {message.id: message.role for message in read.messages},
        list(open_calls),
    )


def as_asked(call: OpenCall) -> OpenCall:
    """Without its deadline, which is each store's own."""
    return msgspec.structs.replace(call, deadline=None)


def as_compared(read: ChatRead) -> tuple[object, ...]:
    """All of it but dates and IDs, which are each store's own."""
    return (
        [getattr(read.chat, field) for field in FIELDS],
        [(message.role, message.parts, message.revision, message.finish_reason) for message in read.messages],
        [(queued.parts, queued.steered) for queued in read.queue],
        [(action.call_id, action.kind, action.arguments, action.digest) for action in read.actions],
    )
