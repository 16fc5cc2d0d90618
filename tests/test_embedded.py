"""The embedded servers: data that outlive any crash, and processes that outlive nobody."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis
from cluster_process import is_running, wait_until
from conftest import execute_sql

from chatcluster.errors import ConfigError
from chatcluster.local.embedded import PostgresServer, RedisServer, binaries, child, home
from chatcluster.local.embedded.child import Identity

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="is about running as root")


def fetch_value(url: str, query: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(run())


@contextlib.contextmanager
def starter(source: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that starts servers on ``directory``; it prints when it has."""
    process = subprocess.Popen([sys.executable, "-c", source, str(directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        yield process
        process.kill()


START_BOTH = """
import sys, time
from pathlib import Path
from chatcluster.local.embedded import PostgresServer, RedisServer
postgres, redis = PostgresServer(Path(sys.argv[1]), durable=False), RedisServer(Path(sys.argv[1]))
postgres.start(), redis.start()
print(postgres.pid, redis.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def shared_postgres(servers_dir: Path) -> Iterator[PostgresServer]:
    """One for tests that leave it as usable as they found it."""
    server = PostgresServer(servers_dir / "embedded", durable=False)
    yield server
    server.kill()


class TestPostgres:
    def test_after_a_stop_the_same_data_are_there_at_the_same_url(self, shared_postgres: PostgresServer) -> None:
        url = shared_postgres.start()
        execute_sql(url, "CREATE TABLE kept AS SELECT 7 AS value")
        shared_postgres.stop()
        assert shared_postgres.pid is None

        assert shared_postgres.start() == url
        assert fetch_value(url, "SELECT value FROM kept") == 7

    def test_after_a_kill_nothing_that_was_committed_is_lost(self, shared_postgres: PostgresServer) -> None:
        url = shared_postgres.start()
        execute_sql(url, "CREATE TABLE committed (value int)", "INSERT INTO committed VALUES (7)")
        shared_postgres.kill()

        shared_postgres.start()
        assert fetch_value(url, "SELECT value FROM committed") == 7

    def test_starting_twice_is_starting_once(self, shared_postgres: PostgresServer) -> None:
        url = shared_postgres.start()
        pid = shared_postgres.pid
        assert shared_postgres.start() == url
        assert shared_postgres.pid == pid

    def test_durable_means_that_it_waits_for_the_disk(self, servers_dir: Path) -> None:
        with PostgresServer(servers_dir / "durable") as server:
            assert fetch_value(server.start(), "SHOW fsync") == "on"

    def test_only_the_owner_of_its_directory_can_reach_it(self, shared_postgres: PostgresServer) -> None:
        url = shared_postgres.start()
        assert shared_postgres.home is not None
        assert shared_postgres.home.stat().st_mode & 0o077 == 0
        assert fetch_value(url, "SHOW listen_addresses") == ""

    def test_a_data_directory_serves_one_at_a_time(self, shared_postgres: PostgresServer, servers_dir: Path) -> None:
        url = shared_postgres.start()
        second = PostgresServer(servers_dir / "embedded", durable=False)
        with pytest.raises(ConfigError, match="in use"):
            second.start()
        assert second.pid is None
        assert fetch_value(url, "SELECT 1") == 1

    def test_a_long_path_gets_a_short_socket(self, servers_dir: Path) -> None:
        with PostgresServer(servers_dir / ("long-" * 25), durable=False) as server:
            url = server.start()
            assert fetch_value(url, "SELECT 1") == 1

    def test_an_interrupted_initialisation_is_begun_anew(self, servers_dir: Path) -> None:
        data_dir = servers_dir / "interrupted"
        server = PostgresServer(data_dir, durable=False)
        server.start()
        server.stop()
        assert server.home is not None
        (server.home / "data").rename(server.home / "data.partial")

        with server:
            assert fetch_value(server.start(), "SELECT 1") == 1

    def test_a_cluster_of_a_version_that_is_not_installed_is_refused(self, servers_dir: Path) -> None:
        data_dir = servers_dir / "ancient"
        (data_dir / "postgres" / "data").mkdir(parents=True)
        (data_dir / "postgres" / "data" / "PG_VERSION").write_text("9\n")
        with pytest.raises(ConfigError, match="PostgreSQL 9"):
            PostgresServer(data_dir).start()

    @AS_ROOT
    def test_as_root_a_private_directory_stays_private(self, tmp_path: Path) -> None:
        """The data go where the server's user can go, and a file says where; no permission is changed."""
        tmp_path.chmod(0o700)
        with PostgresServer(tmp_path, durable=False) as server:
            assert fetch_value(server.start(), "SELECT 1") == 1
            assert server.home is not None
            assert server.home.stat().st_uid != 0
            assert (tmp_path / "postgres.location").read_text().strip() == str(server.home)
            assert tmp_path.stat().st_mode & 0o777 == 0o700
            elsewhere = server.home
        shutil.rmtree(elsewhere)

    @AS_ROOT
    def test_the_wheels_programs_are_copied_to_where_the_server_can_read_them(
        self, servers_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wheel = binaries._wheel_postgres()
        if wheel is None:
            pytest.skip("the wheel is not installed")
        monkeypatch.setattr(binaries, "_system_postgres", lambda: iter(()))
        monkeypatch.setattr(binaries, "can_enter", lambda *_: False)
        with PostgresServer(servers_dir / "copied", durable=False) as server:
            assert fetch_value(server.start(), "SELECT 1") == 1
            assert server.home is not None
            assert list(server.home.glob("postgresql-*/*/*/bin/postgres"))


class TestRedis:
    def test_it_comes_back_empty_at_the_same_url(self, own_redis: RedisServer) -> None:
        """P8: Redis is never the truth."""
        url = own_redis.start()
        with redis.Redis.from_url(url) as client:
            client.set("key", "value")
        own_redis.kill()

        assert own_redis.start() == url
        with redis.Redis.from_url(url) as client:
            assert client.get("key") is None

    def test_it_wants_its_password(self, own_redis: RedisServer) -> None:
        url = own_redis.start()
        without = "redis://" + url.rpartition("@")[2]
        with redis.Redis.from_url(without) as client, pytest.raises(redis.AuthenticationError):
            client.ping()

    def test_a_port_that_is_taken_in_the_last_moment_is_left_to_its_taker(
        self, own_redis: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from chatcluster.local.embedded import redis_server

        taken = int(redis_url.rpartition(":")[2].partition("/")[0])
        ports = iter((taken, redis_server.free_port("127.0.0.1")))
        monkeypatch.setattr(redis_server, "free_port", lambda _: next(ports))
        assert str(taken) not in own_redis.start()

    def test_without_a_redis_the_fake_one_serves_with_streams_and_a_password(
        self, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chatcluster.local.embedded.redis_server.find_redis", lambda: None)
        url = own_redis.start()
        with redis.Redis.from_url(url) as client:
            client.xadd("stream", {"f": "v"}, id="1-0")
            with pytest.raises(redis.ResponseError):
                client.xadd("stream", {"f": "v"}, id="1-0")
        with redis.Redis.from_url("redis://" + url.rpartition("@")[2]) as client, pytest.raises(redis.ConnectionError):
            client.ping()

    def test_without_any_the_error_says_what_to_install(
        self, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chatcluster.local.embedded.redis_server.find_redis", lambda: None)
        monkeypatch.setattr("chatcluster.local.embedded.redis_server.has_fakeredis", lambda: False)
        with pytest.raises(ConfigError, match="pip install"):
            own_redis.start()


@pytest.mark.skipif(sys.platform != "linux", reason="rests on what the Linux kernel tells")
class TestProcesses:
    def test_servers_die_with_a_starter_that_is_killed(self, servers_dir: Path) -> None:
        directory = servers_dir / "orphans"
        with starter(START_BOTH, directory) as process:
            assert process.stdout is not None
            pids = [int(pid) for pid in process.stdout.readline().split()]
            assert all(map(is_running, pids))
            process.kill()
        wait_until(lambda: not any(map(is_running, pids)))

    def test_what_a_killed_starter_left_behind_is_stopped_before_the_next_start(self, servers_dir: Path) -> None:
        directory = servers_dir / "leftover"
        server = PostgresServer(directory, durable=False)
        server.start()
        server.stop()
        assert server.home is not None
        installation = binaries.find_postgres(None, home.choose_identity(server.home), server.home)
        left_behind = child.spawn(
            [
                installation.program("postgres"),
                *("-D", str(server.home / "data")),
                *("-c", "listen_addresses="),
                *("-c", f"unix_socket_directories={server.home}"),
            ],
            log=directory / "left-behind.log",
            death_signal=signal.SIGKILL,
            identity=home.choose_identity(server.home),
        )
        cluster = server.home / "data"
        wait_until(lambda: child.processes_in(cluster, "postgres"))

        with server:
            assert left_behind.wait(60) == 0
            assert fetch_value(server.start(), "SELECT 1") == 1

    def test_ctrl_c_of_the_terminal_does_not_reach_a_server(self, own_redis: RedisServer) -> None:
        own_redis.start()
        assert own_redis.pid is not None
        assert os.getsid(own_redis.pid) != os.getsid(0)

    def test_a_child_that_ignores_every_request_is_killed(self, servers_dir: Path) -> None:
        deaf = (
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
        )
        log = servers_dir / "deaf.log"
        process = child.spawn([sys.executable, "-c", deaf], log=log, death_signal=signal.SIGKILL)
        wait_until(lambda: log.read_text())
        child.stop(process, (signal.SIGTERM, 0.1))
        assert process.returncode == -signal.SIGKILL


def test_a_directory_may_be_entered_only_if_all_above_it_may(tmp_path: Path) -> None:
    stranger = Identity(uid=60_001, gid=60_001)
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "outer").chmod(0o700)
    assert not home.can_enter(inner, stranger)
    assert home.can_enter(Path("/"), stranger)


def test_a_large_log_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"x" * (child.LOG_BYTES_MAX + 1))
    with child.open_log(log) as file:
        file.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "server.log.1").exists()
