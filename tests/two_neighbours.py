"""Two users with a row of everything, in Postgres: what is wrong with one's is no business of the other's.

All is done within one transaction that is never committed, and each look at it is undone at once: so looks may claim,
bury, sweep and delete, and the next one finds what was there.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast
from uuid import UUID

from chatcluster.config import Settings
from chatcluster.ports.series import FIRST_TOKEN_MS
from chatcluster.postgres import Connection, Database, Session
from chatcluster.postgres.pool_share import PoolShare
from chatcluster.postgres.translation import Translated

WORKER, HOST, INCARNATION = (UUID(int=0xFFFF_0000 + number) for number in range(3))


class Neighbour(NamedTuple):
    """One of the two. The chats: one to be claimed, one that is owned, one that waits for somebody, one at rest, and an
    agent of the third."""

    number: int

    def id(self, number: int) -> UUID:
        return UUID(int=self.number << 32 | number)

    @property
    def user(self) -> UUID:
        return self.id(1)

    @property
    def digest(self) -> bytes:
        return bytes([self.number]) * 32

    def sql(self, text: str) -> str:
        """``text`` with this one's IDs: ``@7`` for a UUID, ``%n`` for the number, ``%d`` for a digest."""
        text = re.sub(r"@(\d+)", lambda match: f"'{self.id(int(match[1]))}'", text)
        return text.replace("%n", str(self.number)).replace("%d", f"'\\x{self.digest.hex()}'::bytea")


ODD, PLAIN = Neighbour(1), Neighbour(2)
TO_CLAIM, OWNED, WAITS, AT_REST, AGENT = 11, 12, 13, 14, 15
MESSAGE, CALLING = 1000, 2000
"""Of each chat that has one, the message is ``number * 10000 + MESSAGE + chat``."""

