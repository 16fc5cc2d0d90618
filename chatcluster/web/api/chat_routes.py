"""Routes of chats, file by file."""

from __future__ import annotations

from chatcluster.web.api import chats, export, messages, tool_calls

ROUTES = [*chats.ROUTES, *export.ROUTES, *messages.ROUTES, *tool_calls.ROUTES]
