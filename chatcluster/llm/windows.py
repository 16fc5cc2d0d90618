"""How much the model takes that a request goes to, and how many tools: by the catalogue, or where there is none, by the
settings. Pure."""

from __future__ import annotations

from collections.abc import Callable

from chatcluster.config import Settings
from chatcluster.llm.routing import candidate_of
from chatcluster.llm.wires import WIRES
from chatcluster.models import Catalogue, Kind
from chatcluster.ports import ToolLimits, Window, Windows

OUTPUT_SHARES = 8
"""Where nothing says how long an answer may be, this part of the context is for it."""


def catalogue_windows(known: Callable[[], Catalogue | None], settings: Settings) -> Windows:
    """``known`` is the catalogue as this replica knows it, None before it was read."""

    def window(model: str | None, failures: int) -> Window | None:
        catalogue = known()
        if catalogue is None or catalogue.is_empty:
            return of_settings(settings)
        candidates = catalogue.candidates(model)
        if not candidates:
            return None
        entry = candidate_of(candidates, failures).model
        if entry.context_tokens is None:
            return None
        return Window(entry.context_tokens, entry.output_tokens_max, entry.compaction_percent)

    return window


def catalogue_tool_limits(known: Callable[[], Catalogue | None], settings: Settings) -> ToolLimits:
    """``known`` as for ``catalogue_windows``."""

    def limit(model: str | None, failures: int) -> int | None:
        catalogue = known()
        if catalogue is None or catalogue.is_empty:
            return WIRES[Kind(settings.llm.kind)].tools_max
        candidates = catalogue.candidates(model)
        if not candidates:
            return None
        asked = candidate_of(candidates, failures)
        tools_max, searches = WIRES[asked.provider.kind].tools_max, asked.model.options.web_search is not None
        if tools_max is not None and searches and asked.provider.kind is Kind.RESPONSES:
            return tools_max - 1  # the search of the server itself is one of them there
        return tools_max

    return limit


def of_settings(settings: Settings) -> Window | None:
    tokens = settings.llm.context_tokens
    return Window(tokens, tokens // OUTPUT_SHARES, settings.turns.compaction_percent) if tokens else None
