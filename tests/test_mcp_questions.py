"""What an MCP server asks the user of a call (elicitation), by each way that a server has to do so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import mcp_types as types
import pytest
import trio
import trio.testing
from mcp_world import McpWorld, TestServer, Turn, mcp_world, test_server, text_of

from chatcluster.chat.questions import Replies, Reply, ReplyAction
from chatcluster.ports import Printed, Progressed, ToolCall
from chatcluster.ports.toolbox import Asked, InputRequired
from chatcluster.tools.mcp_questions import OF_CALL, UNCLEAR_SECONDS, LiveQuestions
from chatcluster.tools.mcp_running import WAITS_TEXT
from chatcluster.tools.mcp_wire import Asking, OneAtATime, questions_of

ACCEPTED = Reply(ReplyAction.ACCEPT, {"name": "Ada"})


@pytest.fixture(scope="module")
def served() -> Iterator[TestServer]:
    with test_server() as server:
        yield server


@pytest.fixture
async def world(served: TestServer, forked: None) -> AsyncIterator[McpWorld]:
    async with mcp_world() as world:
        await world.add("new", f"{served.url}/mcp")
        await world.add("old", f"{served.url}/sse", transport="sse")
        await world.add("kept", f"{served.url}/old/mcp")
        yield world


class Confirming:
    """A call whose user accepts, in words of its own, what it asks; ``asked`` is what that was."""

    def __init__(self, turn: Turn, slug: str, what: str, **arguments: Any) -> None:
        self.asked: list[str] = []
        self.waited = False
        self.is_answered = True
        self.was_asked = trio.Event()
        self.what = what
        self._turn = turn
        self._call = ToolCall(f"call_{what}", f"{slug}__confirm", {"what": what, **arguments})

    async def run(self) -> str:
        return text_of(await self._turn.tools.run(self._call, self._told))

    async def is_right(self) -> None:
        assert await self.run() == f"{self.what}: accept {self.what}"
        assert self.asked == [f"{self.what}?"]

    def _told(self, news: Progressed | Printed | Asked) -> None:
        if isinstance(news, Asked):
            (question,) = news.questions
            self.asked.append(question.message)
            self.was_asked.set()
            if self.is_answered:
                news.reply({question.key: Reply(ReplyAction.ACCEPT, {"name": self.what})})
        elif isinstance(news, Progressed):
            self.waited |= news.message == WAITS_TEXT


async def both_are_right(turn: Turn, slug: str, first: str, second: str, **arguments: Any) -> None:
    """Two calls at a time, of which the one that begins second asks first."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Confirming(turn, slug, first, after=second, **arguments).is_right)
        nursery.start_soon(Confirming(turn, slug, second, **arguments).is_right)


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


# --- which call it is about -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slug", "counted", "aside", "sessions"),
    [("kept", "old", False, 1), ("kept", "old", True, 2), ("old", "sse", False, 2)],
    ids=["by the stream of a call", "by the stream of a session", "by SSE"],
)
async def test_an_answer_reaches_the_call_that_it_was_given_to(
    world: McpWorld, served: TestServer, slug: str, counted: str, aside: bool, sessions: int
) -> None:
    """The server's request does not say. What is called one after the other shares a session in any case. That a server
    asks by its session's stream is known once it has done so, in whatever turn."""
    names = [f"{slug} {aside} {name}" for name in ("alone", "first", "second", "third")]
    if aside:
        async with world.turn(slug) as turn:
            await turn.names()
            await Confirming(turn, slug, names[0], aside=True).is_right()
    async with world.turn(slug) as turn:
        await turn.names()
        before = await served.count(counted)
        await both_are_right(turn, slug, names[1], names[2], aside=aside)
        await Confirming(turn, slug, names[3], aside=aside).is_right()
        assert await served.count(counted) == before + sessions


async def test_calls_at_a_server_that_gives_no_second_session_run_one_after_the_other(
    world: McpWorld, served: TestServer
) -> None:
    async with world.turn("old") as turn:
        await turn.names()
        await Confirming(turn, "old", "given").is_right()
        await served.control(sessions_max=0)
        calls = [Confirming(turn, "old", f"given {n}") for n in range(3)]
        try:
            async with trio.open_nursery() as nursery:
                for call in calls:
                    nursery.start_soon(call.is_right)
        finally:
            await served.control(sessions_max=1000)
    assert sorted(call.waited for call in calls) == [False, True, True]


