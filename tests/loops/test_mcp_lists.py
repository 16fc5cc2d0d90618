"""Lists of the tools of MCP servers, as they are remembered between turns: over sessions that are none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from chatcluster.tools.mcp_credentials import SignInNeeded
from chatcluster.tools.mcp_link import McpFailed
from chatcluster.tools.mcp_lists import ToolLists
from chatcluster.tools.mcp_wire import Trouble


async def let_in() -> Any:
    async def list_tools() -> Any:
        return SimpleNamespace(tools=(), left_out=7)

    return SimpleNamespace(list_tools=list_tools, opened=SimpleNamespace(instructions=""))


async def refused() -> Any:
    raise SignInNeeded


async def test_a_call_that_waited_for_a_sign_in_goes_on_where_another_turn_was_refused_right_before_it() -> None:
    nowhere: Any = None
    server: Any = SimpleNamespace(id=uuid4(), revision=1, per_user=True, slug="notes")
    lists, user_id = ToolLists(nowhere, nowhere), uuid4()
    with pytest.raises(McpFailed) as failed:
        await lists.get(server, user_id, refused)
    assert failed.value.trouble is Trouble.UNAUTHORIZED
    assert (await lists.get(server, user_id, let_in)).left_out == 7
