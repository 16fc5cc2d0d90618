"""One reader, checked as it reads, through any number of connections (P3, P5).

What a reader holds is what the rules for clients say: messages by ID, and a **preview** of the answer under
way, which ``attempt``, ``history_reset``, ``retry`` and ``error`` drop and a message of the assistant replaces.

* A frame comes after every frame that was shown, also across reconnects; only ``history_reset`` starts anew.
* A cursor names what was shown: whoever resumes at it would be told nothing twice. What it leaves out of a preview
  is missed where that matters, in the next part or in the message.
* The frames of an attempt follow each other without a gap, from the attempt on.
* A message comes once, in the order of IDs; in the end the messages are the history.
* The preview is the message that it becomes if this connection had caught up: if it has brought the question live, or
  a frame of the attempt. (Before, a message may come in the place of its last parts, or of another attempt's: parts
  are replayed for the turn under way only.)
* No message of a tenure is new after a frame of the next one: who took over builds on what was committed before.
* The epoch does not go back, once a connection's first events are complete: who leaves in the middle of them has no
  cursor yet for what the status said. The same where all is told anew in mid-connection, because history was rewritten:
  it begins with a status that says something new at a cursor which has not moved, and ends with ``queue``.
* A preview does not vanish: what was streamed is kept, also when the answer is stopped.

Two faults can explain a preview that is short, vanishes, or is that of an attempt before: the owner died between its
commit and the publication of the last parts, or Redis lost them. That nothing at all was shown of an attempt, any
fault explains: a reader that hears of a takeover late goes on with the turn that is under way by then. And that an
interruption ended late may be for want of Postgres, or known late from a replica that was frozen. So these are only
noted here (``doubts``), and decided when all faults are known.

A failover that loses transactions takes back what a reader may have been told: it is **unsettled**, and not judged
until ``history_reset`` tells it to start anew, above all that is lost: which a chat at rest says with the next write to
it, whenever that comes. What it holds in the end is judged in any case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from checker.agreement import Agreement
from checker.history import (
    START,
    Cursor,
    Event,
    FinalChat,
    FinalMessage,
    Kind,
    Position,
    Violation,
    message_of,
    parse_cursor,
    parse_position,
)
from checker.loss import DURABLE_EVENTS

ATTEMPT_FRAMES_MIN = 2
"""An attempt that says anything has a frame for its beginning, and one for that."""
AT_REST = ("waiting", "error", "archived")


class Doubt(NamedTuple):
    """A preview that was shorter than what it became, or of which less was kept. ``shown``: whether there was one.

    Or that an interruption was over later than it should have been.
    """

    violation: Violation
    epoch: int
    began: float
    replica: str
    shown: bool
    worker_id: str | None = None
    """The owner of that epoch, as far as it was known by then: a failover may give the epoch to another one."""


class Subscriber:
    """One reader of one chat. ``report`` gets each violation as it is found."""

    def __init__(
        self,
        chat: str,
        name: str,
        agreement: Agreement,
        report: Callable[[Violation], None],
        *,
        stop_seconds_max: float,
    ) -> None:
        self.chat = chat
        self.name = name
        self.status = ""
        self.worker_id: str | None = None
        self.epoch = 0
        self.version = 0
        self.position = START
        """The last frame that was shown, or that a message stands for."""
        self.queue: tuple[int, ...] = ()
        self.messages: dict[int, FinalMessage] = {}
        self.preview = ""
        self.events = 0
        self.failures = 0
        """Turns that ended in an error."""
        self.durable_times: list[float] = []
        """When it was told of something that Postgres knows."""
        self.doubts: list[Doubt] = []
        self.may_be_gone = False
        """A failover may have taken back that the chat was created."""
        self._agreement = agreement
        self.report = report
        self._stop_seconds_max = stop_seconds_max
        self._event = Event(0.0, "", "", "", {})
        self._known_epoch = 0
        self._last_id = self._last_revision = 0
        self._told: set[FinalMessage] = set()
        """Not forgotten with a reset, nor with a failover: what is told again, as it was, had no preview this time."""
        self._shown_epoch = 0
        """The tenure whose frames were shown last, since the last reset."""
        self._attempt: tuple[int, int] | None = None
        self._attempt_began = 0.0
        self._live = False
        """Whether this connection is past its first events, which end with ``queue``."""
        self._caught_up = False
        """Whether it has brought anything of the present turn live."""
        self._stopping_since: float | None = None
        self._status_version = 0
        """The snapshot version in the cursor with which a status came last."""
        self._unsettled_up_to = 0
        self._next_agreement = agreement

    def __repr__(self) -> str:
        return f"<Subscriber {self.name} of {self.chat} v{self.version} at {self.position} {self.status}>"

    @property
    def streaming(self) -> bool:
        """Whether an answer is being shown."""
        return bool(self.preview) and self.status not in AT_REST

    def connected(self) -> None:
        """A new connection begins, at the cursor of the last event."""
        self._live = self._caught_up = False

    def unsettle(self, agreement: Agreement, up_to_version: int) -> None:
        """What was told of late may be lost."""
        self._agreement, self._next_agreement, self._unsettled_up_to = Agreement(), agreement, up_to_version

    def _settle(self) -> None:
        """What follows is of the server that took over: tenures and frames may have the numbers of lost ones."""
        self._agreement, self._unsettled_up_to, self._stopping_since = self._next_agreement, 0, None
        self._known_epoch = 0
        self._caught_up = False

    def observe(self, event: Event) -> None:
        """The next event, of whatever connection."""
        self._event = event
        self.events += 1
        cursor = parse_cursor(event.cursor)
        self.version = cursor.version
        if event.kind in DURABLE_EVENTS:
            self.durable_times.append(event.time)
        match event.kind:
            case "part":
                self._part(cursor.position, event.data)
            case "attempt":
                self._begin_attempt(cursor.position, event.data)
            case "message":
                self._message(event.data["message"])
            case "status":
                self._status(event.data)
            case "queue":
                self._queue(event.data["queue"])
            case "history_reset":
                if 0 < self._unsettled_up_to <= cursor.version:
                    self._settle()
                self._drop_preview()
                self._caught_up = False  # what was streamed is told again only as far as the answer is still under way
                self.messages.clear()
                self._last_id = self._last_revision = self._shown_epoch = 0
                self.position = cursor.position
            case "retry" | "error":
                self._drop_preview()
        self._check_cursor(cursor)

    def finish(self, final: FinalChat) -> None:
        """Everything is at rest: the reader holds the history, no more and no less."""
        self._unsettled_up_to = 0
        self._event = self._event._replace(kind="end")
        told = f"was told up to version {self.version} of {final.snapshot_version}"
        history = {message.id: message for message in final.messages}
        if missing := sorted(history.keys() - self.messages.keys()):
            self._violate(Kind.GAP, f"{told}, and never of messages {missing}")
        if beyond := sorted(self.messages.keys() - history.keys()):
            self._violate(Kind.UNASKED, f"was told of messages {beyond}, which are not in the history")
        for message_id, message in self.messages.items():
            if message_id in history and history[message_id] != message:
                self._violate(Kind.TEXT, f"was told {message}, the history has {history[message_id]}")
        if self.status != final.status:
            self._violate(Kind.GAP, f"{told}, that the chat is {self.status}; it is {final.status}")
        if self.queue != final.queue:
            self._violate(Kind.GAP, f"{told}, that the queue is {self.queue}; it is {final.queue}")

    # --- durable events -----------------------------------------------------------------------

    def _check_cursor(self, cursor: Cursor) -> None:
        """What the event has left us with, against what we would be told from its cursor on."""
        if cursor.message_id is not None and self._last_id > cursor.message_id:
            self._violate(Kind.REPEAT, f"the cursor would repeat the messages up to {self._last_id}")
        if cursor.message_id is None and self._last_revision > cursor.version:
            self._violate(Kind.REPEAT, f"the cursor would repeat the messages up to version {self._last_revision}")
        # One that is further on leaves out an attempt that came to nothing: words of any other would be missed later.
        if self._attempt is not None and cursor.position < self.position:
            self._violate(Kind.REPEAT, f"{self.position} was shown last, and the cursor would resume before it")

    def _message(self, data: dict[str, Any]) -> None:
        message = message_of(data)
        known = self.messages.get(message.id)
        if known is not None:
            self._violate(Kind.REPEAT, f"message {message.id} came twice")
        elif message.id <= self._last_id:
            self._violate(Kind.ORDER, f"message {message.id} came after message {self._last_id}")
        new = message not in self._told
        self._last_id = max(self._last_id, message.id)
        self._last_revision = max(self._last_revision, message.revision)
        self._told.add(message)
        self.messages[message.id] = message
        self._disagreement(self._agreement.message(message))
        if message.role in ("assistant", "tool"):
            self._compare(message, data.get("position"), told_again=not new)
        elif self.preview:
            self._vanished(f"user message {message.id}")
        self._caught_up = self._live and (self._caught_up or (new and message.role == "user"))
        self._drop_preview()

    def _status(self, data: dict[str, Any]) -> None:
        status, epoch, worker_id = data["status"], data["epoch"], data["worker_id"]
        if (status, epoch) != (self.status, self.epoch) and self.version == self._status_version:
            self._live = False
        self._status_version = self.version
        if epoch < self._known_epoch:
            self._violate(Kind.STALE, f"the epoch went back from {self._known_epoch} to {epoch}")
        if worker_id is not None:
            self._disagreement(self._agreement.owner(epoch, worker_id))
        self._check_stop(status)
        if status == "error" and self.status != "error":
            self.failures += 1
        self.status, self.epoch, self.worker_id = status, epoch, worker_id
        if self._live:
            self._known_epoch = epoch
            self._check_end()

    def _queue(self, queue: list[dict[str, Any]]) -> None:
        self.queue = tuple(item["id"] for item in queue)
        if not self._live:
            self._live = True
            self._known_epoch = self.epoch
            self._check_end()

    def _check_end(self) -> None:
        if self.status == "waiting":
            if self.preview:
                self._vanished("the end of the turn")
            self._drop_preview()
        elif self.status == "error":
            self._drop_preview()

    def _check_stop(self, status: str) -> None:
        if status == "interrupting":
            if self._stopping_since is None:
                self._stopping_since = self._event.time
        elif self._stopping_since is not None:
            began, self._stopping_since = self._stopping_since, None
            if self._event.time - began > self._stop_seconds_max and not self._unsettled_up_to:
                late = self._violation(Kind.UNSTOPPED, f"the interruption took {self._event.time - began:.1f} s")
                self.doubts.append(Doubt(late, 0, began, self._event.replica, shown=True))

    # --- frames -------------------------------------------------------------------------------

    def _begin_attempt(self, position: Position, data: dict[str, Any]) -> None:
        self._advance(position)
        self._drop_preview()
        self._attempt = (position.epoch, data["attempt"])
        self._attempt_began, self._caught_up = self._event.time, True
        self._disagreement(self._agreement.frame(position, f"attempt {data['attempt']} on {data['history_version']}"))

    def _part(self, position: Position, data: dict[str, Any]) -> None:
        before = self.position
        if not self._advance(position):
            return
        if self._attempt != (position.epoch, data["attempt"]):
            self._violate(Kind.GAP, f"a part of attempt {data['attempt']} while {self._attempt} was shown")
            return
        if position != (before.epoch, before.seq + 1):
            self._violate(Kind.GAP, f"after {before} came {position}")
        self._caught_up = True
        part = data["part"]
        text = part["text"] if part["type"] == "text" else ""
        self.preview += text
        self._disagreement(self._agreement.frame(position, text or str(part)))

    def _advance(self, position: Position) -> bool:
        """Whether the frame is newer than everything shown."""
        if position > self.position:
            self.position = position
            self._shown_epoch = position.epoch
            return True
        kind = Kind.STALE if position.epoch < self.position.epoch else Kind.REPEAT
        self._violate(kind, f"a frame at {position} after one at {self.position}")
        return False

    def _compare(self, message: FinalMessage, position: str | None, *, told_again: bool) -> None:
        """The preview against what it became."""
        if position is None:
            return
        end = parse_position(position)
        if end.epoch < self._shown_epoch and not told_again:
            self._violate(Kind.STALE, f"message {message.id} of tenure {end.epoch} after frames of {self._shown_epoch}")
        mine = self.preview if self._attempt is not None and self._attempt[0] == end.epoch else ""
        if mine != message.text and mine.startswith(message.text) and message.finish_reason == "interrupted":
            detail = (
                f"of the {len(mine)} characters that were shown of message {message.id}, {len(message.text)} were kept"
            )
            self._doubt(detail, end.epoch, shown=True)
        elif not message.text.startswith(mine):
            detail = f"{_tail(mine, message.text)} was shown of message {message.id}"
            if end.epoch == self.position.epoch and end.seq - self.position.seq < ATTEMPT_FRAMES_MIN:
                self._violate(Kind.TEXT, detail)
            else:  # it is that of an attempt of which nothing was shown
                self._doubt(detail, end.epoch, shown=True)
        elif mine != message.text and not told_again:
            detail = f"of message {message.id}, {len(mine)} of {len(message.text)} characters were streamed"
            self._doubt(detail, end.epoch, shown=bool(mine))
        self.position = max(self.position, end)

    def _vanished(self, what: str) -> None:
        epoch = self._attempt[0] if self._attempt else 0
        self._doubt(f"{len(self.preview)} characters were streamed and not kept at {what}", epoch, shown=True)

    def _doubt(self, detail: str, epoch: int, *, shown: bool) -> None:
        """Wrong, unless a fault explains it, or this connection came too late."""
        if not self._caught_up or self._unsettled_up_to:
            return
        began = self._attempt_began if self._attempt else self._event.time
        owner = self._agreement.workers.get(epoch)
        self.doubts.append(Doubt(self._violation(Kind.TEXT, detail), epoch, began, self._event.replica, shown, owner))

    def _drop_preview(self) -> None:
        self.preview = ""
        self._attempt = None

    # --- reports ------------------------------------------------------------------------------

    def _disagreement(self, detail: str | None) -> None:
        if detail is not None:
            self._violate(Kind.OWNER, detail)

    def _violation(self, kind: Kind, detail: str) -> Violation:
        return Violation(kind, self.chat, detail, self._event.time, self.name, self._event.cursor)

    def _violate(self, kind: Kind, detail: str) -> None:
        if not self._unsettled_up_to:
            self.report(self._violation(kind, detail))


def _tail(shown: str, text: str) -> str:
    """Where two texts part."""
    same = next((index for index, pair in enumerate(zip(shown, text, strict=False)) if pair[0] != pair[1]), len(text))
    return f"{shown[max(0, same - 20) : same + 40]!r} instead of {text[max(0, same - 20) : same + 40]!r}"
