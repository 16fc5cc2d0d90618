"""What a decision depends on: the state of a chat, and the fence of an owner's write."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from operator import attrgetter
from typing import Any
from uuid import UUID

import msgspec

from chatcluster.chat.calls import OpenCall
from chatcluster.parts import Count, Parts

QUEUE_MESSAGES_MAX = 20
QUEUE_BYTES_MAX = 4 << 20
"""As JSON, in which control characters take six bytes each: a queue is told of as a whole, in one step of the loop."""


SUMMARIES_MAX = 64
"""The versions of so many of the newest summaries are known, for edits that go back behind some of them."""


class Status(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTING = "interrupting"
    REQUIRES_ACTION = "requires_action"
    ERROR = "error"


class Phase(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTING = "interrupting"
    REQUIRES_ACTION = "requires_action"
    ERROR = "error"
    ARCHIVED = "archived"


class TurnOutcome(StrEnum):
    """How a turn ended."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    ERROR = "error"


AT_WORK = (Status.RUNNING, Status.INTERRUPTING, Status.REQUIRES_ACTION)
"""A turn is under way."""


class Retry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why the last attempt failed, and how long the next one waits (by the database's clock)."""

    attempt: Count
    delay_ms: Count
    error: str
    kind: str
    provider: str | None = None
    status_code: Count | None = None
    position: str | None = None
    """That of the last frame that it left on the part stream. A reader that was shown one behind it was shown the next
    attempt."""
    model: str | None = None
    """Which the next one asks, where that is another one."""


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ended a turn in ``error``."""

    code: str
    message: str
    retryable: bool = False
    provider: str | None = None
    status_code: Count | None = None


class Queued(msgspec.Struct, frozen=True):
    """``steered``: it does not wait for the end of the turn under way, but goes in after that turn's next results."""

    id: int
    parts: Parts
    model: str | None = None
    steered: bool = False


class Standing(msgspec.Struct):
    """Where a chat stands: who works on it, and how far it has come."""

    worker_id: UUID | None
    epoch: int
    snapshot_version: int
    history_version: int
    queue_version: int
    attempt: int
    """The number of the newest attempt at this history: what tells its frames from those of others."""


class StoredPhase(Standing):
    """What says in which phase a chat is, and so whom it waits for."""

    status: Status
    archived: bool = False
    archiving: bool = False
    """The chat is archived as soon as its interruption is finished."""
    compacting: bool = False
    waits_for_agents: bool = False
    """Whether a chat that requires action waits for agents of its own, and for nobody else."""

    @property
    def phase(self) -> Phase:
        return Phase.ARCHIVED if self.archived else Phase(self.status)

    @property
    def runnable(self) -> bool:
        """Whether there is work that an owner has to do."""
        return not self.archived and self.status in (Status.RUNNING, Status.INTERRUPTING)

    @property
    def claimable(self) -> bool:
        return self.runnable and self.worker_id is None


class StoredState(StoredPhase):
    """What a decision depends on and changes, as far as the chat's row has it: each field is a column of its name.

    A chat as it is read, a state to decide on, and the columns that a decision writes are all made from these fields.
    Only a decision in the making has it as it is; a ``Chat`` and a ``ChatState`` are frozen.
    """

    reset_version: int = 0
    """The snapshot version at which history was last rewritten: older cursors start anew."""
    failures: int = 0
    """In how many attempts at this history the model failed. One after which that model is not asked again counts for
    all that it could have failed."""
    takeovers: int = 0
    """Tenures at this history that did not end in order, with the one under way."""
    content_version: int = 1
    """That of the newest content in history and queue: a replica that cannot read it leaves the chat to others."""
    timeline: int | None = None
    """The timeline of the server that wrote the chat last, as far as it is known: see ``timeline.py``."""
    retry: Retry | None = None
    last_error: ErrorInfo | None = None
    pinned: bool = False
    summaries: tuple[int, ...] = ()
    """The versions at which history was summarised, the oldest first and at most ``SUMMARIES_MAX``."""
    failed: int = 0
    """The newest attempt at this history that came to nothing because the model failed: its readers were told so."""
    answer: str = ""
    """The answer that its provider goes on with, also while nobody listens (``Underway``). Empty if there is none."""
    cause: str = ""
    """What led to this status, or to this owner: see ``causes.py``. Empty where an older version wrote it."""


STORED_FIELDS = StoredState.__struct_fields__

_stored_values: Callable[[StoredState], tuple[Any, ...]] = attrgetter(*STORED_FIELDS)


def copy_stored(state: StoredState) -> StoredState:
    """One that can be changed."""
    return StoredState(*_stored_values(state))


def stored_of(state: StoredState) -> dict[str, Any]:
    """The fields of ``StoredState`` in what extends it, by their names."""
    return dict(zip(STORED_FIELDS, _stored_values(state), strict=True))


class ChatState(StoredState, frozen=True):  # type: ignore[misc]  # msgspec allows what dataclasses do not
    """What a decision depends on."""

    queue: tuple[Queued, ...] = ()
    open_calls: tuple[OpenCall, ...] = ()


def state_with(stored: StoredState, queue: tuple[Queued, ...], open_calls: tuple[OpenCall, ...]) -> ChatState:
    values: tuple[Any, ...] = (*_stored_values(stored), queue, open_calls)  # by place: each decision makes two of them
    return ChatState(*values)


class Underway(msgspec.Struct, frozen=True):
    """An answer that its provider goes on with: ``attempt`` at this history asked for it."""

    history_version: int
    attempt: int
    answer_id: str

    @property
    def text(self) -> str:
        """The form that the row has."""
        return f"{self.history_version} {self.attempt} {self.answer_id}"

    @classmethod
    def of(cls, state: StoredState) -> Underway | None:
        """The answer of the attempt under way. What is left standing of another attempt is none."""
        known = cls._in(state)
        return known if known is not None and known._is_current(state) else None

    @classmethod
    def edited_away(cls, state: StoredState) -> Underway | None:
        """One that was under way when an edit took its question away: nobody wants it."""
        known = cls._in(state)
        return known if known is not None and known.history_version < state.history_version else None

    @classmethod
    def _in(cls, state: StoredState) -> Underway | None:
        history_version, _, rest = state.answer.partition(" ")
        attempt, _, answer_id = rest.partition(" ")
        if not (answer_id and history_version.isdecimal() and attempt.isdecimal()):
            return None
        return cls(int(history_version), int(attempt), answer_id)

    def _is_current(self, state: StoredState) -> bool:
        return self.history_version == state.history_version and self.attempt > state.failed


class Fence(msgspec.Struct, frozen=True):
    """The tenure that an owner's write belongs to, and the history it worked from."""

    chat_id: UUID
    worker_id: UUID
    epoch: int
    history_version: int
