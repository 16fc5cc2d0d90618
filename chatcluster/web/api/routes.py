"""All routes of the API. A new file of routes is put in here."""

from __future__ import annotations

from chatcluster.web.api import admin, chats, mcp, messages, models, overview, sessions, streams, tool_calls, usage

ROUTES = [
    *chats.ROUTES,
    *messages.ROUTES,
    *tool_calls.ROUTES,
    *streams.ROUTES,
    *models.ROUTES,
    *sessions.ROUTES,
    *admin.ROUTES,
    *overview.ROUTES,
    *mcp.ROUTES,
    *usage.ROUTES,
]
