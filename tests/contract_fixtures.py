"""A plugin with both stores for contracts: ``pytest_plugins = ["contract_fixtures"]``. Nobody imports it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest
from contract_worlds import World, Worlds, open_world


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest) -> str | None:
    """Of the database that a contract is tried on; None: of one in memory."""
    return None if request.param == "memory" else request.getfixturevalue("database_url")


@pytest.fixture
async def world(url: str | None) -> AsyncIterator[World]:
    """With the usual settings."""
    async with open_world(url) as world:
        yield world


@pytest.fixture
def worlds(url: str | None) -> Worlds:
    return partial(open_world, url)
