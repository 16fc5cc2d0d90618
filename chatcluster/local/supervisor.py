"""`chatcluster up`: a whole cluster on one machine, as the children of one supervisor.

What is nested in what is the order of starting, and backwards that of stopping:

    signals ⊃ simulated model ⊃ lock and public socket ⊃ Postgres, Redis ⊃ schema, token ⊃ replicas

* The public socket is opened here and inherited by every replica; each accepts from it, so killing one
  loses no connection that waits to be accepted. Each replica has a private port as well.
* A server whose URL is given is not ours; what is not given is embedded. Embedded servers and replicas that
  die are started again (``keeper.py``). Their logs are kept small while they run (``log_rotation.py``).
* The first SIGINT, SIGTERM or SIGHUP stops everything in order: replicas hand over what they do within their
  ``drain_seconds``, then the servers write down what they have. The second one kills the replicas.
* No child survives the supervisor, whatever the supervisor dies of: the kernel ends the children with it.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from chatcluster.config import ENV_PREFIX, SETTINGS, Settings, env_name
from chatcluster.errors import ConfigError
from chatcluster.listening import listening_socket
from chatcluster.local import local_cluster, log_rotation, log_tail
from chatcluster.local.embedded import PostgresServer, RedisServer
from chatcluster.local.embedded.home import locked
from chatcluster.local.keeper import Keeper, Ready
from chatcluster.local.provisioning import provision
from chatcluster.local.sign_in import sign_in_path
from chatcluster.secrets import new_key

STOP_MARGIN_SECONDS = 5.0
"""What a replica may take on top of its drain."""
SERVER_POLL_SECONDS = 0.25
SERVER_RETRY_SECONDS = 2.0
CONNECTIONS_PER_REPLICA = 8
"""Postgres sessions on top of the pool: heartbeat, two session locks, two watches, and those of administration."""
WORKSPACES_STOP_SECONDS = 12.0
"""Above what a host takes to stop all that it runs."""
SIMULATED_MODEL = "simulated"
SIMULATED_KEY = "no-key-needed"
"""The simulator never says this word, as keys are struck out of what a provider says."""


@dataclass(frozen=True, kw_only=True)
class UpOptions:
    """What to start. ``settings`` go to every replica; ``host`` and ``port`` are the public ones."""

    settings: Settings
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 3
    data_dir: Path = local_cluster.DEFAULT_DATA_DIR
    verbose: bool = False
    workspaces: bool = False
    """Whether a workspace host runs beside the replicas."""


async def up(options: UpOptions, *, show: Callable[[str], None], say: Callable[[str], None]) -> None:
    """Run a cluster until a signal ends it.

    ``show`` gets what the user has asked for (the banner), ``say`` what happens meanwhile, line by line.
    Raises ``ConfigError`` when something cannot be started; nothing is left running then.
    """
    await _Supervisor(options, show, say).run()


class _Supervisor:
    def __init__(self, options: UpOptions, show: Callable[[str], None], say: Callable[[str], None]) -> None:
        self._options = options
        self._data_dir = options.data_dir.absolute()
        self._show = show
        self._say = say
        self._life = trio.CancelScope()
        self._replicas: list[Keeper] = []
        self._workspaces: Keeper | None = None

    async def run(self) -> None:
        with trio.open_signal_receiver(*_stop_signals()) as signals:
            async with trio.open_nursery() as background:
                background.start_soon(self._obey, signals)
                place = open_data_dir(self._data_dir)
                with self._life, place, listening_socket(self._options.host, self._options.port) as listener:
                    background.start_soon(log_rotation.keep_small, self._data_dir)
                    await self._serve(background, listener)
                background.cancel_scope.cancel()
        self._say(f"Stopped. The data are kept in {self._options.data_dir}.")

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        asked_before = False
        async for _ in signals:
            if asked_before:
                for keeper in self._replicas:
                    keeper.kill_now()
                continue
            asked_before = True
            self._say("Stopping: replicas finish their steps. Once more to kill them.")
            self._life.cancel()

    async def _serve(self, background: trio.Nursery, listener: socket.socket) -> None:
        self._say("Starting ...")
        simulator = self._start_simulator(background, self._options.settings)
        async with self._servers(self._options.settings) as settings:
            token = await provision(settings, self._data_dir)
            if simulator is not None:
                settings = await self._with_simulated(simulator, settings)
            url = _url_of(listener)
            settings = settings.but(
                public_url=settings.browsers.public_url or url, encryption_keys=self._keys(settings)
            )
            settings = settings.but(push_key=settings.push.key or local_cluster.push_key(self._data_dir))
            async with trio.open_nursery() as nursery:
                await self._start_replicas(nursery, settings, listener)
                if self._options.workspaces:
                    await self._start_workspaces(nursery, settings)
                record = local_cluster.LocalCluster(
                    url, settings.servers.database_url, settings.servers.redis_url, os.getpid()
                )
                local_cluster.write_cluster(self._data_dir, record)
                try:
                    path = await sign_in_path(settings, token)
                    self._show(self._banner(url, token, path or "/", simulated=simulator is not None))
                    await trio.sleep_forever()
                finally:
                    local_cluster.remove_cluster(self._data_dir)

    def _keys(self, settings: Settings) -> str:
        """The keys of secrets: those that are given, or those of the data directory, where one is made if need be."""
        if settings.storage.encryption_keys:
            return settings.storage.encryption_keys
        if not (keys := local_cluster.read_encryption_keys(self._data_dir)):
            local_cluster.write_encryption_keys(self._data_dir, keys := new_key())
        return keys

    @asynccontextmanager
    async def _servers(self, settings: Settings) -> AsyncIterator[Settings]:
        """The settings with the URLs of the servers, embedded where none is given."""
        connections = self._options.replicas * (settings.servers.database_pool_size + CONNECTIONS_PER_REPLICA) + 20
        postgres = PostgresServer(self._data_dir, connections_max=max(200, connections))
        redis = RedisServer(self._data_dir)
        async with (
            self._embedded(postgres, settings.servers.database_url) as database_url,
            self._embedded(redis, settings.servers.redis_url) as redis_url,
        ):
            yield settings.but(database_url=database_url, redis_url=redis_url)

    @asynccontextmanager
    async def _embedded(self, server: PostgresServer | RedisServer, given_url: str) -> AsyncIterator[str]:
        if given_url:
            yield given_url
            return
        try:
            url = await trio.to_thread.run_sync(server.start)
        except OSError as error:
            raise ConfigError(f"cannot start {server!r}: {error}") from None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_running, server, self._say)
                yield url
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):  # bounded by the server's own escalation
                await trio.to_thread.run_sync(server.stop)

    def _start_simulator(self, background: trio.Nursery, settings: Settings) -> Keeper | None:
        """A simulated model where none is configured. It starts while the servers do."""
        if settings.llm.base_url:
            return None
        keeper = self._keeper("simulated-llm", _simulator_command, replica_environment(settings), stop_seconds=2.0)
        background.start_soon(keeper.run)
        return keeper

    async def _with_simulated(self, keeper: Keeper, settings: Settings) -> Settings:
        await keeper.was_ready.wait()
        base_url = f"http://127.0.0.1:{_port_of(keeper)}/v1"
        model = settings.llm.model or SIMULATED_MODEL
        return settings.but(llm_base_url=base_url, llm_api_key=SIMULATED_KEY, llm_model=model)

    async def _start_replicas(self, nursery: trio.Nursery, settings: Settings, listener: socket.socket) -> None:
        environment = replica_environment(settings)
        async with trio.open_nursery() as starting:
            for index in range(1, self._options.replicas + 1):
                keeper = self._keeper(
                    f"replica-{index}",
                    ReplicaCommand(f"replica-{index}", listener.fileno()),
                    environment,
                    stop_seconds=max(settings.ownership.drain_seconds, settings.ownership.drain_notice_seconds)
                    + STOP_MARGIN_SECONDS,
                    inherited_fds=(listener.fileno(),),
                )
                self._replicas.append(keeper)
                starting.start_soon(nursery.start, keeper.run)
                nursery.start_soon(self._follow_log, keeper)

    async def _start_workspaces(self, nursery: trio.Nursery, settings: Settings) -> None:
        """A host on this machine. Where that cannot run any it says so in one line, and the cluster works without."""
        environment = replica_environment(settings) | local_cluster.host_environment(self._data_dir)
        keeper = self._keeper("workspace-host", _workspaces_command, environment, stop_seconds=WORKSPACES_STOP_SECONDS)
        await nursery.start(keeper.run)
        nursery.start_soon(self._follow_log, keeper)
        self._workspaces = keeper

    def _keeper(
        self,
        name: str,
        command: Callable[[Ready | None], list[str]],
        environment: Mapping[str, str],
        *,
        stop_seconds: float,
        inherited_fds: tuple[int, ...] = (),
    ) -> Keeper:
        return Keeper(
            name,
            command,
            environment=environment,
            log=self._data_dir / "logs" / f"{name}.log",
            stop_seconds=stop_seconds,
            say=self._say,
            inherited_fds=inherited_fds,
        )

    async def _follow_log(self, keeper: Keeper) -> None:
        await log_tail.follow(keeper.log, keeper.name, self._say, everything=self._options.verbose)

    def _banner(self, url: str, token: str, path: str, *, simulated: bool) -> str:
        given = self._options.settings
        model = (
            "simulated, because no server is configured (CHATCLUSTER_LLM_BASE_URL)" if simulated else "as configured"
        )
        rows = [
            ("page", f"{url}{path}"),
            ("url", url),
            ("token", token),
            ("model", model),
            ("postgres", "as configured" if given.servers.database_url else "embedded"),
            ("redis", "as configured" if given.servers.redis_url else "embedded"),
            ("data", str(self._options.data_dir)),
            *([] if self._workspaces is None else [("workspaces", _host_line(self._workspaces))]),
            *((keeper.name, f"http://127.0.0.1:{_port_of(keeper)}  pid {keeper.pid}") for keeper in self._replicas),
        ]
        table = "\n".join(f"  {name:<12}{value}" for name, value in rows)
        program = Path(sys.executable).with_name("chatcluster")
        chat = f"{shlex.quote(str(program))} chat --data-dir {shlex.quote(str(self._data_dir))}"
        link = f"{shlex.quote(str(program))} link --data-dir {shlex.quote(str(self._data_dir))}"
        return BANNER.format(link=link, count=len(self._replicas), table=table, url=url, token=token, chat=chat)


def _host_line(keeper: Keeper) -> str:
    if keeper.ready is not None and keeper.ready.problem:
        return f"none: {keeper.ready.problem}"
    return f"one host  pid {keeper.pid}"


async def keep_running(server: PostgresServer | RedisServer, say: Callable[[str], None]) -> None:
    """Start ``server`` again whenever it is gone, until cancelled. What keeps it from starting may pass (no memory, a
    process that still has its port): the replicas live without it meanwhile, and must not end with it."""
    while True:
        await trio.sleep(SERVER_POLL_SECONDS)
        if server.pid is not None:
            continue
        say(f"{server!r} has died; starting it again")
        try:
            await trio.to_thread.run_sync(server.start)
        except (ConfigError, OSError) as error:
            say(f"{error}; trying again in {SERVER_RETRY_SECONDS:g} s")
            await trio.sleep(SERVER_RETRY_SECONDS)


BANNER = """
chatcluster is ready, {count} replica(s) behind one port.

