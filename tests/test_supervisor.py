"""`chatcluster up`: everything on one machine by one command, and nothing left of it afterwards but the data."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trio
import trio.testing
from cluster_process import (
    CHATCLUSTER,
    READY_SECONDS_MAX,
    ClusterProcess,
    clean_environment,
    cluster_process,
    descendants,
    is_running,
    wait_until,
)

from chatcluster.config import Settings, from_environment
from chatcluster.errors import ConfigError
from chatcluster.local import keeper as keeper_module
from chatcluster.local import local_cluster, log_tail, supervisor
from chatcluster.local.embedded import RedisServer
from chatcluster.local.keeper import Keeper, Ready

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster(servers_dir: Path) -> Iterator[ClusterProcess]:
    """Two replicas that tests may kill, but not stop."""
    with cluster_process(servers_dir / "shared-cluster", "--replicas", "2") as running:
        yield running


def replicas(cluster: ClusterProcess) -> dict[str, dict[str, str]]:
    """The live ones, by name."""
    headers = {"Authorization": f"Bearer {cluster.token}"}
    with contextlib.suppress(httpx.HTTPError):  # a replica that is just being killed, or cannot tell for a moment
        answer = httpx.get(f"{cluster.local.url}/api/v1/replicas", headers=headers).raise_for_status().json()
        return {replica["name"]: replica for replica in answer["replicas"]}
    return {}


def owners(cluster: ClusterProcess, title: str) -> list[str]:
    """The replicas that work on chats whose title begins so."""
    headers = {"Authorization": f"Bearer {cluster.token}"}
    with contextlib.suppress(httpx.HTTPError):
        chats = httpx.get(f"{cluster.local.url}/api/v1/chats", headers=headers).raise_for_status().json()["chats"]
        workers = {chat["worker_id"] for chat in chats if chat["title"].startswith(title)}
        return [name for name, replica in replicas(cluster).items() if replica["worker_id"] in workers]
    return []


def workers(cluster: ClusterProcess) -> dict[str, str]:
    """The worker IDs of those replicas that live, and have no successor yet."""
    return {name: row["worker_id"] for name, row in replicas(cluster).items() if row["state"] == "active"}


def redis_pid(cluster: ClusterProcess) -> int | None:
    return next((pid for pid, command in cluster.children().items() if "redis-server" in command), None)


def pid_of(cluster: ClusterProcess, name: str) -> int:
    return next(pid for pid, command in cluster.children().items() if f"--name {name} " in command)


class TestUp:
    def test_the_printed_command_streams_an_answer(self, cluster: ClusterProcess) -> None:
        """The first thing that anybody tries is copied and pasted."""
        line = next(line for line in cluster.output.splitlines() if "curl" in line)
        with subprocess.Popen(["sh", "-c", f"{line.strip()} & wait"], stdout=subprocess.PIPE, text=True) as shell:
            assert shell.stdout is not None
            parts = 0
            for received in shell.stdout:
                parts += received.startswith("event: part")
                if parts == 3:
                    break
            for pid in (*descendants(shell.pid), shell.pid):
                os.kill(pid, signal.SIGKILL)

    def test_it_tells_where_each_replica_is(self, cluster: ClusterProcess) -> None:
        for replica in replicas(cluster).values():
            assert f"http://{replica['address']}" in cluster.output
            assert httpx.get(f"http://{replica['address']}/readyz").status_code == 200

    def test_a_replica_that_is_killed_comes_back_at_its_port_as_somebody_else(self, cluster: ClusterProcess) -> None:
        before = replicas(cluster)["replica-2"]
        os.kill(pid_of(cluster, "replica-2"), signal.SIGKILL)
        wait_until(lambda: replicas(cluster).get("replica-2", before)["worker_id"] != before["worker_id"])
        assert replicas(cluster)["replica-2"]["address"] == before["address"]
        wait_until(lambda: "replica-2 is back" in cluster.messages)
        assert "replica-2 was killed by SIGKILL; starting it again in 0.5 s" in cluster.messages

    def test_a_chat_in_a_terminal_survives_the_loss_of_its_replica(self, cluster: ClusterProcess) -> None:
        """P4: the whole answer, nothing twice, nothing missing."""
        question = "count [[tokens=120 tps=60 silence_after=60 times=1]]"  # the first attempt waits for its end
        command = [*CHATCLUSTER, "chat", "--data-dir", str(cluster.data_dir), question]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment()) as chat:
            deadline = time.monotonic() + READY_SECONDS_MAX
            while not (found := owners(cluster, "count")):
                assert time.monotonic() < deadline, "nobody has the chat"
                assert chat.poll() is None, "it has ended before its owner was killed"
                time.sleep(0.01)
            os.kill(pid_of(cluster, found[0]), signal.SIGKILL)
            assert chat.stdout is not None
            answer = chat.stdout.read()
        assert chat.returncode == 0
        assert answer.split() == [f"w{number}" for number in range(120)]

    def test_an_embedded_server_that_is_killed_comes_back(self, cluster: ClusterProcess) -> None:
        """P8: and nobody else has to be started again."""
        wait_until(lambda: len(workers(cluster)) == 2)  # whoever was killed before is back
        before, redis = workers(cluster), redis_pid(cluster)
        assert redis is not None
        os.kill(redis, signal.SIGKILL)
        wait_until(lambda: redis_pid(cluster) not in (None, redis))
        wait_until(lambda: workers(cluster) == before)

    def test_a_second_one_on_the_same_data_is_refused_in_one_line(self, cluster: ClusterProcess) -> None:
        second = run_up("--port", "0", "--data-dir", str(cluster.data_dir))
        assert second.returncode == 2
        assert second.stderr.splitlines() == [
            f"Error: {cluster.data_dir} is in use by another chatcluster that is running"
        ]

    def test_a_data_directory_that_cannot_be_locked_is_refused_in_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "lock").mkdir()
        refused = run_up("--port", "0", "--data-dir", str(tmp_path))
        assert refused.returncode == 2
        assert refused.stderr.splitlines() == [f"Error: cannot use the data directory {tmp_path}: Is a directory"]

    def test_what_the_simulated_model_says_of_a_failure_is_shown_whole(self, cluster: ClusterProcess) -> None:
        """Keys are struck out of what a provider says; the simulator's must be no word of it."""
        command = [*CHATCLUSTER, "chat", "--data-dir", str(cluster.data_dir), "Hello [[fail=401]]"]
        failed = subprocess.run(
            command, capture_output=True, text=True, timeout=READY_SECONDS_MAX, env=clean_environment()
        )
        assert failed.returncode == 1
        assert "simulated failure 401" in failed.stderr

    def test_what_it_leaves_for_others_is_for_its_owner_alone(self, cluster: ClusterProcess) -> None:
        for name in ("token", "cluster.json", "redis/redis.conf", "logs/replica-1.log"):
            assert (cluster.data_dir / name).stat().st_mode & 0o077 == 0, name

    def test_no_secret_is_in_the_list_of_processes(self, cluster: ClusterProcess) -> None:
        """P9"""
        password = cluster.local.redis_url.partition("://:")[2].partition("@")[0]
        assert password
        assert not any(password in command or cluster.token in command for command in cluster.children().values())


