"""Orders about tools: turns that call one, and a call whose worker dies."""

from __future__ import annotations

import time
from typing import Any

from event_wire import Event

from bench.load.loop import Loop
from bench.load.people import LoadError, Plan, Reader, Say, Sender, is_at_rest
from bench.samples import spread

CALL_SECONDS_MAX = 30.0


class _Caller:
    """Turn after turn in one chat, each with a call, as its reader sees it."""

    def __init__(self, plan: Plan, chat_id: str, *, sends_to: str, reads_at: str) -> None:
        self.step_ms: list[float] = []
        """From the call in the history to its result there."""
        self.turn_ms: list[float] = []
        self.owner = ""
        self.is_called = False
        self.result_ns = 0
        self.is_at_rest = False
        self._chat_id = chat_id
        self._sender = Sender(plan, sends_to)
        self._called_ns = self._sent_ns = 0
        Reader(plan, reads_at, chat_id, self._read)

    def say(self, content: str, now_ns: int) -> None:
        self.is_called, self.is_at_rest, self.result_ns, self._sent_ns = False, False, 0, now_ns
        self._sender.say(self._chat_id, content)

    def _read(self, _: Reader, event: Event, now_ns: int) -> None:
        if event.kind == b"message" and b'"type":"tool_call"' in event.data:
            self.is_called, self._called_ns = True, now_ns
        elif event.kind == b"message" and b'"type":"tool_result"' in event.data:
            self.result_ns = now_ns
            self.step_ms.append((now_ns - self._called_ns) / 1e6)
        elif event.kind == b"status" and b'"status":"running"' in event.data:
            self.owner = event.data.partition(b'"worker_id":"')[2].partition(b'"')[0].decode()
        elif is_at_rest(event):
            self.is_at_rest = True
            if self._sent_ns:
                self.turn_ms.append((now_ns - self._sent_ns) / 1e6)


def call(
    loop: Loop, say: Say, *, token: str, chat_id: str, sends_to: str, reads_at: str, content: str, turns: int
) -> dict[str, Any]:
    """So many turns, one after the other; ``content`` orders one call. Says "started" after the first."""
    caller = _Caller(Plan(loop, token), chat_id, sends_to=sends_to, reads_at=reads_at)
    _until(loop, lambda: caller.is_at_rest, "the chat does not rest")
    for turn in range(turns + 1):
        caller.say(content, _now_ns())
        _until(loop, lambda: caller.is_at_rest, "a turn does not end")
        if turn == 0:
            caller.step_ms, caller.turn_ms = [], []
            say("started")
    return {"step": spread(caller.step_ms), "turn": spread(caller.turn_ms), "turns": len(caller.turn_ms)}


def call_under_kill(
    loop: Loop, say: Say, *, token: str, chat_id: str, sends_to: str, victim: str, reads_at: str, content: str
) -> dict[str, Any]:
    """One turn with a call. Says "kill" while it runs; when its result came (monotonic ns), 0 if another worker had it.

    The workload, which kills, compares them.
    """
    caller = _Caller(Plan(loop, token), chat_id, sends_to=sends_to, reads_at=reads_at)
    _until(loop, lambda: caller.is_at_rest, "the chat does not rest")
    caller.say(content, _now_ns())
    _until(loop, lambda: caller.is_called, "the model calls nothing")
    if caller.owner != victim:
        _until(loop, lambda: caller.is_at_rest, "a turn does not end")
        return {"result_ns": 0}
    loop.run(lambda: False, 0.1)  # the call is on its way to the tool
    say("kill")
    _until(loop, lambda: caller.is_at_rest, "the turn does not go on")
    return {"result_ns": caller.result_ns}


def _until(loop: Loop, condition: Any, otherwise: str) -> None:
    if not loop.run(condition, CALL_SECONDS_MAX):
        raise LoadError(otherwise)


def _now_ns() -> int:
    return time.monotonic_ns()
