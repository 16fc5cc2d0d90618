"""Routes of files: upload, list, look, download, delete. Another user's file is not found, like one that is none.

A file is sent as the body of its own request, and given back as a download, never to be shown as a page of this site.
"""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime
from email.message import Message
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

import msgspec
from litestar import Response, delete, get, post, route
from litestar.enums import HttpMethod
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.params import FromPath, QueryParameter

from chatcluster.errors import InvalidRequest, UnsupportedMediaType
from chatcluster.file_errors import FileNotFound
from chatcluster.file_types import TEXT
from chatcluster.ports.files import CHUNK_BYTES, Files, StoredFile
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.http.download import Download
from chatcluster.web.http.etags import IfNoneMatch, is_known
from chatcluster.web.request import ApiRequest, parse_uuid

FILES_MAX = 100
FILES_DEFAULT = 50
DISPOSITION_CHARS_MAX = 4096
"""The standard library goes back over a longer one so often that nobody else would be served meanwhile."""
DOWNLOAD = ResponseSpec(
    data_container=bytes, media_type="application/octet-stream", generate_examples=False, description="The bytes"
)


class FileAnswer(msgspec.Struct, frozen=True):
    """``media_type`` is told from the bytes, ``sha256`` in hexadecimal digits."""

    id: UUID
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    created_at: datetime


class FilesAnswer(msgspec.Struct, frozen=True):
    """``used_bytes``: of all of the user's files, and uploads under way; ``bytes_max``: as many there may be, 0 is any
    number; ``file_bytes_max``: as many one file may have."""

    files: list[FileAnswer]
    has_more: bool
    used_bytes: int
    bytes_max: int
    file_bytes_max: int


class Upload(Operation):
    """The description of a route whose body is the file itself."""

    def __post_init__(self) -> None:
        schema = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
        self.request_body = RequestBody(
            content={"application/octet-stream": OpenAPIMediaType(schema=schema)},
            description="The bytes of the file",
            required=True,
        )


@post("/files", responses=REFUSALS, operation_class=Upload)
async def upload_file(
    request: ApiRequest,
    name: Annotated[
        str | None, QueryParameter(description="Default: the filename of Content-Disposition, if there is one")
    ] = None,
) -> FileAnswer:
    """Upload a file: its bytes are the body. Images (PNG, JPEG, GIF, WebP), PDF, and text in UTF-8 are taken; what it
    is, its bytes tell. Send it along with `{"type": "file", "file_id": …}` in the content of a message. One that no
    chat has is removed after a day.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type.startswith("multipart/"):
        raise UnsupportedMediaType("send the bytes of the file as the body, and its name as ?name=, without a form")
    async with aclosing(request.stream()) as pieces:
        file = await request.services.uploads.take(
            request.user.user_id,
            _disposed_name(request) if name is None else name,
            pieces,
            announced_bytes=_announced_bytes(request),
        )
    return file_answer(file)


@get("/files", responses=REFUSALS)
async def list_files(
    request: ApiRequest,
    limit: Annotated[int, QueryParameter(ge=1, le=FILES_MAX)] = FILES_DEFAULT,
    after: Annotated[str | None, QueryParameter(description="The last file of the page before")] = None,
) -> FilesAnswer:
    """The caller's files, newest first, and how much room they take."""
    files, user_id = request.services.uploads.files, request.user.user_id
    page = await files.list(user_id, limit=limit + 1, after=None if after is None else _file_id(after))
    return FilesAnswer(
        [file_answer(file) for file in page[:limit]],
        has_more=len(page) > limit,
        used_bytes=await files.used_bytes(user_id),
        bytes_max=request.services.settings.sizes.user_files_bytes_max,
        file_bytes_max=request.services.settings.sizes.file_bytes_max,
    )


@get("/files/{file_id:str}/metadata", responses=REFUSALS)
async def get_file(request: ApiRequest, file_id: FromPath[str]) -> FileAnswer:
    """What is known of a file."""
    return file_answer(await _owned_file(request, file_id))


@get("/files/{file_id:str}", responses={**REFUSALS, 200: DOWNLOAD})
async def download_file(
    request: ApiRequest, file_id: FromPath[str], if_none_match: IfNoneMatch = None
) -> Response[bytes]:
    """The bytes of a file, as a download. They never change: a client that has them (`If-None-Match`) gets 304."""
    return await _download(request, file_id, if_none_match)


@route("/files/{file_id:str}", http_method=HttpMethod.HEAD, include_in_schema=False)
async def look_at_file(
    request: ApiRequest, file_id: FromPath[str], if_none_match: IfNoneMatch = None
) -> Response[bytes]:
    """What is told of a download, without the bytes."""
    return await _download(request, file_id, if_none_match)


@delete("/files/{file_id:str}", responses=REFUSALS)
async def delete_file(request: ApiRequest, file_id: FromPath[str]) -> None:
    """Delete a file. One that a chat has, in its history or its queue, is refused (`file_in_use`)."""
    await request.services.uploads.files.delete(request.user.user_id, _file_id(file_id))


class _Chunks:
    """The bytes of a file. A chunk that is gone meanwhile breaks the answer off, which then has less than it said.

    No generator: one whose reader leaves would be dropped where it stands.
    """

    def __init__(self, files: Files, file: StoredFile) -> None:
        self._files = files
        self._file_id = file.id
        self._numbers = iter(range(-(-file.size_bytes // CHUNK_BYTES)))

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        for number in self._numbers:
            return await self._files.read(self._file_id, number)
        raise StopAsyncIteration


async def _download(request: ApiRequest, file_id: str, if_none_match: str | None) -> Response[bytes]:
    file = await _owned_file(request, file_id)
    media_type = f"{TEXT}; charset=utf-8" if file.media_type == TEXT else file.media_type
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name, safe='')}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "ETag": (tag := f'"{file.sha256}"'),
    }
    if is_known(tag, if_none_match):
        return Response(b"", status_code=304, headers=headers, media_type=media_type)
    headers["Content-Length"] = str(file.size_bytes)
    return Download(_Chunks(request.services.uploads.files, file), media_type=media_type, headers=headers)


async def _owned_file(request: ApiRequest, text: str) -> StoredFile:
    file_id = _file_id(text)
    found = await request.services.uploads.files.find(request.user.user_id, [file_id])
    if file_id not in found:
        raise _no_such_file(text)
    return found[file_id]


def _file_id(text: str) -> UUID:
    found = parse_uuid(text)
    if found is None:
        raise _no_such_file(text)
    return found


def _no_such_file(text: str) -> FileNotFound:
    return FileNotFound("there is no such file", file_id=text[:80])


def _announced_bytes(request: ApiRequest) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isdigit() else None


def _disposed_name(request: ApiRequest) -> str:
    """The file name of the request's ``Content-Disposition``, in either of its forms; "" without one."""
    disposition = request.headers.get("content-disposition")
    if disposition is None:
        return ""
    if len(disposition) > DISPOSITION_CHARS_MAX:
        raise InvalidRequest(
            f"Content-Disposition is longer than {DISPOSITION_CHARS_MAX} characters; give ?name= instead"
        )
    message = Message()
    message["Content-Disposition"] = disposition
    try:
        return message.get_filename() or ""
    except (LookupError, UnicodeError):
        raise InvalidRequest("Content-Disposition has a file name that cannot be read; give ?name= instead") from None


def file_answer(file: StoredFile) -> FileAnswer:
    return FileAnswer(file.id, file.name, file.media_type, file.size_bytes, file.sha256, file.created_at)


ROUTES = [upload_file, list_files, get_file, download_file, look_at_file, delete_file]
