"""What a seed brings: the size of the world, its temper, and which faults with what frequency.

A seed has few kinds of faults or many, each rare or frequent: what needs a calm world to show, and what needs
two mishaps at once, both get their chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from random import Random

from chatcluster.config import Settings
from chatcluster.ports import Window

FAULTS = (
    "kill",
    "freeze",
    "term",
    "cut_postgres",
    "cut_redis",
    "cut_both",
    "postgres_restart",
    "postgres_session",
    "redis_restart",
    "redis_flush",
)
HARMS = (
    "unreadable",
    "stalled",
    "deadly",
    "damaged",
    "locked",
    "locked_of_the_dead",
    "foreign",
    "refused",
    "model",
    "hints",
    "session",
    "unburiable",
)
"""All harms but "greedy", which needs a world of its own: one that is full."""
LIVENESS_FAULTS = ("clock_step", "fail_over")
"""Drawn apart, so that what a seed brings else stays as it was."""
LOSING = "fail_over_losing"
"""Drawn apart as well. Not with harms: those are of rows that would be gone. Nor with tools: a database that forgets
what ran cannot be asked whether it did."""
CALM_STOP_SECONDS_MAX = 4.0
"""A heartbeat until the owner knows, and a poll until the reader does, without any hint."""
STOP_SECONDS_MAX = 30.0
FAULTY = 0.4
LOSES = 0.5
LOSSES_PER_SECOND_MIN = 1.5
TERMS_PER_SECOND = 0.8
GREEDY = 0.15


@dataclass(frozen=True)
class Temper:
    """What the provider is like. Probabilities are for each word."""

    first_seconds: float = 0.05
    words_max: int = 8
    pause: float = 0.5
    pause_seconds: float = 0.05
    pause_seconds_max: float = inf
    fail: float = 0.0
    retryable: float = 1.0
    stall: float = 0.0
    cut: float = 0.0
    calls: float = 0.0
    agents: float = 0.0
    """The chance that a call is about agents."""
    tracked: float = 0.0
    """The chance that any other call is for the agent of a workspace."""
    questions: float = 0.0
    """The chance that the tool of any other call asks the user something."""
    long_word: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The replicas, and what they are told."""

    speeds: tuple[float, ...]
    """Of each replica's clock."""
    slots: int
    bounds: dict[str, int]
    """Bounds of the code, by their full names: small ones make a small world long."""
    settings: Settings = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class Use:
    """What is written, and by how many."""

    chats: int
    clients: int
    operations: int
    """So many are made by each client."""
    think_seconds: float


@dataclass(frozen=True, kw_only=True)
class Readers:
    count: int
    late: int
    """Those that come while all this goes on, without a cursor."""
    hop_seconds: float
    """How long a reader stays with one replica, on average."""
    lazy: float
    """Probability of a reader's pause at each batch of events."""


@dataclass(frozen=True, kw_only=True)
class Troubles:
    """What goes wrong, until all is mended."""

    faults: dict[str, float]
    """Frequency per second, by kind."""
    weather: dict[str, float]
    linger_seconds: float
    """How much longer than the clients' business the faults go on."""
    harms: tuple[str, ...] = ()
    """What a chat, a row, a stream does that is no business of the other chats."""
    quiet: bool = False
    """Whether nothing else goes wrong, so that no chat may wait for anything but its model."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One seed's world."""

    seed: int
    cluster: Cluster
    use: Use
    readers: Readers
    troubles: Troubles
    temper: Temper
    stop_seconds_max: float
    """How long an interruption may take, as readers see it."""
    tools: bool = False
    """Whether there are tools, which the provider asks for, and people who are asked about them."""
    window: Window | None = None
    """How much the provider takes, where that is less than chats get long."""

    @property
    def calm(self) -> bool:
        """Whether a stop is to be quick: in a calm world that of a long answer is looked at."""
        return self.stop_seconds_max == CALM_STOP_SECONDS_MAX

    def description(self) -> str:
        """The world in a few lines."""
        cluster, use, readers, troubles = self.cluster, self.use, self.readers, self.troubles
        settings = cluster.settings
        weather = {name: round(value, 3) for name, value in troubles.weather.items() if value}
        faults = {kind: round(value, 2) for kind, value in troubles.faults.items()}
        return (
            f"seed {self.seed}: {len(cluster.speeds)} replicas, {use.chats} chats, {use.clients} clients, "
            f"{readers.count} readers, {readers.late} late ones, {use.operations} operations each\n"
            f"  faults a second: {faults}\n  weather: {weather}\n  provider: {self.temper}\n"
            f"  clocks: {[round(speed, 3) for speed in cluster.speeds]}, slots: {cluster.slots}, "
            f"drain {settings.ownership.drain_seconds} s, coalesce {settings.streaming.coalesce_ms} ms\n"
            f"  harms: {', '.join(troubles.harms) or 'none'}{', and nothing else' if troubles.quiet else ''}\n"
            f"  tools: {'yes' if self.tools else 'none'}, agents: {'yes' if settings.tools.agents else 'none'}, "
            f"workspaces: {'yes' if self.temper.tracked else 'none'}, "
            f"questions: {'yes' if self.temper.questions else 'none'}, "
            f"context: {self.window or 'without end'}\n"
            f"  bounds: {cluster.bounds}, an attempt {settings.streaming.attempt_bytes_max >> 10} KiB"
        )


