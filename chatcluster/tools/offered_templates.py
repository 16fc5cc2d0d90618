"""What workspaces can be made of, as this replica knows it.

Whether there is a template is looked up once in ``TEMPLATES_SECONDS``, for all chats of this replica: so a deployment
without any pays nothing for a turn. While Postgres cannot be reached, what was known of templates stands.
"""

from __future__ import annotations

import math
from uuid import UUID

import trio

from chatcluster.errors import StoreUnavailable
from chatcluster.ports.workspaces import Template, Workspaces

TEMPLATES_SECONDS = 2.0


class OfferedTemplates:
    """One for a replica."""

    def __init__(self, rows: Workspaces) -> None:
        self._rows = rows
        self._templates: tuple[Template, ...] = ()
        self._looked_at = -math.inf
        self._looking = trio.Lock()

    def __repr__(self) -> str:
        return f"<OfferedTemplates {len(self._templates)} known>"

    def __bool__(self) -> bool:
        """Whether there may be any: also where it is time to look."""
        return bool(self._templates) or self._is_due

    @property
    def _is_due(self) -> bool:
        return trio.current_time() - self._looked_at >= TEMPLATES_SECONDS

    async def to(self, owner_id: UUID) -> tuple[Template, ...]:
        """The templates that are offered to this user; asked for alone only where there is one for some users."""
        templates = await self._all()
        if not any(template.settings.users for template in templates):
            return templates
        try:
            return await self._rows.templates(owner_id)
        except StoreUnavailable:
            return tuple(template for template in templates if not template.settings.users)

    async def _all(self) -> tuple[Template, ...]:
        async with self._looking:
            if self._is_due:
                try:
                    templates = await self._rows.templates()
                except StoreUnavailable:
                    return self._templates
                self._templates = tuple(template for template in templates if not template.settings.deprecated)
                self._looked_at = trio.current_time()
        return self._templates
