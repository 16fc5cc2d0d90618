"""Tools of real MCP servers in turns: what a turn gets, what it costs, and what becomes of it when a server is bad."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import structlog
import trio
from mcp_world import ALICE, BOB, ChatStub, McpWorld, TestServer, Turn, mcp_world, test_server, text_of

from chatcluster import telemetry, trace_context
from chatcluster.chat.questions import Replies, Reply, ReplyAction
from chatcluster.content import ImagePart, JsonPart, ResourcePart, TextPart
from chatcluster.ports import (
    ApiKeyAuth,
    Approval,
    Asked,
    Availability,
    BearerAuth,
    ClientCredentialsAuth,
    Effect,
    HeadersAuth,
    ToolPolicy,
    ToolResult,
)
from chatcluster.tools import mcp_link, mcp_lists
from chatcluster.tools.mcp_link import LinkSession
from chatcluster.tools.mcp_toolbox import provider_name
from chatcluster.tracing.spans import context_of

TRANSPORTS = [("streamable-http", "/mcp"), ("sse", "/sse")]


@pytest.fixture(scope="module")
def server() -> Iterator[TestServer]:
    """One for all tests that leave it alive."""
    with test_server() as server:
        yield server


@pytest.fixture
async def world(forked: None) -> AsyncIterator[McpWorld]:
    async with mcp_world() as world:
        yield world


@pytest.fixture(params=TRANSPORTS, ids=[name for name, _ in TRANSPORTS])
async def served(request: pytest.FixtureRequest, world: McpWorld, server: TestServer) -> TestServer:
    """The server as ``files``, by each transport."""
    transport, path = request.param
    await world.add("files", server.url + path, transport=transport)
    return server


# --- what a turn gets -------------------------------------------------------------------------


async def test_a_call_runs_at_the_server_and_its_result_comes_back(world: McpWorld, served: TestServer) -> None:
    before = await served.count("count")
    async with world.turn("files") as turn:
        result = await turn.call("files__count", by=2)
    assert (result.is_error, result.content) == (False, (TextPart(str(before + 2)),))


async def test_results_of_all_kinds_are_taken(world: McpWorld, served: TestServer) -> None:
    async with world.turn("files") as turn:
        picture = (await turn.call("files__picture")).content
        weather = (await turn.call("files__weather", city="Rome")).content
        several = (await turn.call("files__several")).content
    assert [type(piece) for piece in picture] == [ImagePart]
    assert weather == (JsonPart('{"city":"Rome","degrees":21}'),)
    assert several == (
        TextPart("one\ufffdtwo"),
        ResourcePart("file:///a", "a", "text/plain"),
        ResourcePart("file:///b", media_type="text/plain", text="b"),
        TextPart("[audio, audio/wav, 3 bytes: it cannot be shown here]"),
    )


async def test_two_mebibytes_come_whole(world: McpWorld, served: TestServer) -> None:
    async with world.turn("files") as turn:
        result = await turn.call("files__big", mib=2)
    assert (result.is_error, len(text_of(result))) == (False, 2 << 20)


async def test_progress_is_told_while_the_tool_runs(world: McpWorld, served: TestServer) -> None:
    async with world.turn("files") as turn:
        assert text_of(await turn.call("files__slow", steps=3)) == "done"
    assert [(p.progress, p.total, p.message) for p in turn.progress] == [
        (step, 3.0, f"step {step}") for step in range(3)
    ]


async def test_the_server_learns_the_calls_id_and_its_span(world: McpWorld, served: TestServer) -> None:
    async with world.turn("files") as turn:
        with trace_context.telling(context_of), trace_context.working("tool.called", {"call_id": "c"}):
            expected = trace_context.headers()["traceparent"]
            told = json.loads(text_of(await turn.call("files__told")))
        untold = json.loads(text_of(await turn.call("files__told")))
    assert "chatcluster/call-id" in told["meta"]
    assert told["meta"]["traceparent"] == told["headers"]["traceparent"] == expected
    assert "traceparent" not in untold["meta"].keys() | untold["headers"].keys()


async def test_an_error_of_the_tool_is_an_error_result(world: McpWorld, served: TestServer) -> None:
    async with world.turn("files") as turn:
        failed = await turn.call("files__fail")
        refused = await turn.call("files__weather")
    assert failed.is_error
    assert refused.is_error
    assert "city" in text_of(refused)


async def test_calls_of_one_turn_run_at_the_same_time(world: McpWorld, served: TestServer) -> None:
    waiting, stopped = await served.count("waiting"), await served.count("stopped")
    async with world.turn("files") as turn, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(turn.call, "files__wait")
        await served.counted("waiting", waiting + 3)
        nursery.cancel_scope.cancel()
    await served.counted("stopped", stopped + 3)


async def test_what_the_server_says_about_itself_is_there_to_be_told(world: McpWorld, served: TestServer) -> None:
    async with world.turn("files") as turn:
        await turn.names()
        assert turn.tools.instructions == (("files", "Count to three."),)


# --- policy -----------------------------------------------------------------------------------


async def test_the_allow_list_wins_over_the_deny_list(world: McpWorld, server: TestServer) -> None:
    url = server.url + "/mcp"
    await world.add("some", url, allow=("count", "peek"), deny=("peek",))
    await world.add("others", url, deny=("count",))
    async with world.turn("some", "others") as turn:
        names = await turn.names()
    assert [name for name in names if name.startswith("some__")] == ["some__count", "some__peek"]
    assert "others__count" not in names
    assert "others__peek" in names


async def test_a_servers_hints_count_only_if_it_is_trusted(world: McpWorld, server: TestServer) -> None:
    await world.add("trusted", server.url + "/mcp", trusted=True)
    await world.add("stranger", server.url + "/mcp")
    async with world.turn("trusted", "stranger") as turn:
        effects = {tool.name: tool.effect for tool in await turn.tools.tools()}
    assert [effects[f"trusted__{name}"] for name in ("peek", "reset", "count")] == [
        Effect.READ,
        Effect.IDEMPOTENT,
        Effect.ONCE,
    ]
    assert {effects[f"stranger__{name}"] for name in ("peek", "reset", "count")} == {Effect.ONCE}


async def test_policy_is_of_the_tool_before_it_is_of_the_server(world: McpWorld, server: TestServer) -> None:
    policies = {"count": ToolPolicy(approval=Approval.NEVER, effect=Effect.READ)}
    await world.add("files", server.url + "/mcp", approval=Approval.ASK, tools=policies)
    async with world.turn("files") as turn:
        tools = {tool.name: tool for tool in await turn.tools.tools()}
    assert (tools["files__count"].approval, tools["files__count"].effect) == (Approval.NEVER, Effect.READ)
    assert tools["files__peek"].approval is Approval.ASK


async def test_deny_wins(world: McpWorld, server: TestServer) -> None:
    policies = {"count": ToolPolicy(approval=Approval.NEVER)}
    await world.add("files", server.url + "/mcp", approval=Approval.DENY, tools=policies)
    async with world.turn("files") as turn:
        assert {tool.approval for tool in await turn.tools.tools()} == {Approval.DENY}


def test_no_two_tools_have_one_name_and_every_name_is_one_that_providers_take() -> None:
    long = "x" * 100
    pairs = [
        ("a", "b"),
        ("a", "b.c"),
        ("a", "b_c"),
        ("a", "b/c"),
        ("a", long),
        ("a", long + "y"),
        ("a", "日本"),
        ("a", "本日"),
    ]
    names = [provider_name(*pair) for pair in pairs]
    changed_again = [provider_name("a", name.removeprefix("a__")) for name in names]
    assert len({*names, *changed_again}) >= len(pairs)
    assert len(set(names)) == len(pairs)
    for name in names:
        assert len(name) <= 64
        assert name.replace("-", "_").isidentifier()
        assert name.isascii()


async def test_a_chat_gets_the_servers_that_it_names_and_those_of_every_chat(
    world: McpWorld, server: TestServer
) -> None:
    url = server.url + "/mcp"
    await world.add("chosen", url, allow=("count",))
    await world.add("other", url, allow=("count",))
    await world.add("always", url, allow=("count",), availability=Availability.ALWAYS)
    await world.add("off", url, allow=("count",), availability=Availability.OFF)
    await world.add("disabled", url, allow=("count",), enabled=False)
    async with world.turn() as turn:
        assert await turn.names() == ["always__count"]
    async with world.turn("chosen", "off", "disabled") as turn:
        assert await turn.names() == ["always__count", "chosen__count", "off__count"]
        assert [notice.source for notice in turn.tools.notices] == ["disabled"]


async def test_a_chat_is_said_to_have_none_only_where_that_is_certain(world: McpWorld, server: TestServer) -> None:
    box = world.replica().toolbox
    assert box.offers(ChatStub()), "the servers are not read yet"  # type: ignore[arg-type]
    async with world.turn() as turn:
        assert await turn.names() == []
    box = world.tools.toolbox
    assert not box.offers(ChatStub())  # type: ignore[arg-type]
    assert box.offers(ChatStub("quicker-than-its-hint"))  # type: ignore[arg-type]
    added = await world.add("always", server.url + "/mcp", availability=Availability.ALWAYS)
    async with world.turn("always"):
        await world.change(added, instructions=True)
    assert box.offers(ChatStub())  # type: ignore[arg-type]


# --- what a turn costs ------------------------------------------------------------------------


async def test_a_turn_that_calls_nothing_connects_to_nobody_once_the_list_is_known(
    world: McpWorld, served: TestServer
) -> None:
    async with world.turn("files") as turn:
        names = await turn.names()
    before = [await served.count(name) for name in ("requests", "sse")]
    for owner_id in (ALICE, BOB):
        async with world.turn("files", owner_id=owner_id) as turn:
            assert await turn.names() == names
    assert [await served.count(name) for name in ("requests", "sse")] == before


async def test_a_turn_that_is_taken_up_with_calls_connects_before_it_runs_them(
    world: McpWorld, server: TestServer
) -> None:
    """P4: a call whose worker died is not kept waiting for one thing after the other."""
    await world.add("files", server.url + "/mcp")
    async with world.turn("files") as turn:
        await turn.names()
    before = await server.count("requests")
    async with world.turn("files", open_calls=1) as turn:
        await turn.names()
        await server.counted("requests", before + 1)
        assert not (await turn.run("files__count")).is_error


async def test_a_turn_that_is_taken_up_lists_in_the_session_that_its_calls_need(
    world: McpWorld, server: TestServer
) -> None:
    """P4: a replica that never met the server connects once, as one that knows its tools does."""
    await world.add("files", server.url + "/mcp")
    asked = []
    for _ in ("not known", "known"):
        before = await server.count("requests")
        async with world.turn("files", open_calls=1) as turn:
            assert not (await turn.call("files__count")).is_error
        asked.append(await server.count("requests") - before)
    assert asked[0] == asked[1] + 1, "to list is one request more"


async def test_a_list_that_went_with_the_turn_that_asked_for_it_is_asked_for_anew(
    world: McpWorld, server: TestServer
) -> None:
    added = await world.add("files", server.url + "/mcp")
    lists, begun = world.tools.toolbox.lists, trio.Event()

    async def never() -> LinkSession:
        begun.set()
        await trio.sleep_forever()
        raise AssertionError

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lists.get, added, ALICE, never)
        await begun.wait()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(lists.get, added, BOB)
            nursery.cancel_scope.cancel()
    assert (await lists.get(added, BOB)).tools


async def test_a_server_that_cannot_be_connected_to_beforehand_costs_its_call_alone(world: McpWorld) -> None:
    with test_server() as dead:
        added = await world.add("files", dead.url + "/mcp")
        async with world.turn("files") as turn:
            assert await turn.names()
    async with world.turn("files", open_calls=1) as turn:
        assert await turn.names(), f"they are remembered of {added.slug}"
        assert "cannot be reached" in text_of(await turn.run("files__count"))


async def test_tools_are_there_when_a_call_would_begin_at_once(world: McpWorld, server: TestServer) -> None:
    with trio.fail_after(60):
        await world.tools.there()
    assert not world.tools.process_id, "without a server there is nothing to wait for"
    await world.add("files", server.url + "/mcp")
    async with world.turn("files") as turn:
        await turn.names()
    await world.tools.there()
    assert world.tools.process_id


async def test_turns_that_begin_together_look_once(world: McpWorld, server: TestServer) -> None:
    await world.add("files", server.url + "/mcp")
    before = await server.count("requests")
    async with world.turn("files") as one, world.turn("files") as other, trio.open_nursery() as nursery:
        nursery.start_soon(one.names)
        nursery.start_soon(other.names)
    assert await server.count("requests") - before == 2  # discover and list


async def test_a_disabled_server_is_never_dialled(world: McpWorld, server: TestServer) -> None:
    added = await world.add("files", server.url + "/mcp")
    async with world.turn("files") as turn:
        await turn.names()
        await world.change(added, enabled=False)
        before = await server.count("requests")
        assert (await turn.run("files__count")).is_error
        assert await server.count("requests") == before


async def test_a_change_of_the_row_holds_for_the_next_turn(world: McpWorld, server: TestServer) -> None:
    added = await world.add("files", server.url + "/mcp")
    async with world.turn("files") as turn:
        assert len(await turn.names()) > 3
    await world.change(added, allow=("peek",))
    async with world.turn("files") as turn:
        assert await turn.names() == ["files__peek"]


# --- lists that change ------------------------------------------------------------------------


async def names_of_a_turn(world: McpWorld) -> list[str]:
    async with world.turn("files") as turn:
        return await turn.names()


async def test_a_server_that_tells_of_its_new_tools_is_listed_anew(world: McpWorld, served: TestServer) -> None:
    async with world.turn("files") as turn:
        grown = f"files__{text_of(await turn.call('files__grow'))}"
        with trio.fail_after(60):
            while grown not in await names_of_a_turn(world):  # noqa: ASYNC110 - the server tells in its own time
                await trio.sleep(0.02)


async def test_whoever_tests_a_server_has_every_replica_read_its_list_anew(world: McpWorld, server: TestServer) -> None:
    """They have mended it, or given it a tool, and go on with a chat."""
    files = await world.add("files", server.url + "/mcp")
    known = await names_of_a_turn(world)
    other = world.replica()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.run)
        async with other.toolbox.open(ChatStub("files")) as tools:  # type: ignore[arg-type]
            grown = f"files__{text_of(await Turn(tools).call('files__grow'))}"
        assert await names_of_a_turn(world) == known, "nobody has told this one"
        assert (await other.test(files, ALICE)).ok
        with trio.fail_after(10):
            while grown not in await names_of_a_turn(world):  # noqa: ASYNC110 - the word is on its way
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_a_tool_that_is_gone_is_an_error_result_and_the_list_is_read_anew(
    world: McpWorld, server: TestServer
) -> None:
    await world.add("files", server.url + "/mcp")
    async with world.turn("files") as turn:
        grown = f"files__{text_of(await turn.call('files__grow'))}"
    world.tools.forget_lists()
    async with world.turn("files") as turn:
        assert grown in await turn.names()
        await turn.call("files__shrink")
        result = await turn.run(grown)
    assert result.is_error
    async with world.turn("files") as turn:
        assert grown not in await turn.names()


# --- bad servers ------------------------------------------------------------------------------


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_lists, "LOOK_SECONDS", 4.0)
    monkeypatch.setattr(mcp_link, "CONNECT_SECONDS", 4.0)


@pytest.mark.parametrize("transport", ["streamable-http", "sse"])
@pytest.mark.parametrize("path", ["/silent", "/rubbish", "/html", "/broken", "/dense", "/endless", "/nothing"])
async def test_a_server_that_is_none_costs_its_tools_and_a_notice_that_names_it(
    world: McpWorld, server: TestServer, short_patience: None, path: str, transport: str
) -> None:
    await world.add("bad", server.url + path, transport=transport)
    await world.add("good", server.url + "/mcp", allow=("count",))
    async with world.turn("bad", "good") as turn:
        assert await turn.names() == ["good__count"]
        assert [(notice.code, notice.source) for notice in turn.tools.notices] == [("mcp_unavailable", "bad")]


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/mcp", "http://no-such-host.invalid/mcp", "http://169.254.169.254/mcp", "http://0.0.0.0:80/"],
)
async def test_a_server_that_cannot_be_reached_costs_its_tools(world: McpWorld, url: str) -> None:
    await world.add("bad", url)
    async with world.turn("bad") as turn:
        assert await turn.names() == []
        (notice,) = turn.tools.notices
        assert "bad" in notice.message


async def test_a_server_that_is_down_is_not_asked_by_every_turn(
    world: McpWorld, server: TestServer, short_patience: None
) -> None:
    await world.add("bad", server.url + "/silent")
    async with world.turn("bad") as turn:
        await turn.names()
    before = await server.count("silent")
    async with world.turn("bad") as turn:
        assert await turn.names() == []
        assert turn.tools.notices
    assert await server.count("silent") == before


@pytest.mark.parametrize(("transport", "path"), TRANSPORTS)
async def test_a_server_that_dies_in_the_middle_of_a_call_is_an_error_result_at_once(
    world: McpWorld, transport: str, path: str
) -> None:
    with test_server() as mortal:
        await world.add("files", mortal.url + path, transport=transport)
        async with world.turn("files") as turn:
            await turn.names()
            with trio.fail_after(60):
                result = await turn.call("files__die")
                await trio.to_thread.run_sync(mortal.process.wait)  # until then connections to it may be taken
                again = await turn.call("files__count")
    assert result.is_error
    assert "unknown" in text_of(result)
    assert again.is_error
    assert "not run" in text_of(again)


async def test_a_call_without_progress_ends_and_the_server_is_told(world: McpWorld, served: TestServer) -> None:
    stopped = await served.count("stopped")
    (added,) = await world.servers.servers()
    await world.change(added, idle_seconds=1.0)
    async with world.turn("files") as turn:
        result = await turn.call("files__wait")
    assert result.is_error
    assert "too long" in text_of(result)
    await served.counted("stopped", stopped + 1)


async def test_progress_keeps_a_call_alive_up_to_the_hard_limit(world: McpWorld, server: TestServer) -> None:
    added = await world.add("files", server.url + "/mcp", idle_seconds=1.5, total_seconds=60.0)
    async with world.turn("files") as turn:
        assert text_of(await turn.call("files__slow", steps=20)) == "done"
    await world.change(added, total_seconds=2.5)
    async with world.turn("files") as turn:
        result = await turn.call("files__slow", steps=600)
    assert result.is_error
    assert "2.5 s" in text_of(result)


async def test_a_result_above_its_limit_is_an_error_that_says_so(world: McpWorld, served: TestServer) -> None:
    (added,) = await world.servers.servers()
    await world.change(added, result_bytes_max=1 << 20)
    async with world.turn("files") as turn:
        result = await turn.call("files__big", mib=2)
        beyond = await turn.call("files__big", mib=17)
        after = await turn.call("files__peek")
    for large in (result, beyond):
        assert large.is_error
        assert "too large" in text_of(large)
    assert not after.is_error


async def test_the_mcp_process_is_started_anew_when_it_dies(world: McpWorld, server: TestServer) -> None:
    await world.add("files", server.url + "/mcp")
    waiting = await server.count("waiting")
    results: list[Any] = []
    async with world.turn("files") as turn, trio.open_nursery() as nursery:
        await turn.names()

        async def call() -> None:
            results.append(await turn.call("files__wait"))

        nursery.start_soon(call)
        await server.counted("waiting", waiting + 1)
        os.kill(world.tools.process_id, signal.SIGKILL)
    assert results[0].is_error
    assert "unknown" in text_of(results[0])
    async with world.turn("files") as turn:
        assert not (await turn.call("files__peek")).is_error


async def test_an_mcp_process_that_answers_no_more_is_ended_as_if_it_had_died(
    world: McpWorld, server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P10: else one server that keeps it, or a system that has stopped it, takes the tools of all chats for good."""
    await world.add("files", server.url + "/mcp")
    for name, seconds in {
        "WATCH_SECONDS": 0.01,
        "SILENCE_SECONDS": 0.2,
        "END_SECONDS": 0.1,
        "RESTART_SECONDS": 0.01,
    }.items():
        monkeypatch.setattr(mcp_link, name, seconds)
    async with world.turn("files") as turn:
        await turn.names()
        stopped = world.tools.process_id
        os.kill(stopped, signal.SIGSTOP)
        assert (await turn.call("files__peek")).is_error
    os.kill(stopped, signal.SIGKILL)
    async with world.turn("files") as turn:
        assert not (await turn.call("files__peek")).is_error
    assert world.tools.process_id != stopped


