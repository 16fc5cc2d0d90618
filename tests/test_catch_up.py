"""A subscriber's first events, page by page, whenever its reader is cancelled in between."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import pytest
import trio
from chat_states import text
from chat_values import chat_at_work

from chatcluster.catch_up import LARGE_BYTES, CatchUp, CatchUps
from chatcluster.parts import BEGINNING, Cursor, EndedTurn, Message, Position, QueuedMessage, Role
from chatcluster.ports import NewerMessages, Store
from chatcluster.preview import Preview
from chatcluster.recent import RecentEntries
from chatcluster.shown import Snapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LARGE = "x" * LARGE_BYTES
CHAT = chat_at_work(epoch=9, snapshot_version=9, history_version=9, reset_version=4, queue_version=2)
MESSAGES = (
    Message(1, Role.USER, text(LARGE), 5, NOW),
    Message(2, Role.ASSISTANT, text("no"), 6, NOW, finish_reason="stop"),
    Message(3, Role.USER, text(LARGE), 7, NOW),
    Message(4, Role.ASSISTANT, text("yes"), 9, NOW, finish_reason="stop"),
)
TURNS = (EndedTurn(1, "finished", 1, 3), EndedTurn(2, "finished", 1, 6), EndedTurn(4, "finished", 1, 9))
QUEUE = (QueuedMessage(7, text(LARGE), NOW, None),)
CURSORS = {
    "from the beginning": BEGINNING,
    "behind a rewrite": Cursor(2, Position(1, 1)),
    "in the middle": Cursor(5, Position(1, 1)),
}


class History:
    """Each message on a page of its own, as where all are large."""

    async def read_messages(self, *_: object, after_id: int, turns_after: int, **__: object) -> NewerMessages:
        await trio.lowlevel.checkpoint()
        later = [message for message in MESSAGES if message.id > after_id]
        next_revision = later[1].revision if len(later) > 1 else None
        turns = [turn for turn in TURNS if turn.revision > turns_after]
        told = tuple(turn for turn in turns if next_revision is None or turn.revision < next_revision)
        return NewerMessages(tuple(later[:1]), next_revision, told)


def begun(cursor: Cursor) -> CatchUp:
    forgotten = RecentEntries(1)
    forgotten.begin(9)
    snapshot = Snapshot(CHAT, 9, QUEUE, (), forgotten, Preview().now())
    return CatchUp(CHAT.id, CatchUps(cast(Store, History())), cursor, snapshot)


async def rest_of(catch_up: CatchUp) -> list[bytes]:
    pieces = list[bytes]()
    while not catch_up.complete:
        pieces += await catch_up.page()
    return pieces


@pytest.mark.parametrize("begins", CURSORS)
async def test_p1_a_page_that_is_cancelled_anywhere_is_told_whole_the_next_time(begins: str) -> None:
    expected = b"".join(await rest_of(begun(CURSORS[begins])))
    assert expected.count(LARGE.encode()) == 3, "two messages and the queue"
    for pages in range(6):
        for steps in range(8):
            catch_up = begun(CURSORS[begins])
            told = list[bytes]()
            for _ in range(pages):
                told += [] if catch_up.complete else await catch_up.page()
            told += [] if catch_up.complete else await _cancelled(catch_up, steps)
            told += await rest_of(catch_up)
            assert b"".join(told) == expected, f"page {pages}, cancelled after {steps} steps"


async def _cancelled(catch_up: CatchUp, steps: int) -> list[bytes]:
    """What a page tells that is cancelled after so many steps of the loop: all or nothing."""
    told = list[bytes]()

    async def cancel(scope: trio.CancelScope) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel, scope)
            told += await catch_up.page()
    return told
