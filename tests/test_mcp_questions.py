"""What an MCP server asks the user of a call (elicitation), by each way that a server has to do so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import mcp_types as types
import pytest
import trio
import trio.testing
from mcp_world import McpWorld, TestServer, Zygote, mcp_world, test_server, text_of, zygote

from chatcluster.chat.questions import Replies, Reply, ReplyAction
from chatcluster.ports.toolbox import Asked, InputRequired
from chatcluster.tools.mcp_questions import LiveQuestions
from chatcluster.tools.mcp_wire import Asking, questions_of

ACCEPTED = Reply(ReplyAction.ACCEPT, {"name": "Ada"})


@pytest.fixture(scope="module")
def served() -> Iterator[TestServer]:
    with test_server() as server:
        yield server


@pytest.fixture(scope="module")
def forked() -> Iterator[Zygote]:
    with zygote() as forked:
        yield forked


@pytest.fixture
async def world(served: TestServer, forked: Zygote, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[McpWorld]:
    monkeypatch.setattr("chatcluster.tools.mcp_link.started", forked.started)
    async with mcp_world() as world:
        await world.add("new", f"{served.url}/mcp")
        await world.add("old", f"{served.url}/sse", transport="sse")
        yield world


def with_reply(reply: Reply) -> object:
    def answer(asked: Asked) -> Replies:
        return {question.key: reply for question in asked.questions}

    return answer


async def test_a_server_of_the_new_era_ends_the_call_with_its_question_and_goes_on_in_any_session(
    world: McpWorld, served: TestServer
) -> None:
    before = await served.count("introduced")
    async with world.turn("new") as turn:
        with pytest.raises(InputRequired) as required:
            await turn.call("new__introduce")
    (question,) = required.value.questions
    assert question.message == "Your name?"
    assert question.schema is not None
    assert list(question.schema["properties"]) == ["name"]
    assert await served.count("introduced") == before, "it has not begun"
    async with world.turn("new") as turn:
        await turn.names()
        result = await turn.resume("new__introduce", required.value, {question.key: ACCEPTED})
    assert text_of(result) == "accept Ada"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (ACCEPTED, "accept"),
        (Reply(ReplyAction.DECLINE), "decline"),
        (Reply(ReplyAction.CANCEL), "cancel"),
    ],
    ids=["accept", "decline", "cancel"],
)
async def test_a_server_of_the_old_era_is_answered_while_the_call_runs(
    world: McpWorld, served: TestServer, reply: Reply, said: str
) -> None:
    async with world.turn("old") as turn:
        turn.answer = with_reply(reply)  # type: ignore[assignment]
        assert text_of(await turn.call("old__ask")) == said
    (asked,) = turn.asked
    assert [question.message for question in asked.questions] == ["Your name?"]


async def test_the_same_tool_works_in_both_eras(world: McpWorld, served: TestServer) -> None:
    async with world.turn("old") as turn:
        turn.answer = with_reply(ACCEPTED)  # type: ignore[assignment]
        assert text_of(await turn.call("old__introduce")) == "accept Ada"


async def test_a_call_that_nobody_answers_sees_that_it_is_cancelled(world: McpWorld, served: TestServer) -> None:
    async with world.turn("old") as turn:
        with trio.move_on_after(2) as waited:
            await turn.call("old__ask")
        assert waited.cancelled_caught
        assert len(turn.asked) == 1
        turn.answer = with_reply(ACCEPTED)  # type: ignore[assignment]
        assert text_of(await turn.call("old__ask")) == "accept", "the session is as good as before"


async def test_two_calls_of_a_session_ask_at_the_same_time(world: McpWorld, served: TestServer) -> None:
    said: list[str] = []
    async with world.turn("old") as turn:
        turn.answer = with_reply(ACCEPTED)  # type: ignore[assignment]

        async def ask() -> None:
            said.append(text_of(await turn.call("old__ask")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
    assert said == ["accept", "accept"]


@pytest.mark.parametrize("is_given_up", [False, True], ids=["has its result", "is given up"])
async def test_a_question_is_anothers_where_the_call_that_it_was_thought_to_be_of(is_given_up: bool) -> None:
    """A server does not say which call it asks for: one that has its result did not. One that we gave up may have."""
    told: list[Asking] = []
    said: list[str] = []

    async def say(asking: Asking) -> None:
        told.append(asking)

    async def ask() -> None:
        schema = {"type": "object", "properties": {"name": {"type": "string"}}}
        said.append(
            (await live.ask(types.ElicitRequestFormParams(message="Your name?", requested_schema=schema))).action
        )

    live = LiveQuestions(say)
    live.began(1)
    live.began(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        live.ended(1, is_given_up=is_given_up)
        await trio.testing.wait_all_tasks_blocked()
        if not is_given_up:
            (question,) = questions_of(told[-1].questions)
            live.answer(told[-1].number, {question.key: ACCEPTED})
    assert [asking.id for asking in told] == ([1] if is_given_up else [1, 2])
    assert said == (["cancel"] if is_given_up else ["accept"])
    assert len({asking.number for asking in told}) == len(told)


async def test_a_page_that_the_user_has_to_visit_first(world: McpWorld, served: TestServer) -> None:
    async with world.turn("old") as turn:
        with pytest.raises(InputRequired) as required:
            await turn.call("old__visit")
        (question,) = required.value.questions
        assert (question.message, question.url) == ("Agree first", "https://example.org/agree")
        visited = await turn.resume("old__visit", required.value, {question.key: Reply(ReplyAction.ACCEPT)})
        assert text_of(visited) == "visited"
        with pytest.raises(InputRequired) as required:
            await turn.call("old__visit")
        declined = await turn.resume("old__visit", required.value, {question.key: Reply(ReplyAction.DECLINE)})
        assert declined.is_error
