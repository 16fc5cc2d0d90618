"""Routes of workspaces and of what they are made of, file by file."""

from __future__ import annotations

from chatcluster.web.api import templates, workspace_diffs, workspace_screens, workspaces

ROUTES = [*templates.ROUTES, *workspaces.ROUTES, *workspace_diffs.ROUTES, *workspace_screens.ROUTES]
