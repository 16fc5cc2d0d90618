"""Whatever is stored of one chat, as far as the schema lets it in: every other chat goes on (P10)."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import trio
from chat_states import assistant, text, user
from contract_worlds import OWNER, fence_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres_sessions import execute, fetchval, open_session

from chatcluster.chat import ErrorInfo, Fail, FinishTurn, Send, Status
from chatcluster.config import Settings
from chatcluster.errors import HistoryTooLarge, Unreadable
from chatcluster.parts import TextPart, encode, text_of
from chatcluster.ports import Chat, Idempotency, NewChat, Replica
from chatcluster.postgres import Database, Session, open_database
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.rows import UNREADABLE_TEXT
from chatcluster.postgres.store import PostgresStore

pytestmark = pytest.mark.postgres

PAGE = {"after": 0, "page_bytes": 1 << 20, "message_bytes_max": 1 << 20}
ODD_JSON = (
    "null", "true", "0", "1e999", "-1", str(2**70), '"\\ud800"', '"\\u0000"', "[" * 1500 + "]" * 1500,
    '{"attempt": 1, "attempt": "x"}', f'{{"attempt": {2**70}, "delay_ms": 0, "error": "", "kind": ""}}',
    '{"code": 3, "message": null}', '{"input_tokens": "many"}', f'{{"input_tokens": {2**70}}}',
)  # fmt: skip
ODD_CONTENT = (
    "[]", "[null]", '["x"]', '[{"type": "hologram"}]', '[{"type": "text"}]', '[{"type": "text", "text": 7}]',
    '[{"type": "text", "text": "\\ud800"}]', '[{"type": "text", "text": "\\u0000"}]', "[" * 1500 + "]" * 1500,
)  # fmt: skip
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
JSON = st.sampled_from(ODD_JSON) | VALUES.map(json.dumps)
CONTENT = st.sampled_from(ODD_CONTENT) | st.lists(VALUES, max_size=4).map(json.dumps)
TEXT = (
    st.none()
    | st.text(max_size=20).map(lambda words: words.replace("\0", ""))
    | st.sampled_from(("1-", "x-y", "-1--1"))
)
MOMENTS = st.sampled_from(("infinity", "-infinity", "4000-01-01 BC", "20000-01-01", "2026-01-01"))
COLUMNS = st.one_of(
    st.tuples(st.just("UPDATE messages SET content = $2::text::json WHERE chat_id = $1"), CONTENT),
    st.tuples(st.just("UPDATE messages SET usage = $2::text::json WHERE chat_id = $1"), JSON),
    st.tuples(st.just("UPDATE messages SET position = $2 WHERE chat_id = $1"), TEXT),
    st.tuples(st.just("UPDATE messages SET model = $2 WHERE chat_id = $1"), TEXT),
    st.tuples(st.just("UPDATE messages SET created_at = $2::text::timestamptz WHERE chat_id = $1"), MOMENTS),
    st.tuples(st.just("UPDATE queued_messages SET content = $2::text::json WHERE chat_id = $1"), CONTENT),
    st.tuples(st.just("UPDATE queued_messages SET created_at = $2::text::timestamptz WHERE chat_id = $1"), MOMENTS),
    st.tuples(st.just("UPDATE chats SET retry = $2::text::json, retry_at = now() WHERE id = $1"), JSON),
    st.tuples(
        st.just("UPDATE chats SET retry = '{}', retry_at = $2::text::timestamptz WHERE id = $1"),
        MOMENTS,
    ),
    st.tuples(st.just("UPDATE chats SET created_at = $2::text::timestamptz WHERE id = $1"), MOMENTS),
    st.tuples(st.just("UPDATE chats SET updated_at = $2::text::timestamptz WHERE id = $1"), MOMENTS),
    st.tuples(st.just("UPDATE chats SET title = coalesce($2, '') WHERE id = $1"), TEXT),
    st.tuples(
        st.just("UPDATE chats SET content_bytes = $2::text::bigint WHERE id = $1"), st.sampled_from(("-5", str(2**62)))
    ),
)


async def register(database: Database) -> UUID:
    worker_id = uuid4()
    await PostgresRegistry(database).register(Replica(worker_id, "replica", "host:8100", "1", slots=4))
    return worker_id


async def create(store: PostgresStore, *queued: str) -> Chat:
    chat = (await store.create(NewChat(uuid4(), OWNER, "", None, (user("hello"),)))).chat
    for words in queued:
        await store.apply(chat.id, Send(text(words)), owner_id=OWNER)
    return chat


async def end(store: PostgresStore, chat: Chat) -> None:
    await store.commit(fence_of(chat), Fail(ErrorInfo("generic", "it failed")), known=chat)


@given(stored=st.lists(COLUMNS, min_size=1, max_size=3))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_whatever_is_stored_of_one_chat_every_other_goes_on(database_url: str, stored: list[tuple[str, Any]]) -> None:
    async def run() -> None:
        async with (
            open_database(Settings.of(database_url=database_url)) as database,
            open_session(database, "by hand") as other,
        ):
            await others_go_on(database, other, stored)

    trio.run(run)


async def others_go_on(database: Database, other: Session, stored: list[tuple[str, Any]]) -> None:
    store, worker_id = PostgresStore(database), await register(database)
    bystander, odd = await create(store), await create(store, "queued")
    for statement, value in stored:
        try:
            await execute(other, statement, odd.id, value)
        except asyncpg.DataError:
            continue  # the server does not take it

    claimed = {one.chat.id: one.chat for one in await store.claim(worker_id, free_slots=10, batch=10)}

    assert set(claimed) == {bystander.id, odd.id}
    assert len((await store.read_history(bystander.id, **PAGE)).messages) == 1
    with suppress(Unreadable):
        assert encode((await store.read_history(odd.id, **PAGE)).messages)
    chats = await store.list_chats(OWNER, archived=None, limit=10, after=None)
    assert encode(chats)
    assert len(chats) >= 2
    changes = await store.list_changed([OWNER], seconds=60.0, as_of=None, after=None, limit=10)
    assert len(changes.chats) >= 1
    await store.commit(fence_of(claimed[bystander.id]), FinishTurn((assistant("yes"),)))
    await end(store, claimed[odd.id])
    for chat in (bystander, odd):
        await execute(other, "DELETE FROM chats WHERE id = $1", chat.id)


# --- one form after the other -----------------------------------------------------------------


async def test_a_usage_of_an_unknown_form_is_left_out(database: Database, other: Session) -> None:
    store = PostgresStore(database)
    chat = await create(store)
    await execute(other, "UPDATE messages SET usage = '\"x\"', position = 'nowhere' WHERE chat_id = $1", chat.id)
    (message,) = (await store.read_history(chat.id, **PAGE)).messages
    assert (message.usage, message.position, message.parts) == (None, None, text("hello"))
    assert (await store.read(chat.id)).messages == (message,)


@pytest.mark.parametrize("usage", ['"x"', "[[]]", '{"attempts": 1.5}', '{"attempts": "\\ud800"}'])
async def test_what_a_turn_cost_is_left_out_where_it_is_of_an_unknown_form(
    database: Database, other: Session, usage: str
) -> None:
    store = PostgresStore(database)
    chat = await create(store)
    await execute(
        other,
        "INSERT INTO turns (chat_id, revision, message_id, outcome, duration_ms, usage)"
        " SELECT chat_id, revision, id, 'finished', 1, $2::text::json FROM messages WHERE chat_id = $1",
        chat.id,
        usage,
    )
    (turn,) = (
        await store.read_newer(
            chat.id, after_version=0, after_id=0, queue_version=0, limit=10, bytes_max=1 << 20, turns_after=0
        )
    ).turns
    assert (turn.outcome, turn.usage) == ("finished", None)


async def test_a_history_with_a_message_that_cannot_be_read_is_not_asked_about_but_shown(
    database: Database, other: Session
) -> None:
    store = PostgresStore(database)
    chat = await create(store)
    surrogate = '[{"type": "text", "text": "\\ud800"}]'
    await execute(other, "UPDATE messages SET content = $2::text::json WHERE chat_id = $1", chat.id, surrogate)
    with pytest.raises(Unreadable):
        await store.read_history(chat.id, **PAGE)
    page = await store.list_messages(chat.id, owner_id=OWNER, after=0, limit=10, bytes_max=1 << 20)
    assert [message.parts for message in page.messages] == [text("\ufffd")]


async def test_a_message_of_an_unknown_role_has_its_place_where_messages_are_shown(
    database: Database, other: Session
) -> None:
    store = PostgresStore(database)
    chat = await create(store, "queued")
    (claimed,) = await store.claim(await register(database), free_slots=1, batch=1)
    await store.commit(fence_of(claimed.chat), FinishTurn((assistant("yes"),)))
    for rule in ("messages_role_check", "finish_reason_is_the_assistants"):
        await execute(other, f"ALTER TABLE messages DROP CONSTRAINT {rule}")
    await execute(other, "UPDATE messages SET role = 'hologram' WHERE chat_id = $1 AND role = 'assistant'", chat.id)
    shown = await store.list_messages(chat.id, owner_id=OWNER, after=0, limit=10, bytes_max=1 << 20)
    assert [text_of(message.parts) for message in shown.messages] == ["hello", UNREADABLE_TEXT, "queued"]
    assert (await store.read(chat.id)).messages == shown.messages
    with pytest.raises(Unreadable):
        await store.read_history(chat.id, **PAGE)


async def test_a_message_that_was_inserted_by_hand_is_bounded_as_well(database: Database, other: Session) -> None:
    store = PostgresStore(database)
    chat = await create(store)
    content = encode(text("x" * (2 << 20))).decode()
    await execute(other, "UPDATE messages SET content = $2::text::json WHERE chat_id = $1", chat.id, content)
    with pytest.raises(HistoryTooLarge):
        await store.read_history(chat.id, **PAGE)


async def test_a_message_of_very_many_parts_is_not_decoded(database: Database, other: Session) -> None:
    """P10: it would hold up the event loop."""
    store = PostgresStore(database)
    chat = await create(store)
    parts = encode([TextPart("")] * 50_000).decode()
    await execute(other, "UPDATE messages SET content = $2::text::json WHERE chat_id = $1", chat.id, parts)
    with pytest.raises(HistoryTooLarge):
        await store.read_history(chat.id, after=0, page_bytes=1 << 20, message_bytes_max=8 << 20)


async def test_a_retry_that_cannot_be_read_is_over_with_the_next_attempt(database: Database, other: Session) -> None:
    store = PostgresStore(database)
    chat = await create(store)
    await execute(other, "UPDATE chats SET retry = '[1]', retry_at = now() WHERE id = $1", chat.id)
    (claimed,) = await store.claim(await register(database), free_slots=1, batch=1)
    assert claimed.chat.retry is not None
    assert claimed.chat.retry.kind == "unreadable"
    finished = await store.commit(fence_of(claimed.chat), FinishTurn((assistant("yes"),)), known=claimed.chat)
    assert finished.chat.retry is None


async def test_a_queued_message_that_cannot_be_read_keeps_its_place_and_says_so(
    database: Database, other: Session
) -> None:
    store = PostgresStore(database)
    chat = await create(store, "first", "second")
    await execute(
        other,
        "UPDATE queued_messages SET content = '[7]' WHERE chat_id = $1 AND content::text LIKE '%first%'",
        chat.id,
    )
    (claimed,) = await store.claim(await register(database), free_slots=1, batch=1)
    promoted = await store.commit(fence_of(claimed.chat), FinishTurn((assistant("yes"),)))
    (part,) = promoted.messages[-1].parts
    assert isinstance(part, TextPart)
    assert "cannot be read" in part.text


async def test_a_row_that_the_server_cannot_read_ends_in_an_error_and_the_others_are_claimed(
    database: Database, other: Session
) -> None:
    """P10: as where a block of the table's file is damaged."""
    store = PostgresStore(database)
    damaged, plain = await create(store), await create(store)
    await damage(other, damaged.id, "new.worker_id IS NOT NULL")

    (claimed,) = await store.claim(await register(database), free_slots=10, batch=10)

    assert claimed.chat.id == plain.id
    ended = await store.get(damaged.id)
    assert ended.status is Status.ERROR
    assert ended.last_error is not None
    assert ended.last_error.code == "unreadable"


