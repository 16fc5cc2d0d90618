"""A wait that breaks off is gone on with at any replica: what there is to know of it is in the ID of an event. Pure.

Protocol, of versions that have it (``wire.RESUMING_VERSIONS``): the first event of an answer is empty but for an ID.
A client whose connection breaks before it was answered asks with ``GET`` and that ID, in ``Last-Event-ID``, again and
again until it is. So what it is told is the answer to the same wait, to the same request, by the same end; progress
that it missed is not repeated.

An ID says nothing that its client could not ask for itself: that the chat is the caller's is checked as in every call.
Clocks of replicas differ, by which such a wait is shorter or longer, and no longer than one that begins.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple

import msgspec

from chatcluster.web.doors.mcp.given import WaitArguments
from chatcluster.web.doors.mcp.told import Cursor
from chatcluster.web.doors.mcp.wire import INVALID_PARAMS, Asked, McpError, Meta, Params, RequestId

EVENT_ID_CHARS_MAX = 2_000
"""It comes back in a header. A request whose own ID makes it longer is not told one."""
RETRY_MS = 2000
"""The published clients try twice, each time after so long, and then no more."""


class WaitCall(NamedTuple):
    """A call of ``chat_wait``, at whichever replica it is. It began at ``began_at``, in seconds since 1970."""

    asked: Asked
    arguments: WaitArguments
    began_at: float

    def waited_seconds(self, now: float) -> float:
        return min(max(0.0, now - self.began_at), self.arguments.timeout)

    def first_event(self, cursor: Cursor) -> bytes:
        """What goes before an answer that may break off: where to go on, from the cursor, and how soon."""
        arguments = msgspec.structs.replace(self.arguments, cursor=str(cursor))
        kept = _Kept(self.asked.id, self.asked.params.meta.progress_token, self.began_at, arguments)
        event_id = urlsafe_b64encode(msgspec.json.encode(kept))
        return b"id: %s\nretry: %d\ndata:\n\n" % (event_id, RETRY_MS) if len(event_id) <= EVENT_ID_CHARS_MAX else b""


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    request_id: RequestId | None
    progress_token: str | int | None
    began_at: float
    arguments: WaitArguments


def call_of(event_id: str) -> WaitCall:
    """Raises ``McpError`` for what no event of ours has for an ID."""
    try:
        kept = msgspec.json.decode(urlsafe_b64decode(event_id), type=_Kept)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        why = "Last-Event-ID is of no event that was told here: make the call again"
        raise McpError(INVALID_PARAMS, why) from None
    params = Params(name="chat_wait", meta=Meta(progress_token=kept.progress_token))
    asked = Asked(kept.request_id, "tools/call", params, is_stateless=False, resumes=True)
    return WaitCall(asked, kept.arguments, kept.began_at)
