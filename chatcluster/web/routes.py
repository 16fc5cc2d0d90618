"""All routes: of the API, of the doors for other clients, and those that stand beside them."""

from __future__ import annotations

from chatcluster.web import health, sign_in
from chatcluster.web.api.routes import ROUTES as API
from chatcluster.web.doors.routes import ROUTES as DOORS
from chatcluster.web.doors.routes import SCOPES

BESIDE = [*health.ROUTES, *sign_in.ROUTES]

__all__ = ["API", "BESIDE", "DOORS", "SCOPES"]
