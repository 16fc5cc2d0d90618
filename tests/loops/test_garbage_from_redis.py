"""Redis is never the truth (P8): what cannot be understood there, say of a newer version, stops nobody."""

from __future__ import annotations

import pytest

from chatcluster.ports import hint_channel, live_channel, owner_channel, worker_channel
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
        assert b"waiting" in await watcher.receive()
    assert reader.history == chat.history == ["user: hello", "assistant: Half an an answer"]
    assert chat.epoch == 1
