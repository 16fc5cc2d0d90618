"""What lies between one process and one server: the way there and the way back of each request.

A wire is sound, or troubled in one of these ways, which add up:

* **cut**: a request is refused at once, or swallowed until the wire is mended or the client's patience ends;
  an answer that is on its way is lost likewise;
* **slow**: a request, and its answer, take a while. A request that is on its way arrives, whatever has become of
  the process that sent it;
* **lossy**: now and then a request is lost, or takes effect and its answer is lost.

A request that was given up on its way (the sender was cancelled, or told that it was lost) may arrive all the same,
a while later, when nobody waits for it any more.

Hints travel by ``SimulatedPubSub``: lost, doubled, late and out of order. Live frames of one chat are late only,
all by the same time: that is what the server promises.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from random import Random
from types import TracebackType
from typing import TypeVar

import trio

from chatcluster.errors import CallerError, OwnershipError, StoreUnavailable, StreamsUnavailable, UnavailableError
from chatcluster.memory import MemoryBroker, MemoryPubSub
from chatcluster.memory.link import Link
from simulation.scheduler import Process

REDIS_PATIENCE_SECONDS = 2.0

T = TypeVar("T")
Later = Callable[[float, Callable[[], None]], None]
"""``later(seconds, act)``: the world does it then."""


class Weather:
    """What the network between all processes and the servers is like right now."""

    redis_far_seconds = 0.0
    """How much longer than to Postgres it is to Redis, everywhere: frames then come after the commit that ends them.
    Without that a frame is the first to arrive, as inboxes hand over in the delivering call."""

    def __init__(self) -> None:
        self.request_lost = 0.0
        self.answer_lost = 0.0
        self.slow = 0.0
        """Probability of a request to be slow, on each of its ways."""
        self.slow_seconds = 0.0
        """How slow on average, then."""
        self.hint_lost = 0.0
        self.hint_doubled = 0.0
        self.hint_late = 0.0
        self.hint_late_seconds = 0.0
        self.live_late_seconds = 0.0
        self.live_lost = 0.0
        """Probability of a frame to be added to the stream, and not published."""
        self.request_late = 0.0
        """Probability of a request that was given up to arrive all the same."""
        self.request_late_seconds = 1.0
        self.delayed_until = 0.0
        """When the last of what is slow arrives, also after the weather has changed."""

    def clear(self) -> None:
        """Fair from now on, but for hints: those may be lost or doubled for ever."""
        for name in vars(self).keys() - {"hint_lost", "hint_doubled", "delayed_until"}:
            setattr(self, name, 0.0)

    @property
    def fair(self) -> bool:
        return not (self.request_lost or self.answer_lost or self.slow)


class Wire(Link):
    """From one process to one server. ``failure`` is what its adapter raises, after ``patience_seconds`` of silence."""

    def __init__(
        self,
        process: Process,
        weather: Weather,
        draw: Random,
        later: Later,
        *,
        failure: type[UnavailableError],
        patience_seconds: float,
    ) -> None:
        self.dead = False
        self._later = later
        self._process = process
        self._weather = weather
        self._draw = draw
        self._failure = failure
        self._patience_seconds = patience_seconds
        self._cuts = 0
        self._swallows = False
        self._mended = trio.Event()

    @property
    def is_cut(self) -> bool:
        return self._cuts > 0

    def cut(self, *, swallows: bool) -> None:
        """``swallows``: requests hang; otherwise they are refused at once. Cuts add up."""
        self._cuts += 1
        self._swallows = swallows

    def mend(self) -> None:
        self._cuts -= 1
        if self._cuts == 0:
            self._mended.set()
            self._mended = trio.Event()

    async def carry(self, operation: str, effect: Callable[[], T]) -> T:
        """Like ``crossing``, for a write as a function that may run later, on its own."""
        arrived = False
        try:
            async with self.crossing(operation):
                arrived = True
                return effect()
        except (UnavailableError, trio.Cancelled):
            if not arrived and self._draw.random() < self._weather.request_late:
                seconds = self._draw.expovariate(1 / self._weather.request_late_seconds)
                self._later(seconds, partial(_arrive_late, effect))
            raise

    def crossing(self, operation: str) -> AbstractAsyncContextManager[None]:
        return _Crossing(self)

    async def go(self) -> None:
        if self._cuts or self.dead:
            await self._stopped()
        if self._weather.redis_far_seconds and self._failure is StreamsUnavailable:
            await trio.sleep(self._weather.redis_far_seconds)
        if self._weather.fair:
            await trio.lowlevel.checkpoint()
            return
        await self._delay()
        if self._draw.random() < self._weather.request_lost:
            raise self._failure("the request was lost")

    async def come_back(self) -> None:
        if self._process.frozen:
            await trio.lowlevel.cancel_shielded_checkpoint()  # and here it stays
        if self._cuts or self.dead:
            await self._stopped()
        if self._weather.fair:
            return
        await self._delay()
        if self._draw.random() < self._weather.answer_lost:
            raise self._failure("the answer was lost")

    async def _stopped(self) -> None:
        """Raise after a while, or return if the wire was mended in time and what was sent got through after all."""
        await trio.lowlevel.checkpoint()
        if self._swallows and not self.dead:
            with trio.move_on_after(self._patience_seconds):
                await self._mended.wait()
        if self._cuts or self.dead or self._draw.random() < 0.5:
            raise self._failure("the wire is cut")

    async def _delay(self) -> None:
        if self._draw.random() >= self._weather.slow:
            await trio.lowlevel.checkpoint()
            return
        seconds = self._draw.expovariate(1 / self._weather.slow_seconds)
        arrives_at = (trio.current_time() + seconds) / self._process.speed
        self._weather.delayed_until = max(self._weather.delayed_until, arrives_at)
        if self._draw.random() < 0.5:
            await trio.sleep(seconds)
            return
        task = trio.lowlevel.current_task()
        self._process.in_flight.add(task)
        try:
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)
        finally:
            self._process.in_flight.discard(task)


def _arrive_late(effect: Callable[[], object]) -> None:
    with suppress(CallerError, OwnershipError):  # nobody hears the answer
        effect()


class _Crossing:
    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def __aenter__(self) -> None:
        await self._wire.go()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._wire.come_back()


class SimulatedPubSub(MemoryPubSub):
    """One process's connection."""

    def __init__(self, broker: MemoryBroker, weather: Weather, draw: Random, later: Later) -> None:
        super().__init__(broker)
        self._now = broker.clock
        self._weather = weather
        self._draw = draw
        self._later = later
        self._live_due = 0.0

    def deliver(self, channel: str, payload: bytes) -> None:
        weather, now = self._weather, self._now()
        if channel.endswith(":live"):
            self._live_due = max(self._live_due, now + weather.live_late_seconds)
            self._deliver_after(self._live_due - now, channel, payload)
            return
        if self._draw.random() < weather.hint_lost:
            return
        for _ in range(2 if self._draw.random() < weather.hint_doubled else 1):
            late = self._draw.random() < weather.hint_late
            seconds = self._draw.expovariate(1 / weather.hint_late_seconds) if late else 0.0
            self._deliver_after(seconds, channel, payload)

    def _deliver_after(self, seconds: float, channel: str, payload: bytes) -> None:
        if seconds > 0:
            self._later(seconds, lambda: super(SimulatedPubSub, self).deliver(channel, payload))
        else:
            super().deliver(channel, payload)