async def test_a_row_that_cannot_be_written_either_is_passed_over(database: Database, other: Session) -> None:
    """P10"""
    store, worker_id = PostgresStore(database), await register(database)
    damaged, plain = await create(store), await create(store)
    await damage(other, damaged.id, "true")
    (claimed,) = await store.claim(worker_id, free_slots=10, batch=10)
    assert claimed.chat.id == plain.id
    assert await store.claim(worker_id, free_slots=10, batch=10) == ()


async def test_a_damaged_column_of_one_chat_keeps_no_other_chat_of_its_worker_from_being_freed(
    database: Database, other: Session
) -> None:
    """P10"""
    store, worker_id = PostgresStore(database), await register(database)
    damaged, plain = await create(store), await create(store)
    assert len(await store.claim(worker_id, free_slots=10, batch=10)) == 2
    await damage_retry(other, damaged.id)

    burial = await PostgresRegistry(database).bury(worker_id, None)

    assert burial is not None
    assert {chat.id for chat in burial.freed} == {damaged.id, plain.id}
    (claimed,) = await store.claim(await register(database), free_slots=10, batch=10)
    assert claimed.chat.id == plain.id


async def test_a_damaged_column_of_one_chat_ends_no_list(database: Database, other: Session) -> None:
    """P10: and the chat has its place in it, so that pages follow one another."""
    store = PostgresStore(database)
    chats = [await create(store) for _ in range(4)]
    await damage_retry(other, chats[2].id)

    first = await store.list_chats(OWNER, archived=None, limit=2, after=None)
    second = await store.list_chats(OWNER, archived=None, limit=2, after=first[-1].id)
    changes = await store.list_changed([OWNER], seconds=60.0, as_of=None, after=None, limit=10)

    assert [chat.id for chat in (*first, *second)] == [chat.id for chat in reversed(chats)]
    assert {chat.id for chat in changes.chats} == {chat.id for chat in chats}
    damaged = await store.get(chats[2].id)
    assert (damaged.status, damaged.retry) == (Status.RUNNING, None)
    assert (await store.details(damaged.id)).chat == damaged
    assert "cannot be read" in damaged.title
    assert first[0].title == chats[3].title


