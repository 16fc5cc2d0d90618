"""A run: conversations under load, faults among them, and the verdict."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any

import trio
from checker import PROMISES, Checker, Kind, Violation

from chaos.api import Api
from chaos.broken_answers import BrokenAnswers
from chaos.bystanders import figures, violations
from chaos.cluster import Cluster
from chaos.fleet import Fleet
from chaos.injector import Injector
from chaos.journal import false_takeovers
from chaos.money import Money
from chaos.operators import Shown, gaps, read, untold
from chaos.options import Options, parse_mix
from chaos.phases import phases
from chaos.reader import Reader
from chaos.record import Record
from chaos.summary import OF_TIME, begun_anew, summarize
from chaos.talk import Talk
from chaos.tools import Tools
from chaos.victim_chats import VictimChats
from chaos.vitals import Vitals
from chaos.writer import OPERATIONS, Writer

PULSE_SECONDS = 0.05
WARM_UP_SECONDS = 2.0
CLOSE_SECONDS_MAX = 2.0


class Run:
    """``say`` gets a line of progress for people."""

    def __init__(self, options: Options, cluster: Cluster, record: Record, say: Callable[[str], None]) -> None:
        self._options = options
        self._cluster = cluster
        self._record = record
        self._say = say
        self._api = Api(cluster.url, cluster.token, options.draw("api"))
        self._home = Api(cluster.home or cluster.url, cluster.token, options.draw("home"))
        self._fleet = Fleet(self._api, size=options.replicas, signal_command=options.signal_command)
        self._checker = Checker(self._violated)
        self._victim_chats = (
            None
            if cluster.servers is None
            else VictimChats(self._api, cluster.servers, options.draw("victims"), self._checker.report)
        )
        self._injector = Injector(
            options,
            cluster,
            self._api,
            self._fleet,
            self._checker,
            record,
            self._readers,
            self._victim_chats,
            say,
        )
        self._mix = parse_mix(options.mix, OPERATIONS)
        self._tools = None if cluster.tools is None else Tools(cluster.tools, self._checker.report)
        self._money = None if cluster.ledger is None else Money(cluster.ledger, self._checker.report)
        self._ending = trio.Event()
        self._vitals = Vitals()
        self._talks: dict[int, Talk] = {}
        self._chats = self._events = self._connections = 0
        self._acknowledged = self._refused = self._tries = 0
        self._shown: Shown | None = None
        self._unjudged = frozenset[Kind]() if options.judge_times else OF_TIME
        self._reader_errors: Counter[str] = Counter()
        self._reconnects = 0
        self._pause_seconds_max = 0.0
        self._clock_offset = time.time() - trio.current_time()
        self._broken = None if cluster.ledger is None else BrokenAnswers(cluster.ledger, self._clock_offset)
        self._monotonic_offset = time.monotonic() - trio.current_time()

    async def run(self) -> dict[str, Any]:
        """The whole run; its summary. Raises ``RuntimeError`` when it cannot go on."""
        try:
            await self._fleet.refresh()
            if self._options.url:
                self._fleet.size = len(self._fleet.replicas)
            await self._fleet.ready()
            self._say(f"{self._fleet.size} replicas at {self._cluster.url}; the record goes to {self._record.path}")
            async with self._serving_tools(), trio.open_nursery() as background:
                background.start_soon(self._feel_pulse)
                background.start_soon(self._injector.bystanders.run)
                background.start_soon(self._vitals.watch, lambda: [replica.url for replica in self._fleet.replicas])
                await self._talk_and_break()
                background.cancel_scope.cancel()
            await self._judge_money()
            await self._judge_what_operators_see()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS_MAX):
                if self._victim_chats is not None:
                    await self._victim_chats.aclose()
                await self._api.aclose()
                await self._home.aclose()
        return self._summary()

    def _serving_tools(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._tools is None else self._tools.serving(self._home)

    async def _talk_and_break(self) -> None:
        async with trio.open_nursery() as nursery:
            for index in range(self._options.chats):
                nursery.start_soon(self._talk_on, index)
            await trio.sleep(WARM_UP_SECONDS)
            await self._injector.run()
            self._check_takeovers()
            self._check_bystanders()
            self._ending.set()
            self._say("letting everything come to rest")
            if self._victim_chats is not None:
                await self._victim_chats.settle()

    async def _feel_pulse(self) -> None:
        """How long we stood still ourselves: what readers tell may be late by so much."""
        while True:
            due = trio.current_time() + PULSE_SECONDS
            await trio.sleep_until(due)
            self._pause_seconds_max = max(self._pause_seconds_max, trio.current_time() - due)

    async def _talk_on(self, index: int) -> None:
        """One conversation after the other."""
        generation = 0
        while not self._ending.is_set():
            generation += 1
            name = f"c{index}n{generation}"
            draw = self._options.draw("writer", name)
            writer = Writer(name, self._api, self._checker, self._record, self._options, draw)
            read = partial(self._read, name)
            talk = Talk(writer, read, self._api, self._checker, self._mix, self._tools, self._home, self._broken)
            self._talks[index] = talk
            final = await talk.run(self._ending)
            if final is not None:
                self._record.note(chat=final.chat, final=final.status, messages=[item.id for item in final.messages])
            self._count(talk)

    def _read(self, name: str, chat: str) -> list[Reader]:
        """The chat's readers: one that stays away from the owner, the others behind the public port."""
        readers = []
        for number in range(self._options.readers):
            kind = "away" if number == 0 and not self._options.front_only else f"public{number}"
            subscriber = self._checker.subscriber(chat, f"{name}.{kind}")
            draw = self._options.draw("reader", name, number)
            readers.append(
                Reader(
                    subscriber,
                    self._api,
                    self._fleet,
                    self._record,
                    draw,
                    away=kind == "away",
                    front_only=self._options.front_only,
                    spared=self._options.rolling,
                )
            )
        return readers

    def _readers(self) -> Iterator[Reader]:
        for talk in self._talks.values():
            yield from talk.readers

    def _count(self, talk: Talk) -> None:
        self._chats += 1
        self._acknowledged += talk.writer.acknowledged
        self._refused += talk.writer.refused
        self._tries += talk.writer.tries
        self._events += sum(reader.subscriber.events for reader in talk.readers)
        self._connections += sum(reader.connections for reader in talk.readers)
        for reader in talk.readers:
            self._reader_errors.update(reader.errors)
            self._reconnects += reader.cuts

    def _check_takeovers(self) -> None:
        """The replicas' own view, before they are stopped."""
        if self._cluster.logs is not None:
            for violation in false_takeovers(self._cluster.logs, self._checker.faults, self._clock_offset):
                self._checker.report(violation)

    def _check_bystanders(self) -> None:
        for violation in violations(self._checker.faults, self._injector.bystanders.delays):
            self._checker.report(violation)

    async def _judge_money(self) -> None:
        servers = self._cluster.servers
        if self._money is not None and servers is not None and servers.postgres is not None:
            self._say("holding what was booked against what the model counted")
            offset = self._clock_offset
            lost = [(loss.since + offset, loss.until + offset) for loss in self._checker.losses]
            await self._money.judge(servers.database_url, lost)

    async def _judge_what_operators_see(self) -> None:
        if self._cluster.logs is None or self._options.beside:
            return
        await self._fleet.ready()
        self._shown = await read(self._api, self._fleet.replicas)
        for violation in untold(self._shown, self._cluster.logs, self._checker.faults, self._injector.taken_over):
            self._checker.report(violation)

    def _summary(self) -> dict[str, Any]:
        injector = self._injector
        return summarize(
            self._checker.verdict(),
            injector.measured,
            injector.told,
            injector.counts,
            injector.answered,
            unjudged=self._unjudged,
            chats=self._chats,
            replicas=self._fleet.size,
            seed=self._options.seed,
            seconds=round(self._record.seconds(trio.current_time()), 1),
            messages_acknowledged=self._acknowledged,
            requests_refused=self._refused,
            request_tries=self._tries,
            events=self._events,
            connections=self._connections,
            proxy=self._options.proxy,
            victim_chats=0 if self._victim_chats is None else self._victim_chats.count,
            bystander_turns=injector.bystanders.turns,
            bystander_seconds=figures(self._checker.faults, injector.bystanders.delays),
            reader_errors=self._reader_errors,
            request_errors=self._api.errors,
            reconnects=self._reconnects,
            answers_begun_anew=begun_anew(injector.told),
            takeover_phases_seconds=phases(self._cluster.logs, injector.taken_over, self._clock_offset),
            own_pause_seconds_max=round(self._pause_seconds_max, 4),
            record=str(self._record.path),
            **({} if self._shown is None else {"logged_takeover_gap_seconds": gaps(self._shown)}),
            vitals=self._vitals,
            **({} if self._money is None else self._money.summary()),
            **({} if self._tools is None else self._tools.summary(self._checker.faults, self._monotonic_offset)),
        )

    def _violated(self, violation: Violation) -> None:
        seconds = None if violation.time is None else round(self._record.seconds(violation.time), 4)
        self._record.note(violation={**violation._asdict(), "promise": PROMISES[violation.kind], "time": seconds})
        self._record.flush()
        where = f"chat {violation.chat} reader {violation.reader or '-'} at {violation.cursor or '-'}"
        word = "late, not judged," if violation.kind in self._unjudged else "VIOLATION"
        self._say(f"{word} of {PROMISES[violation.kind]}, {violation.kind}: {where}: {violation.detail}")
