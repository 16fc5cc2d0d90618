"""Faults of one chat, user, row, connection or clock, from which nobody else may suffer for more than 2 s (P10).

Each gets a ``Stage``: it makes its victims ready, says ``began`` when the harm is done, and returns when that is over,
with a word for people about what it was. What it names as victims (chats, or a replica with all its chats) is exempt
from what the harm does to them; nothing else is.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from chaos import garbage
from chaos.api import Api
from chaos.database import hold, query
from chaos.fleet import Fleet, Replica
from chaos.postgres_host import find_basebackup
from chaos.servers import Servers
from chaos.users import sign_up
from chaos.victim_chats import VictimChats

VICTIM_TOKENS = 120
VICTIM_TOKENS_PER_SECOND = 20.0
GARBAGE_SECONDS = 3.0
LOCK_SECONDS = (3.0, 7.0)
REPLICA_LOCK_SECONDS = (0.5, 1.5)
STEP_SECONDS = (8.0, 900.0)
"""More than a lease takes to run out."""
FROZEN_SECONDS = 4.0
"""What is open is used, and missed, some time after."""
CLOCK_NOTICED_SECONDS = 1.5
CLOCK_SECONDS = 3.0
LOAD_SECONDS = 5.0
LOAD_LATE_SECONDS_MAX = 10.0
HUGE_MESSAGES = 400
HUGE_DIGESTS = 16_000
"""A message holds so many digests of 32 characters: half a megabyte."""
SHORT_TOKENS = 3

LOCK_CHAT = "select id from chats where id = $1::text::uuid for update"
LOCK_REPLICA = "select worker_id from replicas where worker_id = $1::text::uuid for update"
MOVE_HEARTBEATS = "update replicas set heartbeat_at = heartbeat_at - make_interval(secs => $1::float)"
ENLARGE = """
insert into messages (chat_id, revision, role, finish_reason, content)
select $1::text::uuid, 1, case when number % 2 = 0 then 'assistant' else 'user' end,
    case when number % 2 = 0 then 'stop' end,
    json_build_array(json_build_object('type', 'text', 'text', repeat(md5(number::text), $3::int)))
from generate_series(1, $2::int) as number
"""


Began = Callable[[tuple[str, ...], Replica | None], None]


@dataclass(frozen=True)
class Stage:
    """What a harm has at hand. ``began`` is called with the chats and the replica that it hits, at its moment."""

    api: Api
    servers: Servers
    fleet: Fleet
    victims: VictimChats
    draw: random.Random
    began: Began
    kill: Callable[[Replica], Awaitable[None]]
    choose: Callable[[], Awaitable[tuple[Replica, int]]]
    """A replica in the middle of an answer, that somebody reads from elsewhere, and its process."""


async def spoil(stage: Stage) -> str:
    """Garbage in Redis, in a chat's rows at rest, or in the row of one that is being answered."""
    where = stage.draw.choice(("redis", "rows", "retry"))
    tokens, pace = (SHORT_TOKENS, 0.0) if where == "rows" else (VICTIM_TOKENS, VICTIM_TOKENS_PER_SECOND)
    chat = await stage.victims.begin("garbage", tokens=tokens, tokens_per_second=pace)
    await (stage.victims.rest(chat) if where == "rows" else stage.victims.owner(chat))
    stage.began((chat,), None)
    if where == "redis":
        what = await garbage.into_redis(stage.servers, chat, stage.draw)
    elif where == "rows":
        what = await garbage.into_rows(stage.servers, chat, stage.draw)
        with trio.move_on_after(GARBAGE_SECONDS):
            await stage.victims.say(chat, stage.victims.question(SHORT_TOKENS, 0.0))
    else:
        what = await garbage.into_retry(stage.servers, chat)
    await trio.sleep(GARBAGE_SECONDS)
    return what


async def lock(stage: Stage) -> str:
    """A session that holds a chat's row, with its owner alive or killed meanwhile, or the row of a replica."""
    what = stage.draw.choice(("a chat", "a chat of a killed replica", "a replica"))
    if what == "a replica":
        replica, _ = await stage.choose()
        return await _locked(stage, LOCK_REPLICA, replica.worker_id, REPLICA_LOCK_SECONDS, (), None, what)
    chat = await stage.victims.begin("lock", tokens=VICTIM_TOKENS, tokens_per_second=VICTIM_TOKENS_PER_SECOND)
    owner = stage.fleet.owner(await stage.victims.owner(chat))
    kill = owner if what != "a chat" else None
    return await _locked(stage, LOCK_CHAT, chat, LOCK_SECONDS, (chat,), kill, what)