async def test_whatever_a_server_sends_the_replica_takes_no_long_step(
    world: McpWorld, server: TestServer, short_patience: None
) -> None:
    """The step is what one message of the process costs: decoding happens over there."""
    await world.add("files", server.url + "/mcp")
    await world.add("dense", server.url + "/dense")
    async with world.turn("files", "dense") as turn:
        result = await turn.call("files__big", mib=7)
    assert len(text_of(result)) == 7 << 20


async def test_a_replica_does_not_even_load_the_sdk_of_the_servers_nor_what_comes_with_it() -> None:
    """P10: their memory is that of the process beside it."""
    loaded = "import sys, chatcluster.cluster, chatcluster.web.app as app; app.openapi_document(); print(*sys.modules)"
    output = await trio.run_process([sys.executable, "-c", loaded], capture_stdout=True)
    assert not {"mcp", "pydantic"} & set(output.stdout.decode().split())


# --- what is said of a call that others disturb -----------------------------------------------


@pytest.fixture(params=TRANSPORTS, ids=[name for name, _ in TRANSPORTS])
async def renewing(request: pytest.FixtureRequest, world: McpWorld) -> AsyncIterator[TestServer]:
    """A server of its own as ``files``, by each transport, with a login of the cluster that is renewed if it is
    refused."""
    transport, path = request.param
    with test_server() as server:
        await world.add("files", server.url + path, *OWN[:2], transport=transport)
        yield server


