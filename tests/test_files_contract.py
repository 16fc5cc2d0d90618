"""What every ``Files`` does, and what every ``Store`` makes of files that messages name."""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID, uuid4

import pytest
from contract_worlds import OWNER, World, fence_of

from chatcluster.chat import Busy, DeleteQueued, Edit, EditQueued, FinishTurn, Promote, Send
from chatcluster.content import FilePart, files_in
from chatcluster.file_errors import FileInUse, FileNotFound, FilesFull, TooManyFiles
from chatcluster.parts import NewMessage, Parts, Role, TextPart
from chatcluster.ports import Outcome
from chatcluster.ports.files import CHAT_FILES_MAX, CHUNK_BYTES, Rendition, SentForm, StoredFile

STRANGER = UUID(int=7)


pytest_plugins = ["contract_fixtures"]


async def stored(
    world: World, *chunks: bytes, owner_id: UUID = OWNER, rendition: Rendition | None = None
) -> StoredFile:
    data = chunks or (b"some text",)
    size_bytes = sum(map(len, data))
    file_id = await world.files.begin(owner_id, "notes.txt", size_bytes=size_bytes, bytes_max=0)
    for number, chunk in enumerate(data):
        await world.files.append(file_id, number, chunk)
    digest = sha256(b"".join(data)).hexdigest()
    return await world.files.finish(
        file_id, media_type="text/plain", size_bytes=size_bytes, sha256=digest, rendition=rendition
    )


def with_files(*files: StoredFile | UUID, words: str = "look") -> Parts:
    ids = [file if isinstance(file, UUID) else file.id for file in files]
    return (TextPart(words), *(FilePart(file_id, "notes.txt", "text/plain", 9) for file_id in ids))


async def send(world: World, chat_id: UUID, *files: StoredFile | UUID, busy: Busy = Busy.QUEUE) -> Outcome:
    return await world.store.apply(chat_id, Send(with_files(*files), busy), owner_id=OWNER)


async def is_held(world: World, file: StoredFile) -> bool:
    """Whether a chat keeps the file from being deleted; else it is gone now."""
    try:
        await world.files.delete(OWNER, file.id)
    except FileInUse:
        return True
    return False


# --- files ------------------------------------------------------------------------------------


async def test_a_file_is_found_again_by_its_name_and_bytes(world: World) -> None:
    first, newest = await stored(world), await stored(world)
    assert first.sha256 == newest.sha256
    found = await world.files.find_same(OWNER, "notes.txt", first.sha256)
    assert found is not None
    assert found.id in (first.id, newest.id)
    assert await world.files.find_same(OWNER, "other.txt", first.sha256) is None
    assert await world.files.find_same(STRANGER, "notes.txt", first.sha256) is None
    assert await world.files.find_same(OWNER, "notes.txt", "00" * 32) is None
    await world.files.begin(OWNER, "half.txt", size_bytes=9, bytes_max=0)
    assert await world.files.find_same(OWNER, "half.txt", first.sha256) is None


async def test_a_file_is_what_was_uploaded(world: World) -> None:
    chunks = (b"a" * CHUNK_BYTES, b"rest")
    file = await stored(world, *chunks)
    assert (file.owner_id, file.name, file.size_bytes) == (OWNER, "notes.txt", CHUNK_BYTES + 4)
    assert file.sha256 == sha256(b"".join(chunks)).hexdigest()
    assert [await world.files.read(file.id, number) for number in (0, 1)] == list(chunks)
    with pytest.raises(FileNotFound):
        await world.files.read(file.id, 2)
    assert await world.files.find(OWNER, [file.id, uuid4()]) == {file.id: file}
    assert await world.files.sent_forms([file.id, uuid4()]) == {file.id: SentForm("text/plain", CHUNK_BYTES + 4)}
    with pytest.raises(FileNotFound):
        await world.files.rendition(file.id)


async def test_a_chunk_and_the_end_of_an_upload_may_be_repeated(world: World) -> None:
    file_id = await world.files.begin(OWNER, "n", size_bytes=5, bytes_max=0)
    for _ in range(2):
        await world.files.append(file_id, 0, b"bytes")
    ends = [await world.files.finish(file_id, media_type="text/plain", size_bytes=5, sha256="00" * 32) for _ in "12"]
    assert ends[0].id == ends[1].id
    assert await world.files.used_bytes(OWNER) == 5


async def test_a_rendition_is_what_a_model_is_sent(world: World) -> None:
    file = await stored(world, b"image", rendition=Rendition("image/jpeg", b"smaller"))
    assert await world.files.sent_forms([file.id]) == {file.id: SentForm("image/jpeg", 7, True)}
    assert await world.files.rendition(file.id) == b"smaller"
    assert await world.files.read(file.id, 0) == b"image"


async def test_an_unfinished_upload_is_no_file_but_counts(world: World) -> None:
    file_id = await world.files.begin(OWNER, "n", size_bytes=70, bytes_max=100)
    await world.files.append(file_id, 0, b"x")
    assert await world.files.find(OWNER, [file_id]) == {}
    assert await world.files.list(OWNER, limit=10, after=None) == ()
    assert await world.files.sent_forms([file_id]) == {}
    assert await world.files.used_bytes(OWNER) == 70
    with pytest.raises(FileNotFound):
        await world.files.delete(OWNER, file_id)
    with pytest.raises(FilesFull):
        await world.files.begin(OWNER, "n", size_bytes=31, bytes_max=100)
    await world.files.begin(STRANGER, "n", size_bytes=100, bytes_max=100)
    await world.files.discard(file_id)
    assert await world.files.used_bytes(OWNER) == 0
    with pytest.raises(FileNotFound):
        await world.files.append(file_id, 1, b"x")
    with pytest.raises(FileNotFound):
        await world.files.finish(file_id, media_type="text/plain", size_bytes=1, sha256="00" * 32)


