"""The agent of a workspace: each call once, whoever asks and however often, and what became of it."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from agent_process import (
    LOOK_SECONDS,
    AgentProcess,
    a_sleep,
    ended,
    execute,
    ran,
    request,
    running_agent,
    runs,
    until_runs,
)
from msgspec.structs import replace

from chatcluster.workspace_errors import CallConflict, StaleEpoch, UnknownCall, WorkspaceRefused, WorkspaceUnreachable
from chatcluster.workspace_wire import CallState, Kind
from chatcluster.workspaces.agent import ledger as ledgers
from chatcluster.workspaces.agent.calls import Calls
from chatcluster.workspaces.agent.ledger import Ledger
from chatcluster.workspaces.agent.mcp.servers import Servers
from chatcluster.workspaces.agent.names import Places
from chatcluster.workspaces.agent.processes import SERVICE_CALL, Processes
from chatcluster.workspaces.agent.refused import Refused
from chatcluster.workspaces.agent_client import AgentClient, dial_unix

WAITS = "echo begun; while [ ! -e go ]; do sleep 0.02; done; echo over"
LOOPS = "echo begun; while true; do sleep 0.02; done"


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[AgentProcess]:
    async with running_agent(tmp_path) as agent:
        yield agent


@pytest.fixture
def client(agent: AgentProcess) -> AgentClient:
    return agent.client


async def begun(client: AgentClient, call_id: str) -> None:
    """The command has said its first word."""
    assert (await client.call(call_id, wait_seconds=30)).output.startswith(b"begun")


# --- a command ----------------------------------------------------------------------------------


async def test_a_command_says_what_it_wrote_on_both_outputs_and_how_it_ended(client: AgentClient) -> None:
    answer = await ran(client, "echo one; echo two >&2; printf '\\377'; exit 3")
    assert (answer.state, answer.exit_code, answer.signal) == (CallState.EXITED, 3, None)
    assert answer.output == b"one\ntwo\n\xff"
    assert answer.output_bytes == answer.kept_bytes == 9
    assert answer.started_at is not None
    assert answer.ended_at is not None


async def test_a_command_that_died_of_a_signal_of_its_own_has_exited(client: AgentClient) -> None:
    answer = await ran(client, "kill -SEGV $$")
    assert (answer.state, answer.exit_code, answer.signal) == (CallState.EXITED, None, signal.SIGSEGV)


async def test_a_command_runs_in_its_directory_with_its_environment_and_no_input(
    agent: AgentProcess, client: AgentClient
) -> None:
    (agent.work / "sub").mkdir()
    answer = await ran(client, "pwd; echo $EDITOR; cat", workdir="sub", env={"EDITOR": "true"})
    assert answer.output.decode() == f"{agent.work / 'sub'}\ntrue\n"


async def test_output_is_read_on_from_any_byte_while_the_command_runs(agent: AgentProcess, client: AgentClient) -> None:
    await client.put("a", execute(WAITS))
    await begun(client, "a")
    assert (await client.call("a", offset=2)).output == b"gun\n"
    (agent.work / "go").touch()
    answer = await client.call("a", offset=6, wait_seconds=30)
    assert answer.output == b"over\n"
    assert (await ended(client, "a")).output == b"begun\nover\n"


async def test_what_a_command_leaves_behind_keeps_nobody_waiting(client: AgentClient) -> None:
    answer = await ran(client, f"{a_sleep()} & echo done")
    assert (answer.state, answer.output) == (CallState.EXITED, b"done\n")
    await until_runs(a_sleep())
    assert (await client.cancel(answer.call_id, 1)).state is CallState.EXITED
    assert not runs(a_sleep())


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"command": "true", "workdir": "nowhere"}, "command_not_started"),
        ({"command": "true\0"}, "invalid_request"),
        ({"command": "true", "env": {"A=B": "c"}}, "invalid_request"),
        ({"command": "true #" + "x" * (200 << 10)}, "too_large"),
    ],
    ids=["no directory", "zero byte", "equals sign", "too long"],
)
async def test_a_command_that_cannot_be_started_has_failed_and_says_why(
    client: AgentClient, values: dict[str, Any], code: str
) -> None:
    answer = await client.put("a", request(Kind.EXECUTE, **values))
    assert answer.state is CallState.FAILED
    assert answer.error is not None
    assert answer.error.startswith(code)


async def test_where_there_is_no_git_that_is_said_and_not_that_there_is_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with running_agent(tmp_path) as agent:
        with pytest.raises(WorkspaceRefused, match="there is no git"):
            await agent.client.diff()


async def test_a_place_in_the_queue_of_an_agent_is_waited_for(tmp_path: Path) -> None:
    """Who runs beside it may take all that there are."""
    with closing(socket.socket(socket.AF_UNIX)) as listening, ExitStack() as others:
        listening.bind(str(tmp_path / "agent.sock"))
        listening.listen(0)
        is_full = False
        while not is_full:
            other = others.enter_context(closing(socket.socket(socket.AF_UNIX)))
            other.setblocking(False)
            is_full = other.connect_ex(str(tmp_path / "agent.sock")) == errno.EAGAIN
        with trio.move_on_after(0.1) as waiting:
            await dial_unix(tmp_path / "agent.sock")
        assert waiting.cancelled_caught
        listening.accept()[0].close()
        with trio.fail_after(60):
            await (await dial_unix(tmp_path / "agent.sock")).aclose()


async def test_a_command_that_is_longer_than_an_argument_may_be_says_what_to_do(client: AgentClient) -> None:
    assert (await ran(client, f": {'x' * 131_069}")).exit_code == 0
    told = await client.put("long", execute(f": {'x' * 131_070}"))
    assert told.state is CallState.FAILED
    assert str(told.error).startswith("too_large: a command has 131071 bytes at most")


@pytest.mark.parametrize("command", ["-x", "--version", "-c ls"])
async def test_a_command_is_one_though_it_begins_as_an_option_does(client: AgentClient, command: str) -> None:
    answer = await ran(client, command)
    assert answer.exit_code == 127
    assert b"not found" in answer.output


async def test_the_longest_path_that_may_be_asked_for_is_answered(client: AgentClient) -> None:
    with pytest.raises(WorkspaceRefused, match="more than 4096 bytes"):
        await client.read_file("\N{GRINNING FACE}" * 4096, offset=0, limit=10)


async def test_a_command_is_killed_at_its_deadline(client: AgentClient) -> None:
    await client.put("a", replace(execute("sleep 300"), deadline_seconds=0.1))
    answer = await ended(client, "a")
    assert answer.state is CallState.KILLED
    assert answer.error == "it took longer than 0.1 seconds"


# --- once ---------------------------------------------------------------------------------------


async def test_a_call_that_is_put_again_is_attached_to(agent: AgentProcess, client: AgentClient) -> None:
    for _ in range(3):
        await client.put("a", execute("echo x >>ran; echo out"))
    assert (await ended(client, "a")).output == b"out\n"
    again = await client.put("a", execute("echo x >>ran; echo out"))
    assert (again.state, again.output) == (CallState.EXITED, b"out\n")
    assert (agent.work / "ran").read_text() == "x\n"


async def test_many_who_put_a_call_at_the_same_time_begin_it_once(agent: AgentProcess, client: AgentClient) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(client.put, "a", execute("echo x >>ran"))
    await ended(client, "a")
    assert (agent.work / "ran").read_text() == "x\n"


async def test_another_call_with_the_same_id_is_refused(client: AgentClient) -> None:
    await client.put("a", execute("true"))
    with pytest.raises(CallConflict):
        await client.put("a", execute("true", digest="other"))


async def test_a_call_that_was_never_put_is_unknown(client: AgentClient) -> None:
    with pytest.raises(UnknownCall):
        await client.call("a")


async def test_a_buried_call_never_begins(agent: AgentProcess, client: AgentClient) -> None:
    assert (await client.cancel("a", 1, chat_id="chat")).state is CallState.BURIED
    assert (await client.put("a", execute("touch ran"))).state is CallState.BURIED
    assert (await client.call("a")).state is CallState.BURIED
    assert (await client.cancel("a", 1, chat_id="chat")).state is CallState.BURIED
    assert not (agent.work / "ran").exists()


# --- the fence ----------------------------------------------------------------------------------


async def test_a_tenure_that_is_over_is_refused_and_nothing_of_it_is_begun(client: AgentClient) -> None:
    await client.put("a", execute("true", epoch=5))
    for refused in (
        client.put("b", execute("true", epoch=4)),
        client.put("a", execute("true", epoch=4)),
        client.cancel("a", 4),
        client.cancel("c", 4, chat_id="chat"),
    ):
        with pytest.raises(StaleEpoch):
            await refused
    for unseen in ("b", "c"):
        with pytest.raises(UnknownCall):
            await client.call(unseen)
    assert (await client.put("b", execute("true", epoch=5))).kind == Kind.EXECUTE
    assert (await client.put("d", execute("true", epoch=1, chat="another"))).kind == Kind.EXECUTE


async def test_who_attaches_or_buries_raises_the_fence(client: AgentClient) -> None:
    await client.put("a", execute("true"))
    await client.put("a", execute("true", epoch=7))
    await client.cancel("b", 8, chat_id="chat")
    with pytest.raises(StaleEpoch):
        await client.put("c", execute("true", epoch=7))


# --- ends ---------------------------------------------------------------------------------------


async def test_a_cancel_ends_all_that_the_call_began_also_what_ignores_it(client: AgentClient) -> None:
    sleeps = [a_sleep(number) for number in range(3)]
    begin = f"{sleeps[0]} & setsid {sleeps[1]} & (env -i setsid {sleeps[2]} &)"
    await client.put("a", execute(f"trap '' TERM INT HUP; {begin}; echo begun; wait; wait"))
    await begun(client, "a")
    with trio.fail_after(60):
        answer = await client.cancel("a", 1)
    assert (answer.state, answer.error) == (CallState.KILLED, "it was cancelled")
    assert not any(map(runs, sleeps))


async def test_a_command_may_end_in_order_when_it_is_cancelled(client: AgentClient) -> None:
    await client.put("a", execute(f"exec 2>/dev/null; trap 'echo bye; exit 4' TERM; {LOOPS}"))
    await begun(client, "a")
    await client.cancel("a", 1)
    answer = await ended(client, "a")
    assert (answer.state, answer.exit_code) == (CallState.KILLED, 4)
    assert answer.output == b"begun\nbye\n"


async def test_a_cancel_leaves_the_other_calls_alone(agent: AgentProcess, client: AgentClient) -> None:
    for call_id in ("a", "b"):
        await client.put(call_id, execute(WAITS))
        await begun(client, call_id)
    await client.cancel("a", 1)
    (agent.work / "go").touch()
    assert (await ended(client, "b")).output == b"begun\nover\n"


async def test_a_call_that_has_ended_stays_as_it_is(client: AgentClient) -> None:
    answer = await ran(client, "exit 2")
    cancelled = await client.cancel(answer.call_id, 1)
    assert (cancelled.state, cancelled.exit_code) == (CallState.EXITED, 2)


async def test_a_process_is_signalled_by_a_call_and_the_call_is_made_once(client: AgentClient) -> None:
    await client.put("a", execute(f"exec 2>/dev/null; trap 'echo term' TERM; {LOOPS}", background=True))
    await begun(client, "a")
    for _ in range(2):
        await client.put("s", request(Kind.SIGNAL, process_id="a", signal="terminate"))
    assert (await client.call("a", offset=6, wait_seconds=30)).output == b"term\n"
    answer = await client.put("k", request(Kind.SIGNAL, process_id="a", signal="kill"))
    assert answer.state is CallState.EXITED
    assert (await ended(client, "a")).signal == signal.SIGKILL
    assert (await client.call("a")).output == b"begun\nterm\n"


@pytest.mark.parametrize(("sent", "code"), [("hangup", "invalid_request"), ("kill", "not_running")])
async def test_a_signal_that_cannot_be_sent_is_refused(client: AgentClient, sent: str, code: str) -> None:
    answer = await ran(client, "true")
    with pytest.raises(WorkspaceRefused) as refused:
        await client.signal(answer.call_id, sent)
    assert refused.value.code == code


async def test_processes_are_listed_those_that_run_first(agent: AgentProcess, client: AgentClient) -> None:
    await client.put("a", execute(WAITS, background=True))
    await begun(client, "a")
    await ran(client, "exit 1")
    await client.put("w", request(Kind.WRITE_FILE, path="x", content=""))
    running, over = await client.processes()
    assert (running.call_id, running.command, running.background, running.state) == ("a", WAITS, True, "running")
    assert running.output_bytes == 6
    assert (over.exit_code, over.background, over.state) == (1, False, "exited")


async def test_many_long_commands_are_listed(client: AgentClient) -> None:
    for number in range(20):
        await client.put(f"long-{number}", execute(": '" + "\n" * 100_000 + "'"))
    listed = await client.processes()
    assert len(listed) == 20
    assert sum(len(process.command) for process in listed) < 100_000


def test_the_programs_of_a_screen_are_forgotten_when_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    processes, wait = Processes(), os.waitpid
    child = processes.begin(["true"], directory=b"/", environment={}, call=SERVICE_CALL, output=subprocess.DEVNULL)
    monkeypatch.setattr(os, "waitpid", lambda _all, _options: wait(child.pid, 0))  # no other child of the tests'
    processes._reap_all()
    assert child.exit_code == 0
    assert processes._calls_by_session == {}


async def test_a_cancel_of_foreground_calls_leaves_what_went_to_the_background(client: AgentClient) -> None:
    commands: dict[str, dict[str, Any]] = {
        "asked": {"background": True},
        "slow": {"foreground_seconds": 0.01},
        "quick": {"foreground_seconds": 99},
    }
    for call_id, values in commands.items():
        await client.put(call_id, execute(f"echo begun; {a_sleep()}", **values))
        await begun(client, call_id)
    while not (await client.call("slow")).background:  # noqa: ASYNC110 - the agent tells it when it is asked
        await trio.sleep(LOOK_SECONDS)
    answers = {call_id: await client.cancel(call_id, 1, foreground_only=True) for call_id in commands}
    assert {call_id: answer.background for call_id, answer in answers.items()} == {
        "asked": True,
        "slow": True,
        "quick": False,
    }
    assert {call_id for call_id, answer in answers.items() if answer.state is CallState.RUNNING} == {"asked", "slow"}
    assert (await client.cancel("slow", 1)).state is CallState.KILLED


async def test_a_cancel_of_foreground_calls_leaves_what_a_command_left_running_that_has_ended(
    client: AgentClient,
) -> None:
    """A server begun with ``&``: whoever cancels found the command running, and it ended as it should meanwhile."""
    answer = await ran(client, f"{a_sleep()} & echo begun")
    await until_runs(a_sleep())
    assert (await client.cancel(answer.call_id, 1, foreground_only=True)).state is CallState.EXITED
    assert runs(a_sleep())
    await client.cancel(answer.call_id, 1)
    assert not runs(a_sleep())


async def test_how_long_a_call_takes_is_not_told_by_a_clock_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes, places = Processes(), Places(b"/", os.fsencode(tmp_path))
    async with trio.open_nursery() as nursery:
        await nursery.start(processes.reap)
        servers = Servers(processes, places, nursery)
        calls = Calls(Ledger(tmp_path), processes, places, None, servers, nursery, output_bytes_max=100)
        monkeypatch.setattr("time.time", lambda: 1e9)
        await calls.put("a", execute("exec sleep 300", foreground_seconds=0.1))
        monkeypatch.setattr("time.time", lambda: 1.0)
        with trio.fail_after(60):
            while not (await calls.call("a", 0, 0)).background:  # noqa: ASYNC110 - the agent tells it when it is asked
                await trio.sleep(LOOK_SECONDS)
            answer = await calls.cancel("a", 1, "chat")
        assert answer.state is CallState.KILLED
        assert answer.ended_at == pytest.approx(1e9 + answer.wall_ms / 1000, abs=0.01)
        nursery.cancel_scope.cancel()


# --- across the end of an agent -------------------------------------------------------------------


async def test_after_the_death_of_the_agent_a_call_is_told_as_it_was_and_not_begun_again(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path)
    await agent.start()
    await ran(agent.client, "exit 6", digest="d")
    await agent.client.put("a", execute(WAITS + "; touch ran", epoch=3))
    await begun(agent.client, "a")
    await agent.client.cancel("buried", 3, chat_id="chat")
    agent.kill()
    await agent.start()
    (agent.work / "go").touch()
    try:
        answer = await agent.client.put("a", execute(WAITS + "; touch ran", epoch=3))
        assert (answer.state, answer.error) == (CallState.KILLED, "the workspace ended while it ran")
        assert answer.output == b"begun\n"
        assert answer.ended_at is not None
        assert (await agent.client.put("buried", execute("true", epoch=3))).state is CallState.BURIED
        with pytest.raises(StaleEpoch):
            await agent.client.put("b", execute("true", epoch=2))
        assert [process.state for process in await agent.client.processes()] == [CallState.KILLED, CallState.EXITED]
    finally:
        agent.kill()


async def test_an_agent_that_is_stopped_ends_what_runs_and_says_so(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path)
    await agent.start()
    await agent.client.put("a", execute("echo begun; sleep 304"))
    await begun(agent.client, "a")
    await agent.stop()
    with pytest.raises(WorkspaceUnreachable):
        await agent.client.status()
    await agent.start()
    answer = await agent.client.call("a")
    await agent.stop()
    assert (answer.state, answer.error) == (CallState.KILLED, "the workspace was stopped")


async def test_what_is_begun_was_written_down_before(tmp_path: Path) -> None:
    """The command itself finds its call in what is on the disk."""
    async with running_agent(tmp_path) as agent:
        query = "SELECT state FROM calls"
        look = f"import sqlite3; print(*sqlite3.connect('ledger.sqlite').execute('{query}'))"
        command = f'cp {agent.state}/ledger.sqlite* . && python3 -c "{look}"'
        assert (await ran(agent.client, command)).output == b"('running',)\n"


async def test_a_ledger_that_cannot_be_read_is_not_passed_over_and_it_is_said_what_to_do(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    agent = AgentProcess(tmp_path)
    (agent.state / "ledger.sqlite").write_bytes(b"garbage" * 1000)
    agent.begin()
    assert agent.process is not None
    assert await trio.to_thread.run_sync(agent.process.wait) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert f"ledger.sqlite in {agent.state}, cannot be read (file is not a database)" in line
    assert "move it away" in line


def test_a_transaction_that_fails_as_nobody_foresaw_leaves_none_open(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(OverflowError):
        ledger.raise_epoch("chat", 1 << 64)
    ledger.raise_epoch("chat", 7)
    assert ledger.epoch("chat") == 7
    ledger.close()


async def test_two_agents_have_not_the_same_ledger(agent: AgentProcess) -> None:
    second = AgentProcess(agent.top)
    second.begin()
    assert second.process is not None
    assert await trio.to_thread.run_sync(second.process.wait) == 1
    assert (await agent.client.status()).running == 0


async def test_what_is_kept_of_old_calls_is_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "CALLS_KEPT_MAX", 2)
    ledger = ledgers.Ledger(tmp_path)
    for number in range(1, 5):
        values = {
            "call_id": str(number),
            "chat_id": "c",
            "digest": "d",
            "kind": "execute",
            "input": b"{}",
            "started_at": 1.0,
        }
        entry = ledger.begin(values, 1)
        ledger.output_path(entry.number).write_bytes(b"out")
        ended_entry = replace(entry, state=CallState.EXITED, exit_code=7, kept_bytes=3)
        ledger.end(ended_entry)
    oldest, newest = ledger.call("1"), ledger.call("4")
    assert oldest is not None
    assert newest is not None
    assert (oldest.state, oldest.exit_code, oldest.kept_bytes) == (CallState.EXITED, 7, 0)
    assert oldest.command.command == "", "what it left behind can be signalled all the same"
    assert newest.kept_bytes == 3
    assert sorted(os.listdir(tmp_path / "output")) == ["3", "4"]
    ledger.close()


async def test_an_end_that_is_written_stands_where_there_is_no_room_to_forget_an_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "CALLS_KEPT_MAX", 0)
    ledger = ledgers.Ledger(tmp_path)
    values = {"call_id": "a", "chat_id": "c", "digest": "d", "kind": "execute", "input": b"{}", "started_at": 1.0}
    with monkeypatch.context() as patched:
        patched.setitem(ledgers._QUERIES, "strip", "UPDATE is_full SET input = NULL WHERE number = ?")
        ledger.end(replace(ledger.begin(values, 1), state=CallState.EXITED, kept_bytes=3))
    kept = ledger.call("a")
    assert kept is not None
    assert (kept.state, kept.kept_bytes) == (CallState.EXITED, 3)
    ledger.end(replace(ledger.begin({**values, "call_id": "b"}, 1), state=CallState.EXITED))
    stripped = ledger.call("a")
    assert stripped is not None
    assert stripped.kept_bytes == 0
    ledger.close()


@contextmanager
def nothing_written() -> Iterator[None]:
    """No file of this process grows, or is written anew."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_the_least_disk_that_there_may_be_is_not_the_ledger_s(tmp_path: Path) -> None:
    async with running_agent(tmp_path, f"--file-bytes-max={1 << 20}") as agent:
        for number in range(80):  # what the ledger writes of them in the first place is more than a megabyte
            written = await agent.client.put(f"w{number}", request(Kind.WRITE_FILE, path="f", content="x"))
            assert written.state is CallState.EXITED, written.error
        large = await agent.client.put("large", request(Kind.WRITE_FILE, path="f", content="x" * (1 << 21)))
        assert (large.error or "").startswith("disk_full")
        assert (await ran(agent.client, "head -c 2M /dev/zero >f")).exit_code != 0
        assert (agent.work / "f").stat().st_size <= 1 << 20


async def test_a_full_disk_begins_nothing_and_forgets_no_end(tmp_path: Path) -> None:
    ledger = ledgers.Ledger(tmp_path)
    values = {"call_id": "a", "chat_id": "c", "digest": "d", "kind": "execute", "input": b"{}", "started_at": 1.0}
    entry = ledger.begin(values, 1)
    with nothing_written():
        ledger.end(replace(entry, state=CallState.EXITED))
        with pytest.raises(Refused, match="cannot be written"):
            ledger.begin({**values, "call_id": "b"}, 1)
        assert ledger.call("b") is None
        found = ledger.call("a")
        assert found is not None
        assert found.state is CallState.EXITED
    ledger.end(ledger.begin({**values, "call_id": "c"}, 1))
    ledger.close()
    stored = ledgers.Ledger(tmp_path).call("a")
    assert stored is not None
    assert stored.state is CallState.EXITED
