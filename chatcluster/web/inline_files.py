"""Files within the JSON of a request, as data URLs or as base64 alone: taken out of it as it comes, before it is JSON.

A body with files is many times larger than what one step may decode. So a file is decoded and stored piece by piece
while the body is still coming, and what takes its place in the JSON is its address (``ADDRESS``). Neither a step nor
the memory grows with the files; what the body has besides them keeps within the limit of every other body.

Taken out is a text of ``BASE64_MIN`` characters of base64 or more, behind ``data:…;base64,`` or alone, that stands
under one of the names which clients have for files. Quotes within a text are escaped, so what looks like a name there
is one. What is shorter stays in the JSON, for the route to store.

What happens on failure: what is no base64, of no kind that is taken, or too much is refused, but not before all of the
body has come: a client that is still sending reads no answer. A file that is the user's already is found again by its
bytes; so requests that are refused, or repeated, leave no more than one of it behind, which goes after a day.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from itertools import count
from typing import Protocol
from uuid import UUID

import trio

from chatcluster.errors import CallerError, InvalidRequest
from chatcluster.file_errors import TooManyFiles
from chatcluster.ports.files import CHAT_FILES_MAX, StoredFile
from chatcluster.uploads import UNNAMED, Uploads
from chatcluster.web.http.boundary import BodyCount, BodyLimit

ADDRESS = "/api/v1/files/"
NAMES: Mapping[str, str] = {
    "image/png": "image.png",
    "image/jpeg": "image.jpg",
    "image/gif": "image.gif",
    "image/webp": "image.webp",
    "application/pdf": "document.pdf",
    "text/plain": "text.txt",
}
"""What a file is called whose sender does not say, by what the sender says that it is."""
LOOKS_PER_TURN = 500
"""So many beginnings of files are looked at before others get their turn: a body may be full of what looks like one."""
OPENING_BYTES_MAX = 1000
BASE64_MIN = 16 << 10
_NEEDED = OPENING_BYTES_MAX + BASE64_MIN
_OPENING = re.compile(
    rb'("(?:image_url|url|file_data|value|data)"\s{0,20}:\s{0,20}")'
    rb"(data:((?:\\/|[^\"\\,;]){0,100})(?:;[^\"\\,;]{1,100}){0,4}?;base64,)?"
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/=_\-\\]*")
"""Base64 with escapes, which some clients write for slashes and line breaks."""
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


class InlineFiles:
    """The files in the body of one request. ``read`` it; ``prefixes`` has what stood before each base64, by address."""

    def __init__(
        self,
        uploads: Uploads,
        owner_id: UUID,
        pieces: AsyncIterator[bytes],
        *,
        limit: BodyLimit,
        announced_bytes: int,
        digest: Digest,
    ) -> None:
        """``limit``: of the body without its files; ``digest`` gets the body as it comes."""
        self.prefixes: dict[str, str] = {}
        self._store = _Storing(uploads, owner_id, announced_bytes)
        self._pieces = pieces
        self._count = BodyCount(limit)
        self._digest = digest
        self._buffer = b""
        self._at = 0
        """What is before that in the buffer is done with."""
        self._rest = bytearray()

    async def read(self) -> bytes:
        """The body, with addresses in the place of its files. Raises ``CallerError``s, as uploads do."""
        try:
            await self._read()
        except CallerError:
            async for _ in self._pieces:
                pass
            raise
        return bytes(self._rest)

    async def _read(self) -> None:
        for look in count(1):
            if look % LOOKS_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
            opening = _OPENING.search(self._buffer, self._at)
            if opening is not None:
                await self._open(opening.start())
            elif len(self._buffer) - self._at > OPENING_BYTES_MAX:
                self._keep(len(self._buffer) - OPENING_BYTES_MAX)
            elif not await self._more():
                self._keep(len(self._buffer))
                return

    async def _open(self, start: int) -> None:
        """Look at what may be the beginning of a file, once enough of it is there."""
        self._keep(start)
        while len(self._buffer) - self._at < _NEEDED and await self._more():
            pass
        opening = _OPENING.match(self._buffer, self._at)
        assert opening is not None, "there is only more of it"
        run = _BASE64.match(self._buffer, opening.end())
        assert run is not None, "it may be empty"
        if run.end() - run.start() < BASE64_MIN:
            self._keep(run.end())
            return
        self._keep(opening.end(1))
        self._at = opening.end()
        async with aclosing(self._decoded()) as data:
            file = await self._store.take(_text(opening[3]).strip().lower(), data)
        address = f"{ADDRESS}{file.id}"
        self.prefixes[address] = _text(opening[2])
        self._add(address.encode())

    async def _decoded(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the file that begins here, up to the end of its text."""
        held, ended = b"", False
        while not ended:
            run = _BASE64.match(self._buffer, self._at)
            assert run is not None, "it may be empty"
            self._at = run.end()
            ended = self._at < len(self._buffer)
            text = (held + run[0]).replace(b"\\/", b"/").replace(b"\\n", b"").replace(b"\\r", b"")
            whole = len(text) if ended else len(text.removesuffix(b"\\")) // 4 * 4
            held = text[whole:]
            yield decoded(text[:whole], is_last=ended)
            if not ended and not await self._more():
                raise InvalidRequest("the body ends within a file")
        if self._buffer[self._at : self._at + 1] != b'"':
            raise InvalidRequest("a file in the request is not base64")

    async def _more(self) -> bool:
        """Whether there is more of the body, which is in the buffer then."""
        piece = await anext(self._pieces, b"")
        self._digest.update(piece)
        self._buffer = self._buffer[self._at :] + piece
        self._at = 0
        return bool(piece)

    def _keep(self, end: int) -> None:
        self._add(self._buffer[self._at : end])
        self._at = end

    def _add(self, text: bytes) -> None:
        self._count.add(text)
        self._rest += text


class _Storing:
    """The way of one request's files to the store."""

    def __init__(self, uploads: Uploads, owner_id: UUID, announced_bytes: int) -> None:
        self._uploads = uploads
        self._owner_id = owner_id
        self._announced_bytes = announced_bytes
        self._left = CHAT_FILES_MAX

    async def take(self, media_type: str, data: AsyncIterator[bytes]) -> StoredFile:
        if not self._left:
            raise TooManyFiles(f"a chat has {CHAT_FILES_MAX} files at most", files_max=CHAT_FILES_MAX)
        self._left -= 1
        return await self._uploads.take(
            self._owner_id,
            NAMES.get(media_type, UNNAMED),
            data,
            announced_bytes=self._uploads.clipped(self._announced_bytes * 3 // 4),
            reuse=True,
        )


def _text(escaped: bytes | None) -> str:
    return (escaped or b"").decode("utf-8", "replace").replace("\\/", "/")


def decoded(text: bytes, *, is_last: bool = True) -> bytes:
    """Base64, also that of addresses, and without its padding. Raises ``InvalidRequest``."""
    padding = b"=" * (-len(text) % 4) if is_last else b""
    try:
        return binascii.a2b_base64(text.translate(_FROM_URL_SAFE) + padding, strict_mode=True)
    except binascii.Error:
        raise InvalidRequest("a file in the request is not base64") from None