def plan_of(seed: int) -> Plan:
    """The world of ``seed``."""
    with_tools = _with_drains(_with_tools(_harmful(_troubled(seed))))
    return _with_window(_with_questions(_with_workspaces(_with_agents(with_tools))))


def _with_window(plan: Plan) -> Plan:
    """In some worlds chats get too long for the provider; drawn apart."""
    draw = Random(f"window {plan.seed}")
    if plan.troubles.quiet or draw.random() < 0.7:
        return plan
    return replace(plan, window=Window(1000, 20, draw.choice((15, 20, 30))))


def _with_tools(plan: Plan) -> Plan:
    """In every other world in which not only bystanders are looked at; drawn apart, as all that came later."""
    draw = Random(f"tools {plan.seed}")
    if plan.troubles.quiet or draw.random() < 0.4:
        return plan
    words_max = plan.temper.words_max if plan.calm else min(plan.temper.words_max, 4)
    temper = replace(plan.temper, calls=draw.choice((0.5, 0.8)), words_max=words_max)
    return replace(plan, tools=True, temper=temper, troubles=_without_losses(plan.troubles))


def _with_drains(plan: Plan) -> Plan:
    """In some of the worlds with tools, but for calm ones, replicas leave so often that calls outlast them; drawn apart
    as well."""
    draw = Random(f"drains {plan.seed}")
    if not plan.tools or plan.calm or draw.random() < 0.7:
        return plan
    faults = plan.troubles.faults
    drains = {"term": max(faults.get("term", 0.0), TERMS_PER_SECOND)}
    return replace(plan, troubles=replace(plan.troubles, faults=faults | drains))


def _with_agents(plan: Plan) -> Plan:
    """In some of the worlds with tools, chats have agents; drawn apart as well."""
    draw = Random(f"agents {plan.seed}")
    if not plan.tools or plan.troubles.harms or draw.random() < 0.4:
        return plan
    temper = replace(plan.temper, agents=draw.choice((0.4, 0.8)))
    settings = plan.cluster.settings.but(agents=True, agents_max=draw.choice((2, 6)))
    return replace(plan, temper=temper, cluster=replace(plan.cluster, settings=settings))


def _with_workspaces(plan: Plan) -> Plan:
    """In half of the worlds with tools, some of them are run by agents with a ledger of their own; drawn apart."""
    draw = Random(f"workspaces {plan.seed}")
    if not plan.tools or plan.troubles.harms or draw.random() < 0.5:
        return plan
    return replace(plan, temper=replace(plan.temper, tracked=draw.choice((0.3, 0.7))))


def _with_questions(plan: Plan) -> Plan:
    """In some of the worlds with tools, some of them ask the user; drawn apart."""
    draw = Random(f"questions {plan.seed}")
    if not plan.tools or plan.troubles.harms or draw.random() < 0.4:
        return plan
    return replace(plan, temper=replace(plan.temper, questions=draw.choice((0.3, 0.7))))


