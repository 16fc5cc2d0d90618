"""What a command asks of the cluster that its options name (``flags.server_options``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import trio

from chatcluster.client.client import Client
from chatcluster.local.local_cluster import reach

Kind = TypeVar("Kind", bound=Client)
T = TypeVar("T")


def ask(server: Mapping[str, Any], kind: type[Kind], question: Callable[[Kind], Awaitable[T]]) -> T:
    """What ``question`` returns, given a client of this ``kind``; ``server`` has the options of ``server_options``."""
    address = reach(server["url"], server["token"], server["data_dir"])

    async def asked() -> T:
        async with kind(*address) as client:
            return await question(client)

    return trio.run(asked)
