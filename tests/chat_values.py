"""A chat as a store reads it, for tests that look at a few of its fields."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from chatcluster.chat import Status
from chatcluster.ports import Chat

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def chat_at_work(**fields: Any) -> Chat:
    """A chat whose turn is under way, but for what ``fields`` say."""
    known: dict[str, Any] = {
        "id": UUID(int=7),
        "owner_id": UUID(int=8),
        "title": "a chat",
        "model": None,
        "retry_at": None,
        "created_at": BEGAN,
        "updated_at": BEGAN,
        "status": Status.RUNNING,
        "worker_id": None,
        "epoch": 0,
        "snapshot_version": 0,
        "history_version": 0,
        "queue_version": 0,
        "attempt": 0,
    }
    return Chat(**known | fields)
