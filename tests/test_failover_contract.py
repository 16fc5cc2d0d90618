"""What every ``Store`` and ``Registry`` makes of a failover: the first write to a chat on another WAL timeline leaps.

It leaves behind all versions that may be lost, and lets the chat's readers start anew (P3, P10).
"""

from __future__ import annotations

import pytest
from chat_states import assistant, state_of, text, user
from contract_worlds import OWNER, World, fence_of, texts

from chatcluster.chat import (
    VERSIONS_FORGOTTEN_MAX,
    FinishTurn,
    Rename,
    Send,
    StartAttempt,
    Status,
    continued,
    leapt,
)
from chatcluster.errors import Moved
from chatcluster.ports import Chat, Idempotency

ANSWER = FinishTurn((assistant("the answer"),))


pytest_plugins = ["contract_fixtures"]


async def owned(world: World) -> Chat:
    """A chat in a tenure, all of it on timeline 1."""
    await world.write_on(1)
    await world.chat()
    return (await world.claim()).chat


def leap_of(before: Chat, after: Chat) -> tuple[int, bool]:
    """How many versions the chat went on, and whether that was a leap for all who read it."""
    base = before.snapshot_version + VERSIONS_FORGOTTEN_MAX
    begins_anew = after.reset_version == base and after.queue_version >= base
    return after.snapshot_version - before.snapshot_version, begins_anew


LEAP = (VERSIONS_FORGOTTEN_MAX + 1, True)
STEP = (1, False)


async def test_a_chat_knows_the_timeline_of_its_last_write_from_its_beginning(world: World) -> None:
    await world.write_on(3)
    chat_id = await world.chat()
    assert (await world.store.get(chat_id)).timeline == 3


async def test_a_users_write_on_another_timeline_leaps_and_the_next_does_not(world: World) -> None:
    chat = await owned(world)
    await world.write_on(2)
    first = (await world.send(chat.id, "and then?")).chat
    assert leap_of(chat, first) == LEAP
    assert first.queue_version == first.snapshot_version
    assert first.timeline == 2
    second = (await world.store.apply(chat.id, Rename("new"), owner_id=OWNER)).chat
    assert leap_of(first, second) == STEP


async def test_an_owner_goes_on_across_a_failover_and_its_commit_leaps(world: World) -> None:
    """P1, P2: also where it knows its chat, and could write in one statement. Its tenure and its history stand."""
    chat = await owned(world)
    await world.write_on(2)
    outcome = await world.store.commit(fence_of(chat), ANSWER, known=chat)
    assert leap_of(chat, outcome.chat) == LEAP
    assert texts(outcome.messages) == ["the answer"]
    assert outcome.messages[0].revision == outcome.chat.snapshot_version == outcome.chat.history_version
    assert outcome.ended is not None
    assert outcome.ended.revision == outcome.chat.snapshot_version
    assert [message.revision for message in await world.history(chat.id)][-1] == outcome.chat.snapshot_version


async def test_what_an_owner_has_written_after_the_failover_it_knows_again(world: World) -> None:
    chat = await owned(world)
    await world.write_on(2)
    started = (await world.store.commit(fence_of(chat), StartAttempt(2), known=chat)).chat
    assert leap_of(chat, started) == LEAP
    assert (started.epoch, started.history_version) == (chat.epoch, chat.history_version)
    outcome = await world.store.commit(fence_of(started), ANSWER, known=started)
    assert leap_of(started, outcome.chat) == STEP


async def test_a_commit_that_the_new_server_has_is_recognised_when_it_is_repeated(world: World) -> None:
    """P1: a repeat writes nothing, so it does not leap."""
    chat = await owned(world)
    first = await world.store.commit(fence_of(chat), ANSWER, known=chat)
    await world.write_on(2)
    repeat = await world.store.commit(fence_of(chat), ANSWER, known=chat)
    assert repeat.replayed
    assert repeat.chat == first.chat == await world.store.get(chat.id)


async def test_a_request_that_the_new_server_has_is_answered_as_before(world: World) -> None:
    """P1: and writes nothing."""
    chat = await owned(world)
    key = Idempotency("key", b"digest")
    first = await world.store.apply(chat.id, Send(text("again")), owner_id=OWNER, idempotency=key)
    await world.write_on(2)
    repeat = await world.store.apply(chat.id, Send(text("again")), owner_id=OWNER, idempotency=key)
    assert repeat.replayed
    assert await world.store.get(chat.id) == first.chat


async def test_a_claim_on_another_timeline_leaps(world: World) -> None:
    await world.write_on(1)
    created = await world.create(user("hello"))
    await world.write_on(2)
    claimed = (await world.claim()).chat
    assert leap_of(created.chat, claimed) == LEAP
    assert (claimed.attempt, claimed.timeline) == (1, 2)


async def test_p2_no_epoch_is_given_twice_though_a_failover_lost_it(world: World) -> None:
    """Not to another worker, nor to the same one: its own frames of then would be taken for those of now."""
    await world.write_on(1)
    created = (await world.create(user("hello"))).chat
    lost_epochs_max = created.epoch + VERSIONS_FORGOTTEN_MAX - 1
    await world.write_on(2)
    sent = (await world.send(created.id, "and?")).chat
    claimed = (await world.claim()).chat
    assert claimed.epoch == sent.reset_version + 1 > lost_epochs_max