def _troubled(seed: int) -> Plan:
    """What is drawn first, in this order: another order would be other worlds."""
    draw = Random(f"plan {seed}")
    replicas = draw.choice((1, 2, 2, 3, 3, 4))
    share = draw.choice((0.1, 0.3, 0.6))
    frequency = draw.choice((0.15, 0.4, 0.8))
    calm = draw.random() < 0.15
    drifting = draw.random() < 0.3
    chats = draw.choice((1, 1, 2, 3))
    clients = draw.randint(1, 3)
    readers = max(chats, draw.randint(1, 3))
    operations = draw.randint(3, 8)
    think_seconds = draw.choice((0.05, 0.5, 1.5))
    slots = draw.choice((1, 2, 64, 64))
    speeds = tuple(draw.uniform(0.92, 1.08) if drifting else 1.0 for _ in range(replicas))
    faults = _faults(seed, draw, share, frequency, calm=calm)
    weather = _weather(draw, calm=calm)
    temper = _temper(draw)
    linger_seconds = draw.choice((0.0, 2.0, 5.0))
    hop_seconds = draw.choice((0.2, 1.0, 10.0))
    lazy = _sometimes(draw, 0.2, 0.05, 0.5)
    late = draw.choice((0, 0, 1, 2))
    bounds = _bounds(draw)
    return Plan(
        seed=seed,
        cluster=Cluster(speeds=speeds, slots=slots, bounds=bounds, settings=_settings(draw)),
        use=Use(chats=chats, clients=clients, operations=operations, think_seconds=think_seconds),
        readers=Readers(count=readers, late=late, hop_seconds=hop_seconds, lazy=lazy),
        troubles=Troubles(faults=faults, weather=weather, linger_seconds=linger_seconds),
        temper=temper,
        stop_seconds_max=CALM_STOP_SECONDS_MAX if calm else STOP_SECONDS_MAX,
    )


def _sometimes(draw: Random, probability: float, low: float, high: float) -> float:
    return draw.uniform(low, high) if draw.random() < probability else 0.0


def _faults(seed: int, draw: Random, share: float, frequency: float, *, calm: bool) -> dict[str, float]:
    liveness = Random(f"liveness {seed}")
    losses = not calm and Random(f"losses {seed}").random() < LOSES
    return (
        {kind: frequency * draw.uniform(0.5, 1.5) for kind in FAULTS if draw.random() < share and not calm}
        | {kind: frequency for kind in LIVENESS_FAULTS if liveness.random() < share and not calm}
        | ({LOSING: max(frequency, LOSSES_PER_SECOND_MIN)} if losses else {})
    )


def _weather(draw: Random, *, calm: bool) -> dict[str, float]:
    """In a calm world only hints, live frames and what was given up have any."""
    return {
        "request_lost": 0.0 if calm else _sometimes(draw, 0.2, 0.005, 0.1),
        "answer_lost": 0.0 if calm else _sometimes(draw, 0.2, 0.005, 0.1),
        "slow": 0.0 if calm else _sometimes(draw, 0.3, 0.02, 0.5),
        "slow_seconds": draw.choice((0.005, 0.05, 0.5)),
        "hint_lost": _sometimes(draw, 0.3, 0.05, 1.0),
        "hint_doubled": _sometimes(draw, 0.2, 0.05, 0.5),
        "hint_late": _sometimes(draw, 0.3, 0.05, 0.8),
        "hint_late_seconds": draw.choice((0.01, 0.2, 2.0)),
        "live_late_seconds": _sometimes(draw, 0.15, 0.001, 0.3),
        "live_lost": _sometimes(draw, 0.1, 0.01, 0.3),
        "request_late": _sometimes(draw, 0.3, 0.1, 1.0),
        "request_late_seconds": draw.choice((0.05, 1.0, 3.0)),
    }


def _without_losses(troubles: Troubles) -> Troubles:
    return replace(troubles, faults={kind: often for kind, often in troubles.faults.items() if kind != LOSING})


