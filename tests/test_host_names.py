"""P10: a host whose name nobody tells keeps no other one's from being looked up."""

from __future__ import annotations

import gc
import socket
import threading
from functools import partial
from typing import Any

import trio
import trio.testing

from chatcluster.host_names import LOOK_UPS_MAX, HostNames, LookUps, each_host_for_itself

ADDRESSES = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]


class NameServer:
    """It tells no address of one host until it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.says_something = threading.Event()

    def __call__(self, host: bytes, *_: Any) -> Any:
        if host == b"silent.test":
            self.asked += 1
            self.says_something.wait(60)
        return ADDRESSES


async def test_p10_a_host_whose_name_is_not_told_has_a_few_threads_and_others_have_theirs() -> None:
    server = NameServer()
    names = HostNames(server)
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(names.getaddrinfo, b"silent.test", 80)
            with trio.fail_after(30):
                assert await names.getaddrinfo(b"other.test", 80) == ADDRESSES
                assert await trio.to_thread.run_sync(int, "7") == 7
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(names.getaddrinfo, b"silent.test", 80)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert server.asked <= LOOK_UPS_MAX, "threads that nobody waits for any more are there still"
    finally:
        server.says_something.set()


async def test_nothing_is_kept_of_those_whose_threads_have_ended() -> None:
    look_ups, answers = LookUps(), threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look_ups.make, "a", partial(answers.wait, 60))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert repr(look_ups) == "<LookUps for 1>", "its thread is there still"
    answers.set()
    with trio.fail_after(60):
        while repr(look_ups) != "<LookUps for 0>":
            await trio.sleep(0.01)
            gc.collect()


async def test_it_is_what_trio_asks() -> None:
    each_host_for_itself()
    port = 9
    found = await trio.socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
    assert {address[1] for *_, address in found} == {port}
    assert await trio.socket.getnameinfo(("127.0.0.1", port), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV) == (
        "127.0.0.1",
        "9",
    )
    assert isinstance(trio.socket.set_custom_hostname_resolver(None), HostNames)
