"""Entries that no version of ours wrote, where replicas read: in one chat's stream and channels, or in its rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import redis
import trio

from chaos.database import query
from chaos.servers import Servers

IMPOSSIBLE_EPOCH = 999_999_999_999
TAKEN = "equal or smaller"
"""In what Redis says of a position that is not free any more."""
TRIES_MAX = 20
JUNK = (b"", b"\x00\xff\xfe", b"{", b"null", b"[[]]", b'{"type":"open"}', b"\xc1", b"\x93\xa4open\x01", b"9" * 5000)
FIELDS: tuple[dict[Any, Any], ...] = (
    {b"foo": b"bar"},
    {b"kind": b"open", b"data": b'{"type":"open","worker_id":"x","history_version":1}'},
    {b"kind": b"nonsense", b"data": b"\xff"},
    {b"": b""},
)

ROWS = {
    "usage of an odd shape": "update messages set usage = '\"x\"' where {assistants}",
    "usage of odd numbers": (
        'update messages set usage = \'{{"input_tokens": -1e999, "output_tokens": "7"}}\' where {assistants}'
    ),
    "a part of an unknown type": (
        'update messages set content = \'[{{"type": "hologram", "beam": [1]}}]\' where {assistants}'
    ),
    "parts that are none": "update messages set content = '[1, null, \"x\", [], {{}}]' where {assistants}",
    "a text that is none": (
        'update messages set content = \'[{{"type": "text", "text": {{"deep": 1}}}}]\' where {assistants}'
    ),
    "an impossible position": "update messages set position = 'x-y' where {assistants}",
    "an unknown finish reason": "update messages set finish_reason = 'eclipse' where {assistants}",
}
"""What the CHECKs permit. Each is for the answers of a chat at rest, which the next turn has to read."""
RETRY = (
    "update chats set retry = '\"x\"', retry_at = statement_timestamp()"
    " where id = $1::text::uuid and status in ('running', 'interrupting')"
)
ASSISTANTS = "chat_id = $1::text::uuid and role = 'assistant'"


async def into_redis(servers: Servers, chat: str, draw: random.Random) -> str:
    """Spoil the stream of one chat, and say nonsense on its channels; what was done."""
    spoil = draw.choice(STREAM_GARBAGE)
    junk = draw.sample(JUNK, len(JUNK))

    def write() -> str:
        with redis.Redis.from_url(servers.redis_url) as connection:
            keys = list(connection.scan_iter(match=f"*{chat}*", count=1000))
            for key in keys:
                spoil(connection, key)
            channels = [name for name in connection.pubsub_channels() if chat.encode() in name]
            for name in channels:
                for payload in junk:
                    connection.publish(name, payload)
            what = spoil.__name__.strip("_").replace("_", " ")
            return f"{what} in {len(keys)} streams, junk on {len(channels)} channels"

    return await trio.to_thread.run_sync(write)


def _foreign_entries(connection: redis.Redis, key: bytes) -> None:
    """Behind what is there: at the very positions that its owner would take next."""
    for fields in FIELDS:
        for _ in range(TRIES_MAX):  # its owner may be quicker
            if _adds_behind(connection, key, fields):
                break


def _adds_behind(connection: redis.Redis, key: bytes, fields: dict[Any, Any]) -> bool:
    last = connection.xinfo_stream(key)["last-generated-id"] if connection.exists(key) else b"1-0"
    epoch, _, seq = last.partition(b"-")
    try:
        connection.xadd(key, fields, id=b"%s-%d" % (epoch, int(seq) + 1))
    except redis.ResponseError as error:
        if TAKEN not in str(error):
            raise
        return False
    return True


def _an_impossible_epoch(connection: redis.Redis, key: bytes) -> None:
    connection.xadd(key, FIELDS[1], id=f"{IMPOSSIBLE_EPOCH}-0")


def _the_time_for_a_position(connection: redis.Redis, key: bytes) -> None:
    connection.xadd(key, FIELDS[0])


def _a_wrong_type(connection: redis.Redis, key: bytes) -> None:
    connection.delete(key)
    connection.set(key, b"x")


STREAM_GARBAGE: tuple[Callable[[redis.Redis, bytes], None], ...] = (
    _foreign_entries,
    _an_impossible_epoch,
    _the_time_for_a_position,
    _a_wrong_type,
)


async def into_rows(servers: Servers, chat: str, draw: random.Random) -> str:
    """Spoil what Postgres has of the answers of one chat; what was done."""
    name = draw.choice(sorted(ROWS))
    await query(servers.database_url, ROWS[name].format(assistants=ASSISTANTS), chat)
    return name


async def into_retry(servers: Servers, chat: str) -> str:
    """Spoil the row of a chat that is being answered."""
    await query(servers.database_url, RETRY, chat)
    return "a retry of an odd shape"