async def _locked(
    stage: Stage,
    statement: str,
    row: str,
    span: tuple[float, float],
    chats: tuple[str, ...],
    kill: Replica | None,
    what: str,
) -> str:
    seconds = stage.draw.uniform(*span)
    held = trio.Event()
    async with trio.open_nursery() as nursery:
        url = stage.servers.database_url
        nursery.start_soon(partial(hold, url, statement, row, seconds=seconds, held=held.set))
        await held.wait()
        stage.began(chats, None)
        if kill is not None:
            await stage.kill(kill)
    return f"the row of {what} for {seconds:.1f} s"


async def freeze_connection(stage: Stage) -> str:
    """What one replica has open to Postgres or Redis at a moment carries nothing any more; new connections work."""
    wires = stage.servers.wires
    assert wires is not None, "the servers were started for this fault"
    replica, pid = await stage.choose()
    door = stage.draw.choice(("postgres", "redis"))
    stage.began((), replica)
    count = await wires.silence(door, pid)
    await trio.sleep(FROZEN_SECONDS)
    return f"{count} connections of {replica.name} to {door}"


async def step_clock(stage: Stage) -> str:
    """The database's clock steps; without libfaketime, heartbeats are moved the other way, as a step leaves them."""
    seconds = stage.draw.choice((-1, 1)) * stage.draw.uniform(*STEP_SECONDS)
    stage.began((), None)
    if stage.servers.clock is None:
        await query(stage.servers.database_url, MOVE_HEARTBEATS, seconds)
    else:
        stage.servers.set_clock(seconds)
    try:
        await trio.sleep(CLOCK_SECONDS)
    finally:
        if stage.servers.clock is not None:
            stage.servers.set_clock(0)
    await trio.sleep(CLOCK_NOTICED_SECONDS)  # the way back is a step as well
    return f"{seconds:+.0f} s{'' if stage.servers.clock else ' (heartbeats moved)'}, and back"


async def enlarge(stage: Stage) -> str:
    """A chat with 200 MB of history, sent to and read in every way."""
    chat = await stage.victims.begin("huge", tokens=SHORT_TOKENS, tokens_per_second=0.0)
    await stage.victims.rest(chat)
    await query(stage.servers.database_url, ENLARGE, chat, HUGE_MESSAGES, HUGE_DIGESTS)
    stage.began((chat,), None)
    plan = {"do": "huge", "url": stage.api.base_url, "token": stage.victims.token, "chat": chat}
    return f"{HUGE_MESSAGES * HUGE_DIGESTS * 32 / 1e6:.0f} MB; {await _load(plan)}"


async def be_greedy(stage: Stage) -> str:
    """One user at full load."""
    api, token = await sign_up(stage.api, "greedy", stage.draw)
    await api.aclose()
    stage.began((), None)
    return await _load({"do": "greedy", "url": stage.api.base_url, "token": token})


async def _load(plan: dict[str, str]) -> str:
    """The load of another process for a while; what it was told. It ends with us."""
    command = [sys.executable, "-m", "chaos.load_process", json.dumps(plan | {"seconds": LOAD_SECONDS})]
    path = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    with trio.move_on_after(LOAD_SECONDS + LOAD_LATE_SECONDS_MAX):
        done = await trio.run_process(
            command,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
        )
        lines = (done.stdout or b"").decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing was told"
    return "its load did not end in time"


HARMS: dict[str, Callable[[Stage], Awaitable[str]]] = {
    "garbage": spoil,
    "lock": lock,
    "freeze-connection": freeze_connection,
    "clock": step_clock,
    "huge": enlarge,
    "greedy": be_greedy,
}


def missing(fault: str) -> str | None:
    """What this machine has not got, without which the fault is left out."""
    if fault == "failover" and find_basebackup() is None:
        return "pg_basebackup"
    return None