async def test_a_chat_in_a_state_of_a_newer_version_is_shown_as_one_that_this_version_does_not_know(
    database: Database, other: Session
) -> None:
    """P10: in its place of each list, with its history; and no transition is made of what nobody understands."""
    store = PostgresStore(database)
    chats = [await create(store) for _ in range(3)]
    await execute(other, "ALTER TABLE chats DROP CONSTRAINT chats_status_check")
    await execute(other, "UPDATE chats SET status = 'dreaming', claimable_since = null WHERE id = $1", chats[1].id)

    shown = await store.get(chats[1].id)
    listed = await store.list_chats(OWNER, archived=None, limit=3, after=None)
    read = await store.read_newer(shown.id, after_version=0, after_id=0, queue_version=0, limit=10, bytes_max=1 << 20)

    assert shown.status is Status.ERROR
    assert shown.last_error is not None
    assert shown.last_error.code == "unreadable"
    assert [chat.id for chat in listed] == [chat.id for chat in reversed(chats)]
    assert read.chat == shown
    assert len(read.messages) == 1
    with pytest.raises(Unreadable):
        await store.apply(shown.id, Send(text("more")), owner_id=OWNER)


async def test_a_message_of_a_role_of_a_newer_version_has_its_place_in_what_is_shown(
    database: Database, other: Session
) -> None:
    store = PostgresStore(database)
    chat = await create(store)
    await execute(other, "ALTER TABLE messages DROP CONSTRAINT messages_role_check")
    await execute(other, "UPDATE messages SET role = 'dreamer' WHERE chat_id = $1", chat.id)
    page = await store.list_messages(chat.id, owner_id=OWNER, after=0, limit=10, bytes_max=1 << 20)
    ((part,),) = [message.parts for message in page.messages]
    assert isinstance(part, TextPart)
    assert "cannot be read" in part.text
    with pytest.raises(Unreadable):
        await store.read_history(chat.id, **PAGE)


