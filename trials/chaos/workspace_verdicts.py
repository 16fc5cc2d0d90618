"""What may be told of a command in a workspace, and what may not: the judge of ``scripts/chaos --workspaces``. Pure.

* Its agent lived all the time: it ran once, its result has all of its output, and nothing is unknown, whoever died.
* Its agent died, alone or with its host: the result need not say how it ended, but no success that was none. Once
  the workspace runs again its ledger tells: that it was never begun, that it was killed, with what it had printed by
  then, or that it had ended before.
* What a reader saw on the stream is, from its offset on, what the command printed there; in both cases.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chatcluster.client.call_outputs import CallOutput
from chatcluster.tool_plan import DEATHS_MAX

UNKNOWN = ("unknown", "does not answer", "ended before there was a result", "is stopped", "does not run")
NEVER_BEGUN = "no process of this ID"
GIVEN_UP = f"{DEATHS_MAX} workers in a row"
KILLED = "the workspace ended while it ran"
DONE = ("commands", "kills", "kills_in_mid_command", "freezes", "agents_killed", "hosts_killed", "all_replicas_killed")
TOLD = ("stops", "streams_whole", "killed_told", "never_begun_told", "ended_before_told", "stale_calls_refused")
VIOLATIONS = (
    *(
        "run_twice_or_never",
        "output_lost",
        "stream_differs",
        "outcome_unknown",
        "stopped_late",
        "success_that_was_none",
    ),
    *("death_not_told", "stale_call_taken"),
)


class Scores:
    """What was counted, and each violation in words."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.stops: list[float] = []
        """Seconds between a stop and the last sign of life of what it stopped."""
        self._say = say

    def violate(self, kind: str, detail: str) -> None:
        self.counts[kind] += 1
        self.violations.append(f"{kind}: {detail}")
        self._say(f"VIOLATION {kind}: {detail}")

    def summary(self) -> dict[str, Any]:
        return {
            **{name: self.counts[name] for name in (*DONE, *TOLD, *VIOLATIONS)},
            "slowest_stop_ms": round(1000 * max(self.stops, default=0.0)),
            "violations": len(self.violations),
            "details": self.violations[:20],
        }


@dataclass
class Turn:
    """What a reader saw of one: the result of its call, and what came of its output on the stream."""

    began: float
    """By our clock, like ``ended``."""
    ended: float = 0.0
    call_id: str = ""
    result: str = ""
    output: CallOutput | None = None
    told_at_epoch: int = 0
    """The tenure that told the last of the output."""

    @property
    def seen_bytes(self) -> int:
        return 0 if self.output is None else self.output.end


@dataclass
class Command:
    """One that was ordered, and what is known of it. ``printed`` is all that it prints if it is let."""

    name: str
    printed: str
    agent_died: bool = False
    owners_died: int = 0
    runs: tuple[int, ...] = field(init=False, default=(1,))
    """How often it may have run."""


def judge_command(scores: Scores, command: Command, turn: Turn) -> None:
    """The result of a command, and what of it was on the stream."""
    scores.counts["commands"] += 1
    _judge_stream(scores, command, turn)
    success, output = _told(turn.result)
    if command.agent_died:
        command.runs = (1,) if turn.seen_bytes else (0, 1)
        if success and output != command.printed:
            scores.violate("success_that_was_none", f"{command.name}: {turn.result[:300]!r}")
    elif command.owners_died >= DEATHS_MAX and GIVEN_UP in turn.result:
        command.runs = (0, 1)
    elif any(word in turn.result for word in UNKNOWN):
        scores.violate("outcome_unknown", f"{command.name}: {turn.result[:300]!r}")
    elif output != command.printed:
        scores.violate(
            "output_lost", f"{command.name}: {len(output)} of {len(command.printed)}: {turn.result[-300:]!r}"
        )


def judge_death(scores: Scores, command: Command, turn: Turn, told: str) -> None:
    """``told``: what the workspace, which runs again, says of a command under which its agent had died."""
    success, output = _told(told)
    if NEVER_BEGUN in told and not turn.seen_bytes:
        command.runs = (0,)
        scores.counts["never_begun_told"] += 1
    elif success and output == command.printed:
        scores.counts["ended_before_told"] += 1
    elif KILLED in told and command.printed.startswith(output) and len(output) >= turn.seen_bytes:
        scores.counts["killed_told"] += 1
    else:
        scores.violate("death_not_told", f"{command.name}, of which {turn.seen_bytes} were seen: {told[:400]!r}")


def judge_runs(scores: Scores, commands: list[Command], noted: Counter[str]) -> None:
    """``noted``: how often each command said, in its workspace, that it ran."""
    for command in commands:
        if noted[command.name] not in command.runs:
            scores.violate("run_twice_or_never", f"{command.name} ran {noted[command.name]} times")
    for name in noted.keys() - {command.name for command in commands}:
        scores.violate("stale_call_taken", f"{name!r} ran, and nobody who may had ordered it")


def _judge_stream(scores: Scores, command: Command, turn: Turn) -> None:
    """A reader that was cut near the end has the result in its place: what there is has to be right."""
    seen = turn.output or CallOutput(0, 0, "")
    if command.printed[seen.offset : seen.end] != seen.text:
        scores.violate("stream_differs", f"{command.name}: from {seen.offset} {seen.text[:200]!r}")
    scores.counts["streams_whole"] += seen.text == command.printed


def _told(result: str) -> tuple[bool, str]:
    """Whether a result tells success, and the output in it."""
    try:
        fields = json.loads(result)
        return bool(fields["success"]), str(fields["output"])
    except (ValueError, KeyError, TypeError):
        return False, result if not result.startswith("{") else ""
