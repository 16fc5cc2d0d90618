"""All routes of the API. A new file of routes is put in here."""

from __future__ import annotations

from chatcluster.web.api import admin, chats, messages, overview, sessions, streams

ROUTES = [*chats.ROUTES, *messages.ROUTES, *streams.ROUTES, *sessions.ROUTES, *admin.ROUTES, *overview.ROUTES]
