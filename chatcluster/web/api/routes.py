"""All routes of the API. A new file of routes is put in here."""

from __future__ import annotations

from chatcluster.web.api import (
    admin,
    chats,
    files,
    limits,
    mcp,
    messages,
    models,
    overview,
    prompts,
    sessions,
    streams,
    tool_calls,
    usage,
)

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
    *prompts.ROUTES,
    *files.ROUTES,
    *usage.ROUTES,
    *limits.ROUTES,
]