async def call_into(results: dict[str, ToolResult], turn: Turn, tool: str, **arguments: Any) -> None:
    results[tool] = await turn.run(f"files__{tool}", **arguments)


def declined(asked: Asked) -> Replies:
    return {question.key: Reply(ReplyAction.DECLINE) for question in asked.questions}


async def disturbed(
    world: McpWorld, server: TestServer, *, refused_with: str, other: str = "peek", **arguments: Any
) -> dict[str, ToolResult]:
    """The results of a call of ``hold`` and of another one beside it, while such messages are refused."""
    results: dict[str, ToolResult] = {}
    await server.control(refused_with=refused_with)
    async with world.turn("files") as turn, trio.open_nursery() as nursery:
        turn.answer = declined
        await turn.names()
        nursery.start_soon(partial(call_into, results, turn, "hold", **arguments))
        await server.counted("effects", 1)
        nursery.start_soon(call_into, results, turn, other)
        await server.counted("refused messages", 1)
        if other in refused_with:
            await has(results, other)
        await server.control(held=False)
    return results


async def has(results: dict[str, ToolResult], tool: str) -> None:
    with trio.fail_after(60):
        while tool not in results:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_a_call_is_not_run_again_because_another_one_is_refused(world: McpWorld, renewing: TestServer) -> None:
    results = await disturbed(world, renewing, refused_with='"peek"')
    assert await renewing.count("effects") == 1
    assert "was not run" in text_of(results["peek"])
    assert "not run" not in text_of(results["hold"])
    assert "took effect" in text_of(results["hold"])


