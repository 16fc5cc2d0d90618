"""Chats that run commands in workspaces, and all that may be killed under them: ``scripts/chaos --workspaces``.

Each chat has a workspace of its own. Its model is ordered to run a command that notes that it ran, and prints some
lines at a pace; a reader follows. Once there is output, somebody is killed in mid-command, mostly the chat's owner
(``workspace_kills.py``). Now and then the turn is stopped instead, and somebody may be killed in that moment as well.

What is counted, from outside: a command that did not run once (by what it noted in its workspace), output that is not
whole in the result, a piece of it on the stream that is not what the command printed there, a result that says that the
outcome is unknown, and a command that still ran ``STOPPED_SECONDS_MAX`` after its stop. Where the agent was killed,
alone or with its host, other things may be told (``workspace_verdicts.py``). And once a successor has told output of a
call, the agent is asked to run something in the name of the owner before it: that has to be refused.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import trio

from chaos.api import Api
from chaos.cluster import Cluster
from chaos.fleet import Fleet
from chaos.options import Options
from chaos.workspace_kills import Killer
from chaos.workspace_verdicts import Command, Scores, Turn, judge_command, judge_death, judge_runs
from chatcluster.client.call_outputs import with_piece
from chatcluster.client.chat_view import ChatView
from chatcluster.client.client import ApiError
from chatcluster.client.workspaces import WorkspaceClient
from chatcluster.local.local_cluster import workspaces_dir
from chatcluster.parts import PartFrame, ToolOutputPart, ToolResultPart
from chatcluster.workspace_errors import StaleEpoch, WorkspaceRefused, WorkspaceUnreachable
from chatcluster.workspace_wire import CallRequest, Kind
from chatcluster.workspaces.agent_client import over_unix
from chatcluster.workspaces.places import place_of

LINES = 80
"""Long enough that a killed replica is back before the command ends: then it can be killed in mid-command."""
LINE_SECONDS = 0.08
TURN_SECONDS_MAX = 180.0
START_SECONDS_MAX = 600.0
"""All workspaces begin at once, at first and after the host was killed. The host starts two of a user's at a time and
gives each two minutes, whatever else the machine does."""
AGAIN_SECONDS = 1.0
KILL_AFTER_SECONDS = (0.1, 1.5)
STOPPED_SECONDS_MAX = 2.0
STOPS = 0.25
"""How many of the turns are stopped."""
IN_MID_COMMAND = {"owner": 70, "freeze": 5, "replicas": 7, "agent": 10, "host": 8}
AT_A_STOP = {"nobody": 40, "owner": 40, "replicas": 6, "agent": 7, "host": 7}
"""Who is killed, and how often in a hundred."""
READY = '"agent_status": "ready"'
BEATS = "while :; do date +%s.%N >> beats; sleep 0.05; done & echo beating; wait"
"""Each beat is one write behind the others: a kill between two leaves the last one whole."""


async def run_workspaces(options: Options, cluster: Cluster, say: Callable[[str], None]) -> dict[str, Any]:
    """Kill owners until that was done often enough, or long enough. Raises ``RuntimeError`` if it cannot go on."""
    scores, draw = Scores(say), options.draw("workspaces")
    api = Api(cluster.url, cluster.token, draw)
    fleet = Fleet(api, size=options.cluster.replicas)
    killer = Killer(api, fleet, scores, options, say)
    try:
        await fleet.ready()
        async with trio.open_nursery() as nursery:
            for number in range(options.load.chats):
                chat = Worker(number, cluster, killer, scores, options.draw("chat", number))
                nursery.start_soon(chat.work)
    finally:
        await api.aclose()
    return scores.summary()


class Worker:
    """One chat, with its workspace."""

    def __init__(self, number: int, cluster: Cluster, killer: Killer, scores: Scores, draw: random.Random) -> None:
        assert cluster.logs is not None, "it is a cluster of our own"
        self._number = number
        self._cluster = cluster
        self._places = workspaces_dir(cluster.logs.parent)
        self._killer = killer
        self._scores = scores
        self._draw = draw
        self._chat_id = ""
        self._workspace_id = ""
        self._running_since = 0.0
        """Its workspace has run since then, unless something was killed."""
        self._commands: list[Command] = []

    async def work(self) -> None:
        client = WorkspaceClient(self._cluster.url, self._cluster.token)
        async with client:
            self._chat_id = (await client.create())["id"]
            await self._make(client)
            mine = [one for one in await client.workspaces() if one["chat_id"] == self._chat_id]
            self._workspace_id = mine[0]["id"]
            while not self._killer.is_done:
                await self._ensure_running(client)
                if self._draw.random() < STOPS:
                    await self._stopped_command(client)
                else:
                    await self._command(client)
            await self._count_runs(client)

    async def _make(self, client: WorkspaceClient) -> None:
        """Ask for a workspace until there is one: what cannot be done in a moment says so. Raises ``RuntimeError``."""
        told = ""
        with trio.move_on_after(START_SECONDS_MAX):
            while True:
                order = 'call=create_workspace {"template_id": "default"}'
                made = await self._turn(client, order, seconds_max=START_SECONDS_MAX)
                told, self._running_since = made.result, made.began
                if READY in told or self._killer.agent_died("", made.began):
                    return
                await trio.sleep(AGAIN_SECONDS)
        raise RuntimeError(f"a workspace cannot be made: {told[:300]}")

    async def _ensure_running(self, client: WorkspaceClient) -> None:
        """Start the workspace, if somebody was killed who may have run it. Raises ``RuntimeError``."""
        told = ""
        with trio.move_on_after(START_SECONDS_MAX):
            while self._killer.agent_died(self._workspace_id, self._running_since):
                turn = await self._turn(client, "call=start_workspace {}", seconds_max=START_SECONDS_MAX)
                told = turn.result
                if READY in told:
                    self._running_since = turn.began
            return
        raise RuntimeError(f"workspace {self._workspace_id} does not run again: {told[:300]}")

    async def _inflict(self, view: ChatView, who: dict[str, int]) -> str:
        """Kill somebody; who that was, or an empty string if nobody was killed."""
        (name,) = self._draw.choices(list(who), list(who.values()))
        worker_id, killer = view.worker_id, self._killer
        match name:
            case "owner":
                done = worker_id is not None and await killer.owner(str(worker_id))
            case "freeze":
                done = worker_id is not None and await killer.freeze(str(worker_id))
            case "replicas":
                done = await killer.replicas()
            case "agent":
                done = await killer.agent(self._workspace_id)
            case "host":
                done = await killer.host()
            case _:
                done = False
        return name if done else ""

    # --- a command that runs to its end -------------------------------------------------------

    async def _command(self, client: WorkspaceClient) -> None:
        name = f"{self._number}-{len(self._commands)}"
        script = (
            f"echo {name} >> runs; i=0; while [ $i -lt {LINES} ]; do echo line {name} $i; i=$((i+1)); "
            f"sleep {LINE_SECONDS}; done"
        )
        command = Command(name, "".join(f"line {name} {line}\n" for line in range(LINES)))
        self._commands.append(command)
        stale_epoch = 0

        async def kill(view: ChatView) -> None:
            nonlocal stale_epoch
            await trio.sleep(self._draw.uniform(*KILL_AFTER_SECONDS))
            epoch = view.epoch
            killed = await self._inflict(view, IN_MID_COMMAND)
            if killed == "owner":
                self._scores.counts["kills_in_mid_command"] += view.status == "running" and bool(view.outputs)
            if killed in ("owner", "freeze", "replicas"):
                stale_epoch = epoch

        turn = await self._turn(client, _execute(script), then=kill)
        command.agent_died = self._killer.agent_died(self._workspace_id, self._running_since)
        command.owners_died = self._killer.owners_died(turn.began)
        judge_command(self._scores, command, turn)
        if command.agent_died:
            await self._ask_again(client, command, turn)
        elif 0 < stale_epoch < turn.told_at_epoch:
            await self._try_stale_call(stale_epoch)

    async def _ask_again(self, client: WorkspaceClient, command: Command, turn: Turn) -> None:
        """What the ledger says of a command under which the agent was killed."""
        while True:
            await self._ensure_running(client)
            told = await self._turn(client, f'call=process_output {{"process_id": "{turn.call_id}"}}')
            if not self._killer.agent_died(self._workspace_id, self._running_since):
                break
        judge_death(self._scores, command, turn, told.result)

    async def _try_stale_call(self, epoch: int) -> None:
        """In the name of an owner whose successor has been heard by the agent."""
        request = CallRequest(
            chat_id=self._chat_id, epoch=epoch, digest="", kind=Kind.EXECUTE, input={"command": "echo stale >> runs"}
        )
        try:
            await over_unix(self._socket).put(f"stale-{uuid4().hex}", request)
        except StaleEpoch:
            self._scores.counts["stale_calls_refused"] += 1
        except (WorkspaceUnreachable, WorkspaceRefused, OSError) as error:
            if not self._killer.agent_died(self._workspace_id, self._running_since):
                self._scores.violate("stale_call_taken", f"it was not refused as stale: {error}")
        else:
            self._scores.violate("stale_call_taken", f"of epoch {epoch} of chat {self._chat_id}")

    @property
    def _socket(self) -> Path:
        return place_of(self._places, self._workspace_id).door

    # --- a command that is stopped ------------------------------------------------------------

    async def _stopped_command(self, client: WorkspaceClient) -> None:
        stopped_at = 0.0

        async def stop(view: ChatView) -> None:
            nonlocal stopped_at
            with suppress(ApiError):  # it has come to rest by itself
                await client.interrupt(self._chat_id)
            stopped_at = time.time()
            await self._inflict(view, AT_A_STOP)

        turn = await self._turn(client, _execute(BEATS), then=stop)
        await trio.sleep(max(0.0, stopped_at + 2 * STOPPED_SECONDS_MAX - time.time()))
        agent_died = self._killer.agent_died(self._workspace_id, self._running_since)
        if not stopped_at:  # nobody has seen it run
            if not agent_died:
                self._scores.violate("output_lost", f"a command without an end told nothing: {turn.result!r}")
            return
        last = await self._said(client, "tail -n 1 beats")
        self._scores.counts["stops"] += 1
        try:
            seconds = float(last) - stopped_at
        except ValueError:
            if not agent_died:  # else it may have had no time for one
                self._scores.violate("output_lost", f"the beat of a stopped command: {last[:300]!r} {turn.result!r}")
            return
        self._scores.stops.append(seconds)
        if seconds > STOPPED_SECONDS_MAX:
            self._scores.violate("stopped_late", f"it ran for {seconds:.2f} s behind its stop")

    async def _said(self, client: WorkspaceClient, command: str) -> str:
        """What a short command prints, tried again where the workspace was killed under it."""
        while True:
            await self._ensure_running(client)
            told = (await self._turn(client, _execute(command))).result
            with suppress(ValueError, KeyError):
                return str(json.loads(told)["output"])
            if not self._killer.agent_died(self._workspace_id, self._running_since):
                return told

    # --- turns --------------------------------------------------------------------------------

    async def _turn(
        self,
        client: WorkspaceClient,
        order: str,
        then: Callable[[ChatView], Any] | None = None,
        *,
        seconds_max: float = TURN_SECONDS_MAX,
    ) -> Turn:
        """Send an order, and follow until the chat rests; ``then`` is called once there is output."""
        mark = uuid4().hex[:8]
        turn = Turn(trio.current_time())
        with trio.move_on_after(seconds_max):
            sent = await client.send(self._chat_id, f"{mark} [[{order}]] [[step=2 say=over {mark}]]")
            async with trio.open_nursery() as nursery, aclosing(client.stream(self._chat_id)) as events:
                view, acted = ChatView(), False
                async for cursor, event in events:
                    view.apply(cursor, event)
                    if isinstance(event, PartFrame) and isinstance(event.part, ToolOutputPart):
                        turn.output = with_piece(turn.output, event.part)
                        turn.told_at_epoch = view.epoch
                        if then is not None and not acted:
                            acted = True
                            nursery.start_soon(then, view)
                    if view.ready and view.at_rest and max(view.messages, default=0) > sent["message"]["id"]:
                        break
            if (result := _last_result(view)) is not None:
                turn.call_id, turn.result = result.call_id, result.text
            return turn
        raise RuntimeError(f"chat {self._chat_id} does not come to rest in {seconds_max:g} s")

    async def _count_runs(self, client: WorkspaceClient) -> None:
        judge_runs(self._scores, self._commands, Counter((await self._said(client, "cat runs")).split()))


def _execute(command: str) -> str:
    arguments = msgspec.json.encode({"command": command, "timeout": "2m"}).decode()
    return f"call=execute {arguments.replace(']]', '] ]')}"


def _last_result(view: ChatView) -> ToolResultPart | None:
    results = [part for message in view.messages.values() for part in message.parts if isinstance(part, ToolResultPart)]
    return results[-1] if results else None
