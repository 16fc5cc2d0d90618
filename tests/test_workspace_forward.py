"""The way through a host to an agent: who is let through, what is passed on, and how its failures are told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
import trio
from scripted_workspaces import ScriptedAgent
from workspace_rows import memory_rows

from chatcluster.json_bounds import VALUES_MAX
from chatcluster.ports.workspace import SILENCE_SECONDS
from chatcluster.ports.workspaces import HostLease, Located, Report, WorkspaceState
from chatcluster.secrets import Keyring, new_key
from chatcluster.workspace_errors import WorkspaceGone, WorkspaceRefused, WorkspaceUnreachable
from chatcluster.workspace_wire import BODY_BYTES_MAX
from chatcluster.workspaces.agent_client import ANSWER_SECONDS_MAX, AgentClient, over_tcp
from chatcluster.workspaces.directory import WorkspaceDirectory, host_token_place
from chatcluster.workspaces.host import forward
from chatcluster.workspaces.host.forward import Forward
from chatcluster.workspaces.host.running import Running, RunningWorkspaces

TOKEN = "a token"
STATUS = (
    b'{"version":"1","started_at":0.0,"os":"o","home":"h","directory":"d","running":0,"has_desktop":false,'
    b'"disk_bytes":0,"disk_free_bytes":0,"memory_bytes":0}'
)


@dataclass
class AgentSocket:
    """What listens in the place of an agent: it keeps what it is sent, and answers with ``answer``."""

    answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(STATUS) + STATUS
    received: bytearray = field(default_factory=bytearray)
    refuses: bool = False
    wants: bytes = b"\r\n\r\n"

    async def dial(self, workspace_id: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.refuses:
            raise ConnectionRefusedError("nobody listens")
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self._serve, theirs)
        return ours

    nursery: trio.Nursery = field(default=None)  # type: ignore[assignment]

    async def _serve(self, stream: trio.abc.Stream) -> None:
        while not bytes(self.received).endswith(self.wants):
            piece = await stream.receive_some(65536)
            if not piece:
                return
            self.received += piece
        await stream.send_all(self.answer)
        await stream.aclose()


@dataclass
class Host:
    port: int
    agent: AgentSocket
    running: RunningWorkspaces
    workspace_id: UUID

    def client(self, *, token: str = TOKEN, workspace_id: UUID | None = None) -> object:
        path = f"/workspaces/{workspace_id or self.workspace_id}/agent"
        return over_tcp("127.0.0.1", self.port, path=path, token=token)

    async def ask(self, request: bytes) -> bytes:
        """What is answered until the connection ends, however it ends."""
        answer = b""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(request)
            with suppress(trio.BrokenResourceError):
                async for piece in stream:
                    answer += bytes(piece)
        return answer


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    agent, running = AgentSocket(), RunningWorkspaces()
    async with memory_rows() as rows, trio.open_nursery() as nursery:
        agent.nursery = nursery
        await rows.template()
        row = await rows.running(await rows.host())
        running.add(Running(row, ScriptedAgent()))
        through = Forward(running, agent.dial, TOKEN, lambda: ("text/plain", b"a_metric 1\n"))
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, through.serve, [listener])
        yield Host(listener.socket.getsockname()[1], agent, running, row.id)
        nursery.cancel_scope.cancel()


async def test_a_request_reaches_the_agent_without_the_token_and_its_answer_comes_back(host: Host) -> None:
    status = await host.client().status()  # type: ignore[attr-defined]
    assert status.version == "1"
    head = bytes(host.agent.received)
    assert head.startswith(b"GET /status HTTP/1.1\r\n")
    assert TOKEN.encode() not in head


async def test_a_body_is_passed_on_as_it_comes_and_calls_are_noticed(host: Host) -> None:
    host.agent.wants = b"the end"
    request = (
        b"PUT /workspaces/%s/agent/calls/a%%2Fb?x=1 HTTP/1.1\r\nhost: h\r\nauthorization: Bearer a token\r\n"
        b"content-length: 100007\r\n\r\n" % str(host.workspace_id).encode()
    )
    answer = await host.ask(request + b"x" * 100_000 + b"the end")
    assert answer.startswith(b"HTTP/1.1 200")
    assert bytes(host.agent.received).startswith(b"PUT /calls/a%2Fb?x=1 HTTP/1.1\r\n")
    assert bytes(host.agent.received).endswith(b"x" * 100_000 + b"the end")
    running = host.running.find(host.workspace_id)
    assert running is not None
    assert running.may_have_calls


async def test_the_longest_path_of_a_file_is_passed_on(host: Host) -> None:
    with pytest.raises(WorkspaceUnreachable, match="what is no answer"):  # it is asked for its status here
        await host.client().read_file("\N{GRINNING FACE}" * 4096, offset=0, limit=1)  # type: ignore[attr-defined]
    assert host.agent.received.count(b"%F0%9F%98%80") == 4096


async def test_without_the_token_nobody_gets_anywhere(host: Host) -> None:
    for token in ("another", TOKEN + "x", TOKEN[:-1]):
        with pytest.raises(WorkspaceRefused) as refused:
            await host.client(token=token).status()  # type: ignore[attr-defined]
        assert refused.value.code == "invalid_token"
    assert not host.agent.received


async def test_what_does_not_run_here_and_what_does_not_answer_are_told_apart(host: Host) -> None:
    with pytest.raises(WorkspaceRefused) as refused:
        await host.client(workspace_id=uuid4()).status()  # type: ignore[attr-defined]
    assert refused.value.code == "workspace_not_running"
    host.agent.refuses = True
    with pytest.raises(WorkspaceUnreachable, match="nobody listens"):
        await host.client().status()  # type: ignore[attr-defined]
    host.agent.refuses, host.agent.answer = False, b"SSH-2.0\r\n\r\n"
    with pytest.raises(WorkspaceUnreachable):
        await host.client().status()  # type: ignore[attr-defined]


async def test_an_agent_that_breaks_off_ends_the_answer_where_it_broke(host: Host) -> None:
    host.agent.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"
    with pytest.raises(WorkspaceUnreachable):
        await host.client().status()  # type: ignore[attr-defined]


def answering(content: bytes, head: bytes = b"HTTP/1.1 200 OK\r\n") -> bytes:
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(content), content)


@pytest.mark.parametrize(
    "answer",
    [
        answering(b'{"version": ' + b"[" * 100_000),
        answering(b'{"version": ' + b"[" * 1000 + b"]" * 1000 + b"}"),
        answering(b'{"version": "\xff"}'),
        answering(b'{"version": "\\ud800"}'),
        answering(b"null"),
        answering(b"", b"HTTP/1.1 500 No\r\n"),
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n",
        b"\0" * 100,
    ],
    ids=[f"answer {number}" for number in range(9)],
)
async def test_p10_whatever_an_agent_answers_is_an_answer_or_a_workspace_that_cannot_be_reached(
    host: Host, answer: bytes
) -> None:
    """It lives where its user's commands do."""
    host.agent.answer = answer
    with pytest.raises(WorkspaceUnreachable):
        await host.client().status()  # type: ignore[attr-defined]


