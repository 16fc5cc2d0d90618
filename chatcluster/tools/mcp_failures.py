"""What went wrong with an MCP server, from what the SDK raised and what HTTP requests met."""

from __future__ import annotations

import re

import httpx2
import mcp_types as types
import trio
from mcp import MCPError
from msgspec.structs import replace
from pydantic import ValidationError

from chatcluster.errors import errors_in
from chatcluster.tools import mcp_http, mcp_met
from chatcluster.tools.mcp_results import TooMuch
from chatcluster.tools.mcp_wire import Failed, Trouble, says_unknown_tool

MESSAGE_CHARS_MAX = 500
TOO_MANY_REQUESTS = 429
VALIDATORS_WORDS = "validation error"
NO_MESSAGE = "what it sent is not of the protocol"


class SessionFailed(Exception):
    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


_NOT_RUN = {
    Trouble.UNREACHABLE,
    Trouble.UNAUTHORIZED,
    Trouble.SESSION_LOST,
    Trouble.TIMEOUT,
    Trouble.FORBIDDEN_ADDRESS,
}
"""What is said of a call that was not run. Some of it is run again."""
_NO_ANSWER = ("unexpected content type", "answered a request with 202")
"""What the SDK says, in lower case, of a server that took the request and gave no answer to it."""
_NO_SESSION = re.compile(r"^(?:bad request: )?(?:no valid session|server not initialized|.{0,40}mcp-session-id header)")
"""What widespread servers say, in lower case, where the protocol wants 404: they look at nothing else before."""


def failed_call(call_id: int, error: Exception, sent: mcp_met.Sent) -> Failed:
    """What went wrong with a call, from what the SDK raised and what the call's own HTTP requests met."""
    found = failed(call_id, error, sent)
    if found.trouble is Trouble.SESSION_LOST and sent.requests == 1:
        return found  # by what status it was said makes no difference
    if sent.may_have_run:
        return replace(found, trouble=Trouble.BROKEN) if found.trouble in _NOT_RUN else found
    if found.trouble in (Trouble.BROKEN, Trouble.TOO_LARGE):
        return Failed(call_id, Trouble.SESSION_LOST, "the session had ended")
    return found


def failed(request_id: int, error: BaseException, refusals: mcp_met.Met) -> Failed:
    """What went wrong, from what the SDK raised and what HTTP requests met."""
    if isinstance(error, SessionFailed):
        return error.failed
    if isinstance(error, BaseExceptionGroup):
        error = next((e for e in errors_in(error) if not isinstance(e, trio.Cancelled)), error)
    met = refusals.error
    if isinstance(error, httpx2.HTTPStatusError):
        refusals.note_status(error.response)
    if refusals.status in (401, 403):
        return Failed(request_id, Trouble.UNAUTHORIZED, f"HTTP {refusals.status}", refusals.challenge)
    trouble = _trouble_of_transport(error) or (None if met is None else _trouble_of_transport(met))
    message = str(error)[:MESSAGE_CHARS_MAX]
    if trouble is not None:
        return Failed(request_id, trouble, message if met is None else str(met)[:MESSAGE_CHARS_MAX])
    if refusals.status >= 400 and not isinstance(error, MCPError):
        return Failed(request_id, Trouble.UNREACHABLE, f"HTTP {refusals.status}")
    if isinstance(error, MCPError):
        return Failed(request_id, _trouble_of(error, refusals), _said(error, refusals))
    if isinstance(error, ValidationError):
        return Failed(request_id, Trouble.GARBAGE, NO_MESSAGE)
    return Failed(request_id, Trouble.GARBAGE, f"{type(error).__name__}: {message}")


def _said(error: MCPError, refusals: mcp_met.Met) -> str:
    if error.code == types.PARSE_ERROR and VALIDATORS_WORDS in error.message:
        return NO_MESSAGE
    status = f" (HTTP {refusals.status})" if refusals.status >= 400 else ""
    return f"{error.message[:MESSAGE_CHARS_MAX]}{status}"


def _trouble_of_transport(error: BaseException) -> Trouble | None:
    match error:
        case TooMuch() | mcp_http.BodyTooLarge():
            return Trouble.TOO_LARGE
        case httpx2.SSEError() if "exceeded" in str(error):
            return Trouble.TOO_LARGE
        case httpx2.ConnectError() if isinstance(error.__cause__, mcp_http.ForbiddenAddress):
            return Trouble.FORBIDDEN_ADDRESS
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError() | httpx2.UnsupportedProtocol():
            return Trouble.UNREACHABLE
        case httpx2.SSEError() | httpx2.DecodingError() | httpx2.RemoteProtocolError():
            return Trouble.BROKEN
        case httpx2.TransportError():
            return Trouble.BROKEN
        case _:
            return None


def _trouble_of(error: MCPError, refusals: mcp_met.Met) -> Trouble:
    text = error.message.lower()
    if refusals.status == TOO_MANY_REQUESTS:
        return Trouble.UNREACHABLE
    if "exceeded" in text and "byte limit" in text:
        return Trouble.TOO_LARGE
    if (refusals.status == 404 and "session" in text) or (refusals.status == 400 and _NO_SESSION.search(text)):
        return Trouble.SESSION_LOST
    if says_unknown_tool(text):
        return Trouble.UNKNOWN_TOOL
    if error.code == types.CONNECTION_CLOSED or refusals.status >= 500:
        return Trouble.BROKEN
    if error.code == types.REQUEST_TIMEOUT:
        return Trouble.TIMEOUT
    if error.code == types.PARSE_ERROR or any(word in text for word in _NO_ANSWER):
        return Trouble.GARBAGE
    return Trouble.REFUSED
