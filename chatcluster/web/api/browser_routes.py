"""Routes for browsers alone, file by file."""

from __future__ import annotations

from chatcluster.web.api import push, sessions

ROUTES = [*sessions.ROUTES, *push.ROUTES]
