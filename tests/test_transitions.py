"""Apply, then tell: what a user's use case tells, and when it tells nothing."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from chat_states import assistant, call, text, user
from contract_worlds import OWNER, fence_of, memory_world

from chatcluster import tokens
from chatcluster.agents import agent_of
from chatcluster.chat import (
    CallState,
    DeleteQueued,
    Edit,
    FinishTurn,
    Interrupt,
    Promote,
    Rename,
    Send,
    SubmitToolResults,
    ToolResult,
)
from chatcluster.errors import ChatNotFound, Conflict, InvalidRequest, UsageLimitExceeded
from chatcluster.memory import MemoryAccounts, MemoryBroker, MemoryDatabase, MemoryPubSub
from chatcluster.notices import LIFECYCLES, Notices
from chatcluster.ports import TOKENS_CHANNEL, Chat, Idempotency, NewChat
from chatcluster.transitions import Transitions, issue_token, revoke_token

KEY, OTHER_KEY = Idempotency("key", b"digest"), Idempotency("other", b"digest")


class RecordingNotices(Notices):
    def __init__(self) -> None:
        super().__init__(MemoryPubSub(MemoryBroker()))
        self.told: list[str | None] = []

    def committed(self, chat: Chat, lifecycle: str | None = None, *, by_owner: bool = False) -> None:
        assert not by_owner
        assert lifecycle is None or lifecycle in LIFECYCLES
        self.told.append(lifecycle)


class Users:
    """Transitions on a memory store, and what they told."""

    def __init__(self) -> None:
        self.world = memory_world()
        self.notices = RecordingNotices()
        self.transitions = Transitions(self.world.store, self.notices)

    @property
    def told(self) -> list[str | None]:
        """What was told since this was last asked."""
        told, self.notices.told = self.notices.told, []
        return told

    async def busy(self) -> Chat:
        return await self.world.store.get(await self.world.chat("hello"))

    async def at_rest(self) -> Chat:
        await self.busy()
        claimed = await self.world.claim()
        outcome = await self.world.store.commit(fence_of(claimed.chat), FinishTurn((assistant("the answer"),)))
        return outcome.chat


@pytest.fixture
def users() -> Users:
    return Users()


async def test_a_new_chat_is_told_of_once_however_often_it_is_asked_for(users: Users) -> None:
    new = NewChat(uuid4(), OWNER, "", None, (user("hello"),))
    created = await users.transitions.create(new, KEY)
    again = await users.transitions.create(new, KEY)
    assert again.replayed
    assert again.chat.id == created.chat.id
    assert users.told == ["created"]


class Spent:
    """A ``LimitCheck`` for users who have spent all that there is."""

    async def excess(self, _: UUID) -> UsageLimitExceeded | None:
        return UsageLimitExceeded("all is spent")


async def test_what_was_accepted_stays_so_where_its_repeat_comes_when_all_is_spent(users: Users) -> None:
    """P1: whoever did not hear the first answer is not told that nothing was written."""
    chat = await users.at_rest()
    new = NewChat(uuid4(), OWNER, "", None, (user("hello"),))
    created = await users.transitions.create(new, KEY)
    sent = await users.transitions.apply(chat.id, Send(text("more")), owner_id=OWNER, idempotency=OTHER_KEY)
    spent = Transitions(users.world.store, users.notices, Spent())
    assert (await spent.create(new, KEY)).chat.id == created.chat.id
    again = await spent.apply(chat.id, Send(text("more")), owner_id=OWNER, idempotency=OTHER_KEY)
    assert (again.replayed, again.messages) == (True, sent.messages)
    for key in (None, Idempotency("new", b"digest")):
        with pytest.raises(UsageLimitExceeded):
            await spent.create(new, key)


async def test_a_message_behind_results_is_refused_as_any_other_where_all_is_spent(users: Users) -> None:
    """Its owner looks at limits before a step that results lead to, and not before one that a user's message does."""
    chat = await users.world.ask(call("a", CallState.CLIENT))
    spent = Transitions(users.world.store, users.notices, Spent())
    results = (ToolResult("a", "1"),)
    with pytest.raises(UsageLimitExceeded):
        await spent.apply(chat.id, SubmitToolResults(results, user("more")), owner_id=OWNER)
    assert len((await spent.apply(chat.id, SubmitToolResults(results), owner_id=OWNER)).messages) == 1


