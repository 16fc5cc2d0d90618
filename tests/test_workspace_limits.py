"""What a workspace takes is bounded, and said; what it does to itself is done to no other."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio
from agent_process import a_sleep, answering, execute, ran, request, runs, until_runs
from msgspec.structs import replace
from sandbox_world import LIMITS, needs_sandboxes, spec_of

from chatcluster.ports.workspace import SandboxState, WorkspaceSpec
from chatcluster.workspace_errors import SandboxFailed, SandboxMissing, WorkspaceUnreachable
from chatcluster.workspace_wire import DIFF_FILES_MAX, CallState, Kind
from chatcluster.workspaces import cgroups, disks, sandbox
from chatcluster.workspaces.agent_client import AgentClient, over_unix
from chatcluster.workspaces.places import place_of
from chatcluster.workspaces.process_provider import ProcessProvider, open_process_provider

pytest_plugins = ["sandbox_fixtures"]
pytestmark = needs_sandboxes

FILES = 100_000

needs_disks = pytest.mark.skipif(not disks.can_mount(), reason=disks.DISK_MISSING)
needs_memory = pytest.mark.skipif(cgroups.hierarchies().memory is None, reason=cgroups.MEMORY_MISSING)


@pytest.fixture
async def inside(provider: ProcessProvider) -> AgentClient:
    await provider.start(spec_of("one"))
    return over_unix(provider.socket_path("one"))


# --- what commands do -----------------------------------------------------------------------------


async def test_a_gigabyte_of_output_is_counted_and_its_beginning_kept(inside: AgentClient) -> None:
    answer = await ran(inside, "head -c 1000000000 /dev/zero; echo the end >&2")
    assert (answer.exit_code, answer.output_bytes) == (0, 1_000_000_008)
    assert answer.kept_bytes == len(answer.output) == LIMITS.output_bytes_max


async def test_a_command_is_ended_in_the_middle_of_endless_output(inside: AgentClient) -> None:
    await inside.put("a", execute("yes"))
    await inside.call("a", offset=LIMITS.output_bytes_max - 1, wait_seconds=30)
    with trio.fail_after(120):
        answer = await inside.cancel("a", 1)
    assert answer.state is CallState.KILLED
    assert answer.output_bytes >= answer.kept_bytes == LIMITS.output_bytes_max


async def test_a_fork_bomb_is_bounded_and_ends_with_its_call(inside: AgentClient) -> None:
    await inside.put("a", execute("bomb() { bomb | bomb & }; bomb; sleep 100000"))
    await inside.call("a", wait_seconds=30)  # it has said that it can make no more
    with trio.fail_after(120):
        await inside.cancel("a", 1)
    answer = await ran(inside, "ls /proc | grep -cE '^[0-9]+$'")
    assert int(answer.output) < 10


async def test_where_no_process_can_be_had_files_are_still_read_and_calls_ended(inside: AgentClient) -> None:
    await inside.put("a", execute("i=0; while [ $i -lt 200 ]; do sleep 100000 & i=$((i+1)); done; wait"))
    await inside.call("a", wait_seconds=30)
    await inside.put("w", request(Kind.WRITE_FILE, path="a", content="x"))
    assert (await inside.read_file("a", offset=0, limit=10)).content == b"x"
    assert (await inside.put("b", execute("true"))).state in (CallState.FAILED, CallState.RUNNING)
    await inside.cancel("a", 1)
    assert (await ran(inside, "echo again")).output == b"again\n"


@needs_memory
async def test_what_takes_too_much_memory_is_ended_and_the_agent_is_not(inside: AgentClient) -> None:
    answer = await ran(inside, "/usr/bin/python3 -c 'x = bytearray(1 << 30)'")
    assert answer.exit_code != 0 or answer.signal is not None
    assert (await ran(inside, "echo again")).output == b"again\n"


@needs_memory
async def test_memory_that_is_filled_with_files_is_not_the_agents(inside: AgentClient) -> None:
    fill = "for name in /dev/shm/1 /dev/shm/2 /dev/shm/3 /dev/shm/4 /tmp/5; do cat /dev/zero >$name; done"
    await ran(inside, fill)
    assert (await ran(inside, "rm -r /dev/shm/* /tmp/*; echo again")).output == b"again\n"


@needs_memory
async def test_the_smallest_memory_that_there_may_be_has_room_for_the_agent(provider: ProcessProvider) -> None:
    await provider.start(spec_of("small", limits=replace(LIMITS, memory_bytes=32 << 20)))
    small = over_unix(provider.socket_path("small"))
    filled = await ran(
        small,
        "for name in /tmp/all /dev/shm/all /tmp/all2 /run/all; do cat /dev/zero >$name; done; echo full",
    )
    assert filled.output.endswith(b"full\n")
    assert (await ran(small, "echo lives")).output == b"lives\n"


@needs_disks
async def test_a_full_disk_is_told_and_the_ledger_goes_on(inside: AgentClient) -> None:
    answer = await ran(inside, "head -c 1G /dev/zero >full; echo $?; head -c 1G /dev/zero >/tmp/full; echo $?")
    assert answer.output.count(b"No space left on device") == 2
    written = await inside.put("w", request(Kind.WRITE_FILE, path="more", content="x" * 100_000))
    assert written.state is CallState.FAILED
    assert written.error is not None
    assert written.error.startswith("disk_full")
    assert (await ran(inside, "ls -A; rm full; echo x >more; cat more")).output == b"full\nx\n"


@needs_disks
async def test_the_disk_of_one_is_not_the_disk_of_another(provider: ProcessProvider, inside: AgentClient) -> None:
    await ran(inside, "head -c 1G /dev/zero >full")
    await provider.start(spec_of("two"))
    other = over_unix(provider.socket_path("two"))
    assert (await ran(other, "head -c 10M /dev/zero >some; stat -c %s some")).output == b"10485760\n"


async def test_a_hundred_thousand_files_are_looked_at_within_bounds(provider: ProcessProvider) -> None:
    limits = type(LIMITS)(memory_bytes=1 << 30, processes_max=64, disk_bytes=2 << 30)
    await provider.start(spec_of("many", limits=limits))
    inside = over_unix(provider.socket_path("many"))
    made = await ran(inside, f"git init -q .; mkdir many; cd many; seq {FILES} | xargs touch; ls | wc -l")
    assert int(made.output) == FILES
    answer = await inside.diff()
    assert [(file.path, file.status) for file in answer.files] == [("many/", "untracked")]
    await ran(inside, "mv many/[1-9][0-9][0-9][0-9] .")
    answer = await inside.diff()
    assert answer.is_truncated
    assert len(answer.files) == DIFF_FILES_MAX


async def test_names_of_any_bytes_are_written_read_and_told(inside: AgentClient) -> None:
    name = "odd \\xff\n\t\"'$(x)*é\\x80"
    await inside.put("w", request(Kind.WRITE_FILE, path=name, content="x"))
    assert (await ran(inside, "ls -b")).output == b"odd\\ \\377\\n\\t\"'$(x)*\xc3\xa9\\200\n"
    assert (await inside.read_file(name, offset=0, limit=10)).content == b"x"
    await ran(inside, "git init -q .")
    assert [file.path for file in (await inside.diff()).files] == [name]


async def test_a_command_that_ignores_signals_ends_with_its_call(inside: AgentClient) -> None:
    await inside.put(
        "a", execute(f"trap '' TERM INT HUP QUIT; setsid {a_sleep()} & echo begun; while true; do wait; done")
    )
    await inside.call("a", wait_seconds=30)
    with trio.fail_after(120):
        assert (await inside.cancel("a", 1)).state is CallState.KILLED
    assert not runs(a_sleep())


SHAKES = (
    "nohup {0} >/dev/null 2>&1 &",
    "setsid -f {0}",
    "env -i setsid -f {0}",
    "(setsid sh -c 'setsid -f {0}' &)",
    "CHATCLUSTER_CALL=0 setsid -f {0}",
    "CHATCLUSTER_CALL=123456 setsid -f {0}",
    "CHATCLUSTER_CALL=nothing setsid -f {0}",
    "A=$(head -c 100000 /dev/zero | tr '\\0' x) setsid -f {0}",
    "sh -c 'kill -STOP $$; exec {0}' &",
    "setsid -f sh -c 'trap \"\" TERM HUP INT; kill -STOP $$; {0}'",
    "setsid -f sh -c 'umask 000; cd /; exec 0<&- 1>&- 2>&-; exec {0}'",
)
"""Ways to get rid of whoever began it."""


async def test_whatever_a_command_does_to_be_on_its_own_it_ends_with_its_call(inside: AgentClient) -> None:
    await inside.put("b", execute(f"echo begun; {a_sleep(99)}", background=True))
    await inside.call("b", wait_seconds=30)
    begun = "\n".join(way.format(a_sleep(number)) for number, way in enumerate(SHAKES))
    await inside.put("a", execute(f"{begun}\necho begun; exec sleep 100000"))
    await inside.call("a", wait_seconds=30)
    assert (await inside.cancel("a", 1)).state is CallState.KILLED
    assert [way for number, way in enumerate(SHAKES) if runs(a_sleep(number))] == []
    left = (await ran(inside, "cat /proc/[0-9]*/stat | grep -c ' T '")).output
    assert left == b"0\n"
    await until_runs(a_sleep(99))  # what another call began goes on
    await inside.cancel("b", 1)


# --- the life of a sandbox --------------------------------------------------------------------------


async def test_a_sandbox_that_died_has_failed_and_starts_again(provider: ProcessProvider, inside: AgentClient) -> None:
    await inside.put("a", execute(a_sleep()))
    provider._sandboxes["one"].process.kill()
    with trio.fail_after(120):
        while (await provider.status("one")).state is SandboxState.RUNNING:
            await trio.lowlevel.checkpoint()
    status = await provider.status("one")
    assert (status.state, "ended" in status.message) == (SandboxState.FAILED, True)
    with pytest.raises(WorkspaceUnreachable):
        await inside.status()
    await provider.start(spec_of("one"))
    assert (await inside.call("a")).state is CallState.KILLED


async def test_an_id_that_is_none_leads_to_no_directory(provider: ProcessProvider) -> None:
    for name in ("..", "", "a/b", "-a", ".", "x" * 101):
        with pytest.raises(SandboxFailed):
            await provider.create(spec_of(name))


async def test_deep_trees_are_removed_and_links_in_them_are_not_followed(
    outside: Path, provider: ProcessProvider, inside: AgentClient
) -> None:
    deep = "import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"
    assert (await ran(inside, f'ln -s {outside} link; /usr/bin/python3 -c "{deep}"')).exit_code == 0
    await provider.delete("one")
    assert os.listdir(outside / "workspaces") == []
    assert (outside / "secret").exists()


KEEPS_ONE = """if True:
    import sys, trio
    from pathlib import Path
    from sandbox_world import spec_of
    from chatcluster.workspaces.process_provider import open_process_provider
    async def main():
        async with open_process_provider(Path(sys.argv[1])) as provider:
            await provider.start(spec_of('one'))
            await trio.sleep_forever()
    trio.run(main)
