"""Orders about whole turns: create chats, and send message after message to them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle
from typing import Any

from event_wire import Event

from bench.load.loop import Loop
from bench.load.people import LoadError, Plan, Reader, Say, Sender, is_answer, is_at_rest
from bench.samples import spread

SENDERS = 16
SECONDS_MAX = 60.0


def create(
    loop: Loop,
    _: Say,
    *,
    token: str,
    addresses: Sequence[str],
    count: int,
    content: str,
    mcp_servers: Sequence[str] = (),
) -> list[str]:
    """Create chats, whose first message is ``content``: their IDs. They may be at work still."""
    body = {"content": content} | ({"mcp_servers": mcp_servers} if mcp_servers else {})
    plan = Plan(loop, token)
    created: list[str] = []
    asked = 0

    def ask(sender: Sender) -> None:
        nonlocal asked
        if asked < count:
            asked += 1
            sender.ask("POST", "/chats", body, lambda chat: answered(sender, chat))

    def answered(sender: Sender, chat: dict[str, Any]) -> None:
        created.append(chat["id"])
        ask(sender)

    for index in range(SENDERS):
        ask(Sender(plan, addresses[index % len(addresses)]))
    if not loop.run(lambda: len(created) == count, SECONDS_MAX):
        raise LoadError(f"only {len(created)} of {count} chats were created in {SECONDS_MAX:.0f} s")
    return created


class _Conversation:
    """One sender that takes its chats in turn: a message to an idle chat, the answer, the next chat."""

    def __init__(self, plan: Plan, chats: Sequence[tuple[str, str, str]], content: str) -> None:
        self.first_ms: list[float] = []
        self.turn_ms: list[float] = []
        self.failed = 0
        self.without_parts = 0
        self._content = content
        self._plan = plan
        self._senders: dict[str, Sender] = {}
        """Each connected when there is something to send: who says nothing for long is hung up on."""
        self.busy = {Reader(plan, reads_at, chat_id, self._read) for chat_id, _, reads_at in chats}
        """The readers that have not seen all of their chat yet, and that it is at rest."""
        self._caught_up: set[Reader] = set()
        self._at_rest: set[Reader] = set()
        self._chats = cycle(chats)
        self._present = ""
        self._sent_ns = 0
        self._first_ns = 0

    def next_turn(self) -> None:
        self._present, sends_to, _ = next(self._chats)
        self._first_ns = 0
        self._sent_ns = time.monotonic_ns()
        if sends_to not in self._senders:
            self._senders[sends_to] = Sender(self._plan, sends_to)
        self._senders[sends_to].say(self._present, self._content)

    def forget(self) -> None:
        """What was measured so far was the warm-up."""
        self.first_ms, self.turn_ms, self.failed, self.without_parts = [], [], 0, 0

    def _before(self, reader: Reader, event: Event) -> None:
        """The first messages are sent once nothing of before is still to come."""
        if event.kind == b"ready":
            self._caught_up.add(reader)
        if is_at_rest(event):
            self._at_rest.add(reader)
        if reader in self._caught_up & self._at_rest:
            self.busy.discard(reader)

    def _read(self, reader: Reader, event: Event, now_ns: int) -> None:
        if not self._sent_ns:
            self._before(reader, event)
        elif reader.chat_id != self._present:
            return
        elif not self._first_ns and (event.kind == b"part" or is_answer(event)):
            self._first_ns = now_ns
            self.without_parts += event.kind != b"part"
            self.first_ms.append((now_ns - self._sent_ns) / 1e6)
        elif self._first_ns and is_at_rest(event):
            self.turn_ms.append((now_ns - self._sent_ns) / 1e6)
            self.next_turn()
        elif event.kind == b"error":
            self.failed += 1
            self.next_turn()


def turns(
    loop: Loop,
    say: Say,
    *,
    token: str,
    chats: Sequence[tuple[str, str, str]],
    concurrency: int,
    content: str,
    warm_seconds: float,
    seconds: float,
) -> dict[str, Any]:
    """Turn after turn, ``concurrency`` at a time. A chat is its ID, where its messages go, where it is read.

    Says "started" after the warm-up. The first token counts from before the request to the part at the reader.
    """
    plan = Plan(loop, token)
    conversations = [_Conversation(plan, chats[index::concurrency], content) for index in range(concurrency)]
    if not loop.run(lambda: not any(one.busy for one in conversations), SECONDS_MAX):
        missing = [reader for one in conversations for reader in one.busy]
        raise LoadError(f"{len(missing)} of {len(chats)} chats did not come to rest: {missing[0]!r}")
    for conversation in conversations:
        conversation.next_turn()
    loop.run(lambda: False, warm_seconds)
    for conversation in conversations:
        conversation.forget()
    say("started")
    started = time.monotonic()
    loop.run(lambda: False, seconds)
    took_seconds = time.monotonic() - started
    turn_ms = [sample for one in conversations for sample in one.turn_ms]
    return {
        "first": spread([sample for one in conversations for sample in one.first_ms]),
        "turn": spread(turn_ms),
        "turns": len(turn_ms),
        "seconds": took_seconds,
        "failed": sum(one.failed for one in conversations),
        "without_parts": sum(one.without_parts for one in conversations),
    }
