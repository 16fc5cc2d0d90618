"""What the checker takes and what it answers: writes, events, faults, final chats, violations.

Times are seconds on one monotonic clock, that of the recorder. Positions are ``(epoch, seq)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Kind(StrEnum):
    """What can be wrong; each value is a count in the summary of a run."""

    LOST = "messages_lost"
    DUPLICATED = "messages_duplicated"
    UNANSWERED = "messages_unanswered"
    ANSWERED_TWICE = "messages_answered_twice"
    UNASKED = "messages_unasked"
    """In the history, although refused, deleted, edited away, or never sent."""
    TEXT = "text_mismatches"
    GAP = "gaps"
    REPEAT = "repeats"
    STALE = "stale_events"
    ORDER = "order_violations"
    OWNER = "owner_conflicts"
    STUCK = "stuck_chats"
    LATE = "late_recoveries"
    UNSTOPPED = "late_stops"
    CUT = "answers_cut_by_drain"
    TOOL = "tool_calls_without_one_result"
    RUN_TWICE = "tool_calls_run_twice"
    """Against their tool's policy, or after too many deaths."""
    UNSAID = "tool_calls_run_unsaid"
    """Before the ledger said so, or without the approval that their tool asks for."""
    MONEY = "money_booked_twice_or_not"
    """What the provider reported of an attempt is booked once, as it was reported."""
    RESULT = "tool_results_nobody_gave"
    """Results that nobody gave, or that do not say that the call ran more than once."""
    ANSWER = "approvals_lost"
    """An approval or a client's result was lost, or more than one answer to a call was taken."""
    SERVER_ERROR = "server_errors"
    CRASH = "crashes"
    """A replica died that nobody killed, or one of its loops broke."""
    FALSE_TAKEOVER = "false_takeovers"
    """A replica was declared dead that lived."""
    UNTOLD = "takeovers_told_wrongly"
    """Operators are told of another takeover, or of none: in the log, in charts or in metrics."""
    BYSTANDER = "bystander_delays"
    """A chat that had nothing to do with a fault waited for it."""


PROMISES = {
    Kind.LOST: "P1",
    Kind.DUPLICATED: "P1",
    Kind.UNANSWERED: "P1",
    Kind.ANSWERED_TWICE: "P1",
    Kind.UNASKED: "P1",
    Kind.TEXT: "P3",
    Kind.GAP: "P3",
    Kind.REPEAT: "P3",
    Kind.STALE: "P2",
    Kind.ORDER: "P1",
    Kind.OWNER: "P2",
    Kind.STUCK: "P4",
    Kind.LATE: "P4",
    Kind.UNSTOPPED: "P5",
    Kind.CUT: "P6",
    Kind.TOOL: "P7",
    Kind.RUN_TWICE: "P7",
    Kind.UNSAID: "P7",
    Kind.RESULT: "P7",
    Kind.MONEY: "P1",
    Kind.ANSWER: "P7",
    Kind.SERVER_ERROR: "P3",
    Kind.CRASH: "P4",
    Kind.FALSE_TAKEOVER: "P4",
    Kind.UNTOLD: "P4",
    Kind.BYSTANDER: "P10",
}
"""The promise that each of them breaks."""


class Violation(NamedTuple):
    """One broken promise, with where to look for it in the record."""

    kind: Kind
    chat: str
    detail: str
    time: float | None = None
    reader: str = ""
    cursor: str = ""


class Position(NamedTuple):
    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


START = Position(0, 0)
PUBLIC = "public"
"""The replica of an event that came through a balancer: it is not known."""


class Cursor(NamedTuple):
    """Where to resume. With ``message_id``, only the messages up to that one have been seen."""

    version: int
    position: Position
    message_id: int | None = None


def parse_position(text: str) -> Position:
    epoch, _, seq = text.partition("-")
    return Position(int(epoch), int(seq))


def parse_cursor(text: str) -> Cursor:
    """``<snapshot_version>.<epoch>-<seq>[.<message_id>]``. Raises ``ValueError``."""
    version, position, *message_id = text.split(".")
    return Cursor(int(version), parse_position(position), int(message_id[0]) if message_id else None)


class Event(NamedTuple):
    """One event as a reader got it. ``data`` is its payload, ``replica`` who served it, or ``PUBLIC``."""

    time: float
    replica: str
    cursor: str
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Write:
    """One request of a client, and what it was told.

    ``op``: create, send, interrupting_send, steering_send, edit, promote, delete, interrupt, archive, unarchive,
    rename, approve, deny, submit. ``text`` is unique in the run. ``expected`` is the whole answer to it, where the
    model is predictable. ``target`` is the message that is edited, or the queued message that is promoted or deleted.
    """

    chat: str
    op: str
    began: float
    ended: float = float("inf")
    status: int | None = None
    """The answer's HTTP status; None when there was none, and it is unknown whether it was done."""
    text: str = ""
    expected: str | None = None
    target: int | None = None
    message_id: int | None = None
    queued_id: int | None = None

    @property
    def acknowledged(self) -> bool:
        return self.status is not None and self.status < 300

    @property
    def unknown(self) -> bool:
        """Nothing was promised, nothing was refused."""
        return self.status is None or self.status >= 500

    @property
    def may_stop_an_answer(self) -> bool:
        if self.op == "interrupting_send":
            return self.unknown or self.queued_id is not None
        return self.op in ("interrupt", "promote", "archive") and (self.acknowledged or self.unknown)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that was done to the cluster. ``worker_id`` and ``replica`` are those of its victim, if it has one.

    ``kind``: kill, stop, term, or one that begins with ``redis`` or ``postgres``. ``until``: when it was over. Or
    ``provider``: an attempt of this worker, or of ``chats``, failed, and nothing of it is kept; ``until``: when every
    reader was told.
    Or a harm, which hits ``chats``, its victims, or the chats of ``worker_id``, and nobody else.
    """

    kind: str
    time: float
    until: float
    worker_id: str = ""
    replica: str = ""
    chats: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How one chat of a fault's victim went on, as a reader on another replica saw it.

    ``sign_seconds``: to the first event after the fault that shows a living owner, or the end of the turn; None if
    none came. ``takeover_seconds``: to the first part of a new attempt of a newer tenure; None if none was due.
    """

    fault: Fault
    chat: str
    reader: str
    bound_seconds: float
    sign_seconds: float | None
    takeover_seconds: float | None = None
    cut_by_drain: bool = False
    epoch: int = 0
    """That of the tenure that the fault met."""


@dataclass(frozen=True, kw_only=True)
class FinalMessage:
    """A message of the final history. ``calls`` are IDs of tool calls that it makes, ``results`` that it answers."""

    id: int
    role: str
    text: str
    revision: int = 0
    finish_reason: str | None = None
    calls: tuple[str, ...] = ()
    results: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FinalChat:
    """A chat when everything had come to rest, or time was up."""

    chat: str
    status: str
    snapshot_version: int
    archived: bool = False
    worker_id: str | None = None
    queue: tuple[int, ...] = ()
    messages: tuple[FinalMessage, ...] = field(default=())


def message_of(data: dict[str, Any]) -> FinalMessage:
    """A message in the JSON of the API."""
    parts = data["parts"]
    return FinalMessage(
        id=data["id"],
        role=data["role"],
        text="".join(part["text"] for part in parts if part["type"] == "text"),
        revision=data["revision"],
        finish_reason=data.get("finish_reason"),
        calls=tuple(part["id"] for part in parts if part["type"] == "tool_call"),
        results=tuple(part["call_id"] for part in parts if part["type"] == "tool_result"),
    )
