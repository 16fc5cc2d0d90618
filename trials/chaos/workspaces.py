"""Chats that run commands in workspaces, and owners that are killed in mid-command: ``scripts/chaos --workspaces``.

Each chat has a workspace of its own. Its model is ordered to run a command that notes that it ran, and prints some
lines at a pace; a reader follows. Once there is output, the chat's owner is killed (SIGKILL). Now and then the turn is
stopped instead, and in half of these its owner is killed in the same moment.

What is counted, from outside: a command that did not run once (by what it noted in its workspace), output that is not
whole in the result, a piece of it on the stream that is not what the command printed there, a result that says that the
outcome is unknown, and a command that still ran ``STOPPED_SECONDS_MAX`` after its stop.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any
from uuid import uuid4

import msgspec
import trio

from chaos.api import Api
from chaos.cluster import Cluster
from chaos.fleet import Fleet
from chaos.options import Options
from chatcluster.client.call_outputs import CallOutput, with_piece
from chatcluster.client.chat_view import ChatView
from chatcluster.client.client import ApiError, Client
from chatcluster.parts import PartFrame, ToolOutputPart, ToolResultPart

LINES = 80
"""Long enough that a killed replica is back before the command ends: then it can be killed in mid-command."""
LINE_SECONDS = 0.08
TURN_SECONDS_MAX = 90.0
KILL_AFTER_SECONDS = (0.1, 1.5)
STOPPED_SECONDS_MAX = 2.0
STOPS = 0.25
"""How many of the turns are stopped."""
UNKNOWN = ("unknown", "does not answer", "ended before there was a result")
BEATS = "while :; do date +%s.%N >> beats; sleep 0.05; done & echo beating; wait"
"""Each beat is one write behind the others: a kill between two leaves the last one whole."""


class Scores:
    """What was counted, and each violation in words."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.stops: list[float] = []
        """Seconds between a stop and the last sign of life of what it stopped."""
        self._say = say

    def violate(self, kind: str, detail: str) -> None:
        self.counts[kind] += 1
        self.violations.append(f"{kind}: {detail}")
        self._say(f"VIOLATION {kind}: {detail}")

    def summary(self) -> dict[str, Any]:
        done = ("commands", "kills", "kills_in_mid_command", "stops", "streams_whole")
        kinds = ("run_twice_or_never", "output_lost", "stream_differs", "outcome_unknown", "stopped_late")
        return {
            **{name: self.counts[name] for name in done},
            **{kind: self.counts[kind] for kind in kinds},
            "slowest_stop_ms": round(1000 * max(self.stops, default=0.0)),
            "violations": len(self.violations),
            "details": self.violations[:20],
        }


async def run_workspaces(options: Options, cluster: Cluster, say: Callable[[str], None]) -> dict[str, Any]:
    """Kill owners until that was done often enough, or long enough. Raises ``RuntimeError`` if it cannot go on."""
    scores, draw = Scores(say), options.draw("workspaces")
    api = Api(cluster.url, cluster.token, draw)
    fleet = Fleet(api, size=options.replicas)
    killer = Killer(fleet, scores, options, say)
    try:
        await fleet.ready()
        async with trio.open_nursery() as nursery:
            for number in range(options.chats):
                chat = Worker(number, cluster, killer, scores, options.draw("chat", number))
                nursery.start_soon(chat.work)
    finally:
        await api.aclose()
    return scores.summary()