async def test_agents_spend_what_their_user_may_and_no_more(users: Users) -> None:
    chat = await users.world.ask(*(call(name, CallState.STARTED, effect="idempotent") for name in ("s1", "s2")))
    first, second = (agent_of(chat, call_id, "Count", None) for call_id in ("s1", "s2"))
    await users.transitions.spawn(first, "s1", agents_max=5)
    spent = Transitions(users.world.store, users.notices, Spent())
    with pytest.raises(UsageLimitExceeded):
        await spent.spawn(second, "s2", agents_max=5)
    assert (await spent.spawn(first, "s1", agents_max=5)).replayed, "it is there already"


async def test_a_command_is_told_of_once_however_often_it_is_repeated(users: Users) -> None:
    chat = await users.at_rest()
    for _ in range(2):
        await users.transitions.apply(chat.id, Send(text("more")), owner_id=OWNER, idempotency=KEY)
    assert users.told == ["status"]


async def test_each_command_tells_lists_what_concerns_them(users: Users) -> None:
    chat = await users.at_rest()
    first = (await users.world.history(chat.id))[0]

    async def told_of(command: Send | Edit | Interrupt | Rename | DeleteQueued | Promote) -> list[str | None]:
        await users.transitions.apply(chat.id, command, owner_id=OWNER)
        return users.told

    assert await told_of(Send(text("more"))) == ["status"]
    queued = await users.world.queue(chat.id, "later")
    assert await told_of(DeleteQueued(queued.id)) == [None]
    assert await told_of(Promote((await users.world.queue(chat.id, "now")).id)) == ["status"]
    assert await told_of(Edit(first.id, text("better"))) == ["status"]
    assert await told_of(Interrupt()) == ["status"]
    assert await told_of(Rename("new")) == ["title"]


async def test_what_is_refused_is_told_to_nobody(users: Users) -> None:
    chat = await users.busy()
    with pytest.raises(ChatNotFound):
        await users.transitions.apply(chat.id, Interrupt(), owner_id=uuid4())
    assert users.told == []


async def test_what_is_already_so_is_no_error_and_is_not_told_again(users: Users) -> None:
    before = await users.at_rest()
    archived = await users.transitions.archive(before)
    assert archived.archived
    assert users.told == ["archived"]
    assert await users.transitions.archive(archived) == archived
    assert (await users.transitions.archive(before)).archived, "by somebody else since the chat was read"
    assert users.told == []

    there_again = await users.transitions.unarchive(archived)
    assert users.told == ["unarchived"]
    assert not (await users.transitions.unarchive(archived)).archived, "by somebody else since the chat was read"
    assert await users.transitions.rename(there_again, there_again.title) == there_again
    assert users.told == []


async def test_a_busy_chat_is_stopped_first_and_cannot_be_unarchived_before_it_is_archived(users: Users) -> None:
    await users.busy()
    claimed = await users.world.claim()
    archiving = await users.transitions.archive(claimed.chat)
    assert archiving.archiving
    assert not archiving.archived
    assert users.told == ["status"]
    with pytest.raises(Conflict):
        await users.transitions.unarchive(archiving)
    assert users.told == []


class TestTokens:
    async def test_a_token_lets_its_user_in_until_it_is_revoked_and_replicas_are_told(self) -> None:
        """P9"""
        accounts = MemoryAccounts(MemoryDatabase())
        published: list[tuple[str, bytes]] = []

        async def revoke(token_id: str) -> bool:
            return await revoke_token(accounts, token_id, publish=lambda *message: published.append(message))

        issued = await issue_token(accounts, user=" alice ", admin=False, name="laptop")
        parsed = tokens.parse(issued.plaintext)
        assert parsed is not None
        account = await accounts.authenticate(parsed.token_id, parsed.digest)
        assert account is not None
        assert (account.name, issued.details.name) == ("alice", "laptop")

        assert await revoke(parsed.token_id)
        assert published == [(TOKENS_CHANNEL, parsed.token_id.encode())]
        assert await accounts.authenticate(parsed.token_id, parsed.digest) is None
        assert not await revoke(parsed.token_id)
        assert not await revoke("no\0token")
        assert len(published) == 1

    @pytest.mark.parametrize(("user", "name"), [("", "laptop"), ("a\u202eb", ""), ("alice", "x" * 101)])
    async def test_a_name_that_is_none_makes_no_user(self, user: str, name: str) -> None:
        database = MemoryDatabase()
        with pytest.raises(InvalidRequest):
            await issue_token(MemoryAccounts(database), user=user, admin=False, name=name)
        assert not database.accounts
