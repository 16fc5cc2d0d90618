"""What a run is asked to do."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

KILLS_DEFAULT = 20
PROXIES = ("haproxy", "nginx")
PROXY_NOTICE_SECONDS = 2.0
"""The default of `chatcluster serve`."""
MIX_DEFAULT = "send=10,queue=6,interrupt=2,interrupting_send=1,promote=1,edit=1,delete=1"


@dataclass(frozen=True, kw_only=True)
class Options:
    chats: int = 20
    readers: int = 2
    kills: int | None = None
    minutes: float | None = None
    faults: tuple[str, ...] = ("kill",)
    busy: int = 0
    """Processes that do nothing but take the processor from the cluster."""
    replicas: int = 3
    seed: int = 0
    mix: str = MIX_DEFAULT
    answer_seconds: tuple[float, float] = (1.5, 4.0)
    tokens_per_second: float = 20.0
    pause_seconds: tuple[float, float] = (0.1, 0.6)
    """Between what came of one fault, and the next."""
    stop_seconds: tuple[float, float] = (6.0, 9.0)
    """A freeze outlives the takeover: a lease runs out after 5 s."""
    turns: int = 30
    """Writes to one chat, before its conversation goes on in a new one."""
    drain_seconds: float = 5.0
    tools: bool = False
    """The model calls tools of real servers."""
    money: bool = False
    """Hold what the cluster booked against what its model counted."""
    failing: float = 0.0
    """The share of messages whose first answer breaks off."""
    workspaces: bool = False
    """Nothing but commands in workspaces. ``kills`` counts those of owners; agents, hosts and all replicas are killed
    besides."""
    rolling: bool = False
    """Restart each replica once, one after the other, instead of the faults."""
    beside: str | None = None
    """The commit that half of the replicas are of, the smaller one; None if all are ours."""
    proxy: str | None = None
    """What stands in front of the replicas: one of ``PROXIES``, None for the port that they share."""
    predictable: bool = True
    """The model is the simulated one: answers are known in advance."""
    url: str = ""
    token: str = ""
    signal_command: str = ""
    log: Path | None = None
    keep: bool = False
    judge_times: bool = True
    """What comes late is a violation. On a machine that does other things as well, it is only told."""
    up_arguments: tuple[str, ...] = ()

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

    @property
    def others(self) -> int:
        """How many replicas are of the commit ``beside``."""
        return self.replicas // 2 if self.beside else 0

    @property
    def front_only(self) -> bool:
        """Clients know no replica's own address."""
        return self.rolling or bool(self.proxy)

    @property
    def drain_notice_seconds(self) -> float:
        """How long a replica that leaves is still there, for a proxy to notice."""
        return PROXY_NOTICE_SECONDS if self.proxy else 0.0

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
