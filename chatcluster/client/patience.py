"""How long the client goes on trying, and what it does not try again."""

from __future__ import annotations

import ssl

import httpx
import trio

from chatcluster.backoff import Backoff
from chatcluster.errors import ChatclusterError

BACKOFF_SECONDS = 0.05
BACKOFF_CAP_SECONDS = 2.0
REQUEST_SECONDS = 30.0
STREAM_SECONDS = 300.0
"""So long a stream waits without an answer: longer than a deploy, or the restart of a proxy."""
CAUSES_MAX = 10
"""How far an error's chain of causes is followed."""


class Unreachable(ChatclusterError):
    """No answer for ``REQUEST_SECONDS``, for a stream ``STREAM_SECONDS``. Whether a write took effect is unknown."""


class Unusable(ChatclusterError):
    """The request cannot reach the API, however often it is tried: the message says why."""


class Patience:
    """Waits that grow, until there has been no answer for ``patience_seconds``."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._backoff = Backoff(BACKOFF_SECONDS, BACKOFF_CAP_SECONDS)
        self._floor_seconds = 0.0
        self.gives_up_at = trio.current_time() + patience_seconds

    def answered(self) -> None:
        """The API is there: patience starts anew."""
        self.gives_up_at = trio.current_time() + self._patience_seconds

    def reset(self) -> None:
        self.answered()
        self._backoff.reset()

    def at_least(self, seconds: float) -> None:
        """What the server asked for, for the next wait."""
        self._floor_seconds = seconds

    async def wait(self, error: Exception) -> None:
        """Wait before the next try. Raises ``Unusable`` if there is no use in one, ``Unreachable`` if time is up."""
        if (reason := hopeless(error)) is not None:
            raise Unusable(reason) from None
        seconds = max(self._backoff.drawn_seconds(), self._floor_seconds)
        self._floor_seconds = 0.0
        await trio.sleep_until(min(trio.current_time() + seconds, self.gives_up_at))
        if trio.current_time() >= self.gives_up_at:
            text = f"no answer for {self._patience_seconds:g} s; the last try: {str(error) or type(error).__name__}"
            raise Unreachable(text) from None


def hopeless(error: BaseException) -> str | None:
    """Why trying again changes nothing, None if it may."""
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        return f"the request cannot be sent: {error}"
    cause: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate is not accepted: {cause}"
        cause = None if cause is None else cause.__cause__ or cause.__context__
    return None


def retry_after(response: httpx.Response) -> float:
    """What the answer asks to be waited, bounded."""
    text = response.headers.get("retry-after", "")
    return min(float(text), REQUEST_SECONDS) if text.isdigit() else 0.0
