"""Inflicts the faults, one after the other, and measures how readers and writers fare.

For each fault: do it, watch the readers of all the chats that it hits until each was told that its chat goes on (or
the bound is past), pause, and wait until at most one replica is missing. What it hits: of a replica, that one's
chats; of a server, all that are being answered, from its return on, and all requests that wait for an answer; of
readers, all that are being answered as well, for those readers and all others; of a harm, nobody but its victims, so
that all others are watched.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import trio
from checker import Checker, Fault

from chaos.api import Api
from chaos.bystanders import Bystanders, is_everybodys, worst
from chaos.cluster import Cluster
from chaos.crowd import Flood, drop_connections, narrow_sockets
from chaos.failover import fail_over, follow, retire
from chaos.faults import FAILOVER, REPLICA_FAULTS, SERVER_FAULTS, Hand
from chaos.fleet import Fleet, Replica
from chaos.harms import HARMS, Began, Stage
from chaos.options import Options
from chaos.reader import Reader
from chaos.record import Record
from chaos.recovery import Watch
from chaos.victim_chats import VictimChats
from chaos.victims import Victims
from chaos.watching import Recovered, Watching

JOURNAL_SECONDS = 2.0
ROLLING_SECONDS = 2.0
"""What a rolling restart waits after each replica's return: a proxy has to see it before the next one leaves."""
NOTICED_SECONDS = 3.0
"""How long after a failover a replica may tell a new reader what it knew before: until it polls, and a bit."""
ALONE = ("kill", "lock", FAILOVER)
"""What happens only to a cluster that is whole: it is takeovers with a processor to run on that are measured."""


class Outcome(NamedTuple):
    """What was done, for people, and who was watched."""

    what: str
    watches: Sequence[Watch]


class Bag:
    """All kinds of faults in some order, then all in another: also a short run has each."""

    def __init__(self, kinds: Sequence[str], draw: random.Random) -> None:
        self._kinds = kinds
        self._draw = draw
        self._left: list[str] = []

    def next(self) -> str:
        if not self._left:
            self._left = self._draw.sample(self._kinds, len(self._kinds))
        return self._left.pop()


