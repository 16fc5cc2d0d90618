"""What a route returns, as the response that it becomes: JSON, in one piece.

Litestar makes a response of headers, cookies and a body that may be of any kind, for each request; that costs more than
to encode what is in it. Most of our routes return a value and nothing else.
"""

from __future__ import annotations

from typing import Any, TypeVar

from litestar import Response
from litestar.serialization import get_serializer
from litestar.types import ASGIApp, Receive, Scope, Send

T = TypeVar("T")
JSON = "application/json"


class Answered(Response[T]):
    """Of a route that returns a value. Where its declaration says more, that is litestar's to do."""

    def to_asgi_response(self, app: Any, request: Any, **said: Any) -> Any:
        if self.media_type != JSON or self.content is None or self.background is not None or any(said.values()):
            return super().to_asgi_response(app, request, **said)
        body = self.render(self.content, JSON, get_serializer(self.response_type_encoders))
        return _json(self.status_code or 200, body)


def _json(status: int, body: bytes) -> ASGIApp:
    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", JSON.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return answer
