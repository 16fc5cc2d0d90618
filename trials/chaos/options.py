"""What a run is asked to do, in groups: what is said, what goes wrong, and in which cluster."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

KILLS_DEFAULT = 20
PROXIES = ("haproxy", "nginx")
PROXY_NOTICE_SECONDS = 2.0
"""The default of `chatcluster serve`."""
MIX_DEFAULT = "send=10,queue=6,interrupt=2,interrupting_send=1,promote=1,edit=1,delete=1"


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is said, and how it is read."""

    chats: int = 20
    readers: int = 2
    mix: str = MIX_DEFAULT
    turns: int = 30
    """Writes to one chat, before its conversation goes on in a new one."""
    answer_seconds: tuple[float, float] = (1.5, 4.0)
    tokens_per_second: float = 20.0
    tools: bool = False
    """The model calls tools of real servers."""
    failing: float = 0.0
    """The share of messages whose first answer breaks off."""
    workspaces: bool = False
    """Nothing but commands in workspaces. ``kills`` counts those of owners; agents, hosts and all replicas are killed
    besides."""
    predictable: bool = True
    """The model is the simulated one: answers are known in advance."""


@dataclass(frozen=True, kw_only=True)
class FaultOptions:
    """What goes wrong, how often and for how long."""

    kinds: tuple[str, ...] = ("kill",)
    kills: int | None = None
    minutes: float | None = None
    pause_seconds: tuple[float, float] = (0.1, 0.6)
    """Between what came of one fault, and the next."""
    stop_seconds: tuple[float, float] = (6.0, 9.0)
    """A freeze outlives the takeover: a lease runs out after 5 s."""
    rolling: bool = False
    """Restart each replica once, one after the other, instead of the faults."""
    busy: int = 0
    """Processes that do nothing but take the processor from the cluster."""

    @property
    def kills_max(self) -> float:
        """Faults in all; without end where only the time counts."""
        if self.kills is not None:
            return self.kills
        return KILLS_DEFAULT if self.minutes is None else float("inf")

    @property
    def seconds(self) -> float:
        """How long there are faults."""
        return float("inf") if self.minutes is None else 60 * self.minutes


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """A cluster of our own, or one that runs already."""

    replicas: int = 3
    beside: str | None = None
    """The commit that half of the replicas are of, the smaller one; None if all are ours."""
    proxy: str | None = None
    """What stands in front of the replicas: one of ``PROXIES``, None for the port that they share."""
    drain_seconds: float = 5.0
    keep: bool = False
    up_arguments: tuple[str, ...] = ()
    url: str = ""
    """Of one that runs already."""
    token: str = ""
    signal_command: str = ""

    @property
    def others(self) -> int:
        """How many replicas are of the commit ``beside``."""
        return self.replicas // 2 if self.beside else 0

    @property
    def drain_notice_seconds(self) -> float:
        """How long a replica that leaves is still there, for a proxy to notice."""
        return PROXY_NOTICE_SECONDS if self.proxy else 0.0


@dataclass(frozen=True, kw_only=True)
class Options:
    load: Load = field(default_factory=Load)
    faults: FaultOptions = field(default_factory=FaultOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    seed: int = 0
    log: Path | None = None
    money: bool = False
    """Hold what the cluster booked against what its model counted."""
    judge_times: bool = True
    """What comes late is a violation. On a machine that does other things as well, it is only told."""

    @property
    def front_only(self) -> bool:
        """Clients know no replica's own address."""
        return self.faults.rolling or bool(self.cluster.proxy)

    def draw(self, *names: object) -> random.Random:
        """A source of chance of its own for each part of the run, so that one does not disturb the other."""
        return random.Random(" ".join(map(str, (self.seed, *names))))


def parse_mix(text: str, known: tuple[str, ...]) -> dict[str, float]:
    """``op=weight,...``. Raises ``ValueError`` that says what is wrong."""
    weights = {}
    for item in text.split(","):
        name, _, weight = item.strip().partition("=")
        if name not in known:
            raise ValueError(f"there is no operation {name!r}; there are {', '.join(known)}")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise ValueError(f"the weight of {name} is no number: {weight!r}") from None
    if min(weights.values()) < 0 or not any(weights.values()):
        raise ValueError("no weight may be below 0, and at least one operation needs one above 0")
    return weights