async def test_an_answer_of_a_newer_version_is_not_given_again_and_nothing_is_done_twice(
    database: Database, other: Session
) -> None:
    store, key = PostgresStore(database), Idempotency("key", b"d" * 32)
    new = NewChat(uuid4(), OWNER, "", None, (user("hello"),))
    await store.create(new, key)
    await execute(other, "UPDATE idempotency_keys SET response = '{\"dream\": 1}'")
    with pytest.raises(Unreadable):
        await store.create(NewChat(uuid4(), OWNER, "", None, (user("hello"),)), key)
    assert [chat.id for chat in await store.list_chats(OWNER, archived=None, limit=9, after=None)] == [new.id]


async def damage_retry(session: Session, chat_id: UUID) -> None:
    """A long value is kept in a table beside the chats', where it is lost."""
    retry = json.dumps({"attempt": 1, "delay_ms": 1, "error": "lost" * 5000, "kind": "generic"})
    await execute(session, "ALTER TABLE chats ALTER retry SET STORAGE EXTERNAL")
    await execute(session, "UPDATE chats SET retry = $2::text::json, retry_at = now() WHERE id = $1", chat_id, retry)
    beside = await fetchval(session, "SELECT reltoastrelid FROM pg_class WHERE oid = 'chats'::regclass")
    await execute(session, f"UPDATE pg_class SET relkind = 'r' WHERE oid = {beside}")
    await execute(session, f"DELETE FROM {await fetchval(session, f'SELECT {beside}::regclass::text')}")
    await execute(session, f"UPDATE pg_class SET relkind = 't' WHERE oid = {beside}")


async def damage(session: Session, chat_id: UUID, when: str) -> None:
    """Let the server fail with such changes of the row, as it does where it cannot read what is there."""
    await execute(
        session,
        f"""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF old.id = '{chat_id}' AND {when} THEN
                RAISE EXCEPTION 'missing chunk number 0 for toast value' USING errcode = 'data_corrupted';
            END IF;
            RETURN new;
        END $$;
        CREATE TRIGGER fail BEFORE UPDATE ON chats FOR EACH ROW EXECUTE FUNCTION fail();
        """,
    )
