"""What is done for users with their rows, by whom it was found: for all of them at once, and for one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from two_neighbours import (
    AGENT,
    AT_REST,
    HOST,
    INCARNATION,
    MESSAGE,
    ODD,
    OWNED,
    PLAIN,
    TO_CLAIM,
    WAITS,
    WORKER,
    Neighbour,
    Neighbours,
)

from chatcluster.chat import Interrupt, Send
from chatcluster.parts import TextPart, encode, text_of
from chatcluster.ports.administration import ChatFilter, TakeoverFilter
from chatcluster.ports.series import Minute
from chatcluster.ports.usage import GroupBy, UsageQuery
from chatcluster.ports.workspaces import HostLease, WorkspaceHost
from chatcluster.postgres.accounts import PostgresAccounts
from chatcluster.postgres.administration import PostgresAdministration
from chatcluster.postgres.files import PostgresFiles
from chatcluster.postgres.limits import PostgresLimits
from chatcluster.postgres.mcp_servers import PostgresMcpServers
from chatcluster.postgres.models import PostgresModels
from chatcluster.postgres.prompts import PostgresPrompts
from chatcluster.postgres.purge import Purge
from chatcluster.postgres.push import PostgresPush
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.responses import PostgresResponses
from chatcluster.postgres.series import PostgresSeries
from chatcluster.postgres.sessions import PostgresSessions
from chatcluster.postgres.store import PostgresStore
from chatcluster.postgres.titles import PostgresTitles
from chatcluster.postgres.usage import PostgresUsage
from chatcluster.postgres.workspace_diffs import PostgresWorkspaceDiffs
from chatcluster.postgres.workspace_hosts import PostgresWorkspaceHosts
from chatcluster.postgres.workspaces import PostgresWorkspaces

Look = Callable[[Neighbour], Awaitable[Any]]


class Looks:
    """What is done for users, one after the other: each says whom it found."""

    def __init__(self, neighbours: Neighbours) -> None:
        database = neighbours.database
        self.store, self.registry = PostgresStore(database), PostgresRegistry(database)
        self.accounts, self.sessions = PostgresAccounts(database), PostgresSessions(database)
        self.administration, self.usage = PostgresAdministration(database), PostgresUsage(database)
        self.limits, self.models, self.series = (
            PostgresLimits(database),
            PostgresModels(database),
            PostgresSeries(database),
        )
        self.servers, self.files, self.push = (
            PostgresMcpServers(database),
            PostgresFiles(database),
            PostgresPush(database),
        )
        self.prompts, self.responses, self.titles = (
            PostgresPrompts(database),
            PostgresResponses(database),
            PostgresTitles(database),
        )
        self.workspaces, self.hosts = PostgresWorkspaces(database), PostgresWorkspaceHosts(database)
        self.diffs = PostgresWorkspaceDiffs(database)
        self.rounds = Purge(database, database.settings, lambda: WORKER)

    # for all at once: the plain one is found

    async def claim(self, one: Neighbour) -> bool:
        claimed = await self.store.claim(WORKER, free_slots=50, batch=50)
        return one.id(TO_CLAIM) in {each.chat.id for each in claimed}

    async def claim_where_it_is_crowded(self, one: Neighbour) -> bool:
        claimed = await self.store.claim(WORKER, free_slots=1, batch=50)
        return bool(claimed)

    async def renew(self, one: Neighbour) -> bool:
        renewal = await self.registry.renew(WORKER, draining=False)
        return one.id(OWNED) in {owned.chat_id for owned in renewal.owned}

    async def bury(self, one: Neighbour) -> bool:
        burial = await self.registry.bury(WORKER, None)
        return burial is not None and one.id(OWNED) in {chat.id for chat in burial.freed}

    async def retire(self, one: Neighbour) -> bool:
        return one.id(OWNED) in {chat.id for chat in await self.registry.retire(WORKER)}

    async def heartbeats(self, one: Neighbour) -> bool:
        return one.id(2) in await self.registry.heartbeats()

    async def replicas(self, one: Neighbour) -> bool:
        return one.id(2) in {replica.worker_id for replica in _told(await self.registry.replicas())}

    async def list_changed(self, one: Neighbour) -> bool:
        owners = [ODD.user, PLAIN.user]
        changes = await self.store.list_changed(owners, seconds=3600.0, as_of=None, after=None, limit=50)
        return one.id(AT_REST) in {chat.id for chat in _told(changes.chats)}

    async def expire(self, one: Neighbour) -> bool:
        return one.id(WAITS) in {outcome.chat.id for outcome in await self.store.expire_actions(10)}

    async def sign_in_waits(self, one: Neighbour) -> bool:
        return one.id(WAITS) in {wait.chat_id for wait in await self.store.sign_in_waits(10)}

    async def undone(self, one: Neighbour) -> bool:
        undone = await self.store.undone(50)
        return one.id(WAITS) in undone.reports and one.id(AGENT) in undone.orders

    async def purge(self, one: Neighbour) -> bool:
        await self.rounds.go_round()
        return True

    async def take_titles(self, one: Neighbour) -> bool:
        return one.id(AT_REST) in {task.chat_id for task in await self.titles.take(10, seconds=1.0)}

    async def claim_notices(self, one: Neighbour) -> bool:
        notices = await self.push.claim(limit=10, seconds=1.0)
        return one.user in {notice.subscription.user_id for notice in notices}

    async def read_series(self, one: Neighbour) -> bool:
        return bool(_told(await self.series.read(steps=60, step_minutes=1)))

    async def add_minutes(self, one: Neighbour) -> bool:
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        await self.series.add((Minute(at=now - timedelta(minutes=one.number), turns=1),))
        return True

    async def list_limits(self, one: Neighbour) -> bool:
        return f"user{one.number}" in {limit.name for limit in await self.limits.limits()}

    async def members(self, one: Neighbour) -> bool:
        return f"user{one.number}" in {member.user for member in await self.limits.members()}

    async def add_up(self, one: Neighbour) -> bool:
        await self.limits.add_up()
        return True

    async def sums(self, one: Neighbour) -> bool:
        now = datetime.now(UTC)
        for group_by in GroupBy:
            query = UsageQuery(now - timedelta(days=1), now + timedelta(days=1), group_by)
            sums = _told(await self.usage.sums(query, limit=100))
        return str(one.user) in {group.key for group in sums.groups} or group_by is not GroupBy.USER

    async def catalogue(self, one: Neighbour) -> bool:
        await self.models.catalogue()
        named = {row.name for row in await self.models.providers()}
        named |= {row.name for row in await self.models.models()}
        return {f"provider{one.number}", f"model{one.number}"} <= named

    async def list_servers(self, one: Neighbour) -> bool:
        return f"server{one.number}" in {server.slug for server in await self.servers.servers()}

    async def tokens(self, one: Neighbour) -> bool:
        return f"token{one.number}" in {token.id for token in _told(await self.accounts.tokens())}

    async def users(self, one: Neighbour) -> bool:
        return one.user in {user.user_id for user in _told(await self.administration.users(after="", limit=10))}

    async def chats(self, one: Neighbour) -> bool:
        chats = await self.administration.chats(ChatFilter(), after=None, limit=50)
        return one.id(AT_REST) in {each.chat.id for each in chats}

    async def audit(self, one: Neighbour) -> bool:
        entries = _told(await self.administration.audit(before=2**62, limit=10))
        return one.user in {entry.user_id for entry in entries}

    async def takeovers(self, one: Neighbour) -> bool:
        found = _told(await self.administration.takeovers(TakeoverFilter(), before=2**62, limit=10))
        return one.user in {takeover.owner_id for takeover in found}

    async def list_workspaces(self, one: Neighbour) -> bool:
        return one.id(8) in {row.id for row in await self.workspaces.workspaces()}

    async def templates(self, one: Neighbour) -> bool:
        return f"template{one.number}" in {template.name for template in await self.workspaces.templates()}

    async def bump_owned(self, one: Neighbour) -> bool:
        return await self.workspaces.bump_owned(WORKER) > 0

    async def list_hosts(self, one: Neighbour) -> bool:
        return one.id(7) in {host.id for host in await self.hosts.hosts()}

    async def hosts_heartbeats(self, one: Neighbour) -> bool:
        return one.id(7) in await self.hosts.heartbeats()

    async def work(self, one: Neighbour) -> bool:
        lease = HostLease(HOST, INCARNATION)
        rows = await self.hosts.work(lease, places=10, idle=await self.hosts.last_uses(lease))
        return one.id(9) in {row.id for row in rows}

    async def bury_host(self, one: Neighbour) -> bool:
        token = (await self.hosts.heartbeats())[HOST].token
        return one.id(8) in {row.id for row in await self.hosts.bury(HOST, token) or ()}

    async def register_host(self, one: Neighbour) -> bool:
        host = WorkspaceHost(
            id=HOST, incarnation=WORKER, name="c", address="h:1", version="1", provider="process", sealed=b""
        )
        await self.hosts.register(host)
        return True

    # for one of them

    async def own_list(self, one: Neighbour) -> bool:
        chats = await self.store.list_chats(one.user, archived=None, limit=50, after=None)
        pages = await self.store.list_chats(one.user, archived=None, limit=1, after=chats[0].id)
        return one.id(AT_REST) in {chat.id for chat in _told(chats)} and len(pages) == 1

    async def own_chats(self, one: Neighbour) -> bool:
        for number in (TO_CLAIM, OWNED, WAITS, AT_REST, AGENT):
            chat_id = one.id(number)
            _told((await self.store.details(chat_id))[0])
            _told((await self.store.read(chat_id)).messages)
            page = await self.store.list_messages(chat_id, owner_id=one.user, after=0, limit=10, bytes_max=1 << 20)
            newest = await self.store.list_newest(chat_id, owner_id=one.user, before=2**62, limit=10, bytes_max=1 << 20)
            _told([page.messages, newest.messages])
            await self.store.read_newer(
                chat_id, after_version=0, after_id=0, queue_version=0, limit=10, bytes_max=1 << 20, turns_after=0
            )
        return True

    async def own_history(self, one: Neighbour) -> bool:
        place = {"after": 0, "page_bytes": 1 << 20, "message_bytes_max": 1 << 20}
        page = await self.store.read_history(one.id(AT_REST), **place)
        return text_of(page.messages[0].parts) == "hello"

    async def own_calls(self, one: Neighbour) -> bool:
        calls = await self.store.open_calls(one.id(WAITS))
        await self.store.actions(one.id(WAITS))
        await self.store.waits(one.id(WAITS), one.number * 10000 + 2000)
        await self.store.family(one.id(WAITS))
        await self.store.permissions(one.user, one.id(WAITS))
        _told(await self.store.list_permissions(one.user))
        await self.store.read_result(one.id(WAITS), "a", offset=0, limit=10)
        return len(calls) == 3

    async def own_report(self, one: Neighbour) -> bool:
        return await self.store.report_agents(one.id(WAITS)) is not None

    async def own_order(self, one: Neighbour) -> bool:
        await self.store.obey(one.id(AGENT))
        return True

    async def own_message(self, one: Neighbour) -> bool:
        sent = await self.store.apply(one.id(AT_REST), Send((TextPart("more"),)), owner_id=one.user)
        return sent.chat.id == one.id(AT_REST)

    async def own_stop(self, one: Neighbour) -> bool:
        return (await self.store.apply(one.id(OWNED), Interrupt(), owner_id=one.user)).chat.id == one.id(OWNED)

    async def own_allowances(self, one: Neighbour) -> bool:
        return bool(await self.limits.allowances(one.user))

    async def own_token(self, one: Neighbour) -> bool:
        account = await self.accounts.authenticate(f"token{one.number}", one.digest)
        return account is not None and account.user_id == one.user

    async def own_session(self, one: Neighbour) -> bool:
        account = await self.sessions.authenticate(one.digest)
        return account is not None and account.user_id == one.user

    async def own_grants(self, one: Neighbour) -> bool:
        await self.servers.grant(one.id(3), one.user)
        return len(await self.servers.grants(one.user)) == 1

    async def own_login(self, one: Neighbour) -> bool:
        return await self.servers.take_login(one.digest) is not None

    async def own_files(self, one: Neighbour) -> bool:
        await self.files.used_bytes(one.user)
        await self.files.sent_forms([one.id(4)])
        return [file.id for file in _told(await self.files.list(one.user, limit=9, after=None))] == [one.id(4)]

    async def own_push(self, one: Neighbour) -> bool:
        return len(_told(await self.push.subscriptions(one.user))) == 1

    async def own_prompts(self, one: Neighbour) -> bool:
        await self.prompts.own(one.id(TO_CLAIM))
        return await self.prompts.get(one.user) == f"user {one.number} says"

    async def own_response(self, one: Neighbour) -> bool:
        message_id = one.number * 10000 + MESSAGE + AT_REST
        return await self.responses.get(one.id(AT_REST), message_id, owner_id=one.user) is not None

    async def own_workspace(self, one: Neighbour) -> bool:
        await self.workspaces.of_chat(one.id(OWNED))
        await self.workspaces.workspaces(one.user)
        await self.workspaces.template(f"template{one.number}", one.user)
        await self.workspaces.locate(one.id(8))
        await self.workspaces.log(one.id(8))
        return (await self.workspaces.workspace(one.id(8), one.user)).id == one.id(8)

    async def own_diffs(self, one: Neighbour) -> bool:
        await self.diffs.diff(one.id(OWNED))
        await self.diffs.status(one.id(OWNED))
        return one.id(OWNED) in await self.diffs.statuses(one.user, 10)

    def all(self) -> dict[str, Look]:
        names = [
            name
            for name, value in vars(Looks).items()
            if not name.startswith("_") and name != "all" and callable(value)
        ]
        return {name: getattr(self, name) for name in names}


def _told(value: Any) -> Any:
    """What can be told to a client."""
    assert encode(value)
    return value
