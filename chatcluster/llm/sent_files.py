"""What a model is sent of the files, and the images, in a history: read when the request is built, and kept nowhere.

A file becomes what its kind is for models: an image (as it was made fit when it was uploaded), a document (PDF), or its
text. It stands before the words of its message, as vendors advise. What the model does not take (``input`` of its
options) becomes a note in its place, and so does what is gone, the rest of a text above ``FILE_TEXT_BYTES_MAX``, and
what the request has no room for: the files of a request have ``REQUEST_FILES_BYTES_MAX`` as they are sent, which the
first ones get first. So the same history always gives the same request, and a longer one begins with it.

All requests of this replica that have files share ``FILES_BYTES_MAX``, by turns between users, from the first byte read
until they are sent. A request waits ``PLACE_SECONDS_MAX`` for its share.

What happens on failure: a store that cannot be reached is a ``ProviderError`` that may be retried, and so is the end of
that wait.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import UUID

import msgspec
import trio

from chatcluster.byte_places import BytePlaces
from chatcluster.content import FilePart
from chatcluster.errors import ProviderError, UnavailableError
from chatcluster.file_errors import FileNotFound
from chatcluster.file_types import IMAGES, PDF
from chatcluster.llm.conversation import DocumentPart, SentPart
from chatcluster.models import Input
from chatcluster.parts import ImagePart, Message, OpaquePart, Part, Role, TextPart, ToolResultPart
from chatcluster.ports import ModelRequest
from chatcluster.ports.files import CHUNK_BYTES, FILE_TEXT_BYTES_MAX, Files, SentForm

REQUEST_FILES_BYTES_MAX = 24 << 20
FILES_BYTES_MAX = 64 << 20
PLACE_SECONDS_MAX = 30.0
MESSAGES_PER_STEP = 1000
"""Looked at before others run."""


class _Wanted(NamedTuple):
    """A file that is to be read."""

    part: FilePart
    form: SentForm


class SentFiles:
    """``files`` None: there is no store of files, and so none of them is there."""

    def __init__(self, files: Files | None) -> None:
        self._files = files
        self._places = BytePlaces(FILES_BYTES_MAX, largest=REQUEST_FILES_BYTES_MAX)

    @asynccontextmanager
    async def inserted(self, request: ModelRequest, takes: Set[Input]) -> AsyncIterator[ModelRequest]:
        """The request with what is sent of each file in its place, for as long as it is being sent; a plain one without
        what only a provider understands."""
        if request.is_plain:
            request = await _plain(request)
        at = await _messages_to_change(request.messages, takes)
        if not at:
            yield request
            return
        try:
            plan = _Plan(await self._forms([request.messages[index] for index in at]), takes)
            planned = [plan.parts(request.messages[index]) for index in at]
            place = self._places.taken_soon(request.owner_id, plan.size_bytes, seconds_max=PLACE_SECONDS_MAX)
            async with place:
                messages = list(request.messages)
                for index, parts in zip(at, planned, strict=True):
                    loaded = tuple([await self._loaded(part) for part in parts])
                    messages[index] = msgspec.structs.replace(messages[index], parts=loaded)
                yield msgspec.structs.replace(request, messages=tuple(messages))
        except UnavailableError as error:
            raise ProviderError(f"the chat's files cannot be read now: {error}", retryable=True) from None

    async def _forms(self, messages: Sequence[Message]) -> Mapping[UUID, SentForm]:
        wanted = {part.file_id for message in messages for part in message.parts if isinstance(part, FilePart)}
        return await self._files.sent_forms(list(wanted)) if self._files is not None and wanted else {}

    async def _loaded(self, part: SentPart | _Wanted) -> SentPart:
        if not isinstance(part, _Wanted):
            return part
        assert self._files is not None, "what is wanted was found there"
        try:
            return await _read(self._files, *part)
        except FileNotFound:
            return _note(part.part, "it was deleted")


class _Plan:
    """Which files of a request are read, in their order, and what stands in the places of the others."""

    def __init__(self, forms: Mapping[UUID, SentForm], takes: Set[Input]) -> None:
        self._forms = forms
        self._takes = takes
        self.size_bytes = 0

    def parts(self, message: Message) -> list[SentPart | _Wanted]:
        files = [self._file(part) for part in message.parts if isinstance(part, FilePart)]
        return [*files, *(self._rest(part) for part in message.parts if not isinstance(part, FilePart))]

    def _file(self, part: FilePart) -> TextPart | _Wanted:
        form = self._forms.get(part.file_id)
        if form is None:
            return _note(part, "it was deleted")
        needed = _input_of(form.media_type)
        if needed not in self._takes:
            return _note(part, f"this model takes no {needed.words}")
        size_bytes = _sent_bytes(form)
        if self.size_bytes + size_bytes > REQUEST_FILES_BYTES_MAX:
            return _note(part, f"the files of this chat are larger than {REQUEST_FILES_BYTES_MAX} bytes together")
        self.size_bytes += size_bytes
        return _Wanted(part, form)

    def _rest(self, part: Part) -> Part:
        if not isinstance(part, ToolResultPart) or Input.IMAGE in self._takes:
            return part
        note = TextPart(f"[an image was left out: this model takes no {Input.IMAGE.words}]")
        content = tuple(note if isinstance(piece, ImagePart) else piece for piece in part.content)
        return msgspec.structs.replace(part, content=content)


async def _plain(request: ModelRequest) -> ModelRequest:
    """The message without what only a provider understands."""
    messages = list(request.messages)
    for index, message in enumerate(messages):
        if index % MESSAGES_PER_STEP == MESSAGES_PER_STEP - 1:
            await trio.lowlevel.checkpoint()
        if any(isinstance(part, OpaquePart) for part in message.parts):
            parts = tuple(part for part in message.parts if not isinstance(part, OpaquePart))
            messages[index] = msgspec.structs.replace(message, parts=parts)
    return msgspec.structs.replace(request, messages=tuple(messages))


async def _messages_to_change(messages: Sequence[Message], takes: Set[Input]) -> list[int]:
    """The messages in which there is a file, or an image that the model does not take."""
    at: list[int] = []
    for index, message in enumerate(messages):
        if index % MESSAGES_PER_STEP == MESSAGES_PER_STEP - 1:
            await trio.lowlevel.checkpoint()
        if message.role is Role.USER:
            if any(isinstance(part, FilePart) for part in message.parts):
                at.append(index)
        elif message.role is Role.TOOL and Input.IMAGE not in takes:
            at.append(index)
    return at


async def _read(files: Files, part: FilePart, form: SentForm) -> SentPart:
    """What is sent of a file. Raises ``FileNotFound``."""
    needed = _input_of(form.media_type)
    if form.is_rendition:
        return ImagePart(form.media_type, b64encode(await files.rendition(part.file_id)).decode())
    if needed is Input.TEXT:
        return _text(part, await files.read(part.file_id, 0))
    chunks = range(-(-form.size_bytes // CHUNK_BYTES))
    data = "".join([b64encode(await files.read(part.file_id, number)).decode() for number in chunks])
    return ImagePart(form.media_type, data) if needed is Input.IMAGE else DocumentPart(part.name, form.media_type, data)


def _text(part: FilePart, data: bytes) -> TextPart:
    """The first chunk has all that is sent of it."""
    text = data[:FILE_TEXT_BYTES_MAX].decode("utf-8", "ignore").removeprefix("\ufeff")
    left_out = part.size_bytes - FILE_TEXT_BYTES_MAX
    end = f"[the last {left_out} bytes of the file are left out]" if left_out > 0 else "[end of file]"
    return TextPart(f"[file {part.name}]\n{text}\n{end}\n\n")


def _note(part: FilePart, why: str) -> TextPart:
    return TextPart(f"[the file {part.name} ({part.media_type}) is left out: {why}]\n\n")


def _input_of(media_type: str) -> Input:
    if media_type in IMAGES:
        return Input.IMAGE
    return Input.PDF if media_type == PDF else Input.TEXT


def _sent_bytes(form: SentForm) -> int:
    if _input_of(form.media_type) is Input.TEXT:
        return min(form.size_bytes, FILE_TEXT_BYTES_MAX)
    return 4 * -(-form.size_bytes // 3)
