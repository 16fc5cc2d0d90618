"""The asyncio loop within trio: how it takes turns, what a cancellation does, and what is left in the end."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import types
from collections.abc import AsyncIterator, Generator
from contextlib import suppress

import pytest
import trio
import trio.testing

from chatcluster.postgres import asyncio_loop
from chatcluster.postgres.asyncio_loop import AsyncioLoop, open_asyncio_loop

Stray = list[tuple[str, BaseException | None]]


class Refused(Exception):
    pass


@pytest.fixture
def stray() -> Stray:
    """What was reported."""
    return []


@pytest.fixture
async def loop(stray: Stray) -> AsyncIterator[AsyncioLoop]:
    async with open_asyncio_loop(lambda text, error: stray.append((text, error))) as opened:
        yield opened


def nothing_is_stray(text: str, error: BaseException | None) -> None:
    pytest.fail(f"{text}: {error!r}")


@types.coroutine
def give_way() -> Generator[None, None, None]:
    """Let the loop do what else is ready."""
    yield


async def give(value: int) -> int:
    return value


async def refuse() -> None:
    await give_way()
    raise Refused


# --- turns ------------------------------------------------------------------------------------


async def test_a_coroutine_is_run_to_its_end_and_its_outcome_is_ours(loop: AsyncioLoop) -> None:
    assert await loop.run(give(1)) == 1
    with pytest.raises(Refused):
        await loop.run(refuse())


async def test_a_request_is_on_its_way_before_anybody_else_is_scheduled(loop: AsyncioLoop) -> None:
    said: list[str] = []

    async def say(word: str) -> None:
        said.append(word)
        await give_way()

    async def other() -> None:
        said.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await loop.run(say("request"))
    assert said == ["request", "other"]


class Steps(trio.abc.Instrument):
    """How often this was done in each step of a task."""

    def __init__(self) -> None:
        self.times = [0]

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.times.append(0)

    def count(self) -> None:
        self.times[-1] += 1


@pytest.fixture
async def steps() -> AsyncIterator[Steps]:
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    yield steps
    trio.lowlevel.remove_instrument(steps)


async def test_a_conversation_costs_one_task_step_for_each_time_that_the_other_side_is_waited_for(
    loop: AsyncioLoop, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many callbacks and waits within asyncio lie between an answer and the next request."""
    monkeypatch.setattr(asyncio_loop, "TURN_SECONDS_MAX", math.inf)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def ask_thrice() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(3):
            writer.write(b"?\n")
            assert await reader.readline() == b"?\n"
            for _ in range(10):
                await give_way()
        writer.close()
        await writer.wait_closed()
        server.close()

    before = len(steps.times)
    await loop.run(ask_thrice())
    assert len(steps.times) - before <= 12, "to connect, to accept, there and back thrice, and to close"