COMMON = f"""
insert into replicas (worker_id, name, address, version, slots) values ('{WORKER}', 'common', 'h:1', '1', 9);
insert into workspace_hosts (id, incarnation, name, address, version, provider, sealed)
    values ('{HOST}', '{INCARNATION}', 'common', 'h:2', '1', 'process', '');
insert into prompts (owner_id, text) values ('{UUID(int=0)}', 'the deployment says');
"""
OF_EACH = f"""
insert into users (id, name) values (@1, 'user%n');
insert into tokens (id, user_id, name, secret_digest, expires_at, last_used_at, scopes)
    values ('token%n', @1, 'of %n', %d, now() + interval '1 day', now(), '{{chats}}');
insert into sessions (secret_digest, token_id, expires_at) values (%d, 'token%n', now() + interval '1 day');
insert into session_codes (code_digest, token_id, expires_at) values (%d, 'token%n', now() + interval '1 day');
insert into replicas (worker_id, name, address, version, slots) values (@2, 'of %n', 'h:3', '1', 9);
insert into chats (id, owner_id, title, status, snapshot_version, history_version, claimable_since)
    values (@11, @1, 'to claim %n', 'running', 1, 1, now());
insert into chats (id, owner_id, title, status, snapshot_version, history_version, worker_id, epoch, attempt)
    values (@12, @1, 'owned %n', 'running', 2, 1, '{WORKER}', 1, 1);
insert into chats (id, owner_id, title, status, snapshot_version, history_version, action_deadline, open_calls,
    has_agents, waits_for_agents, client_tools, mcp_servers)
    values (@13, @1, 'waits %n', 'requires_action', 2, 2, now(), 3, true, true,
        '[{{"name": "t", "description": "", "parameters": {{}}}}]', '{{server%n}}');
insert into chats (id, owner_id, title, status, snapshot_version, history_version)
    values (@14, @1, 'at rest %n', 'waiting', 1, 1);
insert into chats (id, owner_id, title, status, snapshot_version, history_version, parent_id, root_id, depth)
    values (@15, @1, 'agent %n', 'waiting', 1, 1, @13, @13, 1);
insert into messages (id, chat_id, revision, role, content) overriding system value
    select %n * 10000 + {MESSAGE} + number, id::uuid, 1, 'user', '[{{"type": "text", "text": "hello"}}]'
    from (values (11, @11), (12, @12), (13, @13), (14, @14), (15, @15)) as of_chats (number, id);
insert into messages (id, chat_id, revision, role, content) overriding system value
    values (%n * 10000 + {CALLING}, @13, 2, 'assistant',
        '[{{"type": "tool_call", "id": "a", "name": "t", "arguments": "{{}}"}}]');
insert into messages (id, chat_id, revision, role, content, deleted_at) overriding system value
    values (%n * 10000 + 3000, @14, 1, 'user', '[]', now() - interval '30 days');
insert into queued_messages (chat_id, position, content) values (@11, 1, '[{{"type": "text", "text": "more"}}]');
insert into tool_calls (chat_id, message_id, call_id, name, state, wait_seconds, deadline)
    values (@13, %n * 10000 + {CALLING}, 'a', 't', 'approval', 60, now() - interval '1 second'),
        (@13, %n * 10000 + {CALLING}, 'b', 'server%n__t', 'sign_in', 60, now() + interval '1 hour');
insert into tool_calls (chat_id, message_id, call_id, name, state, wait_seconds, deadline, agent_id)
    values (@13, %n * 10000 + {CALLING}, 'c', 'agent', 'agents', 60, now() + interval '1 hour', @15);
insert into tool_results (tool_call_id, data) select id, 'x' from tool_calls where chat_id = @13 and call_id = 'a';
insert into tool_permissions (user_id, tool, expires_at) values (@1, 't', now() + interval '1 day');
insert into mcp_servers (id, slug, settings, secrets_at, sealed)
    values (@3, 'server%n', '{{"url": "http://s/"}}', now(), 'x');
insert into mcp_logins (state_digest, server_id, user_id, sealed, expires_at)
    values (%d, @3, @1, 'x', now() + interval '1 hour');
insert into mcp_grants (server_id, user_id, sealed, expires_at) values (@3, @1, 'x', now() + interval '1 hour');
insert into providers (name, kind, base_url, key_set_at, sealed)
    values ('provider%n', 'openai', 'http://p/', now(), 'x');
insert into models (name, provider, provider_model) values ('model%n', 'provider%n', 'm');
insert into turns (chat_id, revision, message_id, outcome, duration_ms) values (@14, 1, 1, 'finished', 1);
insert into deleted_chats (chat_id, owner_id) values (@19, @1);
insert into takeovers (chat_id, owner_id, cause, from_worker, freed_at) values (@11, @1, 'takeover', @2, now());
insert into audit_entries (user_id, user_name, action, target) values (@1, 'user%n', 'did', 'it');
insert into usage_events (chat_id, history_version, attempt, owner_id, epoch, outcome, input_tokens, cost_micros, at)
    values (@14, 1, 1, @1, 1, 'finished', 7, 7, now()), (@14, 1, 2, @1, 1, 'finished', 7, 7, now() - interval '1 hour');
insert into usage_hours (owner_id, hour, cost_micros, tokens)
    values (@1, date_trunc('hour', now() - interval '1 hour'), 7, 7);
insert into usage_limits (subject, name, period, cost_micros, tokens) values ('user', 'user%n', 'day', 1000, 1000);
insert into group_members (user_id, group_name) values (@1, 'group%n');
insert into prompts (owner_id, text) values (@1, 'user %n says');
insert into chat_prompts (chat_id, text) values (@11, 'the chat says');
insert into chat_prefixes (chat_id, number, digest, data) values (@11, 1, 'd', 'x');
insert into minutes (at, turns, failed, interrupted, output_tokens, first_tokens)
    values (date_trunc('minute', now()) - %n * interval '1 minute', 1, 0, 0, 1,
        array_fill(1::bigint, array[{len(FIRST_TOKEN_MS) + 1}]));
insert into family_orders (chat_id, root_id, word) values (@15, @13, 'interrupt');
insert into files (id, owner_id, name, media_type, size_bytes, sha256, finished_at)
    values (@4, @1, 'file', 'text/plain', 1, %d, now());
insert into file_chunks (file_id, number, data) values (@4, 0, 'x');
insert into file_renditions (file_id, media_type, data) values (@4, 'image/png', 'x');
insert into chat_files (chat_id, file_id, message_id) values (@14, @4, %n * 10000 + {MESSAGE} + 14);
insert into titles_wanted (chat_id) values (@14);
insert into push_subscriptions (id, user_id, token_id, endpoint, p256dh, auth)
    values (@5, @1, 'token%n', 'https://push/%n', 'x', 'x');
insert into push_notices (subscription_id, chat_id, outcome) values (@5, @14, 'finished');
insert into responses (chat_id, message_id, revision, parameters)
    values (@14, %n * 10000 + {MESSAGE} + 14, 1, '{{"response": {{"id": "r"}}, "client_tools": []}}');
insert into workspace_templates (id, name, settings) values (@6, 'template%n', '{{"base": "host"}}');
insert into workspace_hosts (id, incarnation, name, address, version, provider, sealed)
    values (@7, @7, 'of %n', 'h:4', '1', 'process', '');
insert into workspaces (id, owner_id, chat_id, template_id, template_name, name, state, settings, parameters, host_id,
    bump_seconds, idle_seconds, expires_at, last_used_at, started_at)
    values (@8, @1, @12, @6, 'template%n', 'w', 'running', '{{"base": "host"}}', '{{}}', '{HOST}', 60, 60,
        now() + interval '1 minute', now() - interval '1 hour', now()),
    (@9, @1, @14, @6, 'template%n', 'w', 'building', '{{"base": "host"}}', '{{}}', null, 60, 60, null, null, null);
insert into workspace_log (workspace_id, source, line) values (@8, 'host', 'began');
insert into workspace_diffs (chat_id, workspace_id, owner_id, digest, status, diff) values (@12, @8, @1, 'd',
    '{{"is_repository": true, "branch": null, "base": null, "files": 0, "additions": 0, "deletions": 0,
        "is_truncated": false}}',
    '{{"is_repository": true}}');
insert into idempotency_keys (owner_id, key, request_digest) values (@1, 'key', %d);
"""


