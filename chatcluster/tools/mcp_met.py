"""What the HTTP requests to MCP servers met, in the MCP process: the SDK does not tell.

It is noted for the session, what any of its requests met (``Refusals``), and for each call what its own met (``Sent``).
A call that shares its session with others, with pings and with questions must not be taken for one that was not run
because something else was refused. Its requests are known by the call's ID in their ``_meta``; what cannot be read
counts as a request of every call. The request of a call that is over is not sent: what has been said about it has to
stay true.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx2
import msgspec
import trio

from chatcluster.tools.mcp_wire import CALL_ID_META

NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
NOTHING_DONE = (401, 403, 404, 429)
"""Statuses of a request that the server did not begin with: who sends it is not let in, or not so soon, or its session
is not known."""


class Met:
    """What requests met last: the status of a refusal, and what would be accepted; how the way to the server failed."""

    def __init__(self) -> None:
        self.status = 0
        self.challenge = ""
        self.error: Exception | None = None
        """The SDK wraps it, or says nothing of it."""

    def note_error(self, error: Exception) -> None:
        self.error = error

    def note_status(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.challenge = response.headers.get("www-authenticate", "")[:4096]


class Sent(Met):
    """What became of the requests of one call. There are several if the server asks something before it answers."""

    def __init__(self, traceparent: str = "") -> None:
        super().__init__()
        self.traceparent = traceparent
        self.requests = 0
        self._not_begun = 0

    @property
    def may_have_run(self) -> bool:
        """Whether a request was sent that was not refused before the server began with it."""
        return self.requests > self._not_begun

    def begin(self) -> None:
        self.status, self.challenge, self.error = 0, "", None
        self.requests += 1

    def note_error(self, error: Exception) -> None:
        super().note_error(error)
        self._not_begun += isinstance(error, NEVER_SENT)

    def note_status(self, response: httpx2.Response) -> None:
        super().note_status(response)
        self._not_begun += response.is_redirect or response.status_code in NOTHING_DONE


class Refusals(Met):
    """What a session met, and what each call that is under way in it did."""

    def __init__(self) -> None:
        super().__init__()
        self.happened = trio.Event()
        self._calls: dict[str, list[Sent]] = {}

    @property
    def calls(self) -> Sequence[Sent]:
        """All calls that are under way."""
        return [sent for sents in self._calls.values() for sent in sents]

    @contextmanager
    def call(self, call_id: str, traceparent: str = "") -> Iterator[Sent]:
        """A call is under way within the block; no request of it is sent thereafter."""
        sent = Sent(traceparent)
        self._calls.setdefault(call_id, []).append(sent)
        try:
            yield sent
        finally:
            self._calls[call_id].remove(sent)
            if not self._calls[call_id]:
                del self._calls[call_id]

    def sent_by(self, content: bytes) -> Sequence[Sent] | None:
        """The calls that this request may be of; None: it is of one that is over."""
        try:
            message = msgspec.json.decode(content or b"{}", type=_Message)
        except (msgspec.MsgspecError, RecursionError):
            return self.calls
        if message.method != "tools/call":
            return ()
        return self._calls.get(message.params.meta.call_id)

    def note_error(self, error: Exception) -> None:
        super().note_error(error)
        self.happened.set()

    def note_status(self, response: httpx2.Response) -> None:
        super().note_status(response)
        self.happened.set()

    def forget(self) -> None:
        """What was met while a protocol was agreed upon says nothing of what comes."""
        self.status, self.challenge, self.error, self.happened = 0, "", None, trio.Event()


class _Meta(msgspec.Struct, frozen=True, rename={"call_id": CALL_ID_META}):
    call_id: str = ""


class _Params(msgspec.Struct, frozen=True, rename={"meta": "_meta"}):
    meta: _Meta = _Meta()


class _Message(msgspec.Struct, frozen=True):
    """As much of a message to a server as tells which call it is of."""

    method: str = ""
    params: _Params = _Params()
