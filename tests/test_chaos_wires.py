"""The wires between replicas and servers: they carry, fall silent, move, and end at both ends."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import pytest
import trio
from chaos.wires import Wires, open_wires, ports_of

SECONDS_MAX = 120.0


async def shout(stream: trio.SocketStream, *, mark: bytes = b"") -> None:
    async for data in stream:
        await stream.send_all(mark + bytes(data).upper())


async def say_goodbye(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"goodbye")
    await stream.aclose()


def shouting(mark: bytes = b"") -> AbstractAsyncContextManager[str]:
    """A server that says everything again; its address."""
    return serving(partial(shout, mark=mark))


@asynccontextmanager
async def serving(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(partial(trio.serve_listeners, serve, [listener]))
        yield f"127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
async def patience() -> AsyncIterator[None]:
    with trio.fail_after(SECONDS_MAX):
        yield


@pytest.fixture
async def wires() -> AsyncIterator[Wires]:
    async with open_wires() as wires:
        yield wires


async def heard(stream: trio.SocketStream, said: bytes) -> bytes:
    await stream.send_all(said)
    return bytes(await stream.receive_some())


async def connect(wires: Wires, door: str) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", wires.ports[door])


async def test_what_is_open_falls_silent_without_a_word_and_new_connections_work(wires: Wires) -> None:
    async with shouting() as target:
        await wires.open("door", target)
        async with await connect(wires, "door") as old:
            assert await heard(old, b"before") == b"BEFORE"
            assert await wires.silence("door") == 1
            await old.send_all(b"after")
            async with await connect(wires, "door") as new:
                assert await heard(new, b"new") == b"NEW"
            with trio.move_on_after(0.2) as waiting:
                await old.receive_some()
            assert waiting.cancelled_caught


async def test_only_what_one_process_has_open_falls_silent(wires: Wires) -> None:
    async with shouting() as target:
        await wires.open("door", target)
        async with await connect(wires, "door") as stream:
            assert await heard(stream, b"x") == b"X"
            mine = ports_of(os.getpid(), wires.ports["door"])
            assert mine == [stream.socket.getsockname()[1]]
            assert await wires.silence("door", os.getppid()) == 0
            assert await heard(stream, b"y") == b"Y"
            assert await wires.silence("door", os.getpid()) == 1


async def test_a_door_that_moves_leads_new_connections_elsewhere_and_leaves_the_old(wires: Wires) -> None:
    async with shouting(b"1") as first, shouting(b"2") as second:
        await wires.open("door", first)
        async with await connect(wires, "door") as old:
            assert await heard(old, b"x") == b"1X"
            await wires.move("door", second)
            async with await connect(wires, "door") as new:
                assert await heard(new, b"x") == b"2X"
            assert await heard(old, b"y") == b"1Y"


async def test_a_server_that_hangs_up_is_heard_by_its_client(wires: Wires) -> None:
    async with serving(say_goodbye) as target:
        await wires.open("door", target)
        async with await connect(wires, "door") as stream:
            assert await heard(stream, b"x") == b"goodbye"
            assert await stream.receive_some() == b""


async def test_a_client_that_hangs_up_is_heard_by_its_server(wires: Wires) -> None:
    left = trio.Event()

    async def wait_for_the_end(stream: trio.SocketStream) -> None:
        async for _ in stream:
            await stream.send_all(b"still here")
        left.set()

    async with serving(wait_for_the_end) as target:
        await wires.open("door", target)
        async with await connect(wires, "door") as stream:
            assert await heard(stream, b"x") == b"still here"
        await left.wait()


async def test_a_door_to_nowhere_lets_nobody_in(wires: Wires) -> None:
    await wires.open("door", "/nonexistent/socket")
    async with await connect(wires, "door") as stream:
        assert await stream.receive_some() == b""


async def test_the_process_ends_with_the_block() -> None:
    async with open_wires() as wires:
        process = wires._process
    assert process.returncode == 0