async def test_p10_an_answer_of_very_many_values_is_not_decoded(host: Host) -> None:
    values = b"0," * (VALUES_MAX + 1)
    host.agent.answer = answering(b'{"call_id":"c","kind":"mcp","state":"exited","result":[%b0]}' % values)
    with pytest.raises(WorkspaceUnreachable):
        await host.client().call("c")  # type: ignore[attr-defined]


async def test_a_long_text_is_no_great_number_of_values(host: Host) -> None:
    text = ',"\\' * VALUES_MAX
    file = {"path": "p", "content": text, "size_bytes": 1, "is_truncated": False}
    told = {"os": "o", "home": "h", "directory": "d", "files": [file]}
    host.agent.answer = answering(json.dumps(told).encode())
    answer = await host.client().instructions()  # type: ignore[attr-defined]
    assert answer.files[0].content == text


async def test_an_answer_that_comes_drop_by_drop_has_an_end(autojump_clock: trio.testing.MockClock) -> None:
    async def dial() -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(drip, theirs)
        return ours

    async def drip(stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError):
            for byte in answering(b" " * 1000):
                await stream.send_all(bytes([byte]))
                await trio.sleep(SILENCE_SECONDS - 1)

    async with trio.open_nursery() as nursery:
        began_at = trio.current_time()
        with pytest.raises(WorkspaceUnreachable):
            await AgentClient(dial).status()
        assert trio.current_time() - began_at <= ANSWER_SECONDS_MAX + 2 * SILENCE_SECONDS
        nursery.cancel_scope.cancel()


async def test_p10_an_agent_that_says_nothing_keeps_no_other_request_waiting(host: Host) -> None:
    host.agent.answer = b""
    host.agent.wants = b"never"
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(host.ask, _head(host, "/status"))
        assert (await host.ask(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n")).endswith(b"ok\n")
        nursery.cancel_scope.cancel()


async def test_requests_to_one_workspace_are_bounded(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "CONNECTIONS_PER_WORKSPACE", 0)
    with pytest.raises(WorkspaceRefused) as refused:
        await host.client().status()  # type: ignore[attr-defined]
    assert refused.value.code == "too_many"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n", b"200"),
        (b"POST /livez HTTP/1.1\r\nhost: h\r\n\r\n", b"401"),
        (b"GET /workspaces HTTP/1.1\r\nhost: h\r\nauthorization: Bearer a token\r\n\r\n", b"404"),
        (b"GET /workspaces/x/agent/status HTTP/1.1\r\nhost: h\r\nauthorization: Bearer a token\r\n\r\n", b"404"),
    ],
)
async def test_what_else_there_is(host: Host, request_: bytes, status: bytes) -> None:
    assert (await host.ask(request_)).startswith(b"HTTP/1.1 " + status)


