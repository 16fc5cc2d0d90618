"""Every test here runs on a clock that jumps to the next deadline as soon as nobody has anything to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import iscoroutinefunction
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from uuid import UUID

import pytest
import trio
import trio.testing

from chatcluster.arguments import load_library
from loops.cluster_world import World, open_world

T = TypeVar("T")

load_library()  # a thread that loads it would take no time on a clock that jumps


def run_on_jumping_clock(test: Callable[..., Awaitable[T]], **options: Any) -> T:
    return trio.run(test, **{**options, "clock": trio.testing.MockClock(autojump_threshold=0)})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        here = item.path.is_relative_to(Path(__file__).parent)
        if here and isinstance(item, pytest.Function) and iscoroutinefunction(item.function):
            item.add_marker(pytest.mark.trio(run=run_on_jumping_clock), append=False)


@pytest.fixture
def worker_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker IDs in a fixed order: who watches whom in the ring is the same in each run of a test."""
    numbers = Random(1)
    monkeypatch.setattr("chatcluster.replica.uuid4", lambda: UUID(int=numbers.getrandbits(128)))


@pytest.fixture
async def world(worker_ids: None) -> AsyncIterator[World]:
    async with open_world() as world:
        yield world
