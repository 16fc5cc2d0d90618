"""Whom the chaos run hurts: somebody has to look on who is not hit as well, or nothing would be timed (P4)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from chaos.api import Api
from chaos.fleet import Fleet, Replica
from chaos.options import FaultOptions, Options
from chaos.reader import Reader
from chaos.record import Record
from chaos.route import Place, Route
from chaos.victims import NobodyLooks, Victims
from checker import Checker

A, B, C = (
    Replica(f"worker-{name}", f"replica-{name}", f"host:{port}", "active", "")
    for name, port in zip("ABC", "123", strict=True)
)
PUBLIC = Place("http://host", "public")
PID = 7


class World:
    """Three replicas; ``reader`` adds one in the middle of an answer."""

    def __init__(self, record: Record, *, rolling: bool = False) -> None:
        self._record = record
        self._api = Api("http://host", "token", random.Random(0))
        self._checker = Checker()
        self.fleet = Fleet(self._api, size=3)
        self.fleet.replicas = (A, B, C)
        self.readers: list[Reader] = []
        options = Options(faults=FaultOptions(rolling=rolling, stop_seconds=(6.0, 9.0)))
        self.victims = Victims(options, self.fleet, lambda: self.readers, random.Random(0))
        self.looked_up: list[Replica] = []
        self.fleet.process = self._process  # type: ignore[method-assign]

    async def _process(self, replica: Replica) -> int:
        self.looked_up.append(replica)
        return PID

    def reader(self, owner: Replica, at: Replica | None) -> Reader:
        subscriber = self._checker.subscriber("chat", f"reader-{len(self.readers)}")
        subscriber.worker_id, subscriber.status, subscriber.preview.text = owner.worker_id, "running", "words"
        route = Route("http://host", self.fleet, random.Random(0), away=True)
        reader = Reader(subscriber, self._api, route, self._record, random.Random(0))
        self.move(reader, at)
        self.readers.append(reader)
        return reader

    def move(self, reader: Reader, at: Replica | None) -> None:
        reader.route.place = PUBLIC if at is None else Place(at.url, at.name, at)


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    with Record(tmp_path / "record.jsonl") as record:
        yield record


async def test_the_victim_has_a_reader_on_another_replica(autojump_clock: trio.abc.Clock, record: Record) -> None:
    world = World(record)
    world.reader(owner=A, at=A)
    world.reader(owner=B, at=None)
    world.reader(owner=C, at=A)
    assert await world.victims.choose() == (C, PID)


async def test_p4_a_reader_that_hangs_on_a_frozen_replica_is_no_witness(
    autojump_clock: trio.abc.Clock, record: Record
) -> None:
    world = World(record)
    world.reader(owner=B, at=A)
    world.reader(owner=B, at=None)
    world.reader(owner=C, at=B)
    world.victims.frozen.add(A.address)
    assert await world.victims.choose() == (C, PID)


async def test_p4_without_a_witness_the_fault_waits_for_one(autojump_clock: trio.abc.Clock, record: Record) -> None:
    world = World(record)
    reader = world.reader(owner=B, at=A)
    world.victims.frozen.add(A.address)

    async def move_after(seconds: float) -> None:
        await trio.sleep(seconds)
        world.move(reader, C)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(move_after, 3.0)
        assert await world.victims.choose() == (B, PID)
    assert 3.0 <= trio.current_time() - began < 3.1


async def test_p4_or_for_the_thaw(autojump_clock: trio.abc.Clock, record: Record) -> None:
    world = World(record)
    world.reader(owner=B, at=A)
    world.victims.frozen.add(A.address)

    async def thaw_after(seconds: float) -> None:
        await trio.sleep(seconds)
        world.victims.frozen.discard(A.address)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(thaw_after, 9.0)
        assert await world.victims.choose() == (B, PID)
    assert 9.0 <= trio.current_time() - began < 9.1


async def test_a_witness_that_leaves_while_the_process_is_looked_up_does_not_count(
    autojump_clock: trio.abc.Clock, record: Record
) -> None:
    world = World(record)
    reader = world.reader(owner=A, at=B)

    async def process(replica: Replica) -> int:
        world.move(reader, A if not world.looked_up else B)
        world.looked_up.append(replica)
        world.reader(owner=C, at=B)
        return PID

    world.fleet.process = process  # type: ignore[method-assign]
    victim, _ = await world.victims.choose()
    assert (world.looked_up[0], victim) == (A, C)


async def test_behind_one_port_any_reader_has_to_do(autojump_clock: trio.abc.Clock, record: Record) -> None:
    world = World(record, rolling=True)
    world.reader(owner=B, at=None)
    assert await world.victims.witnessed() == B


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_wait_has_an_end(autojump_clock: trio.abc.Clock, record: Record, streaming: bool) -> None:
    world = World(record)
    reader = world.reader(owner=A, at=A)
    if not streaming:
        world.move(reader, B)
        reader.subscriber.preview.text = ""
    began = trio.current_time()
    with pytest.raises(NobodyLooks):
        await world.victims.choose()
    assert trio.current_time() - began == pytest.approx(39.0)


@pytest.mark.parametrize("begins", [True, False])
async def test_a_rolling_restart_takes_the_oldest_in_mid_answer_but_does_not_wait_for_that_for_ever(
    autojump_clock: trio.abc.Clock, record: Record, begins: bool
) -> None:
    world = World(record, rolling=True)
    world.fleet.replicas = (B._replace(started_at="2"), A._replace(started_at="1"), C._replace(started_at="3"))

    async def begin_after(seconds: float) -> None:
        await trio.sleep(seconds)
        world.reader(owner=A if begins else B, at=None)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(begin_after, 2.0)
        victim, _ = await world.victims.oldest()
    assert victim.worker_id == A.worker_id
    assert trio.current_time() - began == pytest.approx(2.0 if begins else 5.0, abs=0.1)
