"""Who is told of which turn, in every ``Push``: noted with the end of the turn, claimed by one, told once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
import trio
from chat_states import assistant, call
from conftest import execute_sql
from contract_worlds import OWNER, World, fence_of, open_world

from chatcluster import tokens
from chatcluster.agents import agent_of
from chatcluster.chat import CallState, ErrorInfo, Fail, FinishInterruption, FinishTurn, Interrupt
from chatcluster.memory.push import MemoryPush
from chatcluster.ports import Account, Chat
from chatcluster.ports.push import NOTICE_SECONDS_MAX, SUBSCRIPTIONS_MAX, Push, PushNotice, Subscription
from chatcluster.postgres.push import PostgresPush


@dataclass
class Place:
    world: World
    push: Push
    later: Callable[[float], Awaitable[None]]
    """Let so many seconds pass for what is due."""

    async def account(self, name: str = "ada") -> Account:
        """With a token of its own."""
        account = await self.world.accounts.ensure_user(name, admin=False)
        made = tokens.generate()
        await self.world.accounts.add_token(
            account.user_id, token_id=made.token_id, name="laptop", secret_digest=made.digest, expires_at=None
        )
        return Account(account.user_id, account.name, account.admin, made.token_id)

    async def subscribed(self, account: Account, endpoint: str = "https://push.example/1") -> Subscription:
        new = Subscription(
            id=uuid4(),
            user_id=account.user_id,
            token_id=account.token_id,
            endpoint=endpoint,
            p256dh=b"p" * 65,
            auth=b"a" * 16,
        )
        return await self.push.subscribe(new)

    async def claimed_chat(self, account: Account) -> Chat:
        worker = await self.world.worker()
        await self.world.chat(owner_id=account.user_id)
        return (await self.world.claim(worker)).chat

    async def finish(self, chat: Chat) -> None:
        await self.world.store.commit(fence_of(chat), FinishTurn((assistant("done"),)))

    async def claim(self, seconds: float = 60.0) -> tuple[PushNotice, ...]:
        return await self.push.claim(limit=10, seconds=seconds)


pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def place(url: str | None) -> AsyncIterator[Place]:
    async with open_world(url) as world:
        database = world.store._database  # type: ignore[attr-defined]

        async def later(seconds: float) -> None:
            if url is None:
                now = database.clock
                database.clock = lambda: now() + seconds
                return
            for column in ("due_at", "created_at"):
                await trio.to_thread.run_sync(
                    execute_sql, url, f"UPDATE push_notices SET {column} = {column} - interval '{seconds} seconds'"
                )

        yield Place(world, MemoryPush(database) if url is None else PostgresPush(database), later)


async def test_a_turn_that_finished_is_told_to_each_browser_of_its_user_and_to_nobody_else(place: Place) -> None:
    ada, bob = await place.account(), await place.account("bob")
    first = await place.subscribed(ada)
    second = await place.subscribed(ada, "https://push.example/2")
    await place.subscribed(bob, "https://push.example/3")
    chat = await place.claimed_chat(ada)
    assert await place.claim() == (), "not before the turn has ended"
    await place.finish(chat)
    notices = await place.claim()
    assert [(one.subscription, one.chat_id, one.outcome, one.attempts) for one in notices] == [
        (first, chat.id, "finished", 1),
        (second, chat.id, "finished", 1),
    ]
    assert notices[0].title == chat.title


async def test_a_turn_that_failed_is_told(place: Place) -> None:
    ada = await place.account()
    await place.subscribed(ada)
    chat = await place.claimed_chat(ada)
    await place.world.store.commit(fence_of(chat), Fail(ErrorInfo("upstream", "no")))
    assert [notice.outcome for notice in await place.claim()] == ["error"]


async def test_a_turn_that_was_interrupted_is_told_to_nobody(place: Place) -> None:
    ada = await place.account()
    await place.subscribed(ada)
    chat = await place.claimed_chat(ada)
    stopped = (await place.world.store.apply(chat.id, Interrupt(), owner_id=ada.user_id)).chat
    await place.world.store.commit(fence_of(stopped), FinishInterruption())
    assert await place.claim() == ()


async def test_the_turns_of_agents_are_told_to_nobody(place: Place) -> None:
    ada = await place.account()
    await place.subscribed(Account(OWNER, "owner", admin=False, token_id=ada.token_id))
    chat = await place.world.ask(call("s", CallState.STARTED, effect="idempotent"))
    await place.world.store.spawn(agent_of(chat, "s", "Count the birds", None), "s", agents_max=1)
    agent = (await place.world.claim()).chat
    assert agent.id != chat.id
    await place.finish(agent)
    assert await place.claim() == ()


async def test_a_turn_that_ended_before_somebody_subscribed_is_not_told(place: Place) -> None:
    ada = await place.account()
    await place.finish(await place.claimed_chat(ada))
    await place.subscribed(ada)
    assert await place.claim() == ()


async def test_a_browser_is_told_as_long_as_its_token_is_valid(place: Place) -> None:
    ada = await place.account()
    await place.subscribed(ada)
    chat = await place.claimed_chat(ada)
    await place.world.accounts.revoke(ada.token_id)
    await place.finish(chat)
    assert await place.claim() == ()


async def test_a_notice_is_claimed_by_one_until_the_claim_is_over(place: Place) -> None:
    """Whoever claimed it died before it was sent, or before it was said that it was."""
    ada = await place.account()
    await place.subscribed(ada)
    await place.finish(await place.claimed_chat(ada))
    (notice,) = await place.claim(seconds=60)
    assert await place.claim() == ()
    await place.later(61)
    (again,) = await place.claim(seconds=60)
    assert (again.id, again.attempts) == (notice.id, 2)
    await place.push.told(notice.id)
    await place.later(61)
    assert await place.claim() == ()


async def test_a_notice_that_is_postponed_is_due_again_in_time(place: Place) -> None:
    ada = await place.account()
    await place.subscribed(ada)
    await place.finish(await place.claimed_chat(ada))
    (notice,) = await place.claim()
    await place.push.postpone(notice.id, seconds=30)
    await place.later(29)
    assert await place.claim() == ()
    await place.later(2)
    assert [one.id for one in await place.claim()] == [notice.id]


async def test_what_is_nobodys_to_tell_takes_nobodys_place(place: Place) -> None:
    """P10: chats that were deleted right behind their turns."""
    ada, bob = await place.account(), await place.account("bob")
    await place.subscribed(ada)
    await place.subscribed(bob, "https://push.example/2")
    for _ in range(11):
        chat = await place.claimed_chat(ada)
        await place.finish(chat)
        await place.world.store.delete(chat.id, owner_id=ada.user_id)
    theirs = await place.claimed_chat(bob)
    await place.finish(theirs)
    assert [one.chat_id for one in await place.claim()] == [theirs.id]


async def test_users_are_told_by_turns(place: Place) -> None:
    """P10: one has many notices, for a push service that says nothing perhaps."""
    ada, bob = await place.account(), await place.account("bob")
    await place.subscribed(ada)
    await place.subscribed(bob, "https://push.example/2")
    for _ in range(11):
        await place.finish(await place.claimed_chat(ada))
    theirs = await place.claimed_chat(bob)
    await place.finish(theirs)
    claimed = [one.chat_id for one in await place.claim()]
    assert len(claimed) == 10
    assert theirs.id in claimed


async def test_what_could_not_be_told_for_an_hour_is_told_no_more(place: Place) -> None:
    ada = await place.account()
    await place.subscribed(ada)
    await place.finish(await place.claimed_chat(ada))
    await place.later(NOTICE_SECONDS_MAX + 1)
    assert await place.claim() == ()


async def test_a_browser_that_is_gone_takes_its_notices_with_it(place: Place) -> None:
    ada = await place.account()
    subscription = await place.subscribed(ada)
    await place.finish(await place.claimed_chat(ada))
    await place.push.forget(subscription.id)
    assert await place.claim() == ()
    assert await place.push.subscriptions(ada.user_id) == ()


async def test_an_endpoint_has_one_subscription_which_is_that_of_the_last_who_made_it(place: Place) -> None:
    ada, bob = await place.account(), await place.account("bob")
    first = await place.subscribed(ada)
    second = await place.subscribed(bob)
    assert second.id == first.id
    assert await place.push.subscriptions(ada.user_id) == ()
    assert await place.push.subscriptions(bob.user_id) == (second,)


async def test_the_oldest_subscription_makes_way_for_one_too_many(place: Place) -> None:
    ada = await place.account()
    made = [await place.subscribed(ada, f"https://push.example/{number}") for number in range(SUBSCRIPTIONS_MAX + 2)]
    assert [one.id for one in await place.push.subscriptions(ada.user_id)] == [one.id for one in made[2:]]


async def test_a_subscription_is_removed_by_its_user_alone(place: Place) -> None:
    ada = await place.account()
    subscription = await place.subscribed(ada)
    assert not await place.push.unsubscribe(UUID(int=1), subscription.id)
    assert await place.push.unsubscribe(ada.user_id, subscription.id)
    assert not await place.push.unsubscribe(ada.user_id, subscription.id)
