"""All routes of the API. A new file of routes is put in here, or where those for administrators are."""

from __future__ import annotations

from chatcluster.web.api import (
    admin_routes,
    browser_routes,
    chat_routes,
    files,
    mcp,
    models,
    prompts,
    streams,
    usage,
    workspace_routes,
)

ROUTES = [
    *chat_routes.ROUTES,
    *streams.ROUTES,
    *models.ROUTES,
    *browser_routes.ROUTES,
    *admin_routes.ROUTES,
    *mcp.ROUTES,
    *prompts.ROUTES,
    *files.ROUTES,
    *usage.ROUTES,
    *workspace_routes.ROUTES,
]
