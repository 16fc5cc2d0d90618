"""What a chat's user gives it besides messages: a title, a model, tools that its client runs, servers of tools."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class ClientTool(msgspec.Struct, frozen=True):
    """A tool that the chat's client runs. ``parameters`` is the JSON schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]


class ChatSetup(msgspec.Struct, frozen=True):
    """``mcp_servers``: the slugs of the servers whose tools the chat has. None: as it is.
    ``model``: None is the deployment's default; unset: as it is. ``agents``: whether it may have agents, likewise.

    Each field is a column of its name, and what it has by default leaves that as it is."""

    title: str | None = None
    model: str | UnsetType | None = UNSET
    client_tools: tuple[ClientTool, ...] | None = None
    mcp_servers: tuple[str, ...] | None = None
    agents: bool | UnsetType | None = UNSET

    @property
    def chosen(self) -> dict[str, Any]:
        """What it changes, by the names of the fields."""
        values = {name: getattr(self, name) for name in SETUP_FIELDS}
        return {name: value for name, value in values.items() if value is not getattr(AS_IT_IS, name)}


SETUP_FIELDS = ChatSetup.__struct_fields__
AS_IT_IS = ChatSetup()


def setup_of(chat: Any) -> dict[str, Any]:
    """What a chat, or one that is to be made, was given: its fields that are those of ``ChatSetup``."""
    return {name: getattr(chat, name) for name in SETUP_FIELDS}
