"""A replica's HTTP side for tests: the real server on a loopback port, memory ports behind it.

Feeds are scripted: what a test puts in is what readers get. Everything else is what production runs.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import trio
from loops.workspace_fakes import FakeAgent, FakeDirectory

from chatcluster import tokens
from chatcluster.audience import Audience
from chatcluster.config import Settings
from chatcluster.errors import CallerError, ChatNotFound
from chatcluster.family_stream import FamilyCursor
from chatcluster.mcp_administration import McpAdministration
from chatcluster.memory import (
    MemoryAccounts,
    MemoryBroker,
    MemoryDatabase,
    MemoryMcpServers,
    MemoryModels,
    MemoryPubSub,
    MemoryRegistry,
    MemorySessions,
    MemoryStore,
    MemoryStreams,
)
from chatcluster.memory.administration import MemoryAdministration
from chatcluster.memory.files import MemoryFiles
from chatcluster.memory.limits import MemoryLimits
from chatcluster.memory.link import Link
from chatcluster.memory.prompts import MemoryPrompts
from chatcluster.memory.push import MemoryPush
from chatcluster.memory.responses import MemoryResponses
from chatcluster.memory.series import MemorySeries
from chatcluster.memory.usage import MemoryUsage
from chatcluster.memory.workspace_diffs import MemoryWorkspaceDiffs
from chatcluster.memory.workspace_hosts import MemoryWorkspaceHosts
from chatcluster.memory.workspaces import MemoryWorkspaces
from chatcluster.metrics import Metrics
from chatcluster.model_admin import ModelAdministration
from chatcluster.notices import Notices
from chatcluster.parts import Cursor
from chatcluster.ports import Chat, McpReport, McpServer, McpSettings, PubSub, Scopes, SignedInAt
from chatcluster.push_subscriptions import PushSubscriptions
from chatcluster.secrets import Keyring
from chatcluster.sign_ins import SignIns
from chatcluster.spending_limits import LimitAdministration, Spending, SpendingLimits
from chatcluster.subscribe import Feeds
from chatcluster.tab_stream import FamilyTabCursor, TabCursor
from chatcluster.transitions import Transitions
from chatcluster.turn_log import TurnLogs
from chatcluster.uploads import Uploads
from chatcluster.web.app import create_app
from chatcluster.web.browsers import Browsers
from chatcluster.web.http.connections import Limits
from chatcluster.web.http.server import Server
from chatcluster.web.model_services import Models
from chatcluster.web.readers import Readers
from chatcluster.web.routes import API, BESIDE, DOORS
from chatcluster.web.services import Monitoring, Overview, Services
from chatcluster.web.tool_servers import Mcp
from chatcluster.web.workspace_services import WorkspaceServices
from chatcluster.workspace_changes import WorkspaceChanges
from chatcluster.workspace_screens import WorkspaceScreens

for _route in (*API, *BESIDE, *chain.from_iterable(DOORS.values())):
    _route.parsed_fn_signature  # noqa: B018 - kept with the route: each application would work it out anew

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nobody here speaks it, and each client would read all certificates of the world."""
OPENING = b": open\nretry: 500\n"


class ScriptedEvents:
    """Where a test puts in what a reader is to get; an exception is the last thing that it gets."""

    def __init__(self, subscriber: ScriptedSubscriber) -> None:
        self._subscriber = subscriber

    async def send(self, event: bytes | Exception) -> None:
        """Waits while there is much that the reader has not taken."""
        if isinstance(event, Exception):
            self._subscriber.end(event)
        else:
            await self._subscriber.offer(event)


class ScriptedSubscriber:
    """Tells of events as a real one does: the sink if there is one; of its end always the one who waits."""

    def __init__(self) -> None:
        self.events = ScriptedEvents(self)
        self.sink: Callable[[], None] | None = None
        self.has_pending = False
        self.left = trio.Event()
        self._in, self._out = trio.open_memory_channel[bytes](100)
        self._awake = trio.Event()
        self._end: Exception | None = None

    async def offer(self, event: bytes) -> None:
        await self._in.send(event)
        if self.sink is None:
            self._awake.set()
        else:
            self.sink()

    def end(self, error: Exception) -> None:
        self._end = error
        self._awake.set()

    async def receive(self) -> bytes:
        while not (data := self.receive_nowait()):
            self._awake = trio.Event()
            await self._awake.wait()
        return data

    def receive_nowait(self) -> bytes:
        pending = []
        with suppress(trio.WouldBlock):
            while True:
                pending.append(self._out.receive_nowait())
        if self._end is not None and not pending:
            raise self._end
        return b"".join(pending)