class Injector:
    def __init__(
        self,
        options: Options,
        cluster: Cluster,
        api: Api,
        fleet: Fleet,
        checker: Checker,
        record: Record,
        readers: Callable[[], Iterable[Reader]],
        victim_chats: VictimChats | None,
        say: Callable[[str], None],
    ) -> None:
        """``victim_chats`` is None where the cluster is not our own."""
        self._options = options
        self._cluster = cluster
        self._api = api
        self._fleet = fleet
        self._checker = checker
        self._record = record
        self._readers = readers
        self._say = say
        self._draw: random.Random = options.draw("faults")
        self._bag = Bag(options.faults.kinds, self._draw)
        self._victims = Victims(options, fleet, readers, self._draw)
        self._watching = Watching(checker, record, readers, self._victims, drain_seconds=options.cluster.drain_seconds)
        self._victim_chats = victim_chats
        self.bystanders = Bystanders(options, api, fleet, avoid=lambda: self._victims.frozen)

    @property
    def recovered(self) -> Recovered:
        return self._watching.recovered

    async def run(self) -> None:
        """All faults of the run. Raises ``RuntimeError`` when the cluster does not become whole again."""
        end = trio.current_time() + self._options.faults.seconds
        number = 0
        async with trio.open_nursery() as nursery:
            while number < self._kills_max and trio.current_time() < end:
                if not self._options.faults.kinds:
                    await trio.sleep(min(JOURNAL_SECONDS, end - trio.current_time()))
                    self._check_journal()
                    continue
                number += 1
                await self._once(number, nursery)
                await trio.sleep(self._draw.uniform(*self._options.faults.pause_seconds))
        await self._fleet.ready()
        self._check_journal()

    @property
    def _kills_max(self) -> float:
        return self._fleet.size if self._options.faults.rolling else self._options.faults.kills_max

    async def _once(self, number: int, nursery: trio.Nursery) -> None:
        name = self._bag.next()
        began = trio.current_time()
        await self._fleet.ready(missing_max=0 if name in ALONE or self._options.faults.rolling else 1)
        if self._options.faults.rolling:
            await trio.sleep(ROLLING_SECONDS)
        if name in REPLICA_FAULTS:
            outcome = await self._hurt_replica(name, nursery)
        elif name in SERVER_FAULTS:
            outcome = await self._hurt_server(name)
        elif name == FAILOVER:
            outcome = await self._fail_over(nursery)
        elif name in HARMS:
            outcome = await self._harm(name, nursery)
        else:
            outcome = await self._hurt_readers(name, number)
        self._watching.recovered.counts[name] += 1
        self._report(f"{number}/{self._kills_max:g} {name}", outcome, trio.current_time() - began)
        self._check_journal()

    def _check_journal(self) -> None:
        """Nobody died but those who were killed."""
        if self._cluster.journal is not None:
            for violation in self._cluster.journal.crashes():
                self._checker.report(violation)

    def _report(self, what: str, outcome: Outcome, seconds: float) -> None:
        told = [watch.sign_seconds for watch in outcome.watches if watch.sign_seconds is not None]
        overs = [watch.takeover_seconds for watch in outcome.watches if watch.takeover_seconds is not None]
        line = f"{what} {outcome.what}: {len(outcome.watches)} readers watched"
        if told:
            line += f", told in at most {max(told):.3f} s"
        if overs:
            line += f", {len(overs)} taken over in at most {max(overs):.3f} s"
        fault = self._checker.faults[-1]
        if not is_everybodys(fault):
            delay = worst(fault, self._checker.faults, self.bystanders.delays)
            line += f", bystanders: worst {0.0 if delay is None else delay.seconds:.1f} s"
        self._say(f"{line}; {seconds:.1f} s in all")

    # --- replicas -----------------------------------------------------------------------------

    async def _hurt_replica(self, name: str, nursery: trio.Nursery) -> Outcome:
        """Returns when it was watched; a freeze may go on, unless nobody watches it."""
        return await self._inflict(name, *(await self._choose()), nursery)

    async def _choose(self) -> tuple[Replica, int]:
        return await (self._victims.oldest() if self._options.faults.rolling else self._victims.choose())

    async def _inflict(self, name: str, victim: Replica, pid: int, nursery: trio.Nursery) -> Outcome:
        fault = _fault(name, victim)
        watches: list[Watch] = []
        hurt, over = trio.Event(), trio.Event()

        def began(time: float) -> None:
            nonlocal fault
            fault = replace(fault, time=time)
            self._checker.faults.append(fault)
            self._fleet.forget(victim)
            if name == "stop":
                self._victims.frozen.add(victim.address)
            watches.extend(self._watching.chats_of(fault, victim))
            hurt.set()

        if self._cluster.journal is not None:
            self._cluster.journal.expect(victim.name, name)
        stop_seconds = self._draw.uniform(*self._options.faults.stop_seconds)
        hand = Hand(self._fleet, victim, pid, stop_seconds, began)

        async def inflict() -> None:
            await REPLICA_FAULTS[name](hand)
            self._victims.frozen.discard(victim.address)
            over.set()

        nursery.start_soon(inflict)
        await hurt.wait()
        if not watches:  # behind one port: who hangs on a frozen replica is not known
            await over.wait()
        await self._watching.conclude(name, watches)
        nursery.start_soon(self._is_over_after, over, fault)
        return Outcome(victim.name, watches)

    async def _is_over_after(self, over: trio.Event, fault: Fault) -> None:
        await over.wait()
        self._watching.is_over(fault)

    # --- servers ------------------------------------------------------------------------------

    async def _hurt_server(self, name: str) -> Outcome:
        servers = self._cluster.servers
        assert servers is not None, "the options were checked"
        await self._victims.witnessed()
        fault = _fault(name)
        self._checker.faults.append(fault)
        await SERVER_FAULTS[name](servers, self._draw)
        back = trio.current_time()
        requests = () if self._victims.frozen else tuple(self._api.unanswered)
        watches = list(self._watching.all_at_work(fault, since=back))
        await self._watching.conclude(name, watches)
        await self._watching.answers(name, requests, back)
        self._watching.is_over(fault, back)
        return Outcome(f"{back - fault.time:.1f} s away", watches)

    async def _fail_over(self, nursery: trio.Nursery) -> Outcome:
        """What is acknowledged from the moment on at which the standby is known to have everything may be lost."""
        servers, checker = self._cluster.servers, self._checker
        assert servers is not None, "the options were checked"
        await self._victims.witnessed()
        standby, replicated = await follow(servers)
        fault = Fault(kind=FAILOVER, time=replicated, until=float("inf"))
        checker.faults.append(fault)
        checker.begin_loss(replicated)
        failover = await fail_over(servers, standby, self._draw)
        nursery.start_soon(retire, failover)
        requests = () if self._victims.frozen else tuple(self._api.unanswered)
        watches = list(self._watching.all_at_work(fault, since=failover.moved))
        await self._watching.conclude(FAILOVER, watches)
        await self._watching.answers(FAILOVER, requests, failover.moved)
        await trio.sleep_until(failover.moved + NOTICED_SECONDS)
        touched = checker.end_loss(failover.moved)
        for reader in self._readers():
            if reader.subscriber.chat in touched:
                reader.begin_anew(checker.subscriber(reader.subscriber.chat, reader.subscriber.name))
        self._watching.is_over(fault, failover.moved)
        return Outcome(f"{failover.way}, {failover.lag_seconds:.1f} s behind, {len(touched)} chats touched", watches)

    # --- harms --------------------------------------------------------------------------------

    async def _harm(self, name: str, nursery: trio.Nursery) -> Outcome:
        """All chats are watched but the victims."""
        await self._victims.witnessed()
        watches: list[Watch] = []
        faults: list[Fault] = []
        concluded = trio.Event()

        async def conclude() -> None:
            await self._watching.conclude(name, watches)
            concluded.set()

        def began(chats: tuple[str, ...], replica: Replica | None) -> None:
            faults.append(replace(_fault(name, replica), chats=chats))
            self._checker.faults.append(faults[-1])
            watches.extend(self._watching.all_at_work(faults[-1], since=faults[-1].time))
            watching.start_soon(conclude)

        async def kill(replica: Replica) -> None:
            await concluded.wait()
            await self._inflict("kill", replica, await self._fleet.process(replica), nursery)

        async with trio.open_nursery() as watching:
            what = await HARMS[name](self._stage(began, kill))
        for fault in faults:
            self._watching.is_over(fault)
        return Outcome(what, watches)

    def _stage(self, began: Began, kill: Callable[[Replica], Awaitable[None]]) -> Stage:
        assert self._cluster.servers is not None, "the options were checked"
        assert self._victim_chats is not None
        return Stage(
            api=self._api,
            servers=self._cluster.servers,
            fleet=self._fleet,
            victims=self._victim_chats,
            draw=self._draw,
            began=began,
            kill=kill,
            choose=self._choose,
        )

    # --- readers ------------------------------------------------------------------------------

    async def _hurt_readers(self, name: str, number: int) -> Outcome:
        await self._victims.witnessed()
        fault = _fault(name)
        self._checker.faults.append(fault)
        watches = list(self._watching.all_at_work(fault, since=fault.time))
        if name == "client-drop":
            what = f"{drop_connections(self._readers(), self._draw)} connections"
            await self._watching.conclude(name, watches)
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watching.conclude, name, watches)
                what = await self._flood(f"f{number}")
        self._watching.is_over(fault)
        return Outcome(what, watches)

    async def _flood(self, name: str) -> str:
        draw = self._options.draw("flood", name)
        narrow = Api(self._api.base_url, self._cluster.token, draw, socket_options=narrow_sockets())
        try:
            flood = Flood(
                name,
                api=self._api,
                narrow=narrow,
                fleet=self._fleet,
                checker=self._checker,
                record=self._record,
                options=self._options,
                draw=draw,
            )
            return await flood.run()
        finally:
            await narrow.aclose()


def _fault(kind: str, victim: Replica | None = None) -> Fault:
    """One that begins now, and goes on."""
    names = ("", "") if victim is None else (victim.worker_id, victim.name)
    return Fault(kind=kind, time=trio.current_time(), until=float("inf"), worker_id=names[0], replica=names[1])
