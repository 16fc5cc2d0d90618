"""What the adapters in memory have that real ones do not: faults on demand, and a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import uuid4

import pytest
import trio
import trio.testing
from chat_states import assistant, user
from contract_worlds import OWNER, fence_of

from chatcluster.chat import FinishTurn
from chatcluster.errors import StoreUnavailable
from chatcluster.memory import (
    Link,
    MemoryBroker,
    MemoryDatabase,
    MemoryPubSub,
    MemoryRegistry,
    MemoryStore,
    MemoryStreams,
)
from chatcluster.parts import START, CloseFrame, OpenFrame, Position, frame
from chatcluster.ports import GAP, Appended, NewChat, Replica

ANSWER = FinishTurn((assistant("the answer"),))


class FaultyLink(Link):
    """Loses the next request, or the answer to it."""

    def __init__(self) -> None:
        self.lose_request = False
        self.lose_answer = False
        self.operations: list[str] = []

    def crossing(self, operation: str) -> AbstractAsyncContextManager[None]:
        self.operations.append(operation)
        return self._crossing()

    @asynccontextmanager
    async def _crossing(self) -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        if self.lose_request:
            raise StoreUnavailable("the request was lost")
        yield
        if self.lose_answer:
            raise StoreUnavailable("the answer was lost")


async def test_a_lost_request_has_no_effect_and_a_lost_answer_does_not_undo_it() -> None:
    """P1: the commit whose answer was lost is recognised when it is repeated."""
    database, link, worker = MemoryDatabase(), FaultyLink(), uuid4()
    store, elsewhere = MemoryStore(database, link), MemoryStore(database)
    await MemoryRegistry(database).register(Replica(worker, "replica", "", "0.1.0", slots=1))
    await store.create(NewChat(uuid4(), OWNER, "", None, (user("hello"),)))
    (claimed,) = await store.claim(worker, free_slots=1, batch=1)
    link.lose_request = True
    with pytest.raises(StoreUnavailable):
        await store.commit(fence_of(claimed.chat), ANSWER)
    assert await elsewhere.get(claimed.chat.id) == claimed.chat
    link.lose_request, link.lose_answer = False, True
    with pytest.raises(StoreUnavailable):
        await store.commit(fence_of(claimed.chat), ANSWER)
    link.lose_answer = False
    assert (await store.commit(fence_of(claimed.chat), ANSWER)).replayed
    assert len((await elsewhere.read(claimed.chat.id)).messages) == 2
    assert link.operations == ["create", "claim", "commit", "commit", "commit"]


async def test_the_clock_of_the_simulation_drives_ages_and_dates(autojump_clock: trio.testing.MockClock) -> None:
    """P4"""
    database, worker = MemoryDatabase(), uuid4()
    registry = MemoryRegistry(database)
    before = database.now()
    await registry.register(Replica(worker, "replica", "", "0.1.0", slots=1))
    autojump_clock.jump(5.1)
    assert (await registry.heartbeats())[worker].age_seconds == pytest.approx(5.1)
    assert (database.now() - before).total_seconds() == pytest.approx(5.1)


async def test_a_restart_of_the_database_is_no_proof_of_anybodys_death() -> None:
    """P2: holders learn that they lost their session, and watchers that they lost theirs."""
    database, worker = MemoryDatabase(), uuid4()
    registry = MemoryRegistry(database)
    with trio.fail_after(10):
        async with registry.hold(worker, 0) as lock, registry.hold(worker, 1):
            with pytest.RaisesGroup(StoreUnavailable):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(registry.watch, worker)
                    await trio.testing.wait_all_tasks_blocked()
                    database.restart_sessions()
            await lock.wait_lost()
        assert await registry.watch(worker) is None


async def test_a_closed_stream_can_be_read_for_ten_minutes(autojump_clock: trio.testing.MockClock) -> None:
    streams, chat_id = MemoryStreams(MemoryBroker()), uuid4()
    opened, closed = frame(Position(1, 0), OpenFrame("", 1)), frame(Position(1, 1), CloseFrame("waiting"))
    await streams.open(chat_id, opened, trim=True)
    autojump_clock.jump(3600)
    assert await streams.append([(chat_id, closed)]) == [Appended.ADDED]
    autojump_clock.jump(599)
    assert await streams.read(chat_id, after=START, limit=9) == [opened, closed]
    autojump_clock.jump(2)
    assert await streams.read(chat_id, after=START, limit=9) == []
    assert await streams.append([(chat_id, frame(Position(1, 2), CloseFrame("")))]) == [Appended.MISSING]


async def test_a_replica_that_is_cut_off_alone_misses_what_others_say_and_knows_it() -> None:
    """P8"""
    broker = MemoryBroker()
    here, there, cut = MemoryPubSub(broker), MemoryPubSub(broker), MemoryPubSub(broker)
    async with there.subscribe("a") as connected, cut.subscribe("a") as deaf:
        cut.disconnect()
        here.publish("a", b"1")
        cut.publish("a", b"2")
        assert [connected.receive_nowait(), deaf.receive_nowait()] == [b"1", b"2"]
        cut.connect()
        assert deaf.receive_nowait() is GAP
        here.publish("a", b"3")
        assert [connected.receive_nowait(), deaf.receive_nowait()] == [b"3", b"3"]
