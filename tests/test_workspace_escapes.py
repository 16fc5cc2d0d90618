"""What runs in a workspace reaches nothing outside of it, and changes nothing there."""

from __future__ import annotations

import os
import shlex
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from agent_process import a_sleep, execute, ran, request, runs, until_runs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sandbox_world import SECRET, needs_sandboxes, spec_of

from chatcluster.ports.workspace import Workspace
from chatcluster.workspace_errors import WorkspaceRefused, WorkspaceUnreachable
from chatcluster.workspace_wire import CallState, Code, Kind
from chatcluster.workspaces.agent_client import AgentClient, over_unix
from chatcluster.workspaces.process_provider import ProcessProvider, open_process_provider

pytest_plugins = ["sandbox_fixtures"]
pytestmark = needs_sandboxes

PATHS = 1000
WRITTEN = 5
"""Every which of them is written to, too."""


@pytest.fixture
async def inside(provider: ProcessProvider) -> AgentClient:
    await provider.start(spec_of("one"))
    return client_of(provider.connect("one"))


def client_of(workspace: Workspace) -> AgentClient:
    assert isinstance(workspace, AgentClient)
    return workspace


async def said(inside: AgentClient, command: str) -> str:
    return (await ran(inside, f"({command}) 2>&1")).output.decode("utf-8", "replace")


async def python(inside: AgentClient, program: str) -> str:
    return await said(inside, f"/usr/bin/python3 -c {shlex.quote(program)}")


# --- files --------------------------------------------------------------------------------------


async def test_a_file_outside_is_reached_by_no_path(outside: Path, inside: AgentClient) -> None:
    secret = outside / "secret"
    await said(inside, f"ln -s {secret} link; ln -s / top; ln -s {'../' * 20} up")
    ways = [
        str(secret),
        "../" * 20 + str(secret)[1:],
        "link",
        f"top{secret}",
        f"up{secret}",
        f"/proc/self/root{secret}",
        f"/proc/1/root{secret}",
        f"/proc/1/cwd/../{secret}",
        f"/oldroot{secret}",
        f"~/../../..{secret}",
    ]
    for way in ways:
        with pytest.raises(WorkspaceRefused):
            await inside.read_file(way, offset=0, limit=100)
        assert SECRET not in await said(inside, f"cat {way}"), way


async def test_passwords_and_keys_of_the_machine_are_not_there(inside: AgentClient) -> None:
    for path in ("/etc/shadow", "/etc/ssh", "/root", "/etc/ssl/private", "/var/lib", "/sys", "/boot", "/home/root"):
        assert (await ran(inside, f"ls {path}")).exit_code != 0, path


async def test_the_place_of_another_workspace_is_not_there(
    outside: Path, provider: ProcessProvider, inside: AgentClient
) -> None:
    await provider.start(spec_of("two", owner="another"))
    other = client_of(provider.connect("two"))
    await other.put("w", request(Kind.WRITE_FILE, path="/workspace/theirs", content=SECRET))
    assert SECRET in await said(other, "cat theirs")
    found = await said(inside, "find / -name theirs; ls -R /workspace /home /run; cat /proc/mounts")
    assert SECRET not in found
    assert "theirs" not in found
    assert not (await ran(inside, f"ls {outside}/workspaces/two")).output.startswith(b"disk")


async def test_the_system_is_not_written(inside: AgentClient) -> None:
    before = sorted(os.listdir("/usr/bin"))
    for path in ("/usr/bin/x", "/etc/passwd", "/etc/x", "/x", "/opt/chatcluster/x", "/proc/sys/kernel/hostname"):
        assert (await ran(inside, f"echo x >{path}")).exit_code != 0, path
        with pytest.raises(AssertionError, match="failed"):
            assert (await inside.put(f"w{path}", request(Kind.WRITE_FILE, path=path, content="x"))).state != "failed", (
                "failed"
            )
    assert sorted(os.listdir("/usr/bin")) == before


def paths(outside: Path) -> st.SearchStrategy[str]:
    """Paths that somebody might try who wants to get out."""
    pieces = st.sampled_from(
        [
            *(
                "..",
                ".",
                "",
                "~",
                "top",
                "up",
                "loop",
                "proc",
                "self",
                "1",
                "root",
                "cwd",
                "fd",
                "3",
                "thread-self",
                "task",
            ),
            *(
                "home",
                "user",
                "workspace",
                "run",
                "chatcluster",
                "etc",
                "tmp",
                "dev",
                "shm",
                "oldroot",
                "newroot",
                "mnt",
            ),
            *(str(outside)[1:], "secret", "workspaces", "two", "disk", "..\\xff", "\\x80", "*", "-rf", "%2e%2e"),
        ]
    )
    names = st.one_of(pieces, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8))
    return st.tuples(st.sampled_from(["", "/", "~/", "../"]), st.lists(names, min_size=1, max_size=8)).map(
        lambda parts: parts[0] + "/".join(parts[1])
    )


