"""Ports of this machine: one that nobody has, and whether somebody listens on one."""

from __future__ import annotations

import socket

import trio

LOOK_SECONDS = 0.05


def free_port() -> int:
    """For a program that has to be told one. Another may take it in between: what starts there says so."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


async def is_listened_to(port: int, *, seconds_max: float) -> bool:
    """Wait until somebody listens there; False if nobody does in time."""
    with trio.move_on_after(seconds_max):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(LOOK_SECONDS)
            else:
                await stream.aclose()
                return True
    return False
