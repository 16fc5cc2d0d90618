"""All conversations of a run: one after the other on each of several lines, and what they add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import trio
from checker import Checker

from chaos.api import Api
from chaos.broken_answers import BrokenAnswers
from chaos.fleet import Fleet
from chaos.options import Options, parse_mix
from chaos.reader import Reader
from chaos.record import Record
from chaos.route import Route
from chaos.talk import Talk
from chaos.tools import Tools
from chaos.writer import OPERATIONS, Writer


@dataclass
class TalkFigures:
    """Of all talks that are over."""

    chats: int = 0
    messages_acknowledged: int = 0
    requests_refused: int = 0
    request_tries: int = 0
    events: int = 0
    connections: int = 0
    reconnects: int = 0
    reader_errors: Counter[str] = field(default_factory=Counter)

    def add(self, talk: Talk) -> None:
        self.chats += 1
        self.messages_acknowledged += talk.writer.acknowledged
        self.requests_refused += talk.writer.refused
        self.request_tries += talk.writer.tries
        for reader in talk.readers:
            self.events += reader.subscriber.counts.events
            self.connections += reader.counts.connections
            self.reconnects += reader.counts.cuts
            self.reader_errors.update(reader.counts.errors)


class Talks:
    def __init__(
        self,
        options: Options,
        api: Api,
        home: Api,
        fleet: Fleet,
        checker: Checker,
        record: Record,
        tools: Tools | None,
        broken: BrokenAnswers | None,
    ) -> None:
        """``home``: replicas that know of agents, where not all of them may. ``broken``: if they can be known."""
        self.figures = TalkFigures()
        self._options = options
        self._api = api
        self._home = home
        self._fleet = fleet
        self._checker = checker
        self._record = record
        self._tools = tools
        self._broken = broken
        self._mix = parse_mix(options.load.mix, OPERATIONS)
        self._under_way: dict[int, Talk] = {}

    def readers(self) -> Iterator[Reader]:
        """Those of the newest talk on each line."""
        for talk in self._under_way.values():
            yield from talk.readers

    async def run(self, line: int, ending: trio.Event) -> None:
        """One conversation after the other, until ``ending``."""
        generation = 0
        while not ending.is_set():
            generation += 1
            name = f"c{line}n{generation}"
            draw = self._options.draw("writer", name)
            writer = Writer(name, self._api, self._checker, self._record, self._options, draw)
            read = partial(self._read, name)
            talk = Talk(writer, read, self._api, self._checker, self._mix, self._tools, self._home, self._broken)
            self._under_way[line] = talk
            final = await talk.run(ending)
            if final is not None:
                self._record.note(chat=final.chat, final=final.status, messages=[item.id for item in final.messages])
            self.figures.add(talk)

    def _read(self, name: str, chat: str) -> list[Reader]:
        """The chat's readers: one that stays away from the owner, the others behind the public port."""
        options, readers = self._options, []
        for number in range(options.load.readers):
            kind = "away" if number == 0 and not options.front_only else f"public{number}"
            draw = options.draw("reader", name, number)
            away, front_only = kind == "away", options.front_only
            route = Route(self._api.base_url, self._fleet, draw, away=away, front_only=front_only)
            subscriber = self._checker.subscriber(chat, f"{name}.{kind}")
            spared = options.faults.rolling
            readers.append(Reader(subscriber, self._api, route, self._record, draw, spared=spared))
        return readers
