"""Whether the Redis server does what is needed, tried rather than asked: a user may be allowed one thing and not
another.

``check`` tries every command once, on a key and a channel that nobody uses, in one round trip; ``run`` does so again
and again, and looks at what the server says about itself where it may. What is wrong is said once, in the words of
``errors.py``, and again when something else is wrong. No replica refuses to work for it, because Redis is never the
truth: without it live parts pause, and everything durable goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn

import trio

from chatcluster import telemetry
from chatcluster.errors import StreamsUnavailable
from chatcluster.redis.connections import Command, RedisConnection, Reply
from chatcluster.redis.errors import ErrorReply

CHECK_SECONDS = 10.0
VERSION_MIN = (6, 2)
OK = "ok"


class RedisHealth:
    """``channels_problem`` says why channels cannot be followed, which takes a connection of its own to know."""

    def __init__(self, connection: RedisConnection, channels_problem: Callable[[], str]) -> None:
        self._connection = connection
        self._channels_problem = channels_problem
        self._unfit = ""
        """Why this server will not do, by what it says about itself."""
        self._policy = ""

    async def run(self) -> NoReturn:
        """Look now and then, and say what has changed."""
        said = OK
        while True:
            await self._look()
            found = await self.check()
            if found != said:
                said = found
                telemetry.event("redis.recovered" if found == OK else "redis.degraded", reason=found)
            await trio.sleep(CHECK_SECONDS)

    async def check(self) -> str:
        """``ok``, or what is wrong and what to do about it."""
        problem = await self._refused() or self._unfit or self._channels_problem()
        return f"degraded: {problem}" if problem else OK

    async def _refused(self) -> str:
        try:
            replies = await self._connection.exchange(self._trials())
        except StreamsUnavailable as error:
            return str(error)
        refusals = [reply for reply in replies if isinstance(reply, ErrorReply)]
        return str(self._connection.refusal(refusals[0])) if refusals else ""

    def _trials(self) -> list[Command]:
        """Every kind of command that is needed. None of them leaves anything behind."""
        key, channel = self._connection.key_prefix + "check", self._connection.channel_prefix + "check"
        return [
            ("XADD", key, "NOMKSTREAM", "MINID", "=", "1-1", "1-1", "kind", "check"),
            ("XRANGE", key, "-", "+", "COUNT", 1),
            ("XREVRANGE", key, "+", "-", "COUNT", 1),
            ("EXPIRE", key, 1),
            ("UNLINK", key),
            ("PUBLISH", channel, ""),
            ("MULTI",),
            ("EXEC",),
        ]

    async def _look(self) -> None:
        try:
            replies = await self._connection.exchange([("INFO", "server"), ("INFO", "memory")])
        except StreamsUnavailable:
            return  # the trials tell why
        server, memory = map(_told, replies)
        self._unfit = _unfit(server)
        policy = memory.get("maxmemory_policy", "")
        if policy not in ("", "noeviction", self._policy):
            telemetry.event(
                "redis.may_evict", policy=policy, advice="parts can be lost; set maxmemory-policy noeviction"
            )
        self._policy = policy


def _told(reply: Reply) -> dict[str, str]:
    """The lines of an ``INFO``, nothing if that is not allowed or not understood."""
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else ""
    return dict(re.findall(r"^(\w+):(.*?)\r?$", text, re.MULTILINE))


def _unfit(server: dict[str, str]) -> str:
    version = re.match(r"(\d+)\.(\d+)", server.get("redis_version", ""))
    if version and (int(version[1]), int(version[2])) < VERSION_MIN:
        return f"Redis {server['redis_version']} is too old: 6.2 or newer is needed"
    if server.get("redis_mode") == "cluster":
        return "this is a node of a Redis Cluster; name a server that is none"
    return ""
