"""Files in what a client says: one of ours by its ID or its address, or with its bytes, as a data URL or in base64.

Those with bytes are stored as the user's, like any upload: the large ones before the body of the request was whole
(``inline_files.py``), what is left of them here. Files of other servers are not fetched: a replica that asks the
addresses which strangers give to it can be sent anywhere.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from chatcluster.content import FilePart, Part, Parts
from chatcluster.errors import InvalidRequest, TooLarge
from chatcluster.ports.files import CHUNK_BYTES, StoredFile
from chatcluster.uploads import UNNAMED, clean_name
from chatcluster.web.api.bodies import Content, InputFile, InputText, content_parts
from chatcluster.web.inline_files import ADDRESS, NAMES, decoded
from chatcluster.web.request import ApiRequest, parse_uuid

DATA, BASE64 = "data:", ";base64"


class NamedFile(InputFile, tag="file", frozen=True, forbid_unknown_fields=True):
    """``name``: what it is called in this message; None: as it was uploaded."""

    name: str | None = None


def file_of_id(file_id: str, name: object = None) -> NamedFile:
    return NamedFile(file_id, name if isinstance(name, str) else None)


def file_at(url: str, name: object = None) -> NamedFile:
    """What a data URL has, or the address of one of our files names. Raises ``InvalidRequest`` for all other ones."""
    if url.startswith(DATA):
        return file_of_id(url, name)
    _, address, file_id = url.rpartition(ADDRESS)
    if not address:
        raise InvalidRequest(
            "this server fetches no files: send it as a data URL (data:image/png;base64,…), or upload it "
            f"(POST {ADDRESS[:-1]}) and name it by its ID"
        )
    return file_of_id(file_id, name)


def file_of_base64(text: str, name: object = None, media_type: str = "") -> NamedFile:
    """A file as ``file_at`` has it; what is no address is base64."""
    is_bare = not text.startswith((DATA, ADDRESS)) and "://" not in text
    return file_at(f"{DATA}{media_type}{BASE64},{text}" if is_bare else text, name)


async def stored(request: ApiRequest, texts: Iterable[str]) -> dict[str, FilePart]:
    """The files that these name, by what names them; those that are not there, or not the caller's, are left out.

    Raises ``InvalidRequest`` for what is no base64, and what uploads raise.
    """
    known: dict[str, FilePart] = {}
    named = {}
    for text in dict.fromkeys(texts):
        if text.startswith(DATA):
            known[text] = _part(await _store(request, text))
        elif (file_id := parse_uuid(text)) is not None:
            named[text] = file_id
    if named:
        found = await request.services.uploads.files.find(request.user.user_id, list(named.values()))
        known |= {text: _part(found[file_id]) for text, file_id in named.items() if file_id in found}
    return known


async def _store(request: ApiRequest, text: str) -> StoredFile:
    head, _, data = text.removeprefix(DATA).partition(",")
    media_type, is_base64, _ = head.partition(BASE64)
    if not is_base64:
        raise InvalidRequest("a data URL of a file is in base64: data:image/png;base64,…")
    raw = decoded("".join(data.split()).encode("ascii", "replace"))
    name = NAMES.get(media_type.partition(";")[0].strip().lower(), UNNAMED)
    async with aclosing(_whole(raw)) as pieces:
        return await request.services.uploads.take(
            request.user.user_id, name, pieces, announced_bytes=len(raw), reuse=True
        )


async def _whole(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


def _part(file: StoredFile) -> FilePart:
    return FilePart(file.id, file.name, file.media_type, file.size_bytes)


async def message_parts(request: ApiRequest, content: Sequence[InputText | InputFile]) -> Parts:
    """``content`` as a message's parts. Raises ``InvalidRequest``, ``FileNotFound``, ``TooLarge``, and what uploads
    raise."""
    files = await stored(request, (part.file_id for part in content if isinstance(part, InputFile)))
    return parts_of(content, bytes_max=request.services.settings.sizes.content_bytes_max, files=files)


def parts_of(content: Sequence[InputText | InputFile], *, bytes_max: int, files: Mapping[str, FilePart]) -> Parts:
    """Parts as ``content_parts`` has them, with files called as this message calls them."""
    given: Content = list(content)
    return tuple(_named(content, content_parts(given, bytes_max=bytes_max, files=files)))


def _named(content: Sequence[InputText | InputFile], parts: Parts) -> Iterator[Part]:
    for given, part in zip(content, parts, strict=True):
        if isinstance(given, NamedFile) and given.name is not None and isinstance(part, FilePart):
            yield msgspec.structs.replace(part, name=clean_name(given.name))
        else:
            yield part


async def restored(request: ApiRequest, value: Any) -> Any:
    """What a client says that is no message, with the files that were taken out of it back in their places.

    Raises ``TooLarge``.
    """
    if not request.inline_prefixes:
        return value
    text, bytes_max = msgspec.json.encode(value), request.services.settings.sizes.content_bytes_max
    for address, prefix in request.inline_prefixes.items():
        place = b'"%s"' % address.encode()
        if place not in text:
            continue
        (file,) = (await stored(request, [address.removeprefix(ADDRESS)])).values()
        if file.size_bytes > bytes_max:
            raise TooLarge(f"a value is larger than {bytes_max} bytes", bytes_max=bytes_max)
        chunks = range(-(-file.size_bytes // CHUNK_BYTES))
        data = b"".join([await request.services.uploads.files.read(file.file_id, number) for number in chunks])
        text = text.replace(place, msgspec.json.encode(prefix + b64encode(data).decode()))
        if len(text) > 2 * bytes_max:
            raise TooLarge(f"a value is larger than {bytes_max} bytes", bytes_max=bytes_max)
    return msgspec.json.decode(text)
