"""Where a response ends because somebody has to do something first, and what goes on from there. Pure.

A chat that comes to rest in the middle of a step waits for a person who approves a call, for the client that runs one,
for a sign-in, or for an answer to what a tool's server asks. Its response is over then: with requests that the client
answers, or, where it cannot, as ``incomplete``, and it says what has to be done elsewhere. What follows is another
response, which begins with the calls that were waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chatcluster.chat import CallState
from chatcluster.parts import ToolCallPart
from chatcluster.turn_log import Waited

Kinds = Mapping[str, CallState]
"""What each call waited for, by its ID."""
ELSEWHERE = {
    CallState.SIGN_IN: "its user signs in at the server of the tool",
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


def rest_of(waited: Waited, passed: int) -> tuple[int, Kinds] | None:
    """The first rest for a person or a client behind those that are ``passed``, and what was waited for in it."""
    for time in range(passed, waited.times):
        kinds = kinds_at(waited.waits, time)
        if any(kind is not CallState.AGENTS for kind in kinds.values()):
            return time, kinds
    return None


def kinds_at(waits: Mapping[str, tuple[CallState, ...]], time: int) -> Kinds:
    return {call_id: kinds[time] for call_id, kinds in waits.items() if len(kinds) > time}


def left_to_others(kinds: Kinds, names: Mapping[str, str], chat_id: str) -> dict[str, Any] | None:
    """What the client of a response cannot do, in words for it; None if there is nothing of that."""
    waiting = [(call_id, ELSEWHERE[kind]) for call_id, kind in kinds.items() if kind in ELSEWHERE]
    if not waiting:
        return None
    said = "; ".join(f"{names.get(call_id, 'a call')} ({call_id}) waits until {why}" for call_id, why in waiting)
    how = (
        f"Do that on the page, or by the API (GET /api/v1/chats/{chat_id} has them as action_required). "
        "Then create a response with this one as previous_response_id and an empty list as input: it tells the rest."
    )
    return {"reason": REASON, "message": f"{said}. {how}"}
