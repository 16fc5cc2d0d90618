"""The composition root: one replica process, made of its parts. The only module that knows them all.

Nesting is the order of shutdown, here as everywhere:

    signals ⊃ connections ⊃ publisher, pub/sub, feeds, lists ⊃ HTTP server ⊃ replica (lease ⊃ runners ⊃ intake)

Life of a process: sockets are bound; the server accepts (not ready yet); once Postgres has the schema, and with it the
ID that names everything in Redis, and the process that speaks to servers of tools where there are any, the replica
becomes a member of the cluster, says so on the ready pipe, and works.

SIGTERM or SIGINT drains: the public port is left to the others and ``/readyz`` says 503; the replica hands its
chats over at step boundaries; what it published is flushed; the load balancer gets the time to notice
(``drain_notice_seconds`` since the signal, while requests are served as ever); then readers are cut, so that they
resume elsewhere, and the process exits with 0. A second signal ends it at once.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.assembly import outside_of, services_of, workspaces_of
from chatcluster.audience import Audience
from chatcluster.background import keep_on
from chatcluster.config import Settings, require_key, require_servers
from chatcluster.errors import SchemaError, StoreRefused, StoreUnavailable
from chatcluster.family_stream import FamilyStreams
from chatcluster.host_names import each_host_for_itself
from chatcluster.listening import inherited_socket, listening_socket
from chatcluster.llm.client import HttpModel
from chatcluster.llm.routing import catalogue_routing
from chatcluster.llm.sent_files import SentFiles
from chatcluster.loop_watch import return_large_blocks, spare_pauses, watch_loop
from chatcluster.metrics import Metrics
from chatcluster.model_directory import ModelDirectory
from chatcluster.notices import Notices
from chatcluster.parts import encode
from chatcluster.ports import Model, Outside
from chatcluster.postgres import Database, open_database
from chatcluster.postgres.files import PostgresFiles
from chatcluster.postgres.identity import read_cluster_id
from chatcluster.postgres.limits import PostgresLimits
from chatcluster.postgres.mcp_servers import PostgresMcpServers
from chatcluster.postgres.migrate import check_schema
from chatcluster.postgres.models import PostgresModels
from chatcluster.postgres.purge import Purge
from chatcluster.postgres.responses import PostgresResponses
from chatcluster.postgres.titles import PostgresTitles
from chatcluster.publisher import Publisher
from chatcluster.readiness import Readiness
from chatcluster.redis.connections import RedisConnection, open_redis
from chatcluster.redis.health import RedisHealth
from chatcluster.redis.pubsub import RedisPubSub
from chatcluster.replica import Replica
from chatcluster.secrets import Keyring
from chatcluster.series import Tally
from chatcluster.spending_limits import SpendingLimits
from chatcluster.subscribe import Feeds
from chatcluster.tab_stream import TabStreams
from chatcluster.titling import Titling
from chatcluster.tools.mcp import McpTools
from chatcluster.tracing.environment import read_endpoint
from chatcluster.transitions import Transitions
from chatcluster.turn_log import TurnLogs
from chatcluster.watch import Watches
from chatcluster.web.app import WebApp, create_app
from chatcluster.web.http.connections import Limits
from chatcluster.web.http.descriptors import connections_within_reach
from chatcluster.web.http.server import Server
from chatcluster.web.readers import Readers
from chatcluster.web.services import Monitoring, Services
from chatcluster.workspace_watch import WorkspaceWatch

SCHEMA_RETRY_SECONDS = 0.5
FLUSH_SECONDS_MAX = 2.0
CUT_SECONDS = 0.1
"""Between the end of the last runner and the cut: readers get what was just published."""
CONNECTIONS_FOR_REQUESTS = 100
"""What event streams leave of the connections, where there are few."""
IDLE_SECONDS_MAX = 0.5
"""How long idle connections outlive the port, for proxies without health checks."""


async def serve(
    settings: Settings, *, listen_fd: int | None = None, ready_fd: int | None = None, model: Model | None = None
) -> None:
    """Run one replica until a signal ends it.

    ``listen_fd`` is an inherited listening socket that several replicas share. On ``ready_fd`` a line of JSON
    says ``{"worker_id", "port"}`` for every incarnation. ``model`` answers in the place of the provider that the
    settings name. Raises ``ConfigError`` for settings that cannot work.
    """
    require_servers(settings)
    if model is None and settings.replica.slots:
        require_key(settings)
    Keyring.parse(settings.storage.encryption_keys)
    public = [inherited_socket(listen_fd)] if listen_fd is not None else []
    spans_to = read_endpoint(os.environ)
    private = listening_socket(settings.replica.host, settings.replica.port)
    spare_pauses()
    return_large_blocks()
    telemetry.configure_logging(settings.telemetry.log_level, settings.telemetry.log_format)
    each_host_for_itself()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with AsyncExitStack() as stack:
            metrics = stack.enter_context(Metrics().listening())
            port = private.getsockname()[1]
            if spans_to is not None:
                from chatcluster.tracing.export import exporting

                await stack.enter_async_context(exporting(spans_to, settings.replica.display_name(port)))
            process = await _Process.open(stack, settings, model, metrics, port, ready_fd)
            stack.enter_context(process.tally.listening())
            gc.freeze()  # these parts live as long as the process
            if settings.telemetry.loop_watch:
                watch_loop(metrics)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.obey, signals)
                await process.run(private, public)
                nursery.cancel_scope.cancel()


class _Process:
    """The parts of one replica process, and the order in which they live."""

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        redis: RedisConnection,
        directory: ModelDirectory,
        model: Model,
        metrics: Metrics,
        port: int,
        ready_fd: int | None,
    ) -> None:
        self._settings, self._database, self._redis = settings, database, redis
        self._pubsub = RedisPubSub(redis)
        mcp_servers, keyring = PostgresMcpServers(database), Keyring.parse(settings.storage.encryption_keys)
        self._mcp = McpTools(mcp_servers, self._pubsub, keyring, browsers_url=settings.browsers_url(port))
        workspaces = workspaces_of(database, self._pubsub, keyring)
        notices = Notices(self._pubsub)
        spending = SpendingLimits(PostgresLimits(database))
        outside = outside_of(
            database, redis, self._pubsub, model, self._mcp.toolbox, workspaces, notices, spending, directory
        )
        store, streams = outside.store, outside.streams
        self._publisher = Publisher(streams, coalesce_seconds=settings.streaming.coalesce_ms / 1000)
        own = settings.servers.database_pool_size + settings.replica.slots
        connections = connections_within_reach(settings.http.connections_max, own=own)
        audience = _audience(settings, connections)
        self._feeds = Feeds(store=store, streams=streams, pubsub=self._pubsub, settings=settings, audience=audience)
        self._watches = Watches(
            store=store, pubsub=self._pubsub, settings=settings, audience=audience, diffs=workspaces.changes
        )
        self._replica = Replica(
            name=settings.replica.display_name(port),
            address=settings.replica.advertised_address(port),
            settings=settings,
            outside=outside,
            publisher=self._publisher,
            notices=notices,
            on_incarnation=partial(_say_ready, ready_fd, port),
            on_drain_asked=self._drain_asked,
        )
        notices.set_readers(self._feeds.learn, self._feeds.hand_over)
        titling = Titling(PostgresTitles(database), model, notices, settings, stints=outside.stints)
        redis_health = RedisHealth(redis, lambda: self._pubsub.problem)
        purge = Purge(database, settings, lambda: self._replica.worker_id)
        services = services_of(
            settings,
            database=database,
            pubsub=self._pubsub,
            outside=outside,
            transitions=Transitions(store, notices, outside.limits, on_title_wanted=titling.wanted),
            readers=self._readers(outside, audience),
            monitoring=Monitoring(Readiness(database, redis_health, lambda: self._replica.draining), metrics),
            directory=directory,
            mcp=self._mcp,
            mcp_servers=mcp_servers,
            workspaces=workspaces,
            keyring=keyring,
        )
        self.tally = Tally(services.overview.series)
        self._later_loops = self._loops(services, redis_health, purge, directory, model, spending, titling)
        """The loops that begin when the schema is there."""
        self._app: WebApp = create_app(services)
        self._server = _server(self._app, settings, connections)
        self._waiting_for_schema = trio.CancelScope()
        self._noticed_at = 0.0
        """When load balancers know that this replica drains."""
        metrics.watch_slots(used=lambda: self._replica.chats, total=settings.replica.slots)

    def _readers(self, outside: Outside, audience: Audience) -> Readers:
        store = outside.store
        families = FamilyStreams(feeds=self._feeds, store=store, audience=audience)
        return Readers(
            feeds=self._feeds,
            watches=self._watches,
            logs=TurnLogs(self._feeds, store, outside.streams, audience, PostgresResponses(self._database)),
            tabs=TabStreams(
                feeds=self._feeds, families=families, watches=self._watches, store=store, audience=audience
            ),
            families=families,
        )

    def _loops(
        self,
        services: Services,
        redis_health: RedisHealth,
        purge: Purge,
        directory: ModelDirectory,
        model: Model,
        spending: SpendingLimits,
        titling: Titling,
    ) -> tuple[Callable[[], Awaitable[None]], ...]:
        return (
            redis_health.run,
            self._database.share.keep,
            purge.run,
            self._mcp.run,
            *((model.close_idle,) if isinstance(model, HttpModel) else ()),
            self.tally.run,
            services.mcp.sign_ins.run,
            services.browsers.push.run,
            partial(directory.run, self._pubsub),
            partial(spending.run, self._pubsub),
            titling.run,
            services.workspaces.changes.run,
            WorkspaceWatch(
                services.workspaces.rows, services.workspaces.hosts, self._settings, lambda: self._replica.worker_id
            ).run,
        )

    @classmethod
    async def open(
        cls,
        stack: AsyncExitStack,
        settings: Settings,
        model: Model | None,
        metrics: Metrics,
        port: int,
        ready_fd: int | None,
    ) -> _Process:
        """The parts on connections that ``stack`` closes."""
        database = await stack.enter_async_context(open_database(settings))
        directory = ModelDirectory(PostgresModels(database), is_needed=not settings.llm.base_url.strip())
        if model is None:
            routing = catalogue_routing(
                lambda: directory.known, Keyring.parse(settings.storage.encryption_keys), settings
            )
            first_url = settings.llm.base_url.strip()
            model = await stack.enter_async_context(
                HttpModel(
                    routing,
                    concurrent=settings.replica.slots,
                    first_url=first_url,
                    files=SentFiles(PostgresFiles(database)),
                )
            )
        return cls(
            settings,
            database=database,
            redis=await stack.enter_async_context(open_redis(settings.servers.redis_url)),
            directory=directory,
            model=model,
            metrics=metrics,
            port=port,
            ready_fd=ready_fd,
        )

    async def run(self, private: socket.socket, public: list[socket.socket]) -> None:
        """Serve and work until drained."""
        async with trio.open_nursery() as background:
            for loop in (self._feeds.run, self._watches.run):
                await background.start(loop)
            background.start_soon(self._publisher.run)
            background.start_soon(self._app.run)
            async with trio.open_nursery() as serving:
                await serving.start(self._server.run, [private], public)
                if await self._schema_is_there():
                    await background.start(self._pubsub.run)
                    for run in self._later_loops:
                        background.start_soon(keep_on, run)
                    await self._mcp.there()
                await self._replica.run()
                await self._publisher.drained(FLUSH_SECONDS_MAX)
                await trio.sleep_until(max(self._noticed_at, trio.current_time() + CUT_SECONDS))
                self._feeds.cut_all()
                self._watches.cut_all()
                self._server.cut(idle_seconds=min(self._settings.ownership.drain_notice_seconds, IDLE_SECONDS_MAX))
            background.cancel_scope.cancel()

    async def obey(self, signals: AsyncIterator[int]) -> None:
        """The first signal drains, the second one ends the process where it stands."""
        async for number in signals:
            if self._replica.draining:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
                os._exit(128 + number)  # process 1 of a container is not ended by its own signal
            telemetry.event("replica.draining", signal=signal.Signals(number).name)
            self._drain()

    def _drain_asked(self) -> None:
        telemetry.event("replica.draining", signal="an administrator")
        self._drain()

    def _drain(self) -> None:
        self._noticed_at = trio.current_time() + self._settings.ownership.drain_notice_seconds
        self._server.stop_accepting()
        self._waiting_for_schema.cancel()
        self._replica.drain()

    async def _schema_is_there(self) -> bool:
        """Wait until Postgres can be reached and has the schema; ``/readyz`` says 503 meanwhile. False if drained.

        Raises ``StoreRefused`` and ``ConfigError`` for what waiting would not mend.
        """
        said = ""
        with self._waiting_for_schema:
            while True:
                try:
                    await check_schema(self._database, say=_say_doubt)
                    self._redis.identify(await read_cluster_id(self._database))
                except StoreRefused:
                    raise
                except (SchemaError, StoreUnavailable) as error:
                    if str(error) != said:
                        said = str(error)
                        telemetry.event("replica.waiting", reason=said)
                else:
                    return True
                await trio.sleep(SCHEMA_RETRY_SECONDS)
        return False


def _audience(settings: Settings, connections: int) -> Audience:
    streams_max = max(1, min(settings.streaming.subscribers_max, connections - CONNECTIONS_FOR_REQUESTS))
    return Audience(replace(settings.streaming, subscribers_max=streams_max))


def _server(app: WebApp, settings: Settings, connections: int) -> Server:
    return Server(
        app,
        send_stall_seconds=settings.streaming.send_stall_seconds,
        reader_bytes_per_second_min=settings.streaming.reader_bytes_per_second_min,
        limits=Limits(
            total=connections,
            silent=settings.http.silent_connections_max,
            silent_per_address=settings.http.silent_connections_per_address,
            head_seconds=settings.http.head_seconds,
        ),
    )


def _say_doubt(text: str) -> None:
    telemetry.event("postgres.doubtful", text=text)


def _say_ready(ready_fd: int | None, port: int, worker_id: UUID) -> None:
    if ready_fd is not None:
        os.write(ready_fd, encode({"worker_id": str(worker_id), "port": port}) + b"\n")