async def test_a_call_that_fails_while_another_one_is_refused_may_have_taken_effect(
    world: McpWorld, renewing: TestServer
) -> None:
    results = await disturbed(world, renewing, refused_with='"peek"', fails=True)
    assert await renewing.count("effects") == 1
    assert results["hold"].is_error
    assert "not run" not in text_of(results["hold"])


@pytest.mark.parametrize("renewing", TRANSPORTS[1:], ids=["sse"], indirect=True)
async def test_a_call_whose_question_cannot_be_answered_may_have_taken_effect(
    world: McpWorld, renewing: TestServer
) -> None:
    results = await disturbed(world, renewing, refused_with='"action"', asks=True, fails=True)
    assert await renewing.count("effects") == 1
    assert "Whether it took effect is unknown" in text_of(results["hold"])


async def test_a_call_that_is_refused_runs_once_it_is_let_in_and_cuts_off_no_other(
    world: McpWorld, server: TestServer
) -> None:
    auth, secrets, path = OWN
    await world.add("files", server.url + path, auth, secrets)
    before = await server.stats()
    await server.control(held=True)
    results: dict[str, ToolResult] = {}
    async with world.turn("files") as turn, trio.open_nursery() as nursery:
        await turn.names()
        nursery.start_soon(call_into, results, turn, "hold")
        await server.counted("effects", before.get("effects", 0) + 1)
        await server.control(revoke=True)
        await call_into(results, turn, "count")
        await server.control(held=False)
    assert not results["count"].is_error
    assert text_of(results["hold"]) == "took effect"
    after = await server.stats()
    assert (after["effects"], after["count"]) == (before.get("effects", 0) + 1, before.get("count", 0) + 1)


