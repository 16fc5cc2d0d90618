"""What routes of browsers stand on; see ``services.py``."""

from __future__ import annotations

from dataclasses import dataclass

from chatcluster.ports import Sessions
from chatcluster.push_subscriptions import PushSubscriptions


@dataclass(frozen=True, kw_only=True)
class Browsers:
    """Who is signed in, and whom to tell that an answer is there."""

    sessions: Sessions
    push: PushSubscriptions
