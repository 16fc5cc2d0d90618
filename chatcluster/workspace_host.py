"""The composition root of ``chatcluster workspace-host``: one host of workspaces, made of its parts.

    signals ⊃ Postgres ⊃ provider (its sandboxes) ⊃ HTTP ⊃ incarnations (``workspaces/host/machine.py``)

It needs Postgres, and the keys of the cluster's secrets: its token is in its row, sealed. It needs no Redis. SIGTERM or
SIGINT stops every workspace, says so in the database, and ends with 0; a second one ends it where it stands.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from uuid import UUID

import msgspec
import trio

from chatcluster import __version__, telemetry
from chatcluster.config import Settings
from chatcluster.errors import ConfigError, SchemaError, StoreRefused, StoreUnavailable
from chatcluster.listening import listening_socket
from chatcluster.local.embedded.home import locked
from chatcluster.metrics import CONTENT_TYPE, HostMetrics
from chatcluster.postgres import Database, open_database
from chatcluster.postgres.migrate import check_schema
from chatcluster.postgres.workspace_hosts import PostgresWorkspaceHosts
from chatcluster.postgres.workspaces import PostgresWorkspaces
from chatcluster.secrets import Keyring
from chatcluster.workspace_templates import DEFAULT_NAME, DEFAULT_SETTINGS
from chatcluster.workspaces.directory import host_token_place
from chatcluster.workspaces.host.forward import Forward
from chatcluster.workspaces.host.identity import Incarnations, host_id_of
from chatcluster.workspaces.host.machine import Identity, Machine
from chatcluster.workspaces.host.providers import open_sandboxes
from chatcluster.workspaces.host.running import RunningWorkspaces
from chatcluster.workspaces.host.settings import HostSettings

SCHEMA_RETRY_SECONDS = 0.5
TOKEN_BYTES = 32


async def serve_workspaces(settings: Settings, options: HostSettings, *, ready_fd: int | None = None) -> None:
    """Run a host until a signal ends it. On ``ready_fd`` a line says ``{"port", "problem"}`` for every incarnation.

    Raises ``ConfigError`` and ``NoEncryptionKeys`` for settings that cannot work.
    """
    if not settings.servers.database_url:
        raise ConfigError("--database-url (or CHATCLUSTER_DATABASE_URL) is needed")
    keyring = Keyring.parse(settings.storage.encryption_keys)
    keyring.require_keys()
    directory = options.directory
    host_id = host_id_of(directory)
    listener = listening_socket(options.workspaces_host, options.workspaces_port)
    telemetry.configure_logging(settings.telemetry.log_level, settings.telemetry.log_format)
    life = trio.CancelScope()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals, locked(directory / "lock"):
        async with trio.open_nursery() as background:
            background.start_soon(_obey, signals, life)
            with life:
                await _live(settings, options, host_id, keyring, listener, ready_fd)
            background.cancel_scope.cancel()


async def _live(
    settings: Settings,
    options: HostSettings,
    host_id: UUID,
    keyring: Keyring,
    listener: socket.socket,
    ready_fd: int | None,
) -> None:
    token, port, running = secrets.token_urlsafe(TOKEN_BYTES), listener.getsockname()[1], RunningWorkspaces()
    async with AsyncExitStack() as stack:
        metrics = stack.enter_context(HostMetrics(lambda: len(running), options.workspaces_max).listening())
        database = await stack.enter_async_context(open_database(settings, purpose="workspace host"))
        sandboxes = await stack.enter_async_context(open_sandboxes(options, host_id))
        identity = Identity(
            id=host_id,
            name=options.display_name,
            address=options.advertised_address(port),
            version=__version__,
            provider=options.workspaces_provider,
            sealed=keyring.seal(token.encode(), host_token_place(host_id)),
            problem=sandboxes.problem,
        )
        hosts = PostgresWorkspaceHosts(database)
        say_ready = partial(_say_ready, ready_fd, port)
        known = Incarnations(options.directory)
        machine = Machine(
            identity, hosts, sandboxes.provider, running, settings, options, known, on_registered=say_ready
        )
        forward = Forward(running, sandboxes.dial, token, lambda: (CONTENT_TYPE, metrics.render()), sandboxes.headers)
        async with trio.open_nursery() as nursery:
            accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
            nursery.start_soon(trio.serve_listeners, forward.serve, [accepting])
            await _schema_is_there(database)
            if options.default_template:
                await PostgresWorkspaces(database).ensure_template(DEFAULT_NAME, DEFAULT_SETTINGS)
            await machine.run()


async def _obey(signals: AsyncIterator[int], life: trio.CancelScope) -> None:
    """The first signal ends it in order, the second one at once."""
    asked_before = False
    async for number in signals:
        if asked_before:
            os._exit(128 + number)
        asked_before = True
        telemetry.event("workspace.host_stopping", signal=number)
        life.cancel()


async def _schema_is_there(database: Database) -> None:
    """Wait until Postgres can be reached and has the schema.

    Raises ``StoreRefused`` and ``ConfigError`` for what waiting would not mend.
    """
    said = ""
    while True:
        try:
            await check_schema(database)
            return
        except StoreRefused:
            raise
        except (SchemaError, StoreUnavailable) as error:
            if str(error) != said:
                said = str(error)
                telemetry.event("workspace.host_waiting", reason=said)
        await trio.sleep(SCHEMA_RETRY_SECONDS)


def _say_ready(ready_fd: int | None, port: int, problem: str) -> None:
    if ready_fd is not None:
        os.write(ready_fd, msgspec.json.encode({"port": port, "problem": problem}) + b"\n")