async def test_a_call_that_is_never_let_in_was_not_run(world: McpWorld, renewing: TestServer) -> None:
    results = await disturbed(world, renewing, refused_with='"count"', other="count")
    assert await renewing.count("count") == 0
    assert "was not run" in text_of(results["count"])


# --- getting in -------------------------------------------------------------------------------

BEARER = (BearerAuth(), {"token": "right-token-123"}, "/bearer/mcp")
KEY = (ApiKeyAuth("X-Key"), {"value": "right-key-12345"}, "/key/mcp")
HEADERS = (HeadersAuth(("X-Other", "X-Key")), {"X-Other": "1", "X-Key": "right-key-12345"}, "/key/mcp")
OWN = (ClientCredentialsAuth("configured"), {"client_secret": "configured-secret-1234"}, "/own/mcp")


@pytest.mark.parametrize("kind", [BEARER, KEY, HEADERS, OWN], ids=["bearer", "api_key", "headers", "credentials"])
async def test_each_kind_of_authentication_gets_in(world: McpWorld, server: TestServer, kind: Any) -> None:
    auth, secrets, path = kind
    await world.add("files", server.url + path, auth, secrets)
    async with world.turn("files") as turn:
        assert not (await turn.call("files__peek")).is_error


@pytest.mark.parametrize("kind", [BEARER, KEY, OWN], ids=["bearer", "api_key", "credentials"])
async def test_wrong_secrets_cost_the_tools(world: McpWorld, server: TestServer, kind: Any) -> None:
    auth, secrets, path = kind
    await world.add("files", server.url + path, auth, dict.fromkeys(secrets, "wrong"))
    async with world.turn("files") as turn:
        assert await turn.names() == []
        assert [notice.source for notice in turn.tools.notices] == ["files"]


