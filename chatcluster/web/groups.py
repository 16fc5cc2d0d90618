"""What belongs together of what routes stand on; see ``services.py``."""

from __future__ import annotations

from dataclasses import dataclass

from chatcluster.ports import Sessions
from chatcluster.ports.administration import Administration
from chatcluster.ports.series import Series
from chatcluster.push_subscriptions import PushSubscriptions


@dataclass(frozen=True, kw_only=True)
class Browsers:
    """Who is signed in, and whom to tell that an answer is there."""

    sessions: Sessions
    push: PushSubscriptions


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What administrators see of the whole cluster: lists and logs, and how much it did."""

    administration: Administration
    series: Series
