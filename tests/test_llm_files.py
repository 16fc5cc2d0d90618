"""What a model is sent of a chat's files: on each wire in its form, whole, or a note; read when a request is built."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
import trio.testing
from PIL import Image

from chatcluster.config import Settings
from chatcluster.content import FilePart
from chatcluster.context import tokens_of
from chatcluster.errors import ProviderError, StoreUnavailable
from chatcluster.llm import sent_files
from chatcluster.llm.client import HttpModel
from chatcluster.llm.conversation import DocumentPart, SentPart
from chatcluster.llm.sent_files import FILES_BYTES_MAX, REQUEST_FILES_BYTES_MAX, SentFiles
from chatcluster.llm.simulator.server import Simulator, SimulatorOptions
from chatcluster.llm.wires import settings_routing
from chatcluster.memory import MemoryDatabase
from chatcluster.memory.files import MemoryFiles
from chatcluster.models import Input
from chatcluster.parts import ImagePart, Message, Part, Role, TextPart, ToolResultPart, text_of
from chatcluster.ports import Delta, ModelRequest
from chatcluster.ports.files import CHUNK_BYTES, FILE_TEXT_BYTES_MAX, SentForm, StoredFile
from chatcluster.setting_sections import Sizes
from chatcluster.uploads import Uploads

OWNER = UUID(int=1)
ALL = frozenset(Input)
PDF = b"%PDF-1.7\n" + b"x" * (2 * CHUNK_BYTES) + b"\n%%EOF"
TEXT = "Grüße\n\naus der Datei\n".encode()


def picture(side: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(out, "PNG")
    return out.getvalue()


PNG = picture(8)


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


class Shelf:
    """Files as they were uploaded."""

    def __init__(self) -> None:
        self.files = MemoryFiles(MemoryDatabase())
        self._uploads = Uploads(self.files, Sizes())

    async def part(self, data: bytes, name: str = "a") -> FilePart:
        file: StoredFile = await self._uploads.take(OWNER, name, pieces(data), announced_bytes=len(data))
        return FilePart(file.id, file.name, file.media_type, file.size_bytes)


def asking(*parts: Part, role: Role = Role.USER) -> ModelRequest:
    return ModelRequest(UUID(int=2), (said(*parts, role=role),))


def said(*parts: Part, role: Role = Role.USER) -> Message:
    return Message(1, role, parts, 1, datetime(2026, 1, 1, tzinfo=UTC))


async def sent(files: SentFiles, request: ModelRequest, takes: frozenset[Input] = ALL) -> list[SentPart]:
    async with files.inserted(request, takes) as whole:
        return [part for message in whole.messages for part in message.parts]


# --- on the wires -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["openai", "anthropic", "openai-responses"])
async def test_files_arrive_whole_on_each_wire(kind: str, nursery: trio.Nursery) -> None:
    """The simulator reads them as strictly as a provider, and tells what it got."""
    shelf = Shelf()
    files = [await shelf.part(data, name) for name, data in (("a.png", PNG), ("b.pdf", PDF), ("c.md", TEXT))]
    url: Any = await nursery.start(Simulator(SimulatorOptions(port=0, tokens_per_second=0)).serve)
    settings = Settings.of(llm_base_url=url, llm_api_key="k", llm_model="m", llm_kind=kind)
    heard: list[Part] = []
    async with HttpModel(settings_routing(settings), concurrent=1, files=SentFiles(shelf.files)) as model:
        with trio.fail_after(20):
            async with model.stream(asking(TextPart("What is it? [[mode=files]]"), *files)) as events:
                heard = [event.part async for event in events if isinstance(event, Delta)]
    nursery.cancel_scope.cancel()
    assert text_of(heard).splitlines() == [
        f"* {media_type}, {len(data)} bytes, sha256 {sha256(data).hexdigest()}"
        for media_type, data in (("image/png", PNG), ("application/pdf", PDF), ("text/plain", TEXT))
    ]


async def test_a_model_of_the_settings_is_sent_what_they_say_it_takes(nursery: trio.Nursery) -> None:
    shelf = Shelf()
    file = await shelf.part(PDF)
    url: Any = await nursery.start(Simulator(SimulatorOptions(port=0, tokens_per_second=0)).serve)
    settings = Settings.of(llm_base_url=url, llm_api_key="k", llm_model="m", llm_input="text,image")
    question = asking(file, TextPart("[[mode=files]]"))
    async with (
        HttpModel(settings_routing(settings), concurrent=1, files=SentFiles(shelf.files)) as model,
        model.stream(question) as events,
    ):
        heard = [event.part async for event in events if isinstance(event, Delta)]
    nursery.cancel_scope.cancel()
    assert text_of(heard) == "There are no files."


# --- what is sent -----------------------------------------------------------------------------


async def test_files_stand_before_the_words_of_their_message() -> None:
    shelf = Shelf()
    words = TextPart("look at these")
    request = asking(words, await shelf.part(PDF, "b.pdf"), await shelf.part(PNG))
    parts = await sent(SentFiles(shelf.files), request)
    assert parts == [
        DocumentPart("b.pdf", "application/pdf", base64.b64encode(PDF).decode()),
        ImagePart("image/png", base64.b64encode(PNG).decode()),
        words,
    ]
    assert [type(part) for part in request.messages[0].parts] == [TextPart, FilePart, FilePart], "kept nowhere"


async def test_a_large_image_is_sent_as_it_was_made_fit() -> None:
    shelf = Shelf()
    file = await shelf.part(picture(3000))
    (image,) = await sent(SentFiles(shelf.files), asking(file))
    assert isinstance(image, ImagePart)
    assert base64.b64decode(image.data) == await shelf.files.rendition(file.file_id)


async def test_of_a_long_text_the_beginning_is_sent_and_said_to_be_one() -> None:
    shelf = Shelf()
    text = "ä" * FILE_TEXT_BYTES_MAX
    (part,) = await sent(SentFiles(shelf.files), asking(await shelf.part(text.encode(), "long.txt")))
    assert isinstance(part, TextPart)
    assert part.text.startswith("[file long.txt]\nää")
    assert f"[the last {FILE_TEXT_BYTES_MAX} bytes of the file are left out]" in part.text
    assert part.text.count("ä") == FILE_TEXT_BYTES_MAX // 2


@pytest.mark.parametrize(
    ("data", "takes", "note"),
    [(PDF, {Input.TEXT, Input.IMAGE}, "takes no PDFs"), (PNG, {Input.TEXT, Input.PDF}, "takes no images")],
)
async def test_what_a_model_does_not_take_becomes_a_note(data: bytes, takes: set[Input], note: str) -> None:
    shelf = Shelf()
    (part,) = await sent(SentFiles(shelf.files), asking(await shelf.part(data)), frozenset(takes))
    assert isinstance(part, TextPart)
    assert note in part.text


async def test_images_of_results_become_notes_as_well() -> None:
    result = ToolResultPart("1", (TextPart("Here:"), ImagePart("image/png", "x")))
    (part,) = await sent(SentFiles(None), asking(result, role=Role.TOOL), frozenset({Input.TEXT}))
    assert isinstance(part, ToolResultPart)
    assert [type(piece) for piece in part.content] == [TextPart, TextPart]
    assert await sent(SentFiles(None), asking(result, role=Role.TOOL)) == [result]


async def test_a_file_that_is_gone_becomes_a_note() -> None:
    shelf = Shelf()
    gone = FilePart(uuid4(), "gone.pdf", "application/pdf", 3)
    for files in (SentFiles(shelf.files), SentFiles(None)):
        (part,) = await sent(files, asking(gone))
        assert isinstance(part, TextPart)
        assert "gone.pdf" in part.text


async def test_the_first_files_have_a_place_and_a_longer_history_begins_with_the_same_request() -> None:
    """What the model was sent before stays as it was."""
    shelf = Shelf()
    large = b"%PDF-1.7\n" + bytes(8 << 20)
    files = [await shelf.part(large) for _ in range(3)]
    request = asking(files[0])
    longer = ModelRequest(request.chat_id, (*request.messages, said(files[1]), said(files[2]), said(files[0])))
    before = await sent(SentFiles(shelf.files), request)
    parts = await sent(SentFiles(shelf.files), longer)
    assert parts[:1] == before
    assert [type(part) for part in parts] == [DocumentPart, DocumentPart, TextPart, TextPart]
    assert sum(len(part.data) for part in parts if isinstance(part, DocumentPart)) <= REQUEST_FILES_BYTES_MAX


@pytest.mark.parametrize(
    ("media_type", "size_bytes", "tokens"),
    [
        ("image/png", 10 << 20, 1600),
        ("application/pdf", 60_000, 1875),
        ("application/pdf", 10 << 20, 100_000),
        ("text/plain", 3000, 1000),
        ("text/plain", 10 << 20, FILE_TEXT_BYTES_MAX // 3),
    ],
)
def test_a_file_counts_for_what_is_sent_of_it(media_type: str, size_bytes: int, tokens: int) -> None:
    """Else a conversation would be summarised too late."""
    alone = tokens_of(said())
    assert tokens_of(said(FilePart(uuid4(), "a", media_type, size_bytes))) - alone == tokens


# --- bounds and failures ----------------------------------------------------------------------


async def test_p10_requests_with_files_share_the_memory_for_them(autojump_clock: trio.testing.MockClock) -> None:
    shelf = Shelf()
    files, large = SentFiles(shelf.files), b"%PDF-1.7\n" + bytes(9 << 20)
    request = asking(await shelf.part(large))
    held, most = 0, 0

    async def ask() -> None:
        nonlocal held, most
        async with files.inserted(request, ALL) as whole:
            (part,) = whole.messages[0].parts
            assert isinstance(part, DocumentPart)
            held += len(part.data)
            most = max(most, held)
            await trio.lowlevel.checkpoint()
            held -= len(part.data)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    assert 0 < most <= FILES_BYTES_MAX


async def test_a_request_that_finds_no_room_for_its_files_is_tried_again_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shelf = Shelf()
    files = SentFiles(shelf.files)
    large = asking(*[await shelf.part(b"%PDF-1.7\n" + bytes(7 << 20)) for _ in range(2)])
    async with files.inserted(large, ALL), files.inserted(large, ALL):
        with pytest.raises(ProviderError) as caught:
            await sent(files, large)
    assert caught.value.retryable
    assert await sent(files, large)


async def test_p10_files_of_one_user_whose_models_are_silent_leave_room_for_those_of_another(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A server may take a minute to take what it is sent."""
    shelf = Shelf()
    files, part = SentFiles(shelf.files), await shelf.part(b"%PDF-1.7\n" + bytes(9 << 20))
    greedy, modest = [msgspec.structs.replace(asking(part, part), owner_id=uuid4()) for _ in range(2)]

    async def ask_the_silent() -> None:
        async with files.inserted(greedy, ALL):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(ask_the_silent)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(1):
            assert await sent(files, modest)
        nursery.cancel_scope.cancel()


