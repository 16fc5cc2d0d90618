"""``Files`` on Postgres: a row for each file, its bytes in chunks, each written and read by a statement of its own.

No connection is held while a client sends or takes: a chunk that has come whole is one transaction. An upload whose
replica dies leaves a row that is not finished, which the purge removes (``purge.py``), and until then it counts.

References of chats are written by their transitions (``file_references.py``), under the lock of the chat's row. A file
that a chat refers to cannot be deleted: the foreign key sees to that, also where the purge and a message meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from chatcluster.file_errors import FileInUse, FileNotFound
from chatcluster.ports.files import SAME_SECONDS, Rendition, SentForm, StoredFile, require_file_room
from chatcluster.postgres import Connection, Database, Lane, Row
from chatcluster.postgres.queries import load_queries

SQL = load_queries("files.sql")


class PostgresFiles:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, owner_id: UUID, name: str, *, size_bytes: int, bytes_max: int) -> UUID:
        return await self._database.transaction(_begin, owner_id, name, size_bytes, bytes_max)

    async def append(self, file_id: UUID, number: int, data: bytes) -> None:
        await self._database.autocommit(_append, file_id, number, data)

    async def finish(
        self, file_id: UUID, *, media_type: str, size_bytes: int, sha256: str, rendition: Rendition | None = None
    ) -> StoredFile:
        return await self._database.autocommit(_finish, file_id, media_type, size_bytes, sha256, rendition)

    async def discard(self, file_id: UUID) -> None:
        await self._database.autocommit(_discard, file_id)

    async def find(self, owner_id: UUID, file_ids: Sequence[UUID]) -> dict[UUID, StoredFile]:
        return await self._database.autocommit(_find, owner_id, file_ids)

    async def find_same(self, owner_id: UUID, name: str, sha256: str) -> StoredFile | None:
        return await self._database.autocommit(_find_same, owner_id, name, sha256)

    async def list(self, owner_id: UUID, *, limit: int, after: UUID | None) -> tuple[StoredFile, ...]:
        return await self._database.autocommit(_list, owner_id, limit, after)

    async def used_bytes(self, owner_id: UUID) -> int:
        return await self._database.autocommit(_used_bytes, owner_id)

    async def delete(self, owner_id: UUID, file_id: UUID) -> None:
        await self._database.autocommit(_delete, owner_id, file_id)

    async def read(self, file_id: UUID, number: int) -> bytes:
        return await self._database.autocommit(_read, file_id, number, lane=Lane.CHATS)

    async def sent_forms(self, file_ids: Sequence[UUID]) -> dict[UUID, SentForm]:
        return await self._database.autocommit(_sent_forms, file_ids, lane=Lane.CHATS)

    async def rendition(self, file_id: UUID) -> bytes:
        return await self._database.autocommit(_rendition, file_id, lane=Lane.CHATS)


async def _begin(connection: Connection, owner_id: UUID, name: str, size_bytes: int, bytes_max: int) -> UUID:
    if bytes_max:
        await connection.execute(SQL["lock_room"], owner_id)
        require_file_room(await _used_bytes(connection, owner_id), size_bytes, bytes_max)
    file_id: UUID = await connection.fetchval(SQL["begin_file"], owner_id, name, size_bytes)
    return file_id


async def _used_bytes(connection: Connection, owner_id: UUID) -> int:
    return int(await connection.fetchval(SQL["used_bytes"], owner_id))


async def _append(connection: Connection, file_id: UUID, number: int, data: bytes) -> None:
    if await connection.fetchval(SQL["append_chunk"], file_id, number, data) is None:
        raise _gone()


async def _finish(
    connection: Connection, file_id: UUID, media_type: str, size_bytes: int, sha256: str, rendition: Rendition | None
) -> StoredFile:
    shown = (None, None) if rendition is None else (rendition.media_type, rendition.data)
    row = await connection.fetchrow(SQL["finish_file"], file_id, media_type, size_bytes, sha256, *shown)
    if row is None:
        raise _gone()
    return _file(row)


async def _discard(connection: Connection, file_id: UUID) -> None:
    await connection.execute(SQL["discard_file"], file_id)


async def _find(connection: Connection, owner_id: UUID, file_ids: Sequence[UUID]) -> dict[UUID, StoredFile]:
    rows = await connection.fetch(SQL["find_files"], owner_id, list(map(str, file_ids)))
    return {row["id"]: _file(row) for row in rows}


async def _find_same(connection: Connection, owner_id: UUID, name: str, sha256: str) -> StoredFile | None:
    row = await connection.fetchrow(SQL["find_same"], owner_id, name, sha256, timedelta(seconds=SAME_SECONDS))
    return None if row is None else _file(row)


async def _list(connection: Connection, owner_id: UUID, limit: int, after: UUID | None) -> tuple[StoredFile, ...]:
    since: datetime | None = None
    if after is not None:
        found = await _find(connection, owner_id, [after])
        if after not in found:
            raise _no_such_file()
        since = found[after].created_at
    return tuple(map(_file, await connection.fetch(SQL["list_files"], owner_id, limit, since, after)))


async def _delete(connection: Connection, owner_id: UUID, file_id: UUID) -> None:
    if await connection.fetchval(SQL["delete_file"], file_id, owner_id) is not None:
        return
    if await _find(connection, owner_id, [file_id]):
        raise FileInUse("a chat has this file: edit the message that has it, or delete the chat, first")
    raise _no_such_file()


async def _read(connection: Connection, file_id: UUID, number: int) -> bytes:
    return _present(await connection.fetchval(SQL["read_chunk"], file_id, number))


async def _sent_forms(connection: Connection, file_ids: Sequence[UUID]) -> dict[UUID, SentForm]:
    rows = await connection.fetch(SQL["sent_forms"], list(map(str, file_ids)))
    return {row["id"]: SentForm(row["media_type"], row["size_bytes"], row["is_rendition"]) for row in rows}


async def _rendition(connection: Connection, file_id: UUID) -> bytes:
    return _present(await connection.fetchval(SQL["read_rendition"], file_id))


def _present(data: bytes | None) -> bytes:
    if data is None:
        raise _no_such_file()
    return data


def _file(row: Row) -> StoredFile:
    return msgspec.convert({name: row[name] for name in StoredFile.__struct_fields__}, StoredFile)


def _no_such_file() -> FileNotFound:
    return FileNotFound("there is no such file")


def _gone() -> FileNotFound:
    return FileNotFound("the upload took too long, and is gone; send the file again")
