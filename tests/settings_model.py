"""The model of a deployment whose settings are its only provider."""

from __future__ import annotations

from chatcluster.config import Settings
from chatcluster.llm.client import HttpModel
from chatcluster.llm.wires import settings_routing


def settings_model(settings: Settings) -> HttpModel:
    return HttpModel(
        settings_routing(settings), concurrent=settings.replica.slots, first_url=settings.llm.base_url.strip()
    )
