"""What every ``Registry`` and ``Accounts`` does: leases, burial, session locks; users and their tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
from chat_states import assistant
from contract_worlds import World, fence_of

from chatcluster.chat import FinishTurn, Release, Status
from chatcluster.errors import Fenced, LeaseLost, NotFound, StoreUnavailable
from chatcluster.ports import NO_ROW, Burial, Death, OwnedChat, Replica, Silence, TokenScope, hint_of

ANSWER = FinishTurn((assistant("the answer"),))


def told(burial: Burial | None) -> object:
    """The burial, with what notices say of the chats that it freed."""
    return burial and (tuple(map(hint_of, burial.freed)), burial.gone, burial.left)


pytest_plugins = ["contract_fixtures"]


# --- rows and leases --------------------------------------------------------------------------


async def test_a_registered_replica_is_listed_with_its_chats_and_the_age_of_its_heartbeat(world: World) -> None:
    worker = uuid4()
    await world.registry.register(Replica(worker, "one", "10.0.0.1:8100", "0.1.0", slots=4))
    await world.chat()
    await world.claim(worker)
    await world.age_lease(worker, 2.0)
    (replica,) = await world.registry.replicas()
    assert (replica.worker_id, replica.name, replica.address) == (worker, "one", "10.0.0.1:8100")
    assert (replica.version, replica.slots, replica.draining, replica.chats) == ("0.1.0", 4, False, 1)
    assert replica.started_at is not None
    assert 2.0 <= replica.heartbeat_age_seconds < 5.0
    await world.registry.renew(worker, draining=True)
    (replica,) = await world.registry.replicas()
    assert replica.draining
    assert replica.heartbeat_age_seconds < 2.0


async def test_a_renewal_tells_the_worker_what_it_owns_and_who_else_there_is(world: World) -> None:
    """P4: with every hint lost, an owner learns of an interrupt or a takeover with its next heartbeat."""
    workers = sorted([await world.worker() for _ in range(3)])
    chat_id = await world.chat()
    assert (await world.registry.renew(workers[1], draining=False)).owned == ()
    chat = (await world.claim(workers[1])).chat
    renewal = await world.registry.renew(workers[1], draining=False)
    expected = OwnedChat(chat_id, chat.epoch, chat.snapshot_version, chat.history_version, Status.RUNNING)
    assert renewal.owned == (expected,)
    assert renewal.ring == tuple(workers)
    await world.store.commit(fence_of(chat), ANSWER)
    assert (await world.registry.renew(workers[1], draining=False)).owned == ()


async def test_a_worker_without_a_row_has_lost_its_lease(world: World) -> None:
    """P2"""
    worker = await world.worker()
    await world.registry.bury(worker, None)
    with pytest.raises(LeaseLost):
        await world.registry.renew(worker, draining=False)
    with pytest.raises(LeaseLost):
        await world.registry.renew(uuid4(), draining=False)


async def test_a_replica_that_retires_leaves_no_chat_behind(world: World) -> None:
    """P6"""
    worker = await world.worker()
    chat_id = await world.chat()
    chat = (await world.claim(worker)).chat
    (freed,) = await world.registry.retire(worker)
    assert (freed.id, freed.worker_id, freed.epoch) == (chat_id, None, chat.epoch)
    assert freed.snapshot_version == chat.snapshot_version + 1
    assert hint_of(freed) == hint_of(await world.store.get(chat_id))
    assert await world.registry.replicas() == ()
    assert await world.registry.retire(worker) == ()
    assert (await world.claim()).chat.epoch == chat.epoch + 1


# --- burial -----------------------------------------------------------------------------------


async def test_a_burial_frees_the_chats_fences_the_dead_and_leaves_others_alone(world: World) -> None:
    """P2, P4"""
    dead, alive = await world.worker(), await world.worker()
    chat_id = await world.chat()
    chat = (await world.claim(dead)).chat
    await world.chat()
    other = (await world.claim(alive)).chat
    buried = await world.registry.bury(dead, None)
    assert buried is not None
    assert told(buried) == told(Burial((await world.store.get(chat_id),), gone=True))
    with pytest.raises(Fenced):
        await world.store.commit(fence_of(chat), ANSWER)
    assert await world.store.claim(dead, free_slots=1, batch=1) == ()
    taken = await world.claim(alive)
    assert (taken.chat.id, taken.chat.epoch, taken.chat.status) == (chat_id, chat.epoch + 1, Status.RUNNING)
    await world.store.commit(fence_of(other), ANSWER)


async def token_of(world: World, worker: UUID) -> str:
    return (await world.registry.heartbeats())[worker].token


async def test_a_heartbeat_has_another_token_after_each_renewal_and_after_nothing_else(world: World) -> None:
    """P4: by the token alone an observer tells whether a replica lives, and it has nothing to do with any clock."""
    worker = await world.worker()
    tokens = [await token_of(world, worker)]
    for draining in (False, False, True):
        await world.registry.renew(worker, draining=draining)
        tokens.append(await token_of(world, worker))
    assert len(set(tokens)) == 4
    await world.chat()
    await world.claim(worker)
    await world.registry.bury(worker, Silence(tokens[0]))
    assert await token_of(world, worker) == tokens[-1]


async def test_the_age_of_a_heartbeat_and_the_number_of_locks_are_told_as_well(world: World) -> None:
    worker = await world.worker()
    await world.age_lease(worker, 7.0)
    await world.have_session_locks(worker, 1)
    (heartbeat,) = (await world.registry.heartbeats()).values()
    assert 7.0 <= heartbeat.age_seconds < 10.0
    assert heartbeat.session_locks == 1


async def test_heartbeats_tell_the_timeline_of_the_server(world: World) -> None:
    """P2: what was seen before a failover says nothing of renewals that it took back."""
    await world.worker()
    (heartbeat,) = (await world.registry.heartbeats()).values()
    assert heartbeat.timeline == 1


async def test_a_burial_by_lease_looks_at_the_heartbeat_again(world: World) -> None:
    """P2: a heartbeat that came just in time keeps the chats where they are."""
    worker = await world.worker()
    await world.chat()
    chat = (await world.claim(worker)).chat
    seen = Silence(await token_of(world, worker))
    await world.registry.renew(worker, draining=False)
    assert await world.registry.bury(worker, seen) is None
    assert await world.store.get(chat.id) == chat
    burial = await world.registry.bury(worker, Silence(await token_of(world, worker)))
    assert told(burial) == told(Burial((await world.store.get(chat.id),), gone=True))


async def test_a_row_that_seems_abandoned_is_buried_only_while_its_locks_are_free(world: World) -> None:
    worker = await world.worker()
    seen = Silence(await token_of(world, worker), unlocked=True)
    for lock in range(2):
        async with world.registry.hold(worker, lock):
            assert await world.registry.bury(worker, seen) is None
    assert await world.registry.bury(worker, seen) == Burial(gone=True)


async def test_a_death_that_was_seen_on_another_server_is_none(world: World) -> None:
    """P2: after a failover the locks are let go of on the old primary, because their holders move."""
    worker = await world.worker()
    here = (await world.registry.renew(worker, draining=False)).server
    assert await world.registry.bury(worker, Death(here + ", which was started at another time")) is None
    assert await world.registry.bury(worker, Death(here)) == Burial(gone=True)


async def test_chats_of_a_worker_without_a_row_are_found_and_freed(world: World) -> None:
    """P4"""
    worker = await world.worker()
    chat_id = await world.chat()
    await world.claim(worker)
    assert await world.registry.bury(worker, NO_ROW) is None, "it has a row"
    async with world.lock_row(chat_id):
        await world.registry.bury(worker, None)
    assert await token_of(world, worker) == ""
    burial = await world.registry.bury(worker, NO_ROW)
    assert told(burial) == told(Burial((await world.store.get(chat_id),)))
    assert await world.registry.heartbeats() == {}


async def test_a_chat_that_somebody_holds_delays_itself_alone(world: World) -> None:
    """P10: the others are freed at once, and it is when it is let go."""
    worker = await world.worker()
    chat_ids = [await world.chat() for _ in range(5)]
    await world.store.claim(worker, free_slots=5, batch=5)
    async with world.lock_row(chat_ids[2]):
        with trio.fail_after(60):
            burial = await world.registry.bury(worker, None)
        assert burial is not None
        assert {chat.id for chat in burial.freed} == {*chat_ids} - {chat_ids[2]}
        assert (burial.gone, burial.left) == (True, 1)
        assert await world.registry.bury(worker, NO_ROW) == Burial(left=1)
    burial = await world.registry.bury(worker, NO_ROW)
    assert told(burial) == told(Burial((await world.store.get(chat_ids[2]),)))


async def test_a_replicas_row_that_somebody_holds_does_not_keep_its_chats(world: World) -> None:
    """P10: the row is deleted later."""
    worker = await world.worker()
    chat_id = await world.chat()
    await world.claim(worker)
    seen = Silence(await token_of(world, worker))
    async with world.lock_row(worker):
        with trio.fail_after(60):
            assert await world.registry.bury(worker, Silence("another")) is None
            burial = await world.registry.bury(worker, seen)
        assert told(burial) == told(Burial((await world.store.get(chat_id),), left=1))
        assert await world.registry.bury(worker, seen) == Burial(left=1)
    assert await world.registry.bury(worker, seen) == Burial(gone=True)


async def test_a_replica_that_retires_leaves_a_chat_that_somebody_holds_to_the_others(world: World) -> None:
    """P10"""
    worker = await world.worker()
    chat_ids = [await world.chat() for _ in range(2)]
    await world.store.claim(worker, free_slots=2, batch=2)
    async with world.lock_row(chat_ids[0]):
        assert [chat.id for chat in await world.registry.retire(worker)] == [chat_ids[1]]
    burial = await world.registry.bury(worker, NO_ROW)
    assert burial is not None
    assert [chat.id for chat in burial.freed] == [chat_ids[0]]


async def test_a_worker_is_buried_once(world: World) -> None:
    worker = await world.worker()
    await world.chat()
    await world.claim(worker)
    seen = Silence(await token_of(world, worker))
    burials: list[Burial] = []

    async def bury() -> None:
        burials.append(await world.registry.bury(worker, seen) or Burial())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(bury)
    assert sorted(len(burial.freed) for burial in burials) == [0, 0, 0, 0, 1]
    assert sum(burial.gone for burial in burials) == 1


async def test_a_burial_and_a_claim_at_once_leave_no_chat_with_a_dead_owner(world: World) -> None:
    """P4"""
    worker = await world.worker()
    chat_ids = [await world.chat() for _ in range(4)]

    async def claim() -> None:
        while await world.store.claim(worker, free_slots=1, batch=1):
            pass

    async def bury() -> None:
        while (burial := await world.registry.bury(worker, None)) is not None and burial.left:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(claim)
        nursery.start_soon(bury)
    assert {(await world.store.get(chat_id)).worker_id for chat_id in chat_ids} == {None}


async def test_chats_at_rest_are_none_of_the_buriers_business(world: World) -> None:
    worker = await world.worker()
    chat_id = await world.chat()
    finished = await world.store.commit(fence_of((await world.claim(worker)).chat), ANSWER)
    assert await world.registry.bury(worker, None) == Burial(gone=True)
    assert await world.store.get(chat_id) == finished.chat
    assert await world.registry.bury(worker, None) is None


async def test_a_released_chat_is_not_taken_for_an_orphan(world: World) -> None:
    await world.chat()
    await world.store.commit(fence_of((await world.claim()).chat), Release())
    assert [heartbeat.token != "" for heartbeat in (await world.registry.heartbeats()).values()] == [True]


# --- session locks ----------------------------------------------------------------------------


class Watcher:
    """A watch in the background, and what it found."""

    def __init__(self, world: World, worker: UUID) -> None:
        self._world = world
        self._worker = worker
        self.found: list[Death | None] = []
        self.ended = trio.Event()

    async def run(self) -> None:
        self.found.append(await self._world.registry.watch(self._worker))
        self.ended.set()


async def test_the_death_of_a_process_is_proven_to_who_saw_it_alive(world: World) -> None:
    """P4: a watcher knows of a SIGKILL as soon as the server does."""
    worker = await world.worker()
    watcher = Watcher(world, worker)
    with trio.fail_after(60):
        async with (
            world.registry.hold(worker, 0) as first,
            world.registry.hold(worker, 1) as second,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(watcher.run)
            await world.lock_awaited()
            assert watcher.found == []
            await world.kill_sessions()
            await first.wait_lost()
            await second.wait_lost()
    here = (await world.registry.renew(worker, draining=False)).server
    assert watcher.found == [Death(here)]
    assert (first.server, second.server) == (here, here)


async def test_a_connection_that_breaks_is_no_death(world: World) -> None:
    """P10: the other lock is held still, so the process lives."""
    worker = await world.worker()
    watcher = Watcher(world, worker)
    with trio.fail_after(60):
        async with (
            world.registry.hold(worker, 1),
            trio.open_nursery() as nursery,
            world.registry.hold(worker, 0) as lock,
        ):
            nursery.start_soon(watcher.run)
            await world.lock_awaited()
            await world.break_session(worker, 0)
            await lock.wait_lost()
    assert watcher.found == [None]


async def test_a_watch_waits_on_where_another_lock_than_the_first_breaks(world: World) -> None:
    """P10"""
    worker = await world.worker()
    watcher = Watcher(world, worker)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, world.registry.hold(worker, 0):
            async with world.registry.hold(worker, 1) as lock:
                nursery.start_soon(watcher.run)
                await world.lock_awaited()
                await world.break_session(worker, 1)
                await lock.wait_lost()
            async with held_again(world, worker, 1):
                await world.lock_awaited()
                assert watcher.found == []
                await world.break_session(worker, 0)
                await watcher.ended.wait()
    assert watcher.found == [None], "the first breaks now, and the other one was taken again long ago"


@asynccontextmanager
async def held_again(world: World, worker: UUID, lock: int) -> AsyncIterator[None]:
    """As a replica does it: who watched the lock that broke may have it for a moment."""
    async with AsyncExitStack() as stack:
        while True:
            with suppress(StoreUnavailable):
                await stack.enter_async_context(world.registry.hold(worker, lock))
                break
        yield


async def test_a_lock_that_was_taken_again_when_the_other_breaks_is_no_death(world: World) -> None:
    """P4: two connections broke one after the other, and the process lives."""
    worker = await world.worker()
    watcher = Watcher(world, worker)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, world.registry.hold(worker, 1) as other:
            async with world.registry.hold(worker, 0) as lock:
                nursery.start_soon(watcher.run)
                await world.lock_awaited()
                await world.break_session(worker, 0)
                await lock.wait_lost()
            async with held_again(world, worker, 0):
                await world.break_session(worker, 1)
                await other.wait_lost()
                await watcher.ended.wait()
    assert watcher.found == [None]


async def test_a_watch_needs_to_see_all_locks_held(world: World) -> None:
    """One that is not taken again yet may be taken in a moment: its freedom is no death."""
    worker = await world.worker()
    with trio.fail_after(60):
        async with world.registry.hold(worker, 0):
            assert await world.registry.watch(worker) is None


async def test_a_replica_of_the_previous_version_holds_one_lock_and_is_watched_by_it(world: World) -> None:
    """P6: a rolling upgrade costs no quick takeover."""
    worker = await world.worker()
    await world.have_session_locks(worker, 1)
    watcher = Watcher(world, worker)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, world.registry.hold(worker, 0):
            nursery.start_soon(watcher.run)
            await world.lock_awaited()
    assert [found is not None for found in watcher.found] == [True]


async def test_a_lock_that_was_free_from_the_start_proves_nothing(world: World) -> None:
    """A database that restarted, or a replica that has just come, buries nobody."""
    with trio.fail_after(60):
        assert await world.registry.watch(await world.worker()) is None
        assert await world.registry.watch(uuid4()) is None


async def test_a_lock_can_be_taken_again_after_its_session_was_lost(world: World) -> None:
    worker = await world.worker()
    with trio.fail_after(60):
        async with world.registry.hold(worker, 0) as lock:
            await world.kill_sessions()
            await lock.wait_lost()
        async with held_again(world, worker, 0), world.registry.hold(worker, 1), trio.open_nursery() as nursery:
            nursery.start_soon(world.registry.watch, worker)
            await world.lock_awaited()
            nursery.cancel_scope.cancel()


async def test_who_watches_does_not_keep_the_lock(world: World) -> None:
    worker = await world.worker()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, world.registry.hold(worker, 0), world.registry.hold(worker, 1):
            nursery.start_soon(world.registry.watch, worker)
            await world.lock_awaited()
        for lock in range(2):
            async with world.registry.hold(worker, lock):
                pass


# --- accounts ---------------------------------------------------------------------------------

DIGEST = b"a digest".ljust(32)


async def test_a_token_authenticates_its_user_until_it_is_revoked(world: World) -> None:
    """P9"""
    account = await world.accounts.ensure_user("ann", admin=True)
    token = await world.accounts.add_token(
        account.user_id, token_id="t1", name="laptop", secret_digest=DIGEST, expires_at=None
    )
    assert (token.user_id, token.user_name, token.name, token.expires_at) == (account.user_id, "ann", "laptop", None)
    assert await world.accounts.authenticate("t1", DIGEST) == msgspec.structs.replace(account, token_id="t1")
    assert await world.accounts.authenticate("t1", b"another".ljust(32)) is None
    assert await world.accounts.authenticate("t2", DIGEST) is None
    (listed,) = await world.accounts.tokens()
    assert (listed.id, listed.user_name) == ("t1", "ann")
    assert await world.accounts.revoke("t1") is True
    assert await world.accounts.revoke("t1") is False
    assert await world.accounts.authenticate("t1", DIGEST) is None
    assert await world.accounts.tokens() == ()


async def test_a_token_has_the_scopes_that_it_was_made_with_or_none_and_all(world: World) -> None:
    """P9"""
    account = await world.accounts.ensure_user("ann", admin=True)
    made = {"all": None, "two": ("chats", "mcp"), "of a later version": ("chats", "new")}
    for token_id, scopes in made.items():
        token = await world.accounts.add_token(
            account.user_id, token_id=token_id, name="", secret_digest=DIGEST, expires_at=None, scopes=scopes
        )
        assert token.scopes == scopes
        found = await world.accounts.authenticate(token_id, DIGEST)
        assert found is not None
        assert found.scopes == scopes
        assert [found.may(scope) for scope in (TokenScope.CHATS, TokenScope.ADMIN)] == [True, scopes is None]
    assert {token.id: token.scopes for token in await world.accounts.tokens()} == made


async def test_an_expired_token_is_none(world: World) -> None:
    """P9"""
    account = await world.accounts.ensure_user("ann", admin=False)
    token = await world.accounts.add_token(
        account.user_id, token_id="t1", name="", secret_digest=DIGEST, expires_at=None
    )
    for token_id, hours in (("past", -1), ("future", 1)):
        expires_at = token.created_at + timedelta(hours=hours)
        await world.accounts.add_token(
            account.user_id, token_id=token_id, name="", secret_digest=DIGEST, expires_at=expires_at
        )
    assert await world.accounts.authenticate("past", DIGEST) is None
    found = await world.accounts.authenticate("future", DIGEST)
    assert found is not None
    assert (found.user_id, found.token_id) == (account.user_id, "future")
    assert found.expires_at is not None, "who is signed in may be told until when"


async def test_a_user_is_made_once_and_keeps_its_rights(world: World) -> None:
    made = []

    async def ensure() -> None:
        made.append(await world.accounts.ensure_user("ann", admin=False))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ensure)
    assert len(set(made)) == 1
    assert await world.accounts.ensure_user("ann", admin=True) == made[0]
    assert await world.accounts.ensure_user("bob", admin=True) != made[0]


async def test_a_token_for_a_user_who_does_not_exist_is_refused(world: World) -> None:
    with pytest.raises(NotFound, match="no such user"):
        await world.accounts.add_token(uuid4(), token_id="t", name="", secret_digest=bytes(32), expires_at=None)
