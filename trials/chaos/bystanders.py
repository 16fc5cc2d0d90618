"""Bystanders: users whose chats have nothing to do with any fault, and who are told of it if they wait all the same.

Each holds short turns at a steady pace, all the time, and measures what a person would notice, against what the pace
of the model gives: the acknowledgement of the message, the first token, the gap between two parts, the end of the turn.
What is beyond that is a **delay**. A fault is charged with the delays that overlap it, but for

* those of a bystander whose owner, or whose reader's replica, is the very one that the fault hits: these have the
  bounds of a takeover; or where connections of a replica froze, a bound of their own (``FROZEN_SECONDS_MAX``), if
  no other fault hits them meanwhile;
* those that overlap a fault of a server, which hits everybody: these have the bounds of that server's return.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import trio
from checker import Fault, Kind, Violation
from event_wire import Event, parse_event

from chaos.api import Api
from chaos.faults import FAILOVER, SERVER_FAULTS
from chaos.fleet import Fleet, Replica
from chaos.options import Options
from chaos.stream import BrokenOff
from chaos.users import sign_up

COUNT = 3
TOKENS = 24
TOKENS_PER_SECOND = 20.0
PAUSE_SECONDS = (0.1, 0.5)
DELAY_SECONDS_MAX = 2.0
"""What the promise allows."""
FROZEN = "freeze-connection"
FROZEN_SECONDS_MAX = 3.0
"""Through a replica whose connections froze: 2 s, and what waited for them."""
NOTED_SECONDS = 0.05
"""Shorter delays are the machine's."""
TURN_SECONDS_MAX = 20.0
BACKOFF_SECONDS = 0.1
AFTERMATH_SECONDS = 2.0
"""How long after its end a fault is charged with delays."""
RECOVERY_SECONDS = 8.0
"""How long after the end of a fault whom it hits may be busy with it."""


class Delay(NamedTuple):
    """``workers`` are those that had to do with it: the chat's owner, the replica that was asked."""

    began: float
    ended: float
    seconds: float
    what: str
    chat: str
    workers: frozenset[str]


class Bystanders:
    """``run`` holds the turns until it is cancelled. ``avoid`` tells which replicas nobody should go to now."""

    def __init__(self, options: Options, api: Api, fleet: Fleet, avoid: Callable[[], Iterable[str]]) -> None:
        self.delays: list[Delay] = []
        self.turns = 0
        self._options = options
        self._api = api
        self._fleet = fleet
        self._avoid = avoid

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(COUNT):
                nursery.start_soon(self._talk, number)

    async def _talk(self, number: int) -> None:
        draw = self._options.draw("bystander", number)
        if self._options.cluster.url:  # nobody is signed up in a cluster of somebody else's
            api = Api(self._api.base_url, self._options.cluster.token, draw)
        else:
            api, _ = await sign_up(self._api, f"bystander-{number}", draw)
        try:
            talk = _Talk(number, api, self, draw)
            while True:
                await talk.turn()
                self.turns += 1
                await trio.sleep(draw.uniform(*PAUSE_SECONDS))
        finally:
            with trio.CancelScope(shield=True):
                await api.aclose()

    def place(self, draw: random.Random) -> Replica | None:
        """A replica to talk to; None for the public port, where all know that alone."""
        avoided = frozenset(self._avoid())
        there = [it for it in self._fleet.replicas if it.state == "active" and it.address not in avoided]
        return draw.choice(there) if there and not self._options.front_only else None

    def note(self, delay: Delay) -> None:
        if delay.seconds >= NOTED_SECONDS:
            self.delays.append(delay)

    @property
    def public_url(self) -> str:
        return self._api.base_url


class _Talk:
    """One bystander's chat: the same for the whole run."""

    def __init__(self, number: int, api: Api, group: Bystanders, draw: random.Random) -> None:
        self._api = api
        self._group = group
        self._draw = draw
        self._name = f"b{number}"
        self._count = 0
        self._chat = ""
        self._cursor = ""
        self._workers: set[str] = set()

    async def turn(self) -> None:
        """One turn, at one replica for as long as it is there. One that takes too long is noted, and given up."""
        self._workers = set()
        self._go_somewhere()
        if not self._chat:
            self._chat = (await self._api.write("POST", "/chats", {"content": self._question(1)})).body["id"]
        began = trio.current_time()
        with trio.move_on_after(TURN_SECONDS_MAX):
            async with trio.open_nursery() as nursery:
                following = trio.Event()
                nursery.start_soon(self._say, following)
                await self._follow(following)
            return
        self._note("the end of its turn", began, began)

    def _go_somewhere(self) -> None:
        place = self._group.place(self._draw)
        self._api.base_url = place.url if place is not None else self._group.public_url
        if place is not None:
            self._workers.add(place.worker_id)

    async def _say(self, following: trio.Event) -> None:
        await following.wait()
        began = trio.current_time()
        self._pace.sent(began)
        await self._api.write("POST", f"/chats/{self._chat}/messages", {"content": self._question(TOKENS)})
        self._note("an acknowledgement", began, began)

    def _question(self, tokens: int) -> str:
        self._count += 1
        return f"Bystander [[word={self._name}q{self._count}x tokens={tokens} tps={TOKENS_PER_SECOND:g}]]"

    async def _follow(self, following: trio.Event) -> None:
        """Until the turn is over, through any number of connections."""
        self._pace = Pace(self._note)
        while not self._pace.over:
            try:
                await self._read(following)
            except BrokenOff:
                await trio.sleep(BACKOFF_SECONDS)
                self._go_somewhere()

    async def _read(self, following: trio.Event) -> None:
        async with self._api.stream(self._api.base_url, self._chat, self._cursor) as stream:
            if stream.status != 200:
                raise BrokenOff(f"refused {stream.status}")
            while not self._pace.over:
                for block in await stream.receive():
                    event = parse_event(block)
                    if event.kind:
                        self._cursor = event.id
                        self._see(event, following)

    def _see(self, event: Event, following: trio.Event) -> None:
        text = event.data.decode(errors="replace")
        if event.kind == b"status":
            worker = text.partition('"worker_id":"')[2].partition('"')[0]
            if worker:
                self._workers.add(worker)
            if '"status":"waiting"' in text or '"status":"error"' in text:
                following.set()  # at rest, and we look on: now a turn can be measured
        self._pace.see(event.kind, text, trio.current_time())

    def _note(self, what: str, began: float, due: float) -> None:
        now = trio.current_time()
        self._group.note(Delay(began, now, now - due, what, self._chat, frozenset(self._workers)))