def state_of(outside: Path) -> dict[str, tuple[int, str]]:
    found = {path.name: path for path in outside.iterdir() if path.name != "workspaces"}
    return {name: (path.lstat().st_mtime_ns, path.read_text()) for name, path in found.items()}


@contextmanager
def allowed_to_refuse() -> Iterator[None]:
    try:
        yield
    except WorkspaceRefused as refused:
        if refused.code == Code.INTERNAL:
            raise


def a_thousand(outside: Path) -> list[str]:
    found: dict[str, None] = {}

    @settings(max_examples=2 * PATHS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(paths(outside))
    def collect(path: str) -> None:
        found[path] = None

    collect()
    return list(found)[:PATHS]


async def test_a_thousand_random_paths_lead_to_nothing_outside(outside: Path, inside: AgentClient) -> None:
    await said(inside, f"ln -s / top; ln -s {'../' * 20} up; ln -s loop loop")
    before = state_of(outside)
    tried = a_thousand(outside)
    assert len(tried) == PATHS
    for path in tried:
        with allowed_to_refuse():
            assert SECRET.encode() not in (await inside.read_file(path, offset=0, limit=1000)).content, path
    for number, path in enumerate(tried[::WRITTEN]):
        with allowed_to_refuse():
            await inside.put(f"w{number}", request(Kind.WRITE_FILE, path=path, content="x"))
    assert state_of(outside) == before
    assert (await inside.status()).running == 0


async def test_what_the_agent_says_to_its_host_is_neither_read_nor_is_it_told_where_it_is(
    outside: Path, inside: AgentClient
) -> None:
    for number, path in enumerate(("/dev/stdout", "/dev/stderr", "/dev/fd/1", "/proc/self/fd/2", "/proc/1/fd/1")):
        with pytest.raises(WorkspaceRefused):
            await inside.read_file(path, offset=0, limit=1000)
        written = await inside.put(str(number), request(Kind.WRITE_FILE, path=path, content="x"))
        assert written.state is CallState.FAILED
        assert str(outside) not in f"{written.error}{written.result}"


# --- processes ------------------------------------------------------------------------------------


async def test_only_its_own_processes_are_seen_and_none_of_the_machine_is_signalled(inside: AgentClient) -> None:
    pids = (await said(inside, "ls /proc | grep -E '^[0-9]+$'")).split()
    assert "1" in pids
    assert all(int(pid) < 1000 for pid in pids)
    assert (await ran(inside, f"kill -0 {os.getpid()}")).exit_code != 0


async def test_the_agent_is_neither_looked_into_nor_ended_from_within(inside: AgentClient) -> None:
    for path in ("environ", "mem", "maps", "cwd/.", "fd", "root/etc"):
        assert (await ran(inside, f"ls /proc/1/{path} && head -c 1 /proc/1/{path}")).exit_code != 0, path
    await said(inside, "for name in KILL STOP HUP INT TERM QUIT USR1 PIPE ALRM CHLD; do kill -$name 1; done")
    assert (await inside.status()).running == 0


HOLD = """if True:
    import fcntl, os, resource, time
    base = '/run/chatcluster/'
    held, words = [], []
    for name in ('ledger.sqlite', 'ledger.sqlite-shm', 'ledger.sqlite-wal', 'alive', 'lock', 'output/1'):
        if not os.path.exists(base + name):
            continue
        for lease in (fcntl.F_RDLCK, fcntl.F_WRLCK):
            file = open(base + name, 'rb')
            held.append(file)
            try:
                fcntl.fcntl(file, fcntl.F_SETLEASE, lease)
                words.append(f'lease of {name}')
            except OSError:
                pass
        for start, size in ((0, 0), (120, 1), (0x40000000, 512)):
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, size, start)
            except OSError:
                pass
    for what in (
        lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (1, 1)),
        lambda: resource.prlimit(1, resource.RLIMIT_FSIZE, (0, 0)),
        lambda: os.setpriority(os.PRIO_PROCESS, 1, 19),
        lambda: os.setpriority(os.PRIO_PGRP, 1, 19),
        lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19),
        lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)),
        lambda: os.sched_setaffinity(1, {0}),
    ):
        try:
            what()
            words.append('a limit or a priority of the agent')
        except PermissionError:
            pass
    resource.prlimit(0, resource.RLIMIT_NOFILE, (100, 100))
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    print(words, flush=True)
    time.sleep(1000)
"""


async def test_the_agent_is_not_held_up_by_locks_leases_limits_or_priorities(inside: AgentClient) -> None:
    """What runs there is of the agent's user, and may read its files."""
    assert await said(inside, "echo first") == "first\n"
    holding = await inside.put("hold", execute(f"exec /usr/bin/python3 -c {shlex.quote(HOLD)}"))
    while not holding.kept_bytes:
        holding = await inside.call("hold", wait_seconds=10)
    assert holding.output == b"[]\n"
    with trio.fail_after(60):
        for number in range(3):
            assert await said(inside, f"echo {number}") == f"{number}\n"
        cancelled = await inside.cancel("hold", 1)
    assert (cancelled.state, cancelled.error) == (CallState.KILLED, "it was cancelled")


async def test_the_agent_is_not_asked_from_within(inside: AgentClient) -> None:
    """No socket of its has a name there: else a command took all places in its queue, and nobody could stop it."""
    assert (
        await said(inside, "find / -path /proc -prune -o -type s -print 2>/dev/null; grep -c 00010000 /proc/net/unix")
        == "0\n"
    )


async def test_nothing_there_has_rights_or_can_get_some(inside: AgentClient) -> None:
    status = await said(inside, "grep -E '^(Cap(Eff|Prm|Bnd|Inh|Amb)|NoNewPrivs)' /proc/self/status")
    rights = dict(line.split(":\t") for line in status.splitlines())
    assert rights.pop("NoNewPrivs") == "1"
    assert set(rights.values()) == {"0" * 16}
    for command in (
        "unshare -U true",
        "unshare -n true",
        "mount -t tmpfs x /tmp",
        "chroot / true",
        "nsenter -t 1 -m true",
    ):
        assert (await ran(inside, command)).exit_code != 0, command
    assert (await ran(inside, "mknod disk b 8 0 || mknod /tmp/mem c 1 1")).exit_code != 0
    assert not {"sda", "vda", "mem", "kmsg", "loop0", "kvm"} & set((await said(inside, "ls /dev")).split())


async def test_no_secret_of_this_process_is_in_an_environment(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    async with open_process_provider(outside / "workspaces") as provider:
        await provider.start(spec_of("one"))
        inside = client_of(provider.connect("one"))
        found = await said(inside, "env; cat /proc/*/environ /proc/*/cmdline")
    assert "HOME=/home/user" in found
    assert SECRET not in found


async def test_the_agents_own_directory_is_not_changed_from_within(provider: ProcessProvider) -> None:
    """Else a command forged what it has done, or filled a disk that is not the workspace's."""
    await provider.start(spec_of("one"))
    inside = client_of(provider.connect("one"))
    before = await said(inside, "ls -R /run/chatcluster")
    for deed in (
        "echo x >/run/chatcluster/x",
        "echo x >>/run/chatcluster/ledger.sqlite",
        "truncate -s 0 /run/chatcluster/ledger.sqlite",
        "rm -rf /run/chatcluster/output",
        "rm /run/chatcluster/lock",
        "mv /run/chatcluster/ledger.sqlite /run/chatcluster/x",
        "ln -s /etc/passwd /run/chatcluster/x",
        "ln /run/chatcluster/ledger.sqlite /run/chatcluster/x",
        "mkfifo /run/chatcluster/x",
        "mkdir /run/x",
        "/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/run/chatcluster/x\")'",
        "env -i sh -c 'echo x >/run/chatcluster/x'",
    ):
        assert (await ran(inside, deed)).exit_code != 0, deed
    after = await said(inside, "ls -R /run/chatcluster")
    assert {*after.split()} - {*before.split()} <= {str(number) for number in range(1, 20)}, "what calls wrote"
    moved = "mkdir -p a/b c && echo x >a/b/d && mv a/b/d c/ && ln c/d a/e && echo y >/dev/stdout && cat a/e"
    assert await said(inside, moved) == "y\nx\n"


async def test_who_takes_the_agents_rights_away_takes_none(provider: ProcessProvider) -> None:
    await provider.start(spec_of("one"))
    inside = client_of(provider.connect("one"))
    for closed in ("", "/output", "/output/*"):
        deed = f"chmod 000 /run/chatcluster{closed}"
        assert await said(inside, f"echo before; {deed}") == "before\n", deed
        assert await said(inside, "echo after") == "after\n", deed
    await said(inside, "chmod -R 000 /run/chatcluster")
    await provider.stop("one")
    await provider.start(spec_of("one"))
    assert await said(inside, "echo again") == "again\n"


async def test_what_no_namespace_closes_is_not_there_to_be_called(inside: AgentClient) -> None:
    """Keys of the kernel, sockets of a hypervisor, and calls that have nothing to do with work."""
    program = """if True:
        import ctypes, os, socket
        for family in (socket.AF_VSOCK, socket.AF_ALG, socket.AF_PACKET, socket.AF_BLUETOOTH):
            try:
                socket.socket(family, socket.SOCK_STREAM)
                print('has', family)
            except OSError as error:
                assert error.errno == 97, error
        call = ctypes.CDLL(None, use_errno=True).syscall
        x86, arm = (248, 249, 250, 321, 298, 323, 425, 165, 272, 308, 304), (217, 219, 280, 425, 97)
        for number in x86 if os.uname().machine == 'x86_64' else arm:
            assert (call(number, 0, 0, 0, 0, 0), ctypes.get_errno()) == (-1, 1), number
        for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
            socket.socket(family, socket.SOCK_STREAM if family != socket.AF_NETLINK else socket.SOCK_RAW)
        os.sync()
        print('over')
    """
    assert await python(inside, program) == "over\n"


@pytest.mark.parametrize("make", ["ln -s {0} {1}", "mkfifo {1}", "touch {1}"])
async def test_what_is_in_the_place_of_the_agents_socket_leads_this_machine_nowhere(tmp_path: Path, make: str) -> None:
    """A workspace may write where its socket is, if its kernel has no wall for that; who dials is the host."""
    engine, place = tmp_path / "engine.sock", tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(engine))
        server.listen()
        server.setblocking(False)
        await trio.run_process(make.format(engine, place), shell=True)
        with pytest.raises(WorkspaceUnreachable):
            await over_unix(place).status()
        with pytest.raises(BlockingIOError):
            server.accept()


# --- the network ----------------------------------------------------------------------------------


@pytest.fixture
def replica() -> Iterator[tuple[int, list[str]]]:
    """Something that listens on this machine, and who came."""
    came: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    came.append(str(server.accept()[1]))
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


async def test_neither_this_machine_nor_any_other_is_reached(
    inside: AgentClient, replica: tuple[int, list[str]]
) -> None:
    port, came = replica
    places = [("127.0.0.1", port), ("localhost", port), ("169.254.169.254", 80), ("10.0.0.1", 80), ("1.1.1.1", 443)]
    addresses = [*places, ("127.0.0.1", 5432), ("127.0.0.1", 6379), ("0.0.0.0", port), ("::1", port)]
    for host, number in addresses:
        program = f"import socket; socket.create_connection(({host!r}, {number}), timeout=3)"
        assert "Error" in await python(inside, program), host
    assert came == []


async def test_sockets_without_a_place_in_the_files_are_not_reached_either(inside: AgentClient) -> None:
    name = f"chatcluster-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        program = f"import socket; socket.socket(socket.AF_UNIX).connect('\\0{name}')"
        assert "ConnectionRefusedError" in await python(inside, program)


async def test_it_has_a_loopback_of_its_own(inside: AgentClient) -> None:
    program = (
        "import socket; s = socket.create_server(('127.0.0.1', 0));"
        "socket.create_connection(s.getsockname()); print('connected')"
    )
    assert await python(inside, program) == "connected\n"


# --- the end --------------------------------------------------------------------------------------


async def test_what_was_begun_runs_no_longer_than_its_sandbox(provider: ProcessProvider, inside: AgentClient) -> None:
    mark = a_sleep()
    command = f"setsid {mark} & env -i setsid {mark} & echo begun; {mark}"
    await inside.put("a", request(Kind.EXECUTE, command=command, background=True))
    assert (await inside.call("a", wait_seconds=30)).output == b"begun\n"
    await until_runs(mark)
    await provider.stop("one")
    assert not runs(mark)
    await provider.start(spec_of("one"))
    assert (await inside.call("a")).state is CallState.KILLED
