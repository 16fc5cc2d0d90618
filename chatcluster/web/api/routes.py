"""All routes of the API. A new file of routes is put in here, or where those for administrators are."""

from __future__ import annotations

from chatcluster.web.api import (
    admin_routes,
    browser_routes,
    chats,
    export,
    files,
    mcp,
    messages,
    models,
    prompts,
    streams,
    templates,
    tool_calls,
    usage,
    workspace_diffs,
    workspaces,
)

ROUTES = [
    *chats.ROUTES,
    *export.ROUTES,
    *messages.ROUTES,
    *tool_calls.ROUTES,
    *streams.ROUTES,
    *models.ROUTES,
    *browser_routes.ROUTES,
    *admin_routes.ROUTES,
    *mcp.ROUTES,
    *prompts.ROUTES,
    *files.ROUTES,
    *usage.ROUTES,
    *workspace_diffs.ROUTES,
    *templates.ROUTES,
    *workspaces.ROUTES,
]