def run_up(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`up` where it is expected to refuse."""
    command = [*CHATCLUSTER, "up", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=READY_SECONDS_MAX, env=clean_environment())


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_no_process_is_left(self, servers_dir: Path, number: signal.Signals) -> None:
        with cluster_process(servers_dir / f"ended-by-{number.name}", "--replicas", "1") as cluster:
            children = cluster.children()
            assert any("serve" in command for command in children.values())
            status = cluster.end(number)
            wait_until(lambda: not any(map(is_running, children)))
            assert status == (-signal.SIGKILL if number == signal.SIGKILL else 0)

    def test_the_data_and_the_token_are_there_at_the_next_start(self, servers_dir: Path) -> None:
        """P1: also when the end was a crash."""
        data_dir = servers_dir / "twice"
        with cluster_process(data_dir, "--replicas", "1") as first:
            token = first.token
            headers = {"Authorization": f"Bearer {token}"}
            chat = httpx.post(
                f"{first.local.url}/api/v1/chats", headers=headers, json={"content": "Hello [[tokens=1]]"}
            ).json()
            first.end(signal.SIGKILL)
        assert local_cluster.read_cluster(data_dir) is None
        with cluster_process(data_dir, "--replicas", "1") as second:
            assert second.token == token
            again = httpx.get(f"{second.local.url}/api/v1/chats/{chat['id']}", headers=headers)
            assert again.status_code == 200

    def test_a_port_in_use_is_one_line_and_nothing_is_started(self, servers_dir: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            refused = run_up("--port", port, "--data-dir", str(servers_dir / "refused"))
        assert refused.returncode == 2
        assert f"Error: cannot listen on 127.0.0.1 port {port}: it is in use" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert not (servers_dir / "refused" / "postgres").exists()

    def test_a_given_database_that_does_not_answer_is_one_line(self, servers_dir: Path) -> None:
        refused = run_up(
            *("--port", "0", "--data-dir", str(servers_dir / "unreachable")),
            *("--database-url", "postgresql://nobody@127.0.0.1:1/nothing"),
        )
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].startswith("Error: ")
        assert "Traceback" not in refused.stderr


class TestKeeper:
    """With the simulated model as the child: the quickest that there is."""

    @pytest.fixture
    def said(self) -> list[str]:
        return []

    def keeper(self, tmp_path: Path, said: list[str], *command: str, **options: object) -> Keeper:
        def line(previous: Ready | None) -> list[str]:
            return [*command, "--port", str(previous.port if previous else 0)]

        return Keeper(
            "child",
            line,
            environment=clean_environment(),
            log=tmp_path / "child.log",
            stop_seconds=5.0,
            say=said.append,
        )

    async def test_a_dead_child_has_a_successor_at_the_same_port(self, tmp_path: Path, said: list[str]) -> None:
        keeper = self.keeper(tmp_path, said, "simulate-llm")
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.run)
            first, port = keeper.pid, keeper.ready and keeper.ready.port
            assert first is not None
            os.kill(first, signal.SIGKILL)
            with trio.fail_after(READY_SECONDS_MAX):
                while len(said) < 2:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            assert keeper.ready is not None
            assert keeper.ready.port == port
            assert keeper.pid not in (None, first)
            nursery.cancel_scope.cancel()
        assert said == [
            "child was killed by SIGKILL; starting it again in 0.5 s",
            said[1],
        ]
        assert said[1].startswith(f"child is back: port {port}, pid ")

    async def test_cancelled_it_leaves_no_process(self, tmp_path: Path, said: list[str]) -> None:
        keeper = self.keeper(tmp_path, said, "simulate-llm")
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.run)
            pid = keeper.pid
            assert pid is not None
            nursery.cancel_scope.cancel()
        assert not is_running(pid)
        assert keeper.pid is None

    async def test_a_child_that_never_gets_ready_is_an_error_with_its_last_words(
        self, tmp_path: Path, said: list[str]
    ) -> None:
        keeper = self.keeper(tmp_path, said, "simulate-llm", "--host", "203.0.113.1")
        with pytest.raises(ConfigError, match=r"child does not start: cannot listen on 203\.0\.113\.1"):
            await keeper.run()

    async def test_a_child_that_cannot_come_back_is_tried_less_and_less_often(
        self, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keeper_module, "RESTART_SECONDS_MIN", 0.001)
        monkeypatch.setattr(keeper_module, "RESTART_SECONDS_MAX", 0.004)
        commands = iter([["simulate-llm", "--port", "0"], *[["no-such-command"]] * 5])
        keeper = Keeper(
            "child",
            lambda _: next(commands),
            environment=clean_environment(),
            log=tmp_path / "child.log",
            stop_seconds=5.0,
            say=said.append,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.run)
            assert keeper.pid is not None
            os.kill(keeper.pid, signal.SIGKILL)
            with trio.fail_after(READY_SECONDS_MAX):
                while len(said) < 4:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        assert [line.rpartition(" in ")[2] for line in said[:4]] == ["0.001 s", "0.002 s", "0.004 s", "0.004 s"]


async def test_an_embedded_server_that_cannot_come_back_at_once_is_tried_again(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P8: nothing else ends because of it."""
    monkeypatch.setattr(supervisor, "SERVER_RETRY_SECONDS", 0.01)
    said: list[str] = []
    port = urlsplit(own_redis.start()).port
    own_redis.kill()
    async with trio.open_nursery() as nursery:
        with socket.create_server(("127.0.0.1", port or 0)):
            nursery.start_soon(supervisor.keep_running, own_redis, said.append)
            with trio.fail_after(READY_SECONDS_MAX):
                while not any("trying again in" in line for line in said):
                    await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.fail_after(READY_SECONDS_MAX):
            while own_redis.pid is None:
                await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()


def test_settings_reach_a_replica_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATCLUSTER_SLOTS", "9")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    settings = Settings.of(
        database_url="postgresql://u:p@h/d", slots=7, llm_include_usage=False, llm_base_url="http://m/v1"
    )
    assert from_environment(supervisor.replica_environment(settings)) == settings