class Uplinks:
    """All of one process's connections: two to Postgres, of which one is for heartbeats; two to Redis."""

    def __init__(
        self,
        process: Process,
        broker: MemoryBroker,
        weather: Weather,
        draw: Random,
        later: Later,
        *,
        statement_timeout_seconds: float,
    ) -> None:
        def wire(failure: type[UnavailableError], patience_seconds: float) -> Wire:
            return Wire(process, weather, draw, later, failure=failure, patience_seconds=patience_seconds)

        self.store = wire(StoreUnavailable, statement_timeout_seconds)
        self.registry = wire(StoreUnavailable, statement_timeout_seconds)
        self.streams = wire(StreamsUnavailable, REDIS_PATIENCE_SECONDS)
        self.pubsub = SimulatedPubSub(broker, weather, draw, later)
        self._redis_cuts = 0
        self._dead = False

    @property
    def reaches_postgres(self) -> bool:
        return not (self.store.is_cut or self.registry.is_cut)

    def cut_postgres(self, *, swallows: bool) -> None:
        self.store.cut(swallows=swallows)
        self.registry.cut(swallows=swallows)

    def mend_postgres(self) -> None:
        self.store.mend()
        self.registry.mend()

    def cut_redis(self, *, swallows: bool) -> None:
        self._redis_cuts += 1
        self.streams.cut(swallows=swallows)
        self.pubsub.disconnect()

    def mend_redis(self) -> None:
        self._redis_cuts -= 1
        self.streams.mend()
        if self._redis_cuts == 0 and not self._dead:
            self.pubsub.connect()

    def close(self) -> None:
        """The process has ended by itself."""
        self._dead = True
        self.pubsub.disconnect()

    def kill(self) -> None:
        """The process is dead: nothing of it gets anywhere any more."""
        self.close()
        for wire in (self.store, self.registry, self.streams):
            wire.dead = True