async def test_an_own_token_that_is_not_accepted_any_more_is_fetched_anew(world: McpWorld, server: TestServer) -> None:
    auth, secrets, path = OWN
    await world.add("files", server.url + path, auth, secrets)
    async with world.turn("files") as turn:
        await turn.call("files__peek")
        await server.control(revoke=True)
        assert not (await turn.call("files__peek")).is_error
    async with world.turn("files") as turn:
        await server.control(revoke=True)
        assert not (await turn.call("files__peek")).is_error


@contextmanager
def logging() -> Iterator[None]:
    """In the test's body: before it, standard error is not yet what ``capfd`` reads."""
    telemetry.configure_logging("debug", "json")
    try:
        yield
    finally:
        telemetry.unsubscribe(telemetry.log_listener)
        structlog.reset_defaults()


async def test_no_secret_is_in_what_is_logged(
    world: McpWorld, server: TestServer, capfd: pytest.CaptureFixture[str]
) -> None:
    await world.add("files", server.url + "/key/mcp", ApiKeyAuth("X-Key"), {"value": "a-secret-of-ours"})
    with logging():
        async with world.turn("files") as turn:
            await turn.names()
            assert all("a-secret-of-ours" not in notice.message for notice in turn.tools.notices)
        telemetry.event("replica.started")
    out, err = capfd.readouterr()
    assert "replica.started" in err, "the log is what is looked at"
    assert "a-secret-of-ours" not in out + err
