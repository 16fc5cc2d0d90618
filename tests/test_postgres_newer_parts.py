"""What a newer version wrote does not stop an older one: both run side by side during a rolling upgrade (P4)."""

from __future__ import annotations

from uuid import uuid4

import pytest
from chat_states import user
from contract_worlds import OWNER
from postgres_sessions import execute, open_session

from chatcluster.parts import FrameKind, TextPart, unpack_frame
from chatcluster.ports import NewChat, Replica
from chatcluster.postgres import Database
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.store import PostgresStore


@pytest.mark.postgres
async def test_a_part_of_an_unknown_kind_is_left_out_and_keeps_no_chat_from_being_claimed(database: Database) -> None:
    store = PostgresStore(database)
    newer, plain = [(await store.create(NewChat(uuid4(), OWNER, "", None, (user("hello"),)))).chat for _ in range(2)]
    content = '[{"type": "hologram", "beams": 7}, {"type": "text", "text": "and words"}]'
    async with open_session(database, "newer version") as session:
        await execute(session, "UPDATE messages SET content = $2 WHERE chat_id = $1", newer.id, content)
    worker_id = uuid4()
    await PostgresRegistry(database).register(Replica(worker_id, "replica", "host:8100", "1", slots=4))

    claimed = await store.claim(worker_id, free_slots=10, batch=10)

    histories = {}
    for one in claimed:
        page = await store.read_history(one.chat.id, after=0, page_bytes=1 << 20, message_bytes_max=1 << 20)
        histories[one.chat.id] = [message.parts for message in page.messages]
    assert histories == {newer.id: [(TextPart("and words"),)], plain.id: [(TextPart("hello"),)]}
    assert [message.parts for message in (await store.read(newer.id)).messages] == [(TextPart("and words"),)]


def test_a_frame_of_an_unknown_kind_is_one_to_pass_over() -> None:
    assert unpack_frame(b'3-7 hologram {"type": "hologram"}').kind is FrameKind.UNKNOWN
