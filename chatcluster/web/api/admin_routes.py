"""Routes for administrators alone, file by file."""

from __future__ import annotations

from chatcluster.web.api import admin, limits, overview

ROUTES = [*admin.ROUTES, *overview.ROUTES, *limits.ROUTES]
