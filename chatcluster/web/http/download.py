"""An answer that is sent piece by piece, as it is read: a file, a document.

Nothing listens for the client meanwhile: one that leaves is noticed by the next piece, and one that takes too little by
the connection (``server.py``). A piece that cannot be read leaves the answer unfinished, and the connection is broken
off: nobody takes the half for the whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from litestar import Response
from litestar.types import ASGIApp, Receive, Scope, Send


class Download(Response[bytes]):
    """``pieces`` is no generator: one whose reader leaves would be dropped where it stands."""

    def __init__(self, pieces: AsyncIterator[bytes], *, media_type: str, headers: Mapping[str, str]) -> None:
        super().__init__(b"", media_type=media_type, headers=dict(headers))
        self._pieces = pieces
        self._head = {"content-type": media_type, **headers}

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]
        return self._answer

    async def _answer(self, scope: Scope, _receive: Receive, send: Send) -> None:
        raw = [(name.lower().encode(), value.encode()) for name, value in self._head.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        if scope.get("method") != "HEAD":
            async for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