async def test_a_finished_file_is_not_discarded(world: World) -> None:
    file = await stored(world)
    await world.files.discard(file.id)
    assert await world.files.find(OWNER, [file.id]) == {file.id: file}


async def test_files_are_listed_page_by_page_the_newest_first(world: World) -> None:
    files = [await stored(world, b"%d" % number) for number in range(5)]
    await stored(world, owner_id=STRANGER)
    listed: list[StoredFile] = []
    while page := await world.files.list(OWNER, limit=2, after=listed[-1].id if listed else None):
        listed += page
    assert {file.id for file in listed} == {file.id for file in files}
    assert len(listed) == 5
    assert listed == sorted(listed, key=lambda file: (file.created_at, file.id), reverse=True)
    with pytest.raises(FileNotFound):
        await world.files.list(OWNER, limit=2, after=uuid4())


async def test_nobody_has_the_file_of_another(world: World) -> None:
    """P9."""
    file = await stored(world)
    assert await world.files.find(STRANGER, [file.id]) == {}
    assert await world.files.list(STRANGER, limit=10, after=None) == ()
    with pytest.raises(FileNotFound):
        await world.files.delete(STRANGER, file.id)
    chat_id = (await world.create(owner_id=STRANGER)).chat.id
    with pytest.raises(FileNotFound):
        await world.store.apply(chat_id, Send(with_files(file)), owner_id=STRANGER)
    with pytest.raises(FileNotFound):
        await world.create(NewMessage(Role.USER, with_files(file)), owner_id=STRANGER)
    assert await world.history(chat_id) == ()


# --- files of chats ---------------------------------------------------------------------------


async def test_a_file_that_a_chat_has_cannot_be_deleted(world: World) -> None:
    first, second, third = [await stored(world) for _ in range(3)]
    chat_id = (await world.create(NewMessage(Role.USER, with_files(first)))).chat.id
    queued = (await send(world, chat_id, second)).queued
    assert queued is not None
    assert files_in(queued.parts) == (second.id,)
    assert files_in((await world.history(chat_id))[0].parts) == (first.id,)
    assert await is_held(world, first)
    assert await is_held(world, second)
    assert not await is_held(world, third)
    with pytest.raises(FileNotFound):
        await send(world, chat_id, third)


async def test_a_file_that_is_gone_leaves_the_chat_as_it_was(world: World) -> None:
    chat = (await world.create()).chat
    with pytest.raises(FileNotFound):
        await send(world, chat.id, uuid4())
    assert (await world.store.get(chat.id)).snapshot_version == chat.snapshot_version


async def test_a_file_stays_with_its_message_from_the_queue_into_history(world: World) -> None:
    file = await stored(world)
    chat_id = await world.chat()
    await send(world, chat_id, file)
    claimed = await world.claim()
    outcome = await world.store.commit(fence_of(claimed.chat), FinishTurn(()), known=claimed.chat)
    assert files_in(outcome.messages[-1].parts) == (file.id,)
    assert await is_held(world, file)


async def test_a_file_is_free_again_once_its_message_is_gone(world: World) -> None:
    edited, replaced, deleted, kept = [await stored(world) for _ in range(4)]
    chat_id = (await world.create(NewMessage(Role.USER, with_files(edited, kept)))).chat.id
    queued = [(await send(world, chat_id, file)).queued for file in (replaced, deleted)]
    assert queued[0] is not None
    assert queued[1] is not None
    await world.store.apply(chat_id, EditQueued(queued[0].id, with_files(kept)), owner_id=OWNER)
    await world.store.apply(chat_id, DeleteQueued(queued[1].id), owner_id=OWNER)
    assert not await is_held(world, replaced)
    assert not await is_held(world, deleted)
    (first,) = await world.history(chat_id)
    await world.store.apply(chat_id, Edit(first.id, with_files(kept)), owner_id=OWNER)
    assert not await is_held(world, edited)
    assert await is_held(world, kept)


async def test_the_files_of_a_deleted_chat_are_free(world: World) -> None:
    file = await stored(world)
    chat_id = (await world.create()).chat.id
    await send(world, chat_id, file)
    claimed = await world.claim()
    await world.store.commit(fence_of(claimed.chat), FinishTurn(()))
    assert await is_held(world, file)
    await world.store.delete(chat_id, owner_id=OWNER)
    assert not await is_held(world, file)


async def test_a_queued_message_that_is_promoted_keeps_its_files(world: World) -> None:
    file = await stored(world)
    chat_id = await world.chat()
    queued = (await send(world, chat_id, file)).queued
    assert queued is not None
    await world.store.apply(chat_id, Promote(queued.id), owner_id=OWNER)
    assert await is_held(world, file)


async def test_a_chat_has_so_many_files_and_no_more(world: World) -> None:
    files = [await stored(world) for _ in range(CHAT_FILES_MAX)]
    one_more = await stored(world)
    chat_id = (await world.create()).chat.id
    sent = await send(world, chat_id, *files)
    await send(world, chat_id, files[0], files[0])
    version = (await world.store.get(chat_id)).snapshot_version
    with pytest.raises(TooManyFiles):
        await send(world, chat_id, one_more)
    assert (await world.store.get(chat_id)).snapshot_version == version
    assert sent.message is not None
    await world.store.apply(chat_id, Edit(sent.message.id, with_files(*files[1:], one_more)), owner_id=OWNER)
    assert not await is_held(world, files[0])
