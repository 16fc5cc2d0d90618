"""``Files`` on a ``MemoryDatabase``. Which files a chat has, its history and its queue say themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from chatcluster.content import files_in
from chatcluster.file_errors import FileInUse, FileNotFound
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.memory.tables import ChatRow, FileRow
from chatcluster.parts import Message, QueuedMessage
from chatcluster.ports.files import SAME_SECONDS, Rendition, SentForm, StoredFile, require_file_room


class MemoryFiles:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._link = link or Link()

    async def begin(self, owner_id: UUID, name: str, *, size_bytes: int, bytes_max: int) -> UUID:
        async with self._link.crossing("begin_file"):
            if bytes_max:
                require_file_room(self._used_bytes(owner_id), size_bytes, bytes_max)
            file_id = uuid4()
            self._database.kept.files[file_id] = FileRow(owner_id, name, size_bytes)
            return file_id

    async def append(self, file_id: UUID, number: int, data: bytes) -> None:
        async with self._link.crossing("append_chunk"):
            self._row(file_id).chunks[number] = data

    async def finish(
        self, file_id: UUID, *, media_type: str, size_bytes: int, sha256: str, rendition: Rendition | None = None
    ) -> StoredFile:
        async with self._link.crossing("finish_file"):
            row, now = self._row(file_id), self._database.now()
            file = StoredFile(file_id, row.owner_id, row.name, media_type, size_bytes, sha256, now)
            row.size_bytes, row.file, row.rendition = size_bytes, file, rendition
            return file

    async def discard(self, file_id: UUID) -> None:
        async with self._link.crossing("discard_file"):
            row = self._database.kept.files.get(file_id)
            if row is not None and row.file is None:
                del self._database.kept.files[file_id]

    async def find(self, owner_id: UUID, file_ids: Sequence[UUID]) -> dict[UUID, StoredFile]:
        async with self._link.crossing("find_files"):
            return {file.id: file for file in self._files_of(owner_id) if file.id in file_ids}

    async def find_same(self, owner_id: UUID, name: str, sha256: str) -> StoredFile | None:
        async with self._link.crossing("find_same"):
            since = self._database.now() - timedelta(seconds=SAME_SECONDS)
            held = {file_id for row in self._database.chats.values() for file_id in files_of(row)}
            same = [
                file
                for file in self._files_of(owner_id)
                if (file.name, file.sha256) == (name, sha256) and (file.created_at > since or file.id in held)
            ]
            return max(same, key=lambda file: (file.created_at, file.id), default=None)

    async def list(self, owner_id: UUID, *, limit: int, after: UUID | None) -> tuple[StoredFile, ...]:
        async with self._link.crossing("list_files"):
            newest = sorted(self._files_of(owner_id), key=lambda file: (file.created_at, file.id), reverse=True)
            if after is not None:
                at = next((at for at, file in enumerate(newest) if file.id == after), None)
                if at is None:
                    raise _no_such_file()
                newest = newest[at + 1 :]
            return tuple(newest[:limit])

    async def used_bytes(self, owner_id: UUID) -> int:
        async with self._link.crossing("used_bytes"):
            return self._used_bytes(owner_id)

    async def delete(self, owner_id: UUID, file_id: UUID) -> None:
        async with self._link.crossing("delete_file"):
            if not any(file.id == file_id for file in self._files_of(owner_id)):
                raise _no_such_file()
            if any(file_id in files_of(row) for row in self._database.chats.values()):
                raise FileInUse("a chat has this file: edit the message that has it, or delete the chat, first")
            del self._database.kept.files[file_id]

    async def read(self, file_id: UUID, number: int) -> bytes:
        async with self._link.crossing("read_chunk"):
            row = self._database.kept.files.get(file_id)
            if row is None or number not in row.chunks:
                raise _no_such_file()
            return row.chunks[number]

    async def sent_forms(self, file_ids: Sequence[UUID]) -> dict[UUID, SentForm]:
        async with self._link.crossing("sent_forms"):
            rows = {file_id: self._database.kept.files.get(file_id) for file_id in file_ids}
            return {file_id: _sent_form(row) for file_id, row in rows.items() if row is not None and row.file}

    async def rendition(self, file_id: UUID) -> bytes:
        async with self._link.crossing("read_rendition"):
            row = self._database.kept.files.get(file_id)
            if row is None or row.rendition is None:
                raise _no_such_file()
            return row.rendition.data

    def _row(self, file_id: UUID) -> FileRow:
        row = self._database.kept.files.get(file_id)
        if row is None:
            raise FileNotFound("the upload took too long, and is gone; send the file again")
        return row

    def _files_of(self, owner_id: UUID) -> Iterator[StoredFile]:
        return (
            row.file for row in self._database.kept.files.values() if row.owner_id == owner_id and row.file is not None
        )

    def _used_bytes(self, owner_id: UUID) -> int:
        return sum(row.size_bytes for row in self._database.kept.files.values() if row.owner_id == owner_id)


def files_of(row: ChatRow) -> set[UUID]:
    """The files that a chat has."""
    said: tuple[Message | QueuedMessage, ...] = (*row.messages, *row.queue)
    return {file_id for one in said for file_id in files_in(one.parts)}


def _sent_form(row: FileRow) -> SentForm:
    if row.rendition is not None:
        return SentForm(row.rendition.media_type, len(row.rendition.data), True)
    assert row.file is not None, "only what is finished is asked for"
    return SentForm(row.file.media_type, row.file.size_bytes)


def _no_such_file() -> FileNotFound:
    return FileNotFound("there is no such file")