async def test_garbage_and_what_is_too_large_end_their_own_connection(host: Host) -> None:
    assert await host.ask(b"\x00\x01\x02 garbage\r\n\r\n") == b""
    host.agent.wants = b"never"
    too_large = _head(host, "/calls/a", method="PUT", more=b"content-length: %d\r\n" % (BODY_BYTES_MAX + 1))
    answer = await host.ask(too_large + bytes(BODY_BYTES_MAX + 1))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413")
    assert (await host.ask(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n")).endswith(b"ok\n")


def _head(host: Host, path: str, *, method: str = "GET", more: bytes = b"") -> bytes:
    target = f"/workspaces/{host.workspace_id}/agent{path}"
    head = f"{method} {target} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {TOKEN}\r\n"
    return head.encode() + more + b"\r\n"


# --- the directory of a replica ---------------------------------------------------------------

KEYRING = Keyring.parse(new_key())


@dataclass
class Directory:
    """A directory whose agents are scripted, by the address at which it looks for them."""

    agents: dict[str, ScriptedAgent] = field(default_factory=dict)
    looked_up: list[tuple[str, str]] = field(default_factory=list)

    def connect(self, located: Located, token: str) -> ScriptedAgent:
        self.looked_up.append((located.address, token))
        return self.agents.setdefault(located.address, ScriptedAgent())


def sealed(lease: HostLease) -> bytes:
    return KEYRING.seal(TOKEN.encode(), host_token_place(lease.host_id))


async def test_a_workspace_is_found_at_its_host_and_not_looked_up_again(autojump_clock: object) -> None:
    async with memory_rows() as rows:
        await rows.template()
        lease = HostLease(uuid4(), uuid4())
        await rows.host(host_id=lease.host_id, sealed=sealed(lease))
        lease = HostLease(lease.host_id, (await rows.hosts.hosts())[0].incarnation)
        row = await rows.running(lease)
        known = Directory()
        directory = WorkspaceDirectory(rows.workspaces, KEYRING, known.connect)
        agent = await directory.workspace(row.id)
        for _ in range(3):
            await agent.status()
        assert known.looked_up == [("127.0.0.1:8200", TOKEN)]
        directory.forget(row.id)
        await agent.status()
        assert len(known.looked_up) == 2


@pytest.mark.parametrize(
    "failure",
    [WorkspaceUnreachable("refused"), WorkspaceRefused("invalid_token", "this host wants the token of its row")],
    ids=["nobody is there", "a host that began anew"],
)
async def test_who_is_not_there_any_more_is_asked_once_more_where_the_row_says_that_it_is_now(
    autojump_clock: object, failure: Exception
) -> None:
    async with memory_rows() as rows:
        await rows.template()
        host_id = uuid4()
        lease = await rows.host(host_id=host_id, sealed=sealed(HostLease(host_id, host_id)))
        row = await rows.running(lease)
        known = Directory()
        known.agents["127.0.0.1:8200"] = Refusing(failure)
        directory = WorkspaceDirectory(rows.workspaces, KEYRING, known.connect)
        with pytest.raises(WorkspaceUnreachable):
            await (await directory.workspace(row.id)).status()
        assert len(known.looked_up) == 2, "tried twice, and no more"
        new = await rows.host(host_id=host_id, sealed=sealed(lease), address="10.0.0.1:1")
        await rows.workspaces.start(row.id)
        for row_ in await rows.hosts.work(new, places=0):
            await rows.hosts.report(new, _running(row_.id, row_.generation))
        assert (await (await directory.workspace(row.id)).status()).version == "0"


async def test_what_does_not_run_is_gone_and_what_is_silent_is_unreachable_within_five_seconds(
    autojump_clock: object,
) -> None:
    async with memory_rows() as rows:
        await rows.template()
        host_id = uuid4()
        lease = await rows.host(host_id=host_id, sealed=sealed(HostLease(host_id, host_id)))
        row = await rows.running(lease)
        known = Directory()
        directory = WorkspaceDirectory(rows.workspaces, KEYRING, known.connect)
        agent = await directory.workspace(row.id)
        known.agents["127.0.0.1:8200"].silent = True
        began = trio.current_time()
        with pytest.raises(WorkspaceUnreachable) as silent:
            await agent.status()
        assert not isinstance(silent.value, WorkspaceGone)
        assert trio.current_time() - began <= 5.1
        await rows.workspaces.stop(row.id)
        with pytest.raises(WorkspaceGone, match="start it"):
            await directory.workspace(row.id)
        await rows.workspaces.delete(row.id)
        with pytest.raises(WorkspaceGone, match="deleted"):
            await directory.workspace(row.id)


async def test_a_host_that_was_told_dead_is_gone_without_a_dial(autojump_clock: object) -> None:
    async with memory_rows() as rows:
        await rows.template()
        lease = await rows.host()
        row = await rows.running(lease)
        await rows.bury(lease)
        known = Directory()
        with pytest.raises(WorkspaceGone, match="lost"):
            await WorkspaceDirectory(rows.workspaces, KEYRING, known.connect).workspace(row.id)
        assert known.looked_up == []


class Refusing(ScriptedAgent):
    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self._failure = failure

    async def status(self) -> object:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        raise self._failure


def _running(workspace_id: UUID, generation: int) -> Report:
    return Report(workspace_id, generation, WorkspaceState.RUNNING)
