"""All that a replica's loops speak to, in one value."""

from __future__ import annotations

from dataclasses import dataclass

from chatcluster.ports.limits import UNLIMITED, LimitCheck
from chatcluster.ports.model import Model
from chatcluster.ports.pubsub import PubSub
from chatcluster.ports.registry import Registry
from chatcluster.ports.store import Store
from chatcluster.ports.streams import PartStreams
from chatcluster.ports.toolbox import Toolbox


@dataclass(frozen=True, kw_only=True)
class Outside:
    store: Store
    registry: Registry
    streams: PartStreams
    pubsub: PubSub
    model: Model
    toolbox: Toolbox
    limits: LimitCheck = UNLIMITED
