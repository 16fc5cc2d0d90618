"""A plugin with the fixtures of tests in sandboxes: ``pytest_plugins = ["sandbox_fixtures"]``. Nobody imports it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sandbox_world import open_directory

from chatcluster.workspaces.process_provider import ProcessProvider, open_process_provider


@pytest.fixture
def outside() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory


@pytest.fixture
async def provider(outside: Path) -> AsyncIterator[ProcessProvider]:
    async with open_process_provider(outside / "workspaces") as provider:
        yield provider
