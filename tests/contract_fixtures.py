"""A plugin with both stores for contracts: ``pytest_plugins = ["contract_fixtures"]``. Nobody imports it."""

from __future__ import annotations

from functools import partial

import pytest
from contract_worlds import Worlds, open_world


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def worlds(request: pytest.FixtureRequest) -> Worlds:
    url = None if request.param == "memory" else request.getfixturevalue("database_url")
    return partial(open_world, url)
