"""What nobody can read any more goes for good, a while later, in small steps, and nobody notices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing
from chat_states import assistant, text, user
from contract_worlds import OWNER, fence_of, texts
from postgres_sessions import execute, fetchval, open_session

from chatcluster.chat import CommitStep, Edit, ErrorInfo, Fail, FinishTurn, Insert, OwnerCommand
from chatcluster.config import Settings
from chatcluster.content import FilePart
from chatcluster.errors import StoreUnavailable
from chatcluster.parts import NewMessage, Role, ToolCallPart
from chatcluster.ports import Chat, Idempotency, NewChat, Replica
from chatcluster.ports.responses import StoredResponse
from chatcluster.ports.series import Minute
from chatcluster.postgres import Database, Session, open_database, purge
from chatcluster.postgres.accounts import PostgresAccounts
from chatcluster.postgres.files import PostgresFiles
from chatcluster.postgres.purge import Purge
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.responses import PostgresResponses
from chatcluster.postgres.series import PostgresSeries
from chatcluster.postgres.store import PostgresStore

pytestmark = pytest.mark.postgres

KEEP = Settings.of(deleted_keep_days=7)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(purge, "BATCH_ROWS", 3)
    monkeypatch.setattr(purge, "PAGE_CHATS", 2)


async def edited_chat(store: PostgresStore, *words: str) -> Chat:
    """A chat whose history was edited away from its first message on."""
    messages = tuple(user(word) for word in words)
    chat = (await store.create(NewChat(uuid4(), OWNER, "", None, messages))).chat
    first = (await store.read(chat.id)).messages[0]
    return (await store.apply(chat.id, Edit(first.id, text("better")), owner_id=OWNER)).chat


async def days_pass(observer: Session, days: float) -> None:
    for table, column in (
        ("messages", "deleted_at"),
        ("tokens", "revoked_at"),
        ("tokens", "expires_at"),
        ("idempotency_keys", "created_at"),
        ("turns", "ended_at"),
    ):
        await execute(observer, f"UPDATE {table} SET {column} = {column} - interval '{days} days'")


async def count(observer: Session, table: str) -> int:
    return int(await fetchval(observer, f"SELECT count(*) FROM {table}"))


def round_of(database: Database, settings: Settings = KEEP) -> Purge:
    return Purge(database, settings, uuid4)


async def test_messages_that_were_edited_away_go_after_their_time_and_no_others(
    database: Database, observer: Session
) -> None:
    store = PostgresStore(database)
    chats = [await edited_chat(store, *"abcdefgh") for _ in range(5)]
    untouched = (await store.create(NewChat(uuid4(), OWNER, "", None, (user("kept"),)))).chat
    assert await count(observer, "messages") == 5 * 9 + 1
    await round_of(database).go_round()
    assert await count(observer, "messages") == 5 * 9 + 1
    await days_pass(observer, 8)
    await round_of(database, Settings.of(deleted_keep_days=0)).go_round()
    assert await count(observer, "messages") == 5 * 9 + 1, "0 keeps them for ever"
    await round_of(database).go_round()
    assert await count(observer, "messages") == 5 + 1
    for chat in chats:
        assert texts((await store.read(chat.id)).messages) == ["better"]
    assert texts((await store.read(untouched.id)).messages) == ["kept"]


async def test_whoever_reads_or_comes_back_is_told_the_same_as_before(database: Database, observer: Session) -> None:
    """P3: that a cursor is from before the edit is known by the chat's reset version, not by what is purged."""
    store = PostgresStore(database)
    chat = await edited_chat(store, "a", "b")
    before = await store.read(chat.id), await store.read(chat.id, after_version=1)
    await days_pass(observer, 8)
    await round_of(database).go_round()
    assert (await store.read(chat.id), await store.read(chat.id, after_version=1)) == before
    assert before[0].chat.reset_version > 1


async def test_turns_that_ended_go_after_their_time(database: Database, observer: Session) -> None:
    store = PostgresStore(database)
    chat = await edited_chat(store, "a")  # while it was answered, so that a turn ended
    assert await count(observer, "turns") == 1
    await round_of(database).go_round()
    assert await count(observer, "turns") == 1
    await days_pass(observer, 8)
    first = (await store.read(chat.id)).messages[0]
    await store.apply(chat.id, Edit(first.id, text("best")), owner_id=OWNER)
    await round_of(database).go_round()
    assert await count(observer, "turns") == 1, "the one that ended just now"


async def test_a_message_whose_call_is_open_stays(database: Database, observer: Session) -> None:
    store = PostgresStore(database)
    worker_id = uuid4()
    await PostgresRegistry(database).register(Replica(worker_id, "r", "h:1", "1", slots=1))
    await store.create(NewChat(uuid4(), OWNER, "", None, (user("x"),)))
    (claimed,) = await store.claim(worker_id, free_slots=1, batch=1)
    call = NewMessage(Role.ASSISTANT, (ToolCallPart("call-1", "search", "{}"),), finish_reason="tool_calls")
    await store.commit(fence_of(claimed.chat), CommitStep((call,)))
    await execute(observer, "UPDATE messages SET deleted_at = now() - interval '9 days' WHERE role = 'assistant'")
    await execute(observer, "UPDATE chats SET reset_version = history_version")
    await round_of(database).go_round()
    assert await count(observer, "messages") == 2
    await execute(observer, "UPDATE tool_calls SET state = 'done', finished_at = now()")
    await round_of(database).go_round()
    assert await count(observer, "messages") == 1
    assert await count(observer, "tool_calls") == 0


