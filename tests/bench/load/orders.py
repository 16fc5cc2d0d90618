"""What the load generator can be told to do. Each order has a module; here is how they are called.

An order is a function ``(loop, say, *, token, …plan)``; what it returns is its result, and ``say`` tells something
before the end. It raises ``LoadError`` when there is nothing to measure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.load.people import LoadError
from bench.load.streaming import stream
from bench.load.turning import create, turns

Order = Callable[..., Any]

ORDERS: dict[str, Order] = {"create": create, "turns": turns, "stream": stream}

__all__ = ["ORDERS", "LoadError", "Order"]
