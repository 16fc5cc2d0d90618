"""Routes of chats, file by file."""

from __future__ import annotations

from chatcluster.web.api import chats, export, forks, messages, tool_calls

ROUTES = [*chats.ROUTES, *export.ROUTES, *forks.ROUTES, *messages.ROUTES, *tool_calls.ROUTES]
