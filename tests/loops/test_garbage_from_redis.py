"""Redis is never the truth (P8): what cannot be understood there, say of a newer version, stops nobody."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from chat_states import user

from chatcluster.notices import Lifecycle
from chatcluster.parts import encode
from chatcluster.ports import NewChat, hint_channel, live_channel, owner_channel, worker_channel
from loops.cluster_world import OWNER, World

NESTED = b'{"x":' + b"[" * 20_000
GARBAGE = [
    b"", b"\xff\xfe", b"{}", b'{"chat_id":"x","status":"of another version"}', b"1-2", b"1-2 unheard-of {}",
    NESTED, b"1-2 attempt " + NESTED, b"1-0 open " + NESTED, b"1-2 committed \xff",
]  # fmt: skip


@pytest.mark.parametrize("payload", GARBAGE, ids=lambda payload: repr(payload[:40]))
@pytest.mark.parametrize("channel", ["hints to the owner", "hints to readers", "live frames", "lists"])
async def test_a_message_that_nobody_understands_stops_neither_replica_nor_reader(
    world: World, channel: str, payload: bytes
) -> None:
    owner, other = await world.replica(), await world.replica(slots=0)
    chat, call, reader = await world.answering(owner)
    channels = {
        "hints to the owner": worker_channel(owner.worker_id),
        "hints to readers": hint_channel(chat.id),
        "live frames": live_channel(chat.id),
        "lists": owner_channel(OWNER),
    }
    async with other.watches.subscribe(OWNER) as watcher:
        other.pubsub.publish(channels[channel], payload)
        await world.settle()
        call.answer(" an answer")
        await reader.until_status("waiting")
        told = b""
        while b"waiting" not in told:
            told += await watcher.receive()
    assert reader.history == chat.history == ["user: hello", "assistant: Half an an answer"]
    assert chat.epoch == 1


async def test_what_others_publish_on_a_list_names_no_event_and_shows_nobody_elses_chat(world: World) -> None:
    """P9, and whatever a newer version calls a change: a name from Redis is no line of an event stream."""
    replica = await world.replica(slots=0)
    mine = await replica.create("hello")
    other = NewChat(uuid4(), uuid4(), "", None, (user("hello"),))
    theirs = (await replica.store.create(other)).chat
    async with replica.watches.subscribe(OWNER) as watcher:
        for chat, kind in ((theirs, "status"), (mine, "x\nevent: deleted"), (mine, "hologram")):
            replica.pubsub.publish(owner_channel(OWNER), encode(Lifecycle(kind, chat.id, 1000)))
        await world.settle()
        told = await watcher.receive()
    assert set(re.findall(rb"^event: (.*)$", told, re.MULTILINE)) == {b"status"}
    assert str(mine.id).encode() in told
    assert str(theirs.id).encode() not in told