def test_what_the_environment_says_of_hosts_of_workspaces_reaches_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATCLUSTER_WORKSPACES_PRIVATE_NETWORKS", "10.0.0.0/8")
    told = local_cluster.host_environment(tmp_path)
    assert told["CHATCLUSTER_WORKSPACES_PRIVATE_NETWORKS"] == "10.0.0.0/8"
    assert told["CHATCLUSTER_WORKSPACES_DIR"].startswith("/")


def test_a_successor_takes_its_predecessors_port_and_declares_it_dead() -> None:
    command = supervisor.ReplicaCommand("replica-1", 5)
    assert "--replaces" not in command(None)
    successor = command(Ready(port=4711, worker_id="0198"))
    assert successor[successor.index("--port") + 1] == "4711"
    assert successor[successor.index("--replaces") + 1] == "0198"


class TestLogs:
    def test_warnings_are_shown_and_the_rest_is_in_the_file(self) -> None:
        warning = json.dumps({"level": "warning", "event": "replica.buried", "ts": "-", "chats": 2}).encode()
        info = json.dumps({"level": "info", "event": "chat.claimed", "ts": "-"}).encode()
        assert log_tail.describe(warning, everything=False) == "replica.buried chats=2"
        assert log_tail.describe(info, everything=False) == ""
        assert log_tail.describe(info, everything=True) == "chat.claimed"

    @pytest.mark.parametrize("line", [b"Traceback (most recent call last):", b"\xff\xfe", b"[1, 2]"])
    def test_what_is_no_log_line_is_shown_as_it_is(self, line: bytes) -> None:
        assert log_tail.describe(line, everything=False) == line.decode(errors="replace")

    def test_lines_come_whole_and_once_also_when_the_file_is_put_aside(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_bytes(b"before\n")
        tail = log_tail.Tail(log)
        assert tail.new_lines() == []
        with open(log, "ab") as file:
            file.write(b"one\ntw")
        assert tail.new_lines() == [b"one"]
        with open(log, "ab") as file:
            file.write(b"o\n")
        assert tail.new_lines() == [b"two"]
        log.unlink()
        log.write_bytes(b"new\n")
        assert tail.new_lines() == [b"new"]


class TestLocalCluster:
    def test_a_cluster_that_no_longer_runs_is_none(self, tmp_path: Path) -> None:
        process = subprocess.Popen(["true"])
        process.wait()
        gone = local_cluster.LocalCluster("http://127.0.0.1:1", "", "", process.pid)
        local_cluster.write_cluster(tmp_path, gone)
        assert local_cluster.read_cluster(tmp_path) is None

        local_cluster.write_cluster(tmp_path, local_cluster.LocalCluster("http://127.0.0.1:1", "", "", os.getpid()))
        assert local_cluster.read_cluster(tmp_path) is not None

    def test_a_damaged_record_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        (tmp_path / "cluster.json").write_text("{")
        with pytest.raises(ConfigError, match=r"cluster\.json"):
            local_cluster.read_cluster(tmp_path)
