"""Readers that wait: for nothing at all, or for a chat to go on after its owner has died."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from event_wire import Event

from bench.load.loop import Loop
from bench.load.people import LoadError, Plan, Reader, Say, Sender, epoch_of, is_at_rest

ATTACH_SECONDS_MAX = 120.0
CONNECTING_MAX = 100
"""At a time: the kernel's queue of connections that nobody has accepted yet is bounded."""
WORKING_SECONDS_MAX = 20.0


def idle(
    loop: Loop,
    say: Say,
    *,
    token: str,
    address: str,
    chats: Sequence[str],
    readers: int,
    hold_seconds: float,
) -> dict[str, Any]:
    """Follow chats at rest, one after the other again and again. Says "attached" when all readers are, and holds on."""
    plan = Plan(loop, token)
    attached: set[int] = set()

    def note(reader: Reader, event: Event, _: int) -> None:
        if is_at_rest(event) and reader.descriptor not in attached:
            attached.add(reader.descriptor)

    for start in range(0, readers, CONNECTING_MAX):
        until = min(readers, start + CONNECTING_MAX)
        for index in range(start, until):
            Reader(plan, address, chats[index % len(chats)], note)
        if not loop.run(lambda until=until: len(attached) == until, ATTACH_SECONDS_MAX):  # type: ignore[misc]
            raise LoadError(f"only {len(attached)} of {until} readers were attached")
    say("attached")
    loop.run(lambda: False, hold_seconds)
    return {"attached": len(attached)}


class _Witness:
    """Reads a chat on a replica that lives on, and sees who works on it."""

    def __init__(self, plan: Plan, address: str, chat_id: str) -> None:
        self.chat_id = chat_id
        self.attached = False
        self.owner = ""
        self.epoch = 0
        self.went_on_ns = 0
        Reader(plan, address, chat_id, self._read)

    @property
    def works(self) -> bool:
        return self.epoch > 0 and self.owner != ""

    def _read(self, _: Reader, event: Event, now_ns: int) -> None:
        if not self.attached:
            self.attached = is_at_rest(event)
        elif event.kind == b"part":
            epoch = epoch_of(event)
            if not self.epoch:
                self.epoch = epoch
            elif epoch > self.epoch and not self.went_on_ns:
                self.went_on_ns = now_ns
        elif event.kind == b"status" and not self.owner:
            named = event.data.partition(b'"worker_id":"')[2]
            self.owner = named.partition(b'"')[0].decode()


def _interrupt(plan: Plan, address: str, chats: Sequence[str]) -> None:
    """End what is still being said: the next measurement must not pay for it."""
    answers: list[object] = []
    sender = Sender(plan, address)
    for chat_id in chats:
        sender.ask("POST", f"/chats/{chat_id}/interrupt", None, answers.append)
    plan.loop.run(lambda: len(answers) == len(chats), WORKING_SECONDS_MAX)


def takeover(
    loop: Loop,
    say: Say,
    *,
    token: str,
    chats: Sequence[str],
    sends_to: str,
    victim: str,
    reads_at: str,
    content: str,
    seconds_max: float,
) -> dict[str, Any]:
    """Let chats answer, and see when the answers of those go on that worker ``victim`` owns.

    Says "started" when all are at it: then the victim may be killed. Returns when each of its chats went on
    (monotonic ns), 0 for one that did not.
    """
    plan = Plan(loop, token)
    witnesses = [_Witness(plan, reads_at, chat_id) for chat_id in chats]
    if not loop.run(lambda: all(one.attached for one in witnesses), WORKING_SECONDS_MAX):
        raise LoadError("not all readers were attached")
    sender = Sender(plan, sends_to)
    for witness in witnesses:
        sender.say(witness.chat_id, content)
    if not loop.run(lambda: all(one.works for one in witnesses), WORKING_SECONDS_MAX):
        raise LoadError("not all chats are being worked on")
    concerned = [one for one in witnesses if one.owner == victim]
    say("started")
    loop.run(lambda: all(one.went_on_ns for one in concerned), seconds_max if concerned else 0)
    _interrupt(plan, reads_at, chats)
    return {"went_on_ns": [one.went_on_ns for one in concerned]}
