"""Takes files in, below every front door: bytes as they come, in chunks to the store, hashed and looked at on the way.

An upload holds one chunk in memory. An image is read back once it is whole and made fit for models, one at a time, and
users take turns. So what cannot be read is refused while its sender is there, and no request to a model has to decode
it.

What happens on failure: what is too large, of no kind that is taken, or broken off leaves nothing behind; where even
the clean-up fails, or the replica dies, the purge removes it an hour later. A failure after ``finish`` leaves a file
that nobody refers to, for a day.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable
from contextlib import suppress
from uuid import UUID

import trio

from chatcluster.errors import InvalidRequest, StoreUnavailable, TooLarge
from chatcluster.fair_places import FairPlaces
from chatcluster.file_errors import UnsupportedFile
from chatcluster.file_types import IMAGES, Sniffer
from chatcluster.images import UnfitImage, fit_elsewhere
from chatcluster.ports.files import CHUNK_BYTES, Files, Rendition, StoredFile
from chatcluster.setting_sections import Sizes
from chatcluster.texts import is_blank, visible

NAME_CHARS_MAX = 200
NAME_CHARS_LOOKED_AT = 4 * NAME_CHARS_MAX
"""Of a name, behind its folders: each character of it is looked at, and a client may send a million."""
UNNAMED = "file"
DISCARD_SECONDS_MAX = 2.0


class Uploads:
    def __init__(self, files: Files, sizes: Sizes) -> None:
        self.files = files
        self._bytes_max = sizes.file_bytes_max
        self._user_bytes_max = sizes.user_files_bytes_max
        self._one_image = FairPlaces(1)

    def clipped(self, announced_bytes: int) -> int | None:
        """What to announce of a file that has at most so many bytes; 0 is unknown."""
        return min(announced_bytes, self._bytes_max) or None

    async def take(
        self,
        owner_id: UUID,
        name: str,
        pieces: AsyncIterable[bytes],
        *,
        announced_bytes: int | None,
        reuse: bool = False,
    ) -> StoredFile:
        """The file that ``pieces`` are, of ``announced_bytes`` if that is known. With ``reuse`` that may be one which
        is there already, of this name and the same bytes: for clients that send all files again with each message.

        Raises ``TooLarge``, ``UnsupportedFile``, ``FilesFull``, ``InvalidRequest`` for one without bytes, and whatever
        ``pieces`` raises.
        """
        _require_size(announced_bytes or 0, self._bytes_max)
        reserved = self._bytes_max if announced_bytes is None else announced_bytes
        file_id = await self.files.begin(
            owner_id, clean_name(name), size_bytes=reserved, bytes_max=self._user_bytes_max
        )
        try:
            return await self._receive(owner_id, file_id, clean_name(name), pieces, reuse=reuse)
        except BaseException:
            gives_up_at = trio.current_time() + DISCARD_SECONDS_MAX
            with suppress(StoreUnavailable), trio.CancelScope(shield=True, deadline=gives_up_at):
                await self.files.discard(file_id)
            raise

    async def _receive(
        self, owner_id: UUID, file_id: UUID, name: str, pieces: AsyncIterable[bytes], *, reuse: bool
    ) -> StoredFile:
        intake = _Intake(self.files, file_id, self._bytes_max)
        async for piece in pieces:
            await intake.add(piece)
        await intake.end()
        if not intake.size_bytes:
            raise InvalidRequest("the file is empty: send its bytes as the request's body")
        media_type = intake.sniffer.media_type()
        if reuse:
            same = await self.files.find_same(owner_id, name, intake.digest.hexdigest())
            if same is not None:
                await self.files.discard(file_id)
                return same
        return await self.files.finish(
            file_id,
            media_type=media_type,
            size_bytes=intake.size_bytes,
            sha256=intake.digest.hexdigest(),
            rendition=await self._rendition(owner_id, file_id, intake.chunks) if media_type in IMAGES else None,
        )

    async def _rendition(self, owner_id: UUID, file_id: UUID, chunks: int) -> Rendition | None:
        """The image as models take it; None if it is that already."""
        async with self._one_image.taken(owner_id):
            data = b"".join([await self.files.read(file_id, number) for number in range(chunks)])
            try:
                fit = await fit_elsewhere(data, owner_id)
            except UnfitImage as error:
                raise UnsupportedFile(f"this image cannot be used: {error}") from None
        return None if fit.data is data else Rendition(fit.media_type, fit.data)


class _Intake:
    """The bytes of one upload on their way to the store, in chunks of one size but for the last."""

    def __init__(self, files: Files, file_id: UUID, bytes_max: int) -> None:
        self.digest = hashlib.sha256()
        self.sniffer = Sniffer()
        self.size_bytes = 0
        self.chunks = 0
        self._files = files
        self._file_id = file_id
        self._bytes_max = bytes_max
        self._buffer = bytearray()

    async def add(self, piece: bytes) -> None:
        """Raises ``TooLarge``, and ``UnsupportedFile`` where that is known already."""
        self.size_bytes += len(piece)
        _require_size(self.size_bytes, self._bytes_max)
        self._buffer += piece
        while len(self._buffer) >= CHUNK_BYTES:
            await self._store(bytes(self._buffer[:CHUNK_BYTES]))
            del self._buffer[:CHUNK_BYTES]

    async def end(self) -> None:
        if self._buffer:
            await self._store(bytes(self._buffer))

    async def _store(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        self.sniffer.feed(chunk)
        await self._files.append(self._file_id, self.chunks, chunk)
        self.chunks += 1


def _require_size(size_bytes: int, bytes_max: int) -> None:
    if size_bytes > bytes_max:
        raise TooLarge(f"the file is larger than {bytes_max} bytes", bytes_max=bytes_max)


def clean_name(name: str) -> str:
    """The name of a file as it may be shown: one visible line, without folders."""
    _, _, name = name.replace("\\", "/").rpartition("/")
    name = visible(name[:NAME_CHARS_LOOKED_AT])[:NAME_CHARS_MAX].strip()
    return UNNAMED if is_blank(name.strip(".")) else name
