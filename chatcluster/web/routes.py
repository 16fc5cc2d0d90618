"""All routes: of the API, of the doors for other clients, and those that stand beside them."""

from __future__ import annotations

from chatcluster.ports import TokenScope
from chatcluster.web import health, sign_in
from chatcluster.web.api.routes import ROUTES as API
from chatcluster.web.doors.routes import ROUTES as DOORS
from chatcluster.web.doors.routes import SCOPES as DOOR_SCOPES

API_PATH = "/api/v1"
BESIDE = [*health.ROUTES, *sign_in.ROUTES]
SCOPES = {API_PATH: TokenScope.CHATS, **DOOR_SCOPES}
"""What a token has to be for, by where routes begin."""

__all__ = ["API", "API_PATH", "BESIDE", "DOORS", "SCOPES"]