class Undone:
    """In the place of a ``Database``: each transaction is undone, whatever it did."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self.settings = settings
        self.is_pooled = False
        self.generation = 0
        self.said: list[str] = []
        """The statements of the looks since this was emptied."""
        self._session = session
        self.share = PoolShare(cast(Database, self))

    async def transaction(self, body: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **_: Any) -> Any:
        outcome = await self._session.run(_undone, body, args, self.said)
        if isinstance(outcome, BaseException):
            with Translated():
                raise outcome
        return outcome

    autocommit = transaction

    async def look_and_write(self, look: Any, write: Any, *args: Any, **_: Any) -> Any:
        async def both(connection: Connection) -> Any:
            return await write(connection, await look(connection), *args)

        return await self.transaction(both)

    def session(self, purpose: str, **_: Any) -> Undone:
        return self

    async def run(self, body: Any, *args: Any, **_: Any) -> Any:
        return await self.transaction(body, *args)


class _Listening:
    """A connection that keeps what is said on it."""

    def __init__(self, connection: Connection, said: list[str]) -> None:
        self._connection = connection
        self._said = said

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._connection, name)

        def spoken(query: str, *args: object) -> Any:
            self._said.append(query)
            return method(query, *args)

        return spoken


async def _undone(connection: Connection, body: Any, args: tuple[Any, ...], said: list[str]) -> Any:
    await connection.execute("SAVEPOINT look")
    try:
        return await body(_Listening(connection, said), *args)
    except Exception as error:  # noqa: BLE001 - a session that sees one is closed
        return error
    finally:
        await connection.execute("ROLLBACK TO SAVEPOINT look")


async def _say(connection: Connection, statements: str) -> Exception | None:
    try:
        await connection.execute(statements)
    except Exception as error:  # noqa: BLE001 - as above
        return error
    return None


class Neighbours:
    def __init__(self, session: Session, settings: Settings) -> None:
        self.database: Any = Undone(session, settings)
        self._session = session

    async def say(self, statements: str) -> None:
        """Raises what the server says."""
        if (error := await self._session.run(_say, statements)) is not None:
            raise error

    async def ask(self, query: str, *args: object) -> list[Any]:
        async def fetch(connection: Connection) -> list[Any]:
            return list(await connection.fetch(query, *args))

        return await self._session.run(fetch)

    @asynccontextmanager
    async def changed(self, statement: str) -> AsyncIterator[bool]:
        """With this done. False if the server does not do it."""
        await self.say("SAVEPOINT change")
        is_done = await self._session.run(_say, statement) is None
        if not is_done:
            await self.say("ROLLBACK TO SAVEPOINT change")
        try:
            yield is_done
        finally:
            await self.say("ROLLBACK TO SAVEPOINT change")


@asynccontextmanager
async def open_neighbours(database: Database) -> AsyncIterator[Neighbours]:
    """The two, in a database that lets in what newer versions, other programs and hands may write."""
    session = database.session("neighbours", lasting=True)
    neighbours = Neighbours(session, database.settings)
    try:
        await neighbours.say("BEGIN")
        for row in await neighbours.ask(
            "select conrelid::regclass::text as name, conname from pg_constraint where contype = 'c'"
            " and connamespace = 'public'::regnamespace"
        ):
            await neighbours.say(f'ALTER TABLE {row["name"]} DROP CONSTRAINT "{row["conname"]}"')
        await neighbours.say(COMMON)
        for one in (ODD, PLAIN):
            await neighbours.say(one.sql(OF_EACH))
        yield neighbours
    finally:
        await session.aclose()


@asynccontextmanager
async def telling(names: re.Pattern[str]) -> AsyncIterator[list[str]]:
    """The events of these names that happen within the block."""
    from chatcluster import telemetry

    told: list[str] = []

    def listen(name: str, fields: dict[str, object]) -> None:
        if names.search(name):
            told.append(f"{name} {fields.get('error')}")

    telemetry.subscribe(listen)
    try:
        yield told
    finally:
        telemetry.unsubscribe(listen)