async def test_tokens_that_are_of_no_use_go_and_those_that_are_stay(database: Database, observer: Session) -> None:
    accounts = PostgresAccounts(database)
    user_id = (await accounts.ensure_user("ada", admin=False)).user_id
    for number in range(8):
        await accounts.add_token(user_id, token_id=f"token{number}", name="", secret_digest=bytes(32), expires_at=None)
    for number in range(5):
        await accounts.revoke(f"token{number}")
    await execute(observer, "UPDATE tokens SET expires_at = now() WHERE id = 'token5'")
    await execute(observer, "UPDATE tokens SET expires_at = now() + interval '30 days' WHERE id = 'token6'")
    await round_of(database).go_round()
    assert await count(observer, "tokens") == 8
    await days_pass(observer, 8)
    await round_of(database).go_round()
    assert {token.id for token in await accounts.tokens()} == {"token6", "token7"}


async def test_keys_go_when_a_repeat_would_be_a_new_request(database: Database, observer: Session) -> None:
    store = PostgresStore(database)
    for number in range(5):
        chat = NewChat(uuid4(), OWNER, "", None, (user("x"),))
        await store.create(chat, Idempotency(f"key-{number}", bytes(32)))
    await round_of(database).go_round()
    assert await count(observer, "idempotency_keys") == 5
    await days_pass(observer, 1.01)
    await round_of(database, Settings.of(deleted_keep_days=0)).go_round()
    assert await count(observer, "idempotency_keys") == 0


async def test_what_somebody_has_locked_is_left_alone_and_nobody_waits(database: Database, observer: Session) -> None:
    chat = await edited_chat(PostgresStore(database), *"abcdefgh")
    await days_pass(observer, 8)
    async with open_session(database, "other") as other:
        await execute(other, "BEGIN")
        await execute(other, "SELECT FROM chats WHERE id = $1 FOR UPDATE", chat.id)
        await execute(other, "SELECT FROM messages WHERE deleted_at IS NOT NULL ORDER BY id LIMIT 2 FOR UPDATE")
        with trio.fail_after(60):
            await round_of(database).go_round()
        assert await count(observer, "messages WHERE deleted_at IS NOT NULL") == 2
        await execute(other, "ROLLBACK")
    await round_of(database).go_round()
    assert await count(observer, "messages WHERE deleted_at IS NOT NULL") == 0


async def test_a_kind_that_takes_longer_than_a_statement_may_keeps_no_other(
    database: Database, observer: Session, database_url: str
) -> None:
    chat = await edited_chat(PostgresStore(database), *"ab")
    await days_pass(observer, 8)
    await execute(
        observer,
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'begin perform pg_sleep(60); return old; end'",
    )
    slow = "CREATE TRIGGER slow BEFORE DELETE ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION dawdle()"
    await execute(observer, slow)
    await execute(
        observer,
        "INSERT INTO idempotency_keys (owner_id, key, request_digest, created_at)"
        " VALUES ($1, 'old', '', now() - interval '2 days')",
        chat.owner_id,
    )
    async with open_database(Settings.of(database_url=database_url, statement_timeout_seconds=1.0)) as hasty:
        await round_of(hasty).go_round()
    assert await count(observer, "idempotency_keys") == 1
    assert await count(observer, "messages WHERE deleted_at IS NOT NULL") == 0


async def test_one_replica_does_it_and_when_it_is_gone_the_next_one(database: Database) -> None:
    registry = PostgresRegistry(database)
    workers = [uuid4() for _ in range(3)]
    for worker_id in workers:
        await registry.register(Replica(worker_id, "r", "h:1", "1", slots=1))

    async def eldest() -> list[UUID]:
        return [worker_id for worker_id in workers if await database.autocommit(purge._is_eldest, worker_id)]

    assert await eldest() == workers[:1]
    await registry.retire(workers[0])
    assert await eldest() == workers[1:2]


class FailingDatabase:
    """Fails each time in another way."""

    def __init__(self) -> None:
        self.asked = 0

    async def autocommit(self, *_: object) -> object:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        raise StoreUnavailable("away") if self.asked % 2 else ValueError("a row that nobody foresaw")


async def test_no_failure_of_it_ends_a_replica(autojump_clock: trio.testing.MockClock) -> None:
    database = FailingDatabase()
    with trio.move_on_after(10 * purge.ROUND_SECONDS_MAX):
        await Purge(database, KEEP, uuid4).run()  # type: ignore[arg-type]
    assert database.asked >= 10


