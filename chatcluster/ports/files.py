"""Files that users send along: what is known of each, and its bytes, in chunks.

A file is ``begun``, gets its chunks, and is ``finished``; before that nobody but its uploader sees it, and it counts
with the bytes that were reserved for it. What was begun and never finished goes after an hour, what is in no history
and no queue a day after it was uploaded. A file never changes. Which chats refer to it, a transition of the chat says
(``Store``): those references keep it from being deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from chatcluster.file_errors import FileNotFound, FilesFull, TooManyFiles

CHUNK_BYTES = 384 << 10
"""The size of all chunks but the last. Divisible by three: chunk by chunk, base64 is that of the whole."""
FILE_TEXT_BYTES_MAX = 256 << 10
"""So much of a text a model is sent."""
CHAT_FILES_MAX = 50
"""Different files of one chat, in its history and its queue."""
UNFINISHED_SECONDS = 3600.0
UNREFERENCED_SECONDS = 86_400.0
SAME_SECONDS = 43_200.0
"""So long a file that no chat has is found again by its bytes: it stays long enough to be sent along."""


class StoredFile(msgspec.Struct, frozen=True):
    """``sha256`` is in hexadecimal digits."""

    id: UUID
    owner_id: UUID
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    created_at: datetime


class Rendition(msgspec.Struct, frozen=True):
    """An image as models take it, where that is not the file itself."""

    media_type: str
    data: bytes


class SentForm(msgspec.Struct, frozen=True):
    """What a model would be sent of a file: of what type, and how long. ``is_rendition``: not the file itself."""

    media_type: str
    size_bytes: int
    is_rendition: bool = False


def require_file_room(used_bytes: int, size_bytes: int, bytes_max: int) -> None:
    """Raises ``FilesFull`` where so many more bytes are too many."""
    if used_bytes + size_bytes > bytes_max:
        raise FilesFull(
            f"your files may have {bytes_max} bytes together, and have {used_bytes}; delete some that no chat has",
            bytes_max=bytes_max,
            used_bytes=used_bytes,
        )


def require_files(wanted: int, found: int, total: int) -> None:
    """Raises ``FileNotFound`` and ``TooManyFiles``, for a message with ``wanted`` files to a chat that has ``total``
    with them."""
    if found < wanted:
        raise FileNotFound("a file that the message names is gone, or is not yours")
    if total > CHAT_FILES_MAX:
        raise TooManyFiles(
            f"a chat has {CHAT_FILES_MAX} files at most; edit an earlier message, or start a new chat",
            files_max=CHAT_FILES_MAX,
        )


class Files(Protocol):
    async def begin(self, owner_id: UUID, name: str, *, size_bytes: int, bytes_max: int) -> UUID:
        """Reserve ``size_bytes``. Raises ``FilesFull`` where the user's files would have more than ``bytes_max`` with
        it; 0 is no limit."""
        ...

    async def append(self, file_id: UUID, number: int, data: bytes) -> None:
        """The chunk ``number``, from 0. May be repeated. Raises ``FileNotFound`` if the upload is gone."""
        ...

    async def finish(
        self, file_id: UUID, *, media_type: str, size_bytes: int, sha256: str, rendition: Rendition | None = None
    ) -> StoredFile:
        """Finish an upload, which can be sent along then. May be repeated. Raises ``FileNotFound`` if it is gone."""
        ...

    async def discard(self, file_id: UUID) -> None:
        """Give up an upload that is not finished."""
        ...

    async def find(self, owner_id: UUID, file_ids: Sequence[UUID]) -> dict[UUID, StoredFile]:
        """The files of these IDs that are this user's, by ID."""
        ...

    async def find_same(self, owner_id: UUID, name: str, sha256: str) -> StoredFile | None:
        """The newest one of this user's with this name and these bytes that a chat has, or that will stay for a
        while."""
        ...

    async def list(self, owner_id: UUID, *, limit: int, after: UUID | None) -> tuple[StoredFile, ...]:
        """Newest first; ``after`` is the last file of the page before. An unknown one raises ``FileNotFound``."""
        ...

    async def used_bytes(self, owner_id: UUID) -> int:
        """What this user's files count for, uploads under way included."""
        ...

    async def delete(self, owner_id: UUID, file_id: UUID) -> None:
        """Raises ``FileNotFound``, also for another user's, and ``FileInUse`` where a chat refers to it."""
        ...

    async def read(self, file_id: UUID, number: int) -> bytes:
        """A chunk. Raises ``FileNotFound`` if it is gone, or never was."""
        ...

    async def sent_forms(self, file_ids: Sequence[UUID]) -> dict[UUID, SentForm]:
        """The forms of these files, of those that there are."""
        ...

    async def rendition(self, file_id: UUID) -> bytes:
        """The image as models take it. Raises ``FileNotFound`` if there is none."""
        ...