class ScriptedFeeds:
    """``readers`` are those who subscribed, in order; ``arrival`` fires at the next one."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self.readers: list[ScriptedSubscriber] = []
        self.cursors: list[Cursor] = []
        self.refusal: CallerError | None = None
        self.full: CallerError | None = None
        """There is no place for another reader, and it is said before anything is done for one."""
        self._arrivals, self._arrived = trio.open_memory_channel[ScriptedSubscriber](100)

    def require_place(self, owner_id: UUID) -> None:
        if self.full is not None:
            raise self.full

    @asynccontextmanager
    async def _subscribe(self) -> AsyncIterator[ScriptedSubscriber]:
        reader = ScriptedSubscriber()
        self.readers.append(reader)
        await self._arrivals.send(reader)
        try:
            yield reader
        finally:
            reader.left.set()

    @asynccontextmanager
    async def subscribe(self, chat_id: UUID, cursor: Cursor, *, owner_id: UUID) -> AsyncIterator[ScriptedSubscriber]:
        if self.refusal is not None:
            raise self.refusal
        row = self._database.row(chat_id)
        if row.owner_id != owner_id:
            raise ChatNotFound("there is no such chat", chat_id=str(chat_id))
        self.cursors.append(cursor)
        async with self._subscribe() as reader:
            yield reader

    async def next_reader(self) -> ScriptedSubscriber:
        with trio.fail_after(60):
            return await self._arrived.receive()


class ScriptedWatches(ScriptedFeeds):
    def subscribe(self, owner_id: UUID) -> AbstractAsyncContextManager[ScriptedSubscriber]:  # type: ignore[override]
        return self._subscribe()


class ScriptedTabs(ScriptedFeeds):
    """``tab_cursor`` is that of the tab, of the family, or of both."""

    @asynccontextmanager
    async def subscribe(  # type: ignore[override]
        self, owner_id: UUID, chat_id: UUID, cursor: TabCursor | FamilyCursor | FamilyTabCursor
    ) -> AsyncIterator[ScriptedSubscriber]:
        self.tab_cursor = cursor
        async with super().subscribe(chat_id, cursor.chat, owner_id=owner_id) as reader:
            yield reader

    subscribe_family = subscribe


class RecordingNotices(Notices):
    def __init__(self, pubsub: PubSub) -> None:
        super().__init__(pubsub)
        self.told: list[tuple[UUID, str | None]] = []

    def committed(self, chat: Chat, lifecycle: str | None = None, *, by_owner: bool = False) -> None:
        self.told.append((chat.id, lifecycle))


class ScriptedHealth:
    def __init__(self) -> None:
        self.draining = False
        self.checks = {"postgres": "ok", "schema": "ok", "redis": "ok"}

    async def check(self) -> dict[str, str]:
        return self.checks


NOBODY = UUID(int=0)


class ScriptedMcpClient:
    """Says what a test wants to hear of servers of tools, and remembers what it was asked."""

    def __init__(self) -> None:
        self.report = McpReport(ok=True)
        self.refusal: CallerError | None = None
        self.signed_in_user = NOBODY
        self.asked: list[tuple[object, ...]] = []

    def _note(self, *question: object) -> None:
        self.asked.append(question)
        if self.refusal is not None:
            raise self.refusal

    async def test(self, server: McpServer, user_id: UUID) -> McpReport:
        self._note("test", server.slug, user_id)
        return self.report

    def client_document(self) -> dict[str, Any]:
        return {"client_id": "https://chat.example/oauth/mcp/client"}

    async def begin_sign_in(self, server: McpServer, user_id: UUID) -> str:
        self._note("begin", server.slug, user_id)
        return "https://login.example/authorize"

    async def begin_sign_in_by_link(self, ticket: str, *, visitor: UUID | None = None) -> str:
        self._note("link", ticket, visitor)
        return "https://login.example/authorize"

    async def finish_sign_in(
        self, state: str, code: str, issuer: str | None, *, visitor: UUID | None = None
    ) -> SignedInAt:
        self._note("finish", state, code, issuer, visitor)
        return SignedInAt("files", self.signed_in_user)

    async def drop_sign_in(self, state: str, issuer: str | None) -> bool:
        self._note("drop", state)
        return issuer != "https://evil.example"

    async def sign_out(self, server: McpServer, user_id: UUID) -> bool:
        self._note("sign out", server.slug, user_id)
        return True


class World:
    def __init__(self, link: Link | None = None, database: MemoryDatabase | None = None, /, **settings: Any) -> None:
        """``link``: the way to the database, for chats and what doors keep of them. ``database``: that of another
        replica."""
        self.settings = Settings.of(**settings)
        self.database = database or MemoryDatabase()
        self.store = MemoryStore(self.database, link, self.settings)
        self.accounts = MemoryAccounts(self.database)
        self.sessions = MemorySessions(self.database, settings=self.settings)
        self.files = MemoryFiles(self.database)
        self.registry = MemoryRegistry(self.database)
        self.models = MemoryModels(self.database)
        broker = MemoryBroker()
        self.pubsub, streams, audience = MemoryPubSub(broker), MemoryStreams(broker), Audience(self.settings.streaming)
        self.real_feeds = Feeds(
            store=self.store, streams=streams, pubsub=self.pubsub, settings=self.settings, audience=audience
        )
        """Behind the logs of turns: of what is in the database."""
        responses = MemoryResponses(self.database, link)
        self.logs = TurnLogs(self.real_feeds, self.store, streams, audience, responses)
        self.feeds = ScriptedFeeds(self.database)
        self.watches = ScriptedWatches(self.database)
        self.tabs = ScriptedTabs(self.database)
        self.families = ScriptedTabs(self.database)
        self.notices = RecordingNotices(self.pubsub)
        self.health = ScriptedHealth()
        self.metrics = Metrics()
        self.mcp_servers = MemoryMcpServers(self.database)
        self.keyring = Keyring.parse(self.settings.storage.encryption_keys)
        self.mcp_client = ScriptedMcpClient()
        self.agent = FakeAgent()
        """Of every workspace."""
        self.push_key: str | None = "public"
        self.limits = Limits()
        self.limit_rows = MemoryLimits(self.database)
        self.spending = SpendingLimits(self.limit_rows)
        self.page_folder = Path("/nonexistent")
        self.server: Server
        self.url = ""
        self.public_url = ""

    def push_subscriptions(self) -> PushSubscriptions:
        return PushSubscriptions(
            MemoryPush(self.database), private_allowed=self.settings.push.private_addresses, public_key=self.push_key
        )

    def services(self) -> Services:
        return Services(
            settings=self.settings,
            store=self.store,
            accounts=self.accounts,
            browsers=Browsers(sessions=self.sessions, push=self.push_subscriptions()),
            overview=Overview(administration=MemoryAdministration(self.database), series=MemorySeries(self.database)),
            registry=self.registry,
            pubsub=self.pubsub,
            readers=Readers(
                feeds=self.feeds, logs=self.logs, watches=self.watches, tabs=self.tabs, families=self.families
            ),
            transitions=(transitions := Transitions(self.store, self.notices, self.spending)),
            monitoring=Monitoring(self.health, self.metrics),
            uploads=Uploads(self.files, self.settings.sizes),
            models=Models(
                catalogue=self.models.catalogue,
                admin=ModelAdministration(self.models, self.keyring, self.pubsub.publish),
                prompts=MemoryPrompts(self.database),
                spending=Spending(
                    MemoryUsage(self.database), LimitAdministration(self.limit_rows, self.pubsub.publish)
                ),
            ),
            mcp=Mcp(
                admin=McpAdministration(self.mcp_servers, self.keyring, self.pubsub.publish),
                client=self.mcp_client,
                sign_ins=SignIns(self.store, self.mcp_servers, transitions),
            ),
            workspaces=WorkspaceServices(
                rows=MemoryWorkspaces(self.database),
                hosts=MemoryWorkspaceHosts(self.database),
                directory=(found := FakeDirectory(self.agent)),
                changes=WorkspaceChanges(MemoryWorkspaceDiffs(self.database), found, self.pubsub),
                screens=WorkspaceScreens(found),
            ),
        )

    async def have_servers(self, *slugs: str) -> None:
        """Servers of tools, for every user to choose."""
        for slug in slugs:
            await self.mcp_servers.add(McpServer(id=uuid4(), slug=slug, settings=McpSettings(url="http://127.0.0.1/")))

    async def token(
        self, user: str = "ada", *, admin: bool = False, scopes: Scopes = None, expires_at: datetime | None = None
    ) -> str:
        token = tokens.generate()
        account = await self.accounts.ensure_user(user, admin=admin)
        await self.accounts.add_token(
            account.user_id,
            token_id=token.token_id,
            name="test",
            secret_digest=token.digest,
            expires_at=expires_at,
            scopes=scopes,
        )
        return token.plaintext

    def written(self) -> bytes:
        """All that the database holds of chats, to tell whether anything was written."""
        rows = [(row.id, row.setup, row.state, row.messages) for row in self.database.chats.values()]
        return msgspec.json.encode(rows)

    def client(self, token: str | None, **options: Any) -> httpx.AsyncClient:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        options.setdefault("base_url", self.url)
        options.setdefault("verify", NO_TLS)
        return httpx.AsyncClient(headers=headers, timeout=30, **options)


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[World]:
    """Run the server of ``world`` on two loopback ports: its own one and the public one."""
    app = create_app(world.services(), page_folder=world.page_folder)
    world.server = Server(
        app,
        send_stall_seconds=world.settings.streaming.send_stall_seconds,
        reader_bytes_per_second_min=world.settings.streaming.reader_bytes_per_second_min,
        limits=world.limits,
    )
    private, public = loopback(), loopback()
    world.url, world.public_url = url_of(private), url_of(public)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.run)
        await nursery.start(world.real_feeds.run)
        await nursery.start(world.server.run, [private], [public])
        with world.metrics.listening():
            yield world
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def client_of(world: World, user: str = "ada", *, admin: bool = False) -> AsyncIterator[httpx.AsyncClient]:
    """Serve ``world``, and a client with a token of ``user`` for it."""
    async with serving(world), world.client(await world.token(user, admin=admin)) as client:
        yield client


async def connect(url: str) -> trio.SocketStream:
    host, port = url.removeprefix("http://").split(":")
    return await trio.open_tcp_stream(host, int(port))


async def read_until(stream: trio.SocketStream, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        piece = await stream.receive_some(65536)
        assert piece, f"the connection ended before {wanted!r}: {data!r}"
        data += piece
    return data


@asynccontextmanager
async def watching(
    world: World,
    path: str = "/api/v1/watch",
    *,
    token: str = "",
    version: str = "1.1",
    headers: str = "",
    public: bool = False,
) -> AsyncIterator[trio.SocketStream]:
    """A raw connection with an event stream on it, read up to its first comment."""
    async with await connect(world.public_url if public else world.url) as stream:
        token = token or await world.token("reader")
        head = f"GET {path} HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
        await stream.send_all(head.encode())
        with trio.fail_after(60):
            await read_until(stream, OPENING)
        yield stream


def loopback() -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0), backlog=128)
    sock.setblocking(False)
    return sock


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()
    return f"http://{host}:{port}"


def error_code(response: httpx.Response) -> str:
    """The code of an error answer, which has to have the form that all of them have."""
    error = response.json()["error"]
    assert isinstance(error["message"], str)
    assert error["message"]
    return str(error["code"])


async def until_broken_off(response: httpx.Response) -> bytes:
    """The rest of a streamed body, which must not have a clean end."""
    received = b""
    try:
        with trio.fail_after(60):
            async for chunk in response.aiter_raw():
                received += chunk
    except httpx.RemoteProtocolError:
        return received
    raise AssertionError(f"a clean end after {received!r}")


def unknown_chat() -> str:
    return str(uuid4())
