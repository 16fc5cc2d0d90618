"""Requests that come all at once begin a few in each pass of the event loop, and others are served in between."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing
from litestar.types import Receive, Scope, Send
from web_world import loopback

from chatcluster.web.http.server import Server
from chatcluster.web.http.turns import PASS_REQUESTS, Turns

GROUPS = 10
CROWD = GROUPS * PASS_REQUESTS
REQUEST = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"


class Passes(trio.abc.Instrument):
    """What began in each pass of the loop in which something did."""

    def __init__(self) -> None:
        self.began: list[list[int]] = [[]]

    def before_io_wait(self, timeout: float) -> None:
        if self.began[-1]:
            self.began.append([])


@pytest.fixture
async def passes() -> Passes:
    passes = Passes()
    trio.lowlevel.add_instrument(passes)
    return passes


async def wait_one_after_another(turns: Turns, passes: Passes, nursery: trio.Nursery) -> list[trio.CancelScope]:
    """A crowd of which nobody is let in yet but those who need not wait."""
    scopes = [trio.CancelScope() for _ in range(CROWD)]

    async def begin(number: int) -> None:
        with scopes[number]:
            await turns.next()
            passes.began[-1].append(number)

    for number in range(CROWD):
        nursery.start_soon(begin, number)
        await trio.testing.wait_all_tasks_blocked()
    passes.began = [[]]
    return scopes


async def test_a_crowd_begins_a_few_in_each_pass_in_the_order_that_it_came(
    passes: Passes, nursery: trio.Nursery
) -> None:
    turns = Turns()
    await wait_one_after_another(turns, passes, nursery)
    nursery.start_soon(turns.run)
    await trio.testing.wait_all_tasks_blocked()
    waited = list(range(PASS_REQUESTS, CROWD))
    groups = [waited[first : first + PASS_REQUESTS] for first in range(0, len(waited), PASS_REQUESTS)]
    assert [sorted(began) for began in passes.began if began] == groups


async def test_one_that_leaves_takes_nobody_s_turn(passes: Passes, nursery: trio.Nursery) -> None:
    turns = Turns()
    scopes = await wait_one_after_another(turns, passes, nursery)
    for scope in scopes[PASS_REQUESTS:-1]:
        scope.cancel()
    nursery.start_soon(turns.run)
    await trio.testing.wait_all_tasks_blocked()
    assert [began for began in passes.began if began] == [[CROWD - 1]]


async def test_where_nobody_waits_no_task_is_switched(passes: Passes, nursery: trio.Nursery) -> None:
    turns = Turns()
    nursery.start_soon(turns.run)
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(3):
        await trio.testing.wait_all_tasks_blocked()
        with trio.testing.assert_no_checkpoints():
            for _ in range(PASS_REQUESTS):
                await turns.next()


async def test_requests_that_wait_for_their_turn_when_the_server_is_cut_are_answered(passes: Passes) -> None:
    """They are here, and may have been done, for all that their clients know."""

    async def app(_: Scope, __: Receive, send: Send) -> None:
        passes.began[-1].append(0)
        server.cut()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    server = Server(app, send_stall_seconds=5, reader_bytes_per_second_min=2048)
    port = loopback()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run, [port.dup()])
        clients = [socket.create_connection(port.getsockname(), timeout=60) for _ in range(CROWD)]
        await trio.testing.wait_all_tasks_blocked(0.01)  # all are connected
        for client in clients:
            client.sendall(REQUEST)
    answers = [client.recv(100) for client in clients]
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert max(map(len, passes.began)) <= PASS_REQUESTS
    for client in clients:
        client.close()
    port.close()