async def test_p10_what_follows_from_something_long_is_another_step(
    loop: AsyncioLoop, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it follows at once: an answer is decoded in the next step."""
    passed_seconds = 0.0
    monkeypatch.setattr(asyncio_loop, "time", types.SimpleNamespace(monotonic=lambda: passed_seconds))

    async def take_in() -> None:
        nonlocal passed_seconds
        for _ in range(10):
            steps.count()
            passed_seconds += 1
            await give_way()

    await loop.run(take_in())
    assert sum(steps.times) == 10
    assert max(steps.times) == 1


async def test_p10_of_several_answers_that_have_come_one_is_taken_in_at_a_time(
    loop: AsyncioLoop, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio_loop, "TURN_SECONDS_MAX", 0)
    pairs = [socket.socketpair() for _ in range(3)]
    heard: list[int] = []

    async def hear_all() -> None:
        running, all_heard = asyncio.get_running_loop(), asyncio.Event()

        def hear(number: int) -> None:
            steps.count()
            heard.append(number)
            if len(heard) == 30:
                all_heard.set()

        for number, (ours, theirs) in enumerate(pairs):
            theirs.send(b"?")  # it is never read, and so ready again and again
            running.add_reader(ours, hear, number)
        await all_heard.wait()
        for ours, _ in pairs:
            running.remove_reader(ours)

    await loop.run(hear_all())
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
    assert max(steps.times) == 1
    assert {heard.count(number) for number in range(3)} == {10}, "each in its turn"


async def test_timers_go_by_the_clock_of_trio(loop: AsyncioLoop, autojump_clock: trio.testing.MockClock) -> None:
    async def wait() -> None:
        async with asyncio.timeout(3600):
            await asyncio.Event().wait()

    started = trio.current_time()
    with pytest.raises(TimeoutError):
        await loop.run(wait())
    assert trio.current_time() - started == pytest.approx(3600)


async def test_what_somebody_else_sets_off_is_done(loop: AsyncioLoop) -> None:
    event = asyncio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.run, event.wait())
        await trio.testing.wait_all_tasks_blocked()
        event.set()


async def test_callbacks_without_an_end_leave_others_their_turn(loop: AsyncioLoop) -> None:
    enough = False

    async def spin() -> None:
        while not enough:
            await give_way()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.run, spin())
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        enough = True


async def test_an_error_that_nobody_waits_for_is_reported_and_ends_nothing(loop: AsyncioLoop, stray: Stray) -> None:
    def fail() -> None:
        raise Refused

    async def leave_behind() -> None:
        asyncio.get_running_loop().call_soon(fail)

    await loop.run(leave_behind())
    assert await loop.run(give(2)) == 2
    [(text, error)] = stray
    assert "callback" in text
    assert isinstance(error, Refused)


# --- cancellation -----------------------------------------------------------------------------


async def test_cancelling_the_caller_cancels_the_coroutine_and_waits_for_its_end(loop: AsyncioLoop) -> None:
    ended = False

    async def wait() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            await give_way()
            ended = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.run, wait())
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ended


async def test_a_result_that_came_with_the_cancellation_is_returned_for_it_has_happened(loop: AsyncioLoop) -> None:
    async def commit() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "committed"
        raise AssertionError("nobody sets the event")

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def cancel() -> None:
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

            nursery.start_soon(cancel)
            assert await loop.run(commit()) == "committed"


async def test_who_is_cancelled_already_starts_nothing(loop: AsyncioLoop) -> None:
    started = False

    async def start() -> None:
        nonlocal started
        started = True

    with trio.CancelScope() as scope:
        scope.cancel()
        await loop.run(start())
    assert scope.cancelled_caught
    assert not started


async def test_what_is_looked_up_in_a_thread_can_be_given_up(loop: AsyncioLoop) -> None:
    """P4: a name server that does not answer keeps nobody longer than he is willing to wait."""
    release = threading.Event()

    async def look_up() -> None:
        await asyncio.get_running_loop().run_in_executor(None, release.wait)

    try:
        with trio.fail_after(60), trio.move_on_after(0.01) as impatience:
            await loop.run(look_up())
        assert impatience.cancelled_caught
    finally:
        release.set()


async def test_what_a_thread_finds_or_fails_at_comes_back(loop: AsyncioLoop) -> None:
    async def look_up(function: object) -> object:
        return await asyncio.get_running_loop().run_in_executor(None, function)  # type: ignore[arg-type]

    def fail() -> None:
        raise Refused

    assert await loop.run(look_up(threading.get_ident)) != threading.get_ident()
    with pytest.raises(Refused):
        await loop.run(look_up(fail))


# --- the end ----------------------------------------------------------------------------------


async def test_what_follows_from_the_end_of_a_connection_is_done_however_long_that_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asyncio_loop, "TURN_SECONDS_MAX", 0)
    done: list[str] = []

    class Client(asyncio.Protocol):
        def __init__(self) -> None:
            self.lost = asyncio.Event()

        def connection_lost(self, error: Exception | None) -> None:
            asyncio.get_running_loop().call_soon(self.lost.set)

    ours, theirs = socket.socketpair()

    async def live() -> None:
        client = Client()
        await asyncio.get_running_loop().create_connection(lambda: client, sock=ours)
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()  # it is told to end, and waits for its connection all the same
        await client.lost.wait()
        done.append("lost")

    with theirs:
        async with trio.open_nursery() as nursery, open_asyncio_loop(nothing_is_stray) as loop:
            nursery.start_soon(loop.run, live())
            await trio.testing.wait_all_tasks_blocked()
    assert done == ["lost"]


async def test_who_leaves_can_still_cross_although_all_around_is_cancelled() -> None:
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.cancel()
        async with open_asyncio_loop(nothing_is_stray) as loop:
            with trio.CancelScope(shield=True):
                assert await loop.run(give(3)) == 3


async def test_what_still_runs_in_the_end_is_cancelled() -> None:
    cancelled = False

    async def work() -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    async def leave_behind() -> asyncio.Task[None]:
        return asyncio.create_task(work())

    async with open_asyncio_loop(nothing_is_stray) as loop:
        left = await loop.run(leave_behind())
    assert cancelled
    assert left.cancelled()


async def test_an_error_in_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(Refused):
        async with open_asyncio_loop(nothing_is_stray) as loop:
            await loop.run(refuse())


async def test_after_the_end_nothing_is_run() -> None:
    async with open_asyncio_loop(nothing_is_stray) as loop:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        await loop.run(give(4))


async def test_a_connection_that_nobody_had_time_to_close_is_cut_in_the_end() -> None:
    """Its socket would be open for as long as the program runs, or until it is noticed that nobody knows it."""
    closed = asyncio.Event()

    class Protocol(asyncio.Protocol):
        def connection_lost(self, _: Exception | None) -> None:
            closed.set()

    async def connect(port: int) -> asyncio.Transport:
        transport, _ = await asyncio.get_running_loop().create_connection(Protocol, "127.0.0.1", port)
        return transport

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, open_asyncio_loop(nothing_is_stray) as loop:
        transport = await loop.run(connect(listener.socket.getsockname()[1]))
        assert not transport.is_closing()
    assert transport.is_closing()
    assert closed.is_set(), "its owner was told"