async def test_an_answer_is_still_recognised_when_what_it_replaced_is_purged(
    database: Database, observer: Session
) -> None:
    """P1: a commit whose outcome was unknown is repeated while the purge goes on."""
    store = PostgresStore(database)
    worker_id = uuid4()
    await PostgresRegistry(database).register(Replica(worker_id, "r", "h:1", "1", slots=1))
    await edited_chat(store, "a", "b")
    await days_pass(observer, 8)
    (claimed,) = await store.claim(worker_id, free_slots=1, batch=1)
    answer = FinishTurn((assistant("the answer"),))
    await store.commit(fence_of(claimed.chat), answer)
    await round_of(database).go_round()
    assert (await store.commit(fence_of(claimed.chat), answer)).replayed


async def test_files_that_no_chat_has_go_after_a_day_and_uploads_that_broke_off_after_an_hour(
    database: Database, observer: Session
) -> None:
    files, store = PostgresFiles(database), PostgresStore(database)

    async def stored() -> UUID:
        file_id = await files.begin(OWNER, "a", size_bytes=1, bytes_max=0)
        await files.append(file_id, 0, b"x")
        await files.finish(file_id, media_type="text/plain", size_bytes=1, sha256="00" * 32)
        return file_id

    held, free = await stored(), await stored()
    await files.begin(OWNER, "broke off", size_bytes=1, bytes_max=0)
    parts = (FilePart(held, "a", "text/plain", 1),)
    await store.create(NewChat(uuid4(), OWNER, "", None, (NewMessage(Role.USER, parts),)))
    for hours, left in ((0.9, 3), (0.2, 2), (22, 2), (1, 1), (1000, 1)):
        await execute(observer, f"UPDATE files SET created_at = created_at - interval '{hours} hours'")
        await round_of(database).go_round()
        assert await count(observer, "files") == left, hours
    assert set(await files.find(OWNER, [held, free])) == {held}
    assert await count(observer, "file_chunks") == 1


async def test_what_charts_show_goes_after_a_week(database: Database, observer: Session) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    series = PostgresSeries(database)
    await series.add(tuple(Minute(at=now - timedelta(days=days), turns=1) for days in (1, 6, 8, 9)))
    await round_of(database).go_round()
    assert await count(observer, "minutes") == 2


async def test_a_chat_that_was_made_for_one_answer_goes_ten_minutes_after_it_came_to_rest(
    database: Database, observer: Session
) -> None:
    store, responses = PostgresStore(database), PostgresResponses(database)
    chats = {}
    key = Idempotency("due", b"digest")
    for name in ("due", "forgotten", "fresh", "busy", "kept", "stored", "gone on"):
        at_rest = name != "busy"
        new = NewChat(uuid4(), OWNER, name, None, (user("hello"),), at_rest=at_rest)
        made = await store.create(new, key if name == "due" else None)
        assert made.message is not None
        await responses.add(StoredResponse(made.chat.id, made.message.id, 1, "{}", transient=name != "kept"))
        chats[name] = made.chat.id
        if name == "forgotten":
            assert await responses.remove(made.chat.id, made.message.id, owner_id=OWNER)
    for name in ("stored", "gone on"):
        sent = await store.apply(chats[name], Insert((user("and?"),)), owner_id=OWNER)
        assert sent.message is not None
        if name == "stored":
            await responses.add(StoredResponse(chats[name], sent.message.id, sent.message.revision, "{}"))
    await execute(observer, "UPDATE responses SET created_at = created_at - interval '11 minutes'")
    old = ", ".join(f"'{chats[name]}'" for name in chats if name != "fresh")
    await execute(observer, f"UPDATE chats SET updated_at = updated_at - interval '11 minutes' WHERE id IN ({old})")
    await round_of(database).go_round()
    left = [chat.title for chat in await store.list_chats(OWNER, archived=False, limit=10, after=None)]
    assert sorted(left) == ["busy", "fresh", "gone on", "kept", "stored"]
    assert await count(observer, "responses") == 6
    gone = await fetchval(observer, "SELECT array_agg(chat_id) FROM deleted_chats")
    assert set(gone) == {chats["due"], chats["forgotten"]}
    assert await store.answered(OWNER, key) is None, "a repeat is answered anew"


async def test_how_turns_ended_is_kept_for_the_responses_that_say_so(database: Database, observer: Session) -> None:
    store, responses = PostgresStore(database), PostgresResponses(database)
    worker_id = uuid4()
    await PostgresRegistry(database).register(Replica(worker_id, "r", "host:1", "1", slots=4))
    commands: list[OwnerCommand] = [FinishTurn((assistant("hi"),)), Fail(ErrorInfo("auth", "the key is wrong"))]
    for is_asked_for in (True, False):
        for command in commands:
            made = await store.create(NewChat(uuid4(), OWNER, "", None, (user("hello"),)))
            assert made.message is not None
            if is_asked_for:
                await responses.add(StoredResponse(made.chat.id, made.message.id, made.message.revision, "{}"))
            (claimed,) = await store.claim(worker_id, free_slots=1, batch=1)
            await store.commit(fence_of(claimed.chat), command)
    await days_pass(observer, 8)
    await round_of(database).go_round()
    assert await count(observer, "turns") == 1
    assert await fetchval(observer, "SELECT outcome FROM turns") == "error"
