"""Models as routes see them: which there are, how they are set up, what they are told, and what they cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chatcluster.model_admin import ModelAdministration
from chatcluster.models import Catalogue
from chatcluster.ports.prompts import Prompts
from chatcluster.spending_limits import Spending


@dataclass(frozen=True, kw_only=True)
class Models:
    catalogue: Callable[[], Awaitable[Catalogue]]
    """Which models there are. Raises ``StoreUnavailable`` while that is not known."""
    admin: ModelAdministration
    prompts: Prompts
    spending: Spending
