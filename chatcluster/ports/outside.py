"""All that a replica's loops speak to, in one value."""

from __future__ import annotations

from dataclasses import dataclass

from chatcluster.ports.limits import UNLIMITED, LimitCheck
from chatcluster.ports.model import Model, Stint, Stints, ToolLimits, Window, Windows
from chatcluster.ports.pubsub import PubSub
from chatcluster.ports.registry import Registry
from chatcluster.ports.store import Store
from chatcluster.ports.streams import PartStreams
from chatcluster.ports.toolbox import Toolbox


def no_window(_model: str | None, _failures: int) -> Window | None:
    """The ``Windows`` of a deployment where of no model is known how much it takes."""
    return None


def one_stint(_model: str | None, _failures: int) -> Stint:
    """No model has another one behind it."""
    return Stint()


def any_number(_model: str | None, _failures: int) -> int | None:
    """Every model takes as many tools as there are."""
    return None


@dataclass(frozen=True, kw_only=True)
class Outside:
    store: Store
    registry: Registry
    streams: PartStreams
    pubsub: PubSub
    model: Model
    toolbox: Toolbox
    windows: Windows = no_window
    stints: Stints = one_stint
    tool_limits: ToolLimits = any_number
    limits: LimitCheck = UNLIMITED
