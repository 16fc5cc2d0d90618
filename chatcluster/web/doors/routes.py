"""All routes of the doors, by the address that they are below. A new door is put in here."""

from __future__ import annotations

from chatcluster.ports import TokenScope
from chatcluster.web.doors.ag_ui import runs
from chatcluster.web.doors.ai_sdk import chats
from chatcluster.web.doors.mcp import routes as mcp
from chatcluster.web.doors.openai import completions, conversation_items, conversations, models, responses

ROUTES = {
    "/v1": [
        *responses.ROUTES,
        *completions.ROUTES,
        *conversations.ROUTES,
        *conversation_items.ROUTES,
        *models.ROUTES,
    ],
    "/mcp": mcp.ROUTES,
    "/api/ai": chats.ROUTES,
    "/api/agui": runs.ROUTES,
}
SCOPES = {"/v1": TokenScope.OPENAI, "/mcp": TokenScope.MCP, "/api/ai": TokenScope.AI_SDK, "/api/agui": TokenScope.AG_UI}
"""What a token needs at each of them."""