async def test_p10_files_that_were_sent_are_held_by_nobody_while_their_models_are_silent(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """However many users there are: else two who ask silent models with large files keep a third from asking any."""
    monkeypatch.setattr(sent_files, "FILES_BYTES_MAX", 5000)
    shelf = Shelf()
    files, part = SentFiles(shelf.files), await shelf.part(b"%PDF-1.7\n" + bytes(3000))
    arrived = 0

    async def read_and_say_nothing(stream: trio.SocketStream) -> None:
        nonlocal arrived
        received = b""
        async for data in stream:
            received += data
            if received.endswith(b"}"):
                arrived += 1
                some.set()

    listeners = await nursery.start(partial(trio.serve_tcp, read_and_say_nothing, 0, host="127.0.0.1"))
    port = listeners[0].socket.getsockname()[1]
    settings = Settings.of(
        llm_base_url=f"http://127.0.0.1:{port}/v1", llm_model="m", llm_api_key="k", llm_input="text,pdf"
    )

    async def ask(model: HttpModel) -> None:
        async with model.stream(msgspec.structs.replace(asking(part), owner_id=uuid4())):
            pass

    async with HttpModel(settings_routing(settings), concurrent=9, files=files) as model:
        with trio.fail_after(60):
            for _ in range(4):
                nursery.start_soon(ask, model)
            while arrived < 4:
                some = trio.Event()
                await some.wait()
        nursery.cancel_scope.cancel()


async def test_a_store_that_is_away_is_a_failure_that_may_be_retried() -> None:
    class Away(MemoryFiles):
        async def sent_forms(self, file_ids: Sequence[UUID]) -> dict[UUID, SentForm]:
            raise StoreUnavailable("away")

    with pytest.raises(ProviderError) as caught:
        await sent(SentFiles(Away(MemoryDatabase())), asking(FilePart(uuid4(), "a", "image/png", 3)))
    assert caught.value.retryable
