"""Which tools of a turn a model is offered, where its server takes no more than so many: the first of them. Pure.

Tools come in the order of their rank: those of the cluster itself and of the chat's client, then those of its servers,
one server after the other. So it is the last servers that lose tools, and a notice names each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from chatcluster.parts import NoticePart
from chatcluster.ports import ToolSpec

SEPARATOR = "__"
"""Behind the name of the server in that of its tool."""


class Offer(NamedTuple):
    """``left_out``: how many there are besides, by the names of their servers; those of none have an empty one."""

    tools: tuple[ToolSpec, ...]
    left_out: dict[str, int]


def offer_of(tools: tuple[ToolSpec, ...], limit: int | None, servers: Collection[str]) -> Offer:
    if limit is None or len(tools) <= limit:
        return Offer(tools, {})
    named = (tool.name.partition(SEPARATOR)[0] for tool in tools[limit:])
    return Offer(tools[:limit], dict(Counter(name if name in servers else "" for name in named)))


def notices_of(left_out: dict[str, int], limit: int | None) -> Sequence[NoticePart]:
    return [_notice(server, count, limit) for server, count in left_out.items()]


def _notice(server: str, count: int, limit: int | None) -> NoticePart:
    whose = f"{count} tools of {server}" if server else f"{count} tools of this chat"
    text = (
        f"{whose} are left out: the model's server takes {limit} tools at most. Name fewer, or allow fewer of a server."
    )
    return NoticePart("tools_left_out", text, server or None)
