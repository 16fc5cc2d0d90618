"""The columns of a chat's state as SQL reads and writes them: one for each field of ``StoredState``, by its name.

So a new column is a migration, a field of ``StoredState``, and the command that sets it; nothing here names it.
"""

from __future__ import annotations

from chatcluster.chat import STORED_FIELDS, StoredState, stored_of
from chatcluster.postgres.rows import json_of

_CASTS = {"retry": "::text::json", "last_error": "::text::json", "summaries": "::text::json"}

LONG = ", ".join(f"chats.{name}" for name in STORED_FIELDS if name in _CASTS)
"""Columns whose values the server may keep elsewhere, and so fail to read where it is damaged."""
SHORT = ", ".join(f"chats.{name}" for name in STORED_FIELDS if name not in _CASTS)
CHANGED = ",\n    ".join(f"{name} = :{name}{_CASTS.get(name, '')}" for name in STORED_FIELDS)


def column_values(state: StoredState) -> dict[str, object]:
    """The arguments that ``CHANGED`` takes."""
    values = stored_of(state)
    values["status"] = str(state.status)
    values["retry"] = json_of(state.retry)
    values["last_error"] = json_of(state.last_error)
    values["summaries"] = json_of(state.summaries or None)
    return values