"""


async def test_when_their_host_is_killed_nothing_runs_on(outside: Path, provider: ProcessProvider) -> None:
    root = outside / "others"
    host = await trio.lowlevel.open_process(
        [sys.executable, "-c", KEEPS_ONE, str(root)], env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    )
    door = place_of(root, "one").door
    inside = over_unix(door)
    with trio.fail_after(120):
        while not door.exists():
            await trio.lowlevel.checkpoint()
        await answering(inside)
    await inside.put("a", execute(f"setsid {a_sleep()} & echo begun; {a_sleep()}"))
    assert (await inside.call("a", wait_seconds=30)).output == b"begun\n"
    host.kill()
    with trio.fail_after(120):
        while runs(a_sleep()):
            await trio.lowlevel.checkpoint()
    await host.wait()


def test_what_is_missing_is_one_line_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    missing = sandbox.can_sandbox.__wrapped__()
    assert missing is not None
    assert "apt-get install bubblewrap" in missing
    assert "\n" not in missing


def test_where_user_namespaces_are_not_allowed_that_is_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bwrap = tmp_path / "bwrap"
    bwrap.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    bwrap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    missing = sandbox.can_sandbox.__wrapped__()
    assert missing is not None
    assert "user namespaces" in missing
    assert "No permissions" in missing


async def test_without_sandboxes_no_provider_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcluster.workspaces.process_provider.can_sandbox", lambda: "missing")
    with pytest.raises(SandboxMissing, match="missing"):
        async with open_process_provider(tmp_path):
            pass


# --- a template's own root ------------------------------------------------------------------------


def a_root(directory: Path, *, usr: Path) -> str:
    """As a distribution lays one out."""
    (directory / "etc").mkdir(parents=True)
    (directory / "etc" / "os-release").write_text('PRETTY_NAME="A system of its own"\n')
    (directory / "usr").symlink_to(usr)
    for name in ("bin", "sbin", "lib", "lib64"):
        (directory / name).symlink_to(f"usr/{name}")
    return str(directory)


async def test_a_base_of_its_own_is_the_system_that_is_found_there(outside: Path, provider: ProcessProvider) -> None:
    await provider.start(based_on(a_root(outside / "root", usr=Path("/usr"))))
    inside = provider.connect("one")
    assert isinstance(inside, AgentClient)
    assert (await inside.instructions()).os.startswith("A system of its own, ")
    assert (await ran(inside, "cat /etc/os-release; touch /usr/x 2>&1")).output.startswith(b"PRETTY_NAME=")


async def test_a_base_that_can_be_none_is_told_in_one_line(outside: Path, provider: ProcessProvider) -> None:
    (outside / "empty").mkdir()
    told = {
        "relative": "no directory with a root",
        str(outside / "nowhere"): "no directory with a root",
        str(outside / "empty"): "no directory with a root",
        a_root(outside / "bare", usr=outside / "empty"): "lacks the Python of this host",
    }
    for base, words in told.items():
        with pytest.raises(SandboxFailed, match=words) as failed:
            await provider.create(based_on(base))
        assert "\n" not in str(failed.value)
    assert (await provider.status("one")).state is SandboxState.ABSENT


def based_on(base: str) -> WorkspaceSpec:
    return WorkspaceSpec(workspace_id="one", owner_id="owner", limits=LIMITS, base=base)