async def test_p2_nor_by_the_very_write_that_finds_the_failover(world: World) -> None:
    await world.write_on(1)
    await world.create(user("hello"))
    await world.write_on(2)
    claimed = (await world.claim()).chat
    assert claimed.epoch == claimed.reset_version + 1 > VERSIONS_FORGOTTEN_MAX


async def test_a_leap_that_was_lost_itself_is_not_made_again(world: World) -> None:
    """Two failovers in a row: the second server has never heard of the first one's writes."""
    await world.write_on(1)
    created = (await world.create(user("hello"))).chat
    await world.write_on(4)
    claimed = (await world.claim()).chat
    assert claimed.snapshot_version == created.snapshot_version + 3 * VERSIONS_FORGOTTEN_MAX + 1
    await world.write_on(6)
    sent = (await world.send(created.id, "and?")).chat
    assert sent.snapshot_version == claimed.snapshot_version + 2 * VERSIONS_FORGOTTEN_MAX + 1


async def test_a_burial_on_another_timeline_leaps(world: World) -> None:
    chat = await owned(world)
    assert chat.worker_id is not None
    await world.write_on(2)
    burial = await world.registry.bury(chat.worker_id, None)
    assert burial is not None
    (freed,) = burial.freed
    assert leap_of(chat, freed) == LEAP
    assert freed.timeline == 2


async def test_to_raise_an_epoch_leaps_once_on_whatever_timeline(world: World) -> None:
    chat = await owned(world)
    assert chat.worker_id is not None
    await world.write_on(2)
    raised = await world.store.raise_epoch(chat.id, chat.worker_id, epoch=chat.epoch, above=9)
    assert leap_of(chat, raised) == (VERSIONS_FORGOTTEN_MAX, True)
    outcome = await world.store.commit(fence_of(raised), ANSWER, known=raised)
    assert leap_of(raised, outcome.chat) == STEP


async def test_p3_a_failover_that_loses_raised_versions_gives_none_of_them_again(world: World) -> None:
    """A chat whose stream was ahead of it goes on by many; what took over without that goes on by more."""
    chat = await owned(world)
    assert chat.worker_id is not None
    raised = await world.store.raise_epoch(chat.id, chat.worker_id, epoch=chat.epoch, above=9)
    lost = await world.store.commit(fence_of(raised), ANSWER, known=raised)
    assert raised.snapshot_version < lost.chat.snapshot_version < chat.snapshot_version + VERSIONS_FORGOTTEN_MAX


async def test_versions_of_a_lost_history_are_never_those_of_another(world: World) -> None:
    """P1: an owner that worked from a history which the new server does not have is told so for good."""
    chat = await owned(world)
    lost = chat.history_version + 1
    await world.write_on(2)
    for number in range(5):
        await world.send(chat.id, f"message {number}")
    await world.store.commit(fence_of(chat), ANSWER)
    fence = fence_of((await world.claim()).chat if (now := await world.store.get(chat.id)).worker_id is None else now)
    assert fence.history_version > lost + VERSIONS_FORGOTTEN_MAX / 2
    with pytest.raises(Moved):
        await world.store.commit(type(fence)(fence.chat_id, fence.worker_id, fence.epoch, lost), ANSWER)


async def test_a_server_that_does_not_tell_its_timeline_changes_nothing(world: World) -> None:
    """What was known stays known, so that a failover is noticed once a server tells again."""
    chat = await owned(world)
    await world.write_on(None)
    first = await world.store.commit(fence_of(chat), StartAttempt(2), known=chat)
    assert leap_of(chat, first.chat) == STEP
    second = (await world.send(chat.id, "more")).chat
    assert leap_of(first.chat, second) == STEP
    assert second.timeline == 1
    await world.write_on(2)
    assert leap_of(second, (await world.send(chat.id, "still more")).chat) == LEAP


async def test_a_chat_whose_timeline_is_not_known_learns_it_without_a_leap(world: World) -> None:
    """As one that the previous version has made."""
    await world.write_on(None)
    created = (await world.create(user("hello"))).chat
    assert created.timeline is None
    await world.write_on(5)
    claimed = (await world.claim()).chat
    assert leap_of(created, claimed) == STEP
    assert claimed.timeline == 5


def test_the_rule() -> None:
    chat = state_of(Status.WAITING, queue_version=9, reset_version=3, timeline=4)
    assert continued(chat, 4) is continued(chat, None) is chat
    after = continued(chat, 5)
    base = 10 + VERSIONS_FORGOTTEN_MAX
    assert (after.snapshot_version, after.reset_version, after.queue_version) == (base, base, base)
    assert (after.history_version, after.status, after.timeline) == (8, Status.WAITING, 5)
    assert leapt(chat, None).timeline == 4


def test_each_failover_leaps_above_what_the_one_before_may_have_lost() -> None:
    """Its leap as well, where that was lost."""
    chat = state_of(Status.WAITING, timeline=4)
    lost = continued(chat, 5)
    assert continued(chat, 6).snapshot_version == lost.snapshot_version + VERSIONS_FORGOTTEN_MAX
    assert continued(chat, 3).snapshot_version == lost.snapshot_version, "of another server, whose count is its own"