async def test_a_call_that_was_given_up_while_it_asked_is_the_last_of_its_session(
    world: McpWorld, served: TestServer
) -> None:
    """Whether its server still is at it, and will ask again, nobody knows."""
    async with world.turn("old") as turn:
        await turn.names()
        call = Confirming(turn, "old", "given up")
        call.is_answered = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run)
            await call.was_asked.wait()
            nursery.cancel_scope.cancel()
        before = await served.count("sse")
        await Confirming(turn, "old", "after it").is_right()
        await Confirming(turn, "old", "after that").is_right()
    assert await served.count("sse") == before + 1


class Live:
    """The questions of a session with two calls under way, in its process."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.told: list[Asking | OneAtATime] = []
        self.said: list[str] = []
        self.questions = LiveQuestions(7, self._say)
        self._nursery = nursery
        for call_id in (1, 2):
            self.questions.began(call_id)

    async def _say(self, news: Asking | OneAtATime) -> None:
        self.told.append(news)

    async def ask(self, call_id: int | None = None) -> None:
        """By the stream of this call, or aside."""
        self._nursery.start_soon(self._ask, call_id)
        await trio.testing.wait_all_tasks_blocked()

    async def _ask(self, call_id: int | None) -> None:
        OF_CALL.set(call_id)
        schema = {"type": "object", "properties": {"name": {"type": "string"}}}
        params = types.ElicitRequestFormParams(message="Your name?", requested_schema=schema)
        self.said.append((await self.questions.ask(params)).action)

    async def end(self, call_id: int, *, may_go_on: bool = False) -> bool:
        is_unclear = self.questions.ended(call_id, may_go_on=may_go_on)
        await trio.testing.wait_all_tasks_blocked()
        return is_unclear

    async def answer(self) -> None:
        """What was asked last."""
        asking = self.told[-1]
        assert isinstance(asking, Asking)
        (question,) = questions_of(asking.questions)
        self.questions.answer(asking.number, {question.key: ACCEPTED})
        await trio.testing.wait_all_tasks_blocked()

    @property
    def asked_of(self) -> list[int]:
        return [news.id for news in self.told if isinstance(news, Asking)]


async def test_a_question_that_may_be_of_several_calls_waits_until_one_is_left(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    live = Live(nursery)
    await live.ask()
    assert live.told == [OneAtATime(7)]
    assert not await live.end(1)
    assert live.asked_of == [2]
    await live.answer()
    assert live.said == ["accept"]
    assert not await live.end(2)


@pytest.mark.parametrize("given_up", [False, True], ids=["several stay", "one was given up"])
async def test_where_it_stays_unclear_whose_a_question_is_nobody_is_asked_and_the_calls_say_so(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, given_up: bool
) -> None:
    live = Live(nursery)
    if given_up:
        await live.end(1, may_go_on=True)
    await live.ask()
    await trio.sleep(UNCLEAR_SECONDS)
    await trio.testing.wait_all_tasks_blocked()
    assert (live.asked_of, live.said) == ([], ["cancel"])
    assert await live.end(2)


async def test_a_call_asks_one_thing_at_a_time_until_it_ends(nursery: trio.Nursery) -> None:
    live = Live(nursery)
    for _ in range(3):
        await live.ask(1)
    await live.ask(2)
    assert live.asked_of == [1, 2]
    await live.answer()
    assert live.said == ["accept"]
    assert not await live.end(1)
    assert live.said == ["accept", "cancel", "cancel", "cancel"]
    await live.end(2)
    await live.ask()
    assert (live.said[-1], live.asked_of) == ("decline", [1, 2]), "a question outside of calls"


@pytest.mark.parametrize("slug", ["old", "kept"])
async def test_a_question_that_its_server_withdraws_makes_room_for_another(
    world: McpWorld, served: TestServer, slug: str
) -> None:
    asked: list[tuple[str, ...]] = []
    results: list[str] = []
    was_asked = trio.Event()

    def told(news: Progressed | Printed | Asked) -> None:
        assert isinstance(news, Asked)
        asked.append(tuple(question.message for question in news.questions))
        if asked[-1] == ("Second?",):
            news.reply({question.key: ACCEPTED for question in news.questions})
        was_asked.set()

    async def call() -> None:
        results.append(text_of(await turn.tools.run(ToolCall("c1", f"{slug}__reconsider", {}), told)))

    async with world.turn(slug) as turn:
        await turn.names()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await was_asked.wait()
                await served.control(held=False)
        finally:
            await served.control(held=True)
    assert (asked, results) == ([("First?",), (), ("Second?",)], ["accept"])


# --- pages ------------------------------------------------------------------------------------


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
