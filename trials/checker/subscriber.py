"""One reader, checked as it reads, through any number of connections (P3, P5).

What a reader holds is what the rules for clients say: messages by ID, and a **preview** of the answer under
way, which ``attempt``, ``history_reset``, ``retry`` and ``error`` drop and a message of the assistant replaces.

* A frame comes after every frame that was shown, also across reconnects; only ``history_reset`` starts anew.
* A cursor names what was shown: a reader that resumes at it would be told nothing twice. What it leaves out of a
  preview is missed where that matters, in the next part or in the message.
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
from dataclasses import dataclass, field
from typing import Any

from checker.agreement import Agreement
from checker.findings import Findings, Grounds
from checker.history import (
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
from checker.preview import Attempt, Preview
from checker.told import Connection, Stop, ToldMessages

ATTEMPT_FRAMES_MIN = 2
"""An attempt that says anything has a frame for its beginning, and one for that."""
AT_REST = ("waiting", "error", "archived")


@dataclass
class Counts:
    """Of one reader."""

    events: int = 0
    failures: int = 0
    """Turns that ended in an error."""
    durable_times: list[float] = field(default_factory=list)
    """When it was told of something that Postgres knows."""


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
        self.queue: tuple[int, ...] = ()
        self.messages = ToldMessages()
        self.preview = Preview()
        self.counts = Counts()
        self.grounds = Grounds(agreement)
        self.findings = Findings(chat, name, report, self.grounds)
        self._connection = Connection()
        self._stop = Stop(stop_seconds_max)

    def __repr__(self) -> str:
        return f"<Subscriber {self.name} of {self.chat} v{self.version} at {self.preview.position} {self.status}>"

    @property
    def streaming(self) -> bool:
        """Whether an answer is being shown."""
        return bool(self.preview.text) and self.status not in AT_REST

    def connected(self) -> None:
        """A new connection begins, at the cursor of the last event."""
        self._connection.begin()

    def observe(self, event: Event) -> None:
        """The next event, of whatever connection."""
        self.findings.event = event
        self.counts.events += 1
        cursor = parse_cursor(event.cursor)
        self.version = cursor.version
        if event.kind in DURABLE_EVENTS:
            self.counts.durable_times.append(event.time)
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
                self._begin_anew(cursor)
            case "retry" | "error":
                self.preview.drop()
        self._check_cursor(cursor)

    def finish(self, final: FinalChat) -> None:
        """Everything is at rest: the reader holds the history, no more and no less."""
        self.grounds.judge_the_end()
        self.findings.event = self.findings.event._replace(kind="end")
        violate, held = self.findings.violate, self.messages.held
        told = f"was told up to version {self.version} of {final.snapshot_version}"
        history = {message.id: message for message in final.messages}
        if missing := sorted(history.keys() - held.keys()):
            violate(Kind.GAP, f"{told}, and never of messages {missing}")
        if beyond := sorted(held.keys() - history.keys()):
            violate(Kind.UNASKED, f"was told of messages {beyond}, which are not in the history")
        for message_id, message in held.items():
            if message_id in history and history[message_id] != message:
                violate(Kind.TEXT, f"was told {message}, the history has {history[message_id]}")
        if self.status != final.status:
            violate(Kind.GAP, f"{told}, that the chat is {self.status}; it is {final.status}")
        if self.queue != final.queue:
            violate(Kind.GAP, f"{told}, that the queue is {self.queue}; it is {final.queue}")

    # --- durable events -----------------------------------------------------------------------

    def _begin_anew(self, cursor: Cursor) -> None:
        if self.grounds.settles_at(cursor.version):
            self.grounds.settle()
            self._stop.forget()
            self._connection.forget()
        self.preview.begin_anew(cursor.position)
        self.messages.begin_anew()
        self._connection.caught_up = False  # what was streamed is told again only while the answer is still under way

    def _check_cursor(self, cursor: Cursor) -> None:
        """What the event has left us with, against what we would be told from its cursor on."""
        violate, messages, preview = self.findings.violate, self.messages, self.preview
        if cursor.message_id is not None and messages.last_id > cursor.message_id:
            violate(Kind.REPEAT, f"the cursor would repeat the messages up to {messages.last_id}")
        if cursor.message_id is None and messages.last_revision > cursor.version:
            violate(Kind.REPEAT, f"the cursor would repeat the messages up to version {messages.last_revision}")
        # One that is further on leaves out an attempt that came to nothing: words of any other would be missed later.
        if preview.attempt is not None and cursor.position < preview.position:
            violate(Kind.REPEAT, f"{preview.position} was shown last, and the cursor would resume before it")

    def _message(self, data: dict[str, Any]) -> None:
        message = message_of(data)
        if message.id in self.messages.held:
            self.findings.violate(Kind.REPEAT, f"message {message.id} came twice")
        elif message.id <= self.messages.last_id:
            self.findings.violate(Kind.ORDER, f"message {message.id} came after message {self.messages.last_id}")
        is_new = self.messages.add(message)
        self.findings.disagree(self.grounds.agreement.message(message))
        if message.role in ("assistant", "tool"):
            self._compare(message, data.get("position"), told_again=not is_new)
        elif self.preview.text:
            self._vanished(f"user message {message.id}")
        self._connection.hear_message(asks=is_new and message.role == "user")
        self.preview.drop()

    def _status(self, data: dict[str, Any]) -> None:
        status, epoch, worker_id = data["status"], data["epoch"], data["worker_id"]
        self._connection.hear_status(self.version, is_news=(status, epoch) != (self.status, self.epoch))
        if epoch < self._connection.epoch:
            self.findings.violate(Kind.STALE, f"the epoch went back from {self._connection.epoch} to {epoch}")
        if worker_id is not None:
            self.findings.disagree(self.grounds.agreement.owner(epoch, worker_id))
        self._check_stop(status)
        if status == "error" and self.status != "error":
            self.counts.failures += 1
        self.status, self.epoch, self.worker_id = status, epoch, worker_id
        if self._connection.live:
            self._told_all()

    def _queue(self, queue: list[dict[str, Any]]) -> None:
        self.queue = tuple(item["id"] for item in queue)
        if not self._connection.live:
            self._told_all()

    def _told_all(self) -> None:
        """The status is that of the chat, and not the first of several events that tell it."""
        self._connection.hear_all(self.epoch)
        if self.status == "waiting" and self.preview.text:
            self._vanished("the end of the turn")
        if self.status in ("waiting", "error"):
            self.preview.drop()

    def _check_stop(self, status: str) -> None:
        now = self.findings.event.time
        began = self._stop.hear_status(status, now)
        if began is not None:
            detail = f"the interruption took {now - began:.1f} s"
            self.findings.doubt(Kind.UNSTOPPED, detail, epoch=0, began=began, shown=True)

    # --- frames -------------------------------------------------------------------------------

    def _begin_attempt(self, position: Position, data: dict[str, Any]) -> None:
        self._advance(position)
        self.preview.begin(Attempt(position.epoch, data["attempt"], self.findings.event.time))
        self._connection.caught_up = True
        content = f"attempt {data['attempt']} on {data['history_version']}"
        self.findings.disagree(self.grounds.agreement.frame(position, content))

    def _part(self, position: Position, data: dict[str, Any]) -> None:
        before, attempt = self.preview.position, self.preview.attempt
        if not self._advance(position):
            return
        if attempt is None or attempt[:2] != (position.epoch, data["attempt"]):
            shown = None if attempt is None else attempt[:2]
            self.findings.violate(Kind.GAP, f"a part of attempt {data['attempt']} while {shown} was shown")
            return
        if position != (before.epoch, before.seq + 1):
            self.findings.violate(Kind.GAP, f"after {before} came {position}")
        self._connection.caught_up = True
        part = data["part"]
        text = part["text"] if part["type"] == "text" else ""
        self.preview.add(text)
        self.findings.disagree(self.grounds.agreement.frame(position, text or str(part)))

    def _advance(self, position: Position) -> bool:
        """Whether the frame is newer than everything shown."""
        if self.preview.advance(position):
            return True
        last = self.preview.position
        kind = Kind.STALE if position.epoch < last.epoch else Kind.REPEAT
        self.findings.violate(kind, f"a frame at {position} after one at {last}")
        return False

    def _compare(self, message: FinalMessage, position: str | None, *, told_again: bool) -> None:
        """The preview against what it became."""
        if position is None:
            return
        end, last = parse_position(position), self.preview.position
        if end.epoch < self.preview.epoch and not told_again:
            detail = f"message {message.id} of tenure {end.epoch} after frames of {self.preview.epoch}"
            self.findings.violate(Kind.STALE, detail)
        mine = self.preview.text_of(end.epoch)
        if mine != message.text and mine.startswith(message.text) and message.finish_reason == "interrupted":
            detail = (
                f"of the {len(mine)} characters that were shown of message {message.id}, {len(message.text)} were kept"
            )
            self._doubt(detail, end.epoch, shown=True)
        elif not message.text.startswith(mine):
            detail = f"{_tail(mine, message.text)} was shown of message {message.id}"
            if end.epoch == last.epoch and end.seq - last.seq < ATTEMPT_FRAMES_MIN:
                self.findings.violate(Kind.TEXT, detail)
            else:  # it is that of an attempt of which nothing was shown
                self._doubt(detail, end.epoch, shown=True)
        elif mine != message.text and not told_again:
            detail = f"of message {message.id}, {len(mine)} of {len(message.text)} characters were streamed"
            self._doubt(detail, end.epoch, shown=bool(mine))
        self.preview.become(end)

    def _vanished(self, what: str) -> None:
        attempt = self.preview.attempt
        detail = f"{len(self.preview.text)} characters were streamed and not kept at {what}"
        self._doubt(detail, attempt.epoch if attempt else 0, shown=True)

    def _doubt(self, detail: str, epoch: int, *, shown: bool) -> None:
        """Wrong, unless a fault explains it, or this connection came too late."""
        if self._connection.caught_up:
            attempt = self.preview.attempt
            began = self.findings.event.time if attempt is None else attempt.began
            self.findings.doubt(Kind.TEXT, detail, epoch=epoch, began=began, shown=shown)


def _tail(shown: str, text: str) -> str:
    """Where two texts part."""
    same = next((index for index, pair in enumerate(zip(shown, text, strict=False)) if pair[0] != pair[1]), len(text))
    return f"{shown[max(0, same - 20) : same + 40]!r} instead of {text[max(0, same - 20) : same + 40]!r}"
