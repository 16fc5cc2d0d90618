"""What the routes stand on: the ports, the feeds, and what they are told by the rest of the replica.

``cluster.py`` builds one ``Services`` and hands it to ``create_app``. The protocols here are those parts of
the loops that a route uses, so that a test can stand in for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from chatcluster.config import Settings
from chatcluster.metrics import Metrics
from chatcluster.ports import Accounts, PubSub, Registry, Store
from chatcluster.ports.administration import Administration
from chatcluster.ports.series import Series
from chatcluster.transitions import Transitions
from chatcluster.uploads import Uploads
from chatcluster.web.browsers import Browsers
from chatcluster.web.model_services import Models
from chatcluster.web.readers import Readers
from chatcluster.web.tool_servers import Mcp
from chatcluster.web.workspace_services import WorkspaceServices


class Health(Protocol):
    """How the replica is doing, as far as a load balancer has to know."""

    @property
    def draining(self) -> bool: ...

    async def check(self) -> dict[str, str]:
        """What this replica depends on, each ``ok`` or a few words: ``postgres``, ``schema``, ``redis``."""
        ...


@dataclass(frozen=True)
class Monitoring:
    """What tells how the replica is doing."""

    health: Health
    metrics: Metrics


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What administrators see of the whole cluster: lists and logs, and how much it did."""

    administration: Administration
    series: Series


@dataclass(frozen=True, kw_only=True)
class Services:
    settings: Settings
    store: Store
    accounts: Accounts
    browsers: Browsers
    overview: Overview
    registry: Registry
    pubsub: PubSub
    readers: Readers
    transitions: Transitions
    models: Models
    monitoring: Monitoring
    uploads: Uploads
    mcp: Mcp
    workspaces: WorkspaceServices
