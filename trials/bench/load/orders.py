"""What the load generator can be told to do.

An order is a function ``(loop, say, *, token, …plan)``; what it returns is its result, and ``say`` tells something
before the end. It raises ``LoadError`` when there is nothing to measure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.load.calling import call, call_under_kill
from bench.load.dooring import answers
from bench.load.people import LoadError
from bench.load.returning import rejoin, resume
from bench.load.streaming import stream
from bench.load.turning import create, turns
from bench.load.visiting import asks, openings, visits
from bench.load.waiting import idle, takeover

ORDERS: dict[str, Callable[..., Any]] = {
    "create": create,
    "turns": turns,
    "stream": stream,
    "rejoin": rejoin,
    "resume": resume,
    "idle": idle,
    "takeover": takeover,
    "call": call,
    "call_under_kill": call_under_kill,
    "visits": visits,
    "openings": openings,
    "asks": asks,
    "answers": answers,
}

__all__ = ["ORDERS", "LoadError"]
