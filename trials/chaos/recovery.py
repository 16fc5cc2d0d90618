"""How long after a fault each reader of the victim's chats was told that the chat goes on.

``Watch`` looks at one reader's events from the moment of the fault. The first **sign** of recovery is an event
that a living owner, or the end of the turn, brought about: a status with a newer epoch and an owner, an
attempt or a part of a newer tenure, a message of the assistant, or rest. The **takeover** is the first part of
a newer tenure, where an answer was being streamed that the victim had not finished.

At a drain nothing need be taken over: the answer is finished first, and any event of it is a sign. So it is after
faults of servers and of readers, and there the time begins when the server is back.
"""

from __future__ import annotations

import trio
from checker import Event, Fault, Recovery, Subscriber
from checker.history import Position, parse_cursor

AT_REST = ("waiting", "error")
FATAL = ("kill", "stop")
"""The owner's tenure ends with it."""
REPLACING = (*FATAL, "term")


class Watch:
    """``see`` takes each event of the reader; ``done`` is set when there is nothing more to wait for."""

    def __init__(self, fault: Fault, subscriber: Subscriber, *, elsewhere: bool, since: float | None = None) -> None:
        """``elsewhere``: the reader is known to be attached to a replica that survives. ``since``: not the fault."""
        self.fault = fault
        self.subscriber = subscriber
        self.elsewhere = elsewhere
        self.done = trio.Event()
        self.sign_seconds: float | None = None
        self.takeover_seconds: float | None = None
        self.epoch_after: int | None = None
        self._since = fault.time if since is None else since
        self._epoch = subscriber.epoch
        self._replaced = fault.kind in REPLACING
        is_at_work = subscriber.status == "running" and subscriber.worker_id is not None  # and waits for no agents
        self._unfinished = self._replaced and subscriber.streaming and is_at_work

    def see(self, event: Event) -> None:
        position = parse_cursor(event.cursor).position
        if self.sign_seconds is None and self._is_sign(event, position):
            self.sign_seconds = event.time - self._since
        if event.kind == "part" and position.epoch > self._epoch and self._unfinished:
            self.takeover_seconds = event.time - self._since
            self.epoch_after = position.epoch
            self._unfinished = False
        elif event.kind in ("message", "history_reset", "error") or _rests(event) or _asks(event):
            self._unfinished = False
        if self.sign_seconds is not None and not self._unfinished:
            self.done.set()

    def _is_sign(self, event: Event, position: Position) -> bool:
        match event.kind:
            case "status":
                owned: bool = event.data["worker_id"] is not None and event.data["epoch"] > self._epoch
                return owned or _rests(event)
            case "part" | "attempt":
                return position.epoch > self._epoch or self.fault.kind not in FATAL
            case "message":
                from_user: bool = event.data["message"]["role"] == "user"
                return not from_user
            case "history_reset" | "error" | "retry":
                return True
        return False

    def result(self, *, bound_seconds: float, drain_seconds: float) -> Recovery:
        takeover = self.takeover_seconds
        return Recovery(
            fault=self.fault,
            chat=self.subscriber.chat,
            reader=self.subscriber.name,
            bound_seconds=bound_seconds,
            sign_seconds=self.sign_seconds,
            takeover_seconds=takeover,
            epoch=self._epoch,
            cut_by_drain=self.fault.kind == "term" and takeover is not None and takeover < drain_seconds,
        )


def _asks(event: Event) -> bool:
    """Whether the chat waits for somebody: how long that takes is no replica's doing."""
    return event.kind == "status" and bool(event.data["status"] == "requires_action")


def _rests(event: Event) -> bool:
    return event.kind == "status" and event.data["status"] in AT_REST
