"""Where a response ends because somebody has to do something first, and what goes on from there. Pure.

A chat that comes to rest in the middle of a step waits for a person who approves a call, for the client that runs one,
for a sign-in, or for an answer to what a tool's server asks. Its response is over then: with requests that the client
answers, or, where it cannot, as ``incomplete``, and it says what has to be done elsewhere. What follows is another
response, which begins with the calls that were waited for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import msgspec

from chatcluster.chat import CallState
from chatcluster.parts import Message, ToolCallPart
from chatcluster.ports.ledger import Waits
from chatcluster.turn_log import Waited
from chatcluster.web.doors.approvals import SignIn
from chatcluster.web.doors.openai.ids import request_id

Kinds = Mapping[str, CallState]
"""What each call waited for, by its ID."""
ELSEWHERE = {
    CallState.SIGN_IN: "its user has signed in at the server of the tool",
    CallState.QUESTION: "its user answers what the server of the tool asks",
}
REASON = "action_required"


class Resumed(msgspec.Struct, frozen=True):
    """What a response goes on from: the calls of a message that have waited ``times``, and the requests to approve
    them, by call. ``given`` are the items of its input."""

    message_id: int
    revision: int
    times: int
    calls: tuple[ToolCallPart, ...]
    requests: dict[str, str]
    given: list[Any]


class Rests:
    """The rests of a response: those of its step that it is behind, and the one that it ends with."""

    def __init__(self, resumed: Resumed | None) -> None:
        self.resumed = resumed
        self.ended_with: int | None = None
        """The number of the rest, from 0."""
        self._passed = 0 if resumed is None else resumed.times

    def step(self) -> None:
        """Another step begins."""
        self._passed = 0

    def found_in(self, waited: Waited) -> Kinds | None:
        """What is waited for where the response ends, if it does. Where only agents are waited for, it does
        not end."""
        for time in range(self._passed, waited.times):
            kinds = kinds_at(waited.waits, time)
            if any(kind is not CallState.AGENTS for kind in kinds.values()):
                self.ended_with = time
                return kinds
        return None


class Rest(NamedTuple):
    """What a chat had come to rest for: the message that made the calls, and which time it was, from 0."""

    calling: Message
    waits: Waits
    time: int

    @property
    def calls(self) -> list[ToolCallPart]:
        """The calls that were waited for."""
        kinds = kinds_at(self.waits, self.time)
        return [part for part in self.calling.parts if isinstance(part, ToolCallPart) and part.id in kinds]

    @property
    def is_now(self) -> bool:
        return all(len(kinds) <= self.time + 1 for kinds in self.waits.values())

    def resumed(self, client_tools: Collection[str], given: list[Any]) -> Resumed:
        kinds = kinds_at(self.waits, self.time)
        requests = {name: request_id(name, self.time) for name in kinds if kinds[name] is CallState.APPROVAL}
        calls = tuple(part for part in self.calls if part.name not in client_tools)
        return Resumed(self.calling.id, self.calling.revision, self.time + 1, calls, requests, given)


def kinds_at(waits: Mapping[str, tuple[CallState, ...]], time: int) -> Kinds:
    return {call_id: kinds[time] for call_id, kinds in waits.items() if len(kinds) > time}


def left_to_others(kinds: Kinds, names: Mapping[str, str], chat_id: str) -> dict[str, Any] | None:
    """What the client of a response cannot do, in words for it; None if there is nothing of that."""
    waiting = [
        f"{names.get(call_id, 'a call')} ({call_id}) waits until {ELSEWHERE[kind]}{_where(kind, names.get(call_id))}"
        for call_id, kind in kinds.items()
        if kind in ELSEWHERE
    ]
    if not waiting:
        return None
    how = (
        f"Do that on the page, or by the API (GET /api/v1/chats/{chat_id} has them as action_required). "
        "Then create a response with this one as previous_response_id and an empty list as input: it tells the rest."
    )
    return {"reason": REASON, "message": f"{'; '.join(waiting)}. {how}"}


def _where(kind: CallState, tool: str | None) -> str:
    if kind is not CallState.SIGN_IN or tool is None:
        return ""
    return f" (POST {SignIn.of(tool).begins_at} answers with the address to go to)"