def _harmful(plan: Plan) -> Plan:
    """Every other world has harms: besides its faults, or nothing else."""
    draw = Random(f"harmful {plan.seed}")
    if plan.seed % 2:
        return plan
    if draw.random() < FAULTY:
        harms = tuple(draw.sample(HARMS, draw.randint(1, 2)))
        return replace(plan, troubles=replace(_without_losses(plan.troubles), harms=harms))
    greedy = draw.random() < GREEDY
    replicas = 2 if greedy else draw.choice((2, 2, 3))
    temper = Temper(
        first_seconds=draw.choice((0.05, 0.2)),
        words_max=4 if greedy else 8,
        pause_seconds=draw.choice((0.05, 0.2)),
        pause_seconds_max=1.5,  # below the silence that is held against it: a model that is well is never retried
    )
    harms = ("greedy",) if greedy else tuple(draw.sample(HARMS, draw.randint(1, 3)))
    settings = plan.cluster.settings.but(attempts_max=3, claim_batch=10)
    slots = 1 if greedy else 64
    return replace(
        plan,
        cluster=replace(plan.cluster, speeds=(1.0,) * replicas, slots=slots, settings=settings),
        use=replace(plan.use, chats=2, operations=max(plan.use.operations, 8), think_seconds=0.5),
        readers=replace(plan.readers, count=2, hop_seconds=10.0, lazy=0.0),
        troubles=Troubles(faults={}, weather={}, linger_seconds=2.0, harms=harms, quiet=True),
        temper=temper,
        stop_seconds_max=CALM_STOP_SECONDS_MAX,
    )


def _temper(draw: Random) -> Temper:
    return Temper(
        first_seconds=draw.choice((0.001, 0.05, 0.3)),
        words_max=draw.choice((2, 8, 20, 20)),
        pause=draw.choice((0.3, 1.0, 1.0)),
        pause_seconds=draw.choice((0.005, 0.05, 0.2, 0.6, 0.6)),
        fail=_sometimes(draw, 0.3, 0.01, 0.15),
        retryable=draw.choice((0.5, 0.9, 1.0)),
        stall=_sometimes(draw, 0.15, 0.01, 0.1),
        cut=_sometimes(draw, 0.2, 0.01, 0.1),
        calls=_sometimes(draw, 0.2, 0.05, 0.4),
        long_word=_sometimes(draw, 0.1, 0.05, 0.5),
    )


def _bounds(draw: Random) -> dict[str, int]:
    """Some of the code's bounds, drawn small; where none is drawn, the deployed code's holds."""
    choices = {
        "chatcluster.relay.READ_FRAMES": (2, 10),
        "chatcluster.salvage.READ_FRAMES": (1, 3),
        "chatcluster.shown.RECENT_BYTES_MAX": (0, 400),
        "chatcluster.catch_up.PAGE_MESSAGES": (1, 3),
        "chatcluster.catch_up.PAGE_BYTES": (1, 100),
        "chatcluster.subscriber.TAKE_BYTES": (1, 1000),
        "chatcluster.feed.PAGE_MESSAGES": (1, 2),
        "chatcluster.feed.PAGE_BYTES": (1, 100),
        "chatcluster.preview.PAGE_FRAMES": (1, 3),
    }
    return {name: draw.choice(small) for name, small in choices.items() if draw.random() < 0.3}


def _settings(draw: Random) -> Settings:
    """The ratios of the deployed settings, with shorter waits: the world is smaller too."""
    return Settings.of(
        heartbeat_seconds=0.6,
        lease_ttl_seconds=2.5,
        lease_margin_seconds=0.6,
        sweep_seconds=0.5,
        claim_poll_seconds=1.0,
        claim_batch=draw.choice((1, 10)),
        drain_seconds=draw.choice((0.0, 0.5, 5.0)),
        feed_poll_seconds=1.5,
        statement_timeout_seconds=3.0,
        model_silence_seconds=2.0,
        attempts_max=draw.choice((3, 25)),
        retry_base_seconds=0.1,
        retry_cap_seconds=1.0,
        coalesce_ms=draw.choice((0.0, 15.0, 100.0)),
        subscriber_buffer_bytes=16 << 10,
        attempt_bytes_max=draw.choice((64 << 10, 8 << 20)),
        approval_seconds=6.0,
        client_tool_seconds=4.0,
        answer_seconds=6.0,
        live_answer_seconds=5.0,
    )