class Killer:
    """Kills owners, one at a time, when the cluster is whole."""

    def __init__(self, fleet: Fleet, scores: Scores, options: Options, say: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._scores = scores
        self._kills_max = options.kills_max
        self._until = trio.current_time() + options.seconds
        self._say = say
        self._one_at_a_time = trio.Lock()

    @property
    def is_done(self) -> bool:
        return self._scores.counts["kills"] >= self._kills_max or trio.current_time() >= self._until

    async def kill(self, worker_id: str) -> bool:
        """Whether there was such a worker, and is no more."""
        async with self._one_at_a_time:
            await self._fleet.ready(missing_max=1)
            replica = self._fleet.owner(worker_id)
            if replica is None or self.is_done:
                return False
            pid = await self._fleet.process(replica)
            self._fleet.forget(replica)
            with suppress(ProcessLookupError):
                await self._fleet.signal(replica, pid, signal.SIGKILL)
            self._scores.counts["kills"] += 1
            if self._scores.counts["kills"] % 10 == 0:
                self._say(f"{self._scores.counts['kills']} kills, {len(self._scores.violations)} violations")
            return True


class Worker:
    """One chat, with its workspace."""

    def __init__(self, number: int, cluster: Cluster, killer: Killer, scores: Scores, draw: random.Random) -> None:
        self._number = number
        self._cluster = cluster
        self._killer = killer
        self._scores = scores
        self._draw = draw
        self._chat_id = ""
        self._ran: list[str] = []

    async def work(self) -> None:
        async with Client(self._cluster.url, self._cluster.token) as client:
            self._chat_id = (await client.create())["id"]
            made = await self._turn(client, 'call=create_workspace {"template_id": "default"}')
            if '"agent_status": "ready"' not in made.result:
                raise RuntimeError(f"a workspace cannot be made: {made.result[:300]}")
            while not self._killer.is_done:
                if self._draw.random() < STOPS:
                    await self._stopped_command(client)
                else:
                    await self._command(client)
            await self._count_runs(client)

    # --- a command that runs to its end -------------------------------------------------------

    async def _command(self, client: Client) -> None:
        name = f"{self._number}-{len(self._ran)}"
        self._ran.append(name)
        script = (
            f"echo {name} >> runs; i=0; while [ $i -lt {LINES} ]; do echo line {name} $i; i=$((i+1)); "
            f"sleep {LINE_SECONDS}; done"
        )
        turn = await self._turn(client, _execute(script), then=self._kill_owner)
        expected = "".join(f"line {name} {line}\n" for line in range(LINES))
        self._scores.counts["commands"] += 1
        self._judge_result(name, turn, expected)
        self._judge_stream(name, turn, expected)

    def _judge_result(self, name: str, turn: Turn, expected: str) -> None:
        if any(word in turn.result for word in UNKNOWN):
            self._scores.violate("outcome_unknown", f"{name}: {turn.result[:300]!r}")
            return
        try:
            output = json.loads(turn.result)["output"]
        except (ValueError, KeyError):
            output = turn.result
        if output != expected:
            self._scores.violate("output_lost", f"{name}: {len(output)} of {len(expected)}: {output[-200:]!r}")

    def _judge_stream(self, name: str, turn: Turn, expected: str) -> None:
        """A reader that was cut near the end has the result in its place: what there is has to be right."""
        seen = turn.output or CallOutput(0, 0, "")
        if expected[seen.offset : seen.end] != seen.text:
            self._scores.violate("stream_differs", f"{name}: from {seen.offset} {seen.text[:200]!r}")
        self._scores.counts["streams_whole"] += seen.text == expected

    async def _kill_owner(self, view: ChatView) -> None:
        await trio.sleep(self._draw.uniform(*KILL_AFTER_SECONDS))
        if view.worker_id is not None and await self._killer.kill(str(view.worker_id)):
            self._scores.counts["kills_in_mid_command"] += view.status == "running" and bool(view.outputs)

    # --- a command that is stopped ------------------------------------------------------------

    async def _stopped_command(self, client: Client) -> None:
        stopped_at = 0.0

        async def stop(view: ChatView) -> None:
            nonlocal stopped_at
            owner = view.worker_id
            with suppress(ApiError):  # it has come to rest by itself
                await client.interrupt(self._chat_id)
            stopped_at = time.time()
            if owner is not None and self._draw.random() < 0.5:
                await self._killer.kill(str(owner))

        await self._turn(client, _execute(BEATS), then=stop)
        await trio.sleep(max(0.0, stopped_at + 2 * STOPPED_SECONDS_MAX - time.time()))
        told = await self._turn(client, _execute("tail -n 1 beats"))
        self._scores.counts["stops"] += 1
        try:
            seconds = float(json.loads(told.result)["output"]) - stopped_at
        except (ValueError, KeyError):
            self._scores.violate("output_lost", f"the beat of a stopped command: {told.result[:300]!r}")
            return
        self._scores.stops.append(seconds)
        if seconds > STOPPED_SECONDS_MAX:
            self._scores.violate("stopped_late", f"it ran for {seconds:.2f} s behind its stop")

    # --- turns --------------------------------------------------------------------------------

    async def _turn(self, client: Client, order: str, then: Callable[[ChatView], Any] | None = None) -> Turn:
        """Send an order, and follow until the chat rests; ``then`` is called once there is output."""
        mark = uuid4().hex[:8]
        turn = Turn()
        with trio.move_on_after(TURN_SECONDS_MAX):
            sent = await client.send(self._chat_id, f"{mark} [[{order}]] [[step=2 say=over {mark}]]")
            async with trio.open_nursery() as nursery, aclosing(client.stream(self._chat_id)) as events:
                view, acted = ChatView(), False
                async for cursor, event in events:
                    view.apply(cursor, event)
                    if isinstance(event, PartFrame) and isinstance(event.part, ToolOutputPart):
                        turn.output = with_piece(turn.output, event.part)
                        if then is not None and not acted:
                            acted = True
                            nursery.start_soon(then, view)
                    if view.ready and view.at_rest and max(view.messages, default=0) > sent["message"]["id"]:
                        break
            turn.result = _last_result(view)
            return turn
        raise RuntimeError(f"chat {self._chat_id} does not come to rest in {TURN_SECONDS_MAX:g} s")

    async def _count_runs(self, client: Client) -> None:
        told = await self._turn(client, _execute("cat runs"))
        runs = Counter(json.loads(told.result)["output"].split()) if told.result.startswith("{") else Counter()
        for name in self._ran:
            if runs[name] != 1:
                self._scores.violate("run_twice_or_never", f"{name} ran {runs[name]} times")


class Turn:
    """What a reader saw of one: the result of its call, and what came of its output on the stream."""

    def __init__(self) -> None:
        self.result = ""
        self.output: CallOutput | None = None


def _execute(command: str) -> str:
    arguments = msgspec.json.encode({"command": command, "timeout": "2m"}).decode()
    return f"call=execute {arguments.replace(']]', '] ]')}"


def _last_result(view: ChatView) -> str:
    results = [part for message in view.messages.values() for part in message.parts if isinstance(part, ToolResultPart)]
    return results[-1].text if results else ""