{table}

The link to the page signs you in, once and within ten minutes; `{link}` makes another one.

Create a chat and watch it answer (Ctrl-C ends the watching):

  TOKEN={token}; curl -NsS {url}/api/v1/chats -H "Authorization: Bearer $TOKEN" \
-H 'Content-Type: application/json' -H 'Accept: text/event-stream' -d '{{"content": "Tell me a story"}}'

Or talk to it:

  {chat}

Kill a replica while it answers. Ctrl-C stops everything and keeps the data.
"""


class ReplicaCommand:
    """The command of one replica: the successor takes its predecessor's port and declares it dead."""

    def __init__(self, name: str, listen_fd: int) -> None:
        self._fixed = ["serve", "--name", name, "--listen-fd", str(listen_fd)]

    def __call__(self, previous: Ready | None) -> list[str]:
        port = previous.port if previous else 0
        replaces = ["--replaces", previous.worker_id] if previous and previous.worker_id else []
        return [*self._fixed, "--host", "127.0.0.1", "--port", str(port), *replaces]


def _simulator_command(previous: Ready | None) -> list[str]:
    return ["simulate-llm", "--host", "127.0.0.1", "--port", str(previous.port if previous else 0)]


def _workspaces_command(previous: Ready | None) -> list[str]:
    return ["workspace-host", "--default-template", "--workspaces-port", str(previous.port if previous else 0)]


def replica_environment(settings: Settings) -> dict[str, str]:
    """Our environment with ``settings`` in the place of what it said; secrets are in no list of processes there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    for name in SETTINGS:
        value = settings.value(name)
        if value != "":
            environment[env_name(name)] = str(value).lower() if isinstance(value, bool) else str(value)
    environment[env_name("log_format")] = "json"
    return environment


@contextmanager
def open_data_dir(data_dir: Path) -> Iterator[None]:
    """Create the data directory if need be, and hold its lock. Raises ``ConfigError``."""
    with ExitStack() as stack:
        try:
            (data_dir / "logs").mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(data_dir / "lock"))
        except OSError as error:
            raise ConfigError(f"cannot use the data directory {data_dir}: {error.strerror}") from None
        yield


def _url_of(listener: socket.socket) -> str:
    """A URL that works on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _port_of(keeper: Keeper) -> int:
    return keeper.ready.port if keeper.ready else 0


def _stop_signals() -> tuple[signal.Signals, ...]:
    """SIGHUP as well, the end of the terminal, unless we were started with nohup."""
    always = (signal.SIGINT, signal.SIGTERM)
    return always if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*always, signal.SIGHUP)
