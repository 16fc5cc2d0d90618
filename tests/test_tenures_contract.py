"""What a claim and a burial make of a chat, whatever its state: one rule, which both stores follow."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import msgspec
import pytest
from chat_rows import insert_chat
from chat_states import state_of

from chatcluster.chat import ChatSetup, ChatState, Retry, Status, claimed, continued, disowned, stored_of
from chatcluster.config import Settings
from chatcluster.memory import MemoryDatabase, MemoryRegistry, MemoryStore
from chatcluster.memory.tables import ChatRow
from chatcluster.ports import Registry, Replica, Store
from chatcluster.ports.claim_rules import SUSPECTED_TAKEOVERS
from chatcluster.postgres import Connection, open_database
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.store import PostgresStore

CHATS = 60
TIMELINE = 1
"""That of a server that never took another's place."""
Put = Callable[[ChatState], Awaitable[UUID]]
Parts = tuple[Store, Registry, Put]


@asynccontextmanager
async def in_memory() -> AsyncIterator[Parts]:
    database = MemoryDatabase()

    async def put(state: ChatState) -> UUID:
        now = database.now()
        row = ChatRow(uuid4(), uuid4(), ChatSetup("", None), state, created_at=now, updated_at=now)
        row.claimable_since = database.clock()
        row.retry_at = None if state.retry is None else database.clock()
        database.chats[row.id] = row
        return row.id

    yield MemoryStore(database), MemoryRegistry(database), put


@asynccontextmanager
async def on_postgres(url: str) -> AsyncIterator[Parts]:
    async with open_database(Settings.of(database_url=url)) as database:

        async def insert(connection: Connection, state: ChatState) -> UUID:
            return await insert_chat(connection, state)

        async def put(state: ChatState) -> UUID:
            return await database.autocommit(insert, state)

        yield PostgresStore(database), PostgresRegistry(database), put


pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def world(url: str | None) -> AsyncIterator[Parts]:
    async with in_memory() if url is None else on_postgres(url) as parts:
        yield parts


def claimable_states(seed: int) -> Iterator[ChatState]:
    draw = random.Random(seed)
    for _ in range(CHATS):
        history = draw.randrange(1, 50)
        status = draw.choice((Status.RUNNING, Status.INTERRUPTING))
        yield state_of(
            status,
            archiving=status is Status.INTERRUPTING and draw.random() < 0.3,
            compacting=draw.random() < 0.3,
            worker_id=None,
            epoch=draw.randrange(9),
            snapshot_version=history + draw.randrange(9),
            history_version=history,
            queue_version=draw.randrange(history + 1),
            reset_version=draw.randrange(history + 1),
            attempt=draw.randrange(5),
            failures=draw.randrange(5),
            takeovers=draw.randrange(SUSPECTED_TAKEOVERS),
            timeline=draw.choice((None, TIMELINE, 7, -3)),
            retry=Retry(1, 1000, "busy", "overloaded") if draw.random() < 0.4 else None,
        )


async def test_a_claim_and_a_burial_make_of_every_chat_what_the_rule_says(world: Parts) -> None:
    store, registry, put = world
    states = {await put(state): state for state in claimable_states(seed=1)}
    worker = uuid4()
    await registry.register(Replica(worker, "replica", "", "0.1.0", slots=CHATS))
    chats = [one.chat for one in await store.claim(worker, free_slots=CHATS, batch=CHATS)]
    assert {chat.id: stored_of(chat) for chat in chats} == {
        chat_id: stored_of(claimed(continued(state, TIMELINE), worker)) for chat_id, state in states.items()
    }
    await registry.bury(worker, None)
    for chat_id, state in states.items():
        assert stored_of(await store.get(chat_id)) == stored_of(disowned(claimed(continued(state, TIMELINE), worker)))


@pytest.mark.parametrize(
    ("status", "retry", "attempts"),
    [
        (Status.RUNNING, None, 1),
        (Status.RUNNING, Retry(1, 1000, "busy", "overloaded"), 0),
        (Status.INTERRUPTING, None, 0),
    ],
)
def test_a_claim_starts_an_attempt_where_work_goes_on_at_once(
    status: Status, retry: Retry | None, attempts: int
) -> None:
    before = state_of(status, worker_id=None, retry=retry)
    after = claimed(before, UUID(int=9))
    assert after.attempt - before.attempt == attempts
    assert (after.epoch, after.takeovers) == (before.epoch + 1, before.takeovers + 1)
    assert msgspec.structs.replace(disowned(after), snapshot_version=0).claimable