class Pace:
    """One turn against the pace of its model. ``note(what, began, due)`` is called with what has come just now."""

    def __init__(self, note: Callable[[str, float, float], None]) -> None:
        self.over = False
        self._note = note
        self._last = math.nan
        """When anything came last; when the message was sent, at first."""
        self._answering = False

    def sent(self, time: float) -> None:
        self._last = time

    def see(self, kind: bytes, text: str, time: float) -> None:
        if math.isnan(self._last) or self.over:
            return
        if kind == b"part" or (kind == b"message" and '"role":"assistant"' in text):
            first, self._answering = not self._answering, True
            what = "a first token" if first else "the next token"
            self._note(what, self._last, self._last + (0.0 if first else 1 / TOKENS_PER_SECOND))
            self._last = time
        elif kind == b"status" and self._answering and ('"waiting"' in text or '"error"' in text):
            self._note("the end of its turn", self._last, self._last)
            self.over = True


def worst(fault: Fault, faults: Sequence[Fault], delays: Iterable[Delay]) -> Delay | None:
    """The longest delay that ``fault`` is charged with."""
    charged = (delay for delay in delays if _overlaps(delay, fault, AFTERMATH_SECONDS) and not _excused(delay, faults))
    return max(charged, key=lambda delay: delay.seconds, default=None)


def figures(faults: Sequence[Fault], delays: Sequence[Delay]) -> dict[str, Any]:
    """By kind of fault: the worst delay of those who had nothing to do with it."""
    found: dict[str, float] = {}
    for fault in faults:
        if not is_everybodys(fault):
            delay = worst(fault, faults, delays)
            found[fault.kind] = max(found.get(fault.kind, 0.0), 0.0 if delay is None else round(delay.seconds, 3))
    return {"worst": max(found.values(), default=0.0), **found}


def is_everybodys(fault: Fault) -> bool:
    """A fault that hits all: it has no bystanders."""
    return fault.kind in SERVER_FAULTS or fault.kind == FAILOVER


def violations(faults: Sequence[Fault], delays: Iterable[Delay]) -> Iterable[Violation]:
    """The delays beyond what is allowed, each once."""
    for delay in delays:
        charged = [it for it in faults if not is_everybodys(it) and _overlaps(delay, it, AFTERMATH_SECONDS)]
        if delay.seconds > DELAY_SECONDS_MAX and charged and not _excused(delay, faults):
            kinds = ", ".join(sorted({fault.kind for fault in charged}))
            detail = f"a bystander of {kinds} waited {delay.seconds:.2f} s longer than it should for {delay.what}"
            yield Violation(Kind.BYSTANDER, delay.chat, detail, delay.began)
        is_frozen = any(_is_frozen(delay, it) for it in charged)
        if delay.seconds > FROZEN_SECONDS_MAX and is_frozen and not _excused(delay, _others(faults)):
            detail = f"through a replica whose connections froze, {delay.what} took {delay.seconds:.2f} s too long"
            yield Violation(Kind.LATE, delay.chat, detail, delay.began)


def _excused(delay: Delay, faults: Iterable[Fault]) -> bool:
    return any(
        _overlaps(delay, fault, RECOVERY_SECONDS) and (is_everybodys(fault) or fault.worker_id in delay.workers)
        for fault in faults
    )


def _others(faults: Iterable[Fault]) -> Iterator[Fault]:
    """The faults with bounds of their own, which a delay has where both came together."""
    return (fault for fault in faults if fault.kind != FROZEN)


def _is_frozen(delay: Delay, fault: Fault) -> bool:
    return fault.kind == FROZEN and fault.worker_id in delay.workers


def _overlaps(delay: Delay, fault: Fault, aftermath_seconds: float) -> bool:
    return delay.began <= fault.until + aftermath_seconds and delay.ended >= fault.time
