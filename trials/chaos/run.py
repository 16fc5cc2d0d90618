"""A run: conversations under load, faults among them, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import trio
from checker import Checker

from chaos.api import Api
from chaos.broken_answers import BrokenAnswers
from chaos.bystanders import figures, violations
from chaos.cluster import Cluster
from chaos.fleet import Fleet
from chaos.injector import Injector
from chaos.journal import false_takeovers
from chaos.money import Money
from chaos.operators import Shown, gaps, read, untold
from chaos.options import Options
from chaos.own_clock import OwnClock
from chaos.phases import phases
from chaos.record import Record
from chaos.summary import OF_TIME, begun_anew, summarize
from chaos.talks import Talks
from chaos.teller import Teller
from chaos.tools import Tools
from chaos.victim_chats import VictimChats
from chaos.vitals import Vitals

WARM_UP_SECONDS = 2.0
CLOSE_SECONDS_MAX = 2.0


class Run:
    """``say`` gets a line of progress for people."""

    def __init__(self, options: Options, cluster: Cluster, record: Record, say: Callable[[str], None]) -> None:
        self._options = options
        self._cluster = cluster
        self._teller = Teller(record, say, unjudged=() if options.judge_times else OF_TIME)
        self._api = Api(cluster.url, cluster.token, options.draw("api"))
        self._home = Api(cluster.home or cluster.url, cluster.token, options.draw("home"))
        self._fleet = Fleet(self._api, size=options.cluster.replicas, signal_command=options.cluster.signal_command)
        checker = self._checker = Checker(self._teller.violated)
        self._tools = None if cluster.tools is None else Tools(cluster.tools, checker.report)
        self._clock = OwnClock()
        broken = None if cluster.ledger is None else BrokenAnswers(cluster.ledger, self._clock.wall_offset)
        self._talks = Talks(options, self._api, self._home, self._fleet, checker, record, self._tools, broken)
        self._victim_chats = (
            None
            if cluster.servers is None
            else VictimChats(self._api, cluster.servers, options.draw("victims"), checker.report)
        )
        self._injector = Injector(
            options,
            cluster,
            self._api,
            self._fleet,
            checker,
            record,
            self._talks.readers,
            self._victim_chats,
            say,
        )
        self._money = None if cluster.ledger is None else Money(cluster.ledger, checker.report)
        self._vitals = Vitals()

    async def run(self) -> dict[str, Any]:
        """The whole run; its summary. Raises ``RuntimeError`` when it cannot go on."""
        try:
            await self._fleet.refresh()
            if self._options.cluster.url:
                self._fleet.size = len(self._fleet.replicas)
            await self._fleet.ready()
            path = self._teller.record.path
            self._teller.say(f"{self._fleet.size} replicas at {self._cluster.url}; the record goes to {path}")
            async with self._serving_tools(), trio.open_nursery() as background:
                background.start_soon(self._clock.feel_pulse)
                background.start_soon(self._injector.bystanders.run)
                background.start_soon(self._vitals.watch, lambda: [replica.url for replica in self._fleet.replicas])
                await self._talk_and_break()
                background.cancel_scope.cancel()
            await self._judge_money()
            shown = await self._judge_what_operators_see()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS_MAX):
                if self._victim_chats is not None:
                    await self._victim_chats.aclose()
                await self._api.aclose()
                await self._home.aclose()
        return self._summary(shown)

    def _serving_tools(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._tools is None else self._tools.serving(self._home)

    async def _talk_and_break(self) -> None:
        ending = trio.Event()
        async with trio.open_nursery() as nursery:
            for line in range(self._options.load.chats):
                nursery.start_soon(self._talks.run, line, ending)
            await trio.sleep(WARM_UP_SECONDS)
            await self._injector.run()
            self._check_takeovers()
            self._check_bystanders()
            ending.set()
            self._teller.say("letting everything come to rest")
            if self._victim_chats is not None:
                await self._victim_chats.settle()

    def _check_takeovers(self) -> None:
        """The replicas' own view, before they are stopped."""
        if self._cluster.logs is not None:
            for violation in false_takeovers(self._cluster.logs, self._checker.faults, self._clock.wall_offset):
                self._checker.report(violation)

    def _check_bystanders(self) -> None:
        for violation in violations(self._checker.faults, self._injector.bystanders.delays):
            self._checker.report(violation)

    async def _judge_money(self) -> None:
        servers = self._cluster.servers
        if self._money is not None and servers is not None and servers.postgres is not None:
            self._teller.say("holding what was booked against what the model counted")
            offset = self._clock.wall_offset
            lost = [(loss.since + offset, loss.until + offset) for loss in self._checker.losses]
            await self._money.judge(servers.database_url, lost)

    async def _judge_what_operators_see(self) -> Shown | None:
        if self._cluster.logs is None or self._options.cluster.beside:
            return None
        await self._fleet.ready()
        shown = await read(self._api, self._fleet.replicas)
        seen = self._injector.recovered.taken_over
        for violation in untold(shown, self._cluster.logs, self._checker.faults, seen):
            self._checker.report(violation)
        return shown

    def _summary(self, shown: Shown | None) -> dict[str, Any]:
        recovered, bystanders, record = self._injector.recovered, self._injector.bystanders, self._teller.record
        return summarize(
            self._checker.verdict(),
            recovered.measured,
            recovered.told,
            recovered.counts,
            recovered.answered,
            unjudged=self._teller.unjudged,
            replicas=self._fleet.size,
            seed=self._options.seed,
            seconds=round(record.seconds(trio.current_time()), 1),
            **vars(self._talks.figures),
            proxy=self._options.cluster.proxy,
            victim_chats=0 if self._victim_chats is None else self._victim_chats.count,
            bystander_turns=bystanders.turns,
            bystander_seconds=figures(self._checker.faults, bystanders.delays),
            request_errors=self._api.errors,
            answers_begun_anew=begun_anew(recovered.told),
            takeover_phases_seconds=phases(self._cluster.logs, recovered.taken_over, self._clock.wall_offset),
            own_pause_seconds_max=round(self._clock.pause_seconds_max, 4),
            record=str(record.path),
            **({} if shown is None else {"logged_takeover_gap_seconds": gaps(shown)}),
            vitals=self._vitals,
            **({} if self._money is None else self._money.summary()),
            **({} if self._tools is None else self._tools.summary(self._checker.faults, self._clock.monotonic_offset)),
        )
