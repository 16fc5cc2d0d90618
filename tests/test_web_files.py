"""The routes of files as a caller sees them: upload, download, sending one along, and what is refused."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from time import process_time
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import trio
from PIL import Image
from test_web_api import create
from web_world import World, client_of, connect, error_code, read_until, serving

from chatcluster.client import ApiError, Client, file_part
from chatcluster.images import SIDE_PIXELS_MAX
from chatcluster.ports.files import CHUNK_BYTES
from chatcluster.uploads import clean_name

Json = dict[str, Any]

PDF = b"%PDF-1.7\nnothing to see\n%%EOF\n"
FILES = "/api/v1/files"
NO_FILE = str(UUID(int=1))


def picture(side: int, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((side, side)).convert("RGB").save(out, form)
    return out.getvalue()


async def upload(client: httpx.AsyncClient, data: bytes | AsyncIterator[bytes], name: str | None = "a.txt") -> Json:
    response = await client.post(FILES, content=data, params={} if name is None else {"name": name})
    assert response.status_code == 201, response.text
    answer: Json = response.json()
    return answer


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 50_000):
        yield data[start : start + 50_000]


# --- upload and download ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (picture(4), "image/png"),
        (picture(4, "JPEG"), "image/jpeg"),
        (picture(4, "GIF"), "image/gif"),
        (picture(4, "WEBP"), "image/webp"),
        (PDF, "application/pdf"),
        (b"\xef\xbb\xbfmark first\n" + PDF, "application/pdf"),
        ("# Zeile\r\n\tä 🙂\n".encode(), "text/plain"),
        (b"<html><script>alert(1)</script>", "text/plain"),
        (b"A file that begins with %PDF-1.7 is one.\n", "text/plain"),
        (b"\0\1junk" + PDF, "application/pdf"),
    ],
    ids=str,
)
async def test_what_a_file_is_its_bytes_tell(data: bytes, media_type: str) -> None:
    async with client_of(World()) as client:
        response = await client.post(FILES, content=data, headers={"Content-Type": "application/zip"})
        assert response.status_code == 201
        file = response.json()
        assert file["media_type"] == media_type
        got = await client.get(f"{FILES}/{file['id']}")
        assert got.content == data
        assert got.headers["content-type"] == media_type + "; charset=utf-8" * (media_type == "text/plain")


async def test_a_file_is_given_back_as_a_download_and_never_shown() -> None:
    data = b"x" * (2 * CHUNK_BYTES + 1)
    async with client_of(World()) as client:
        file = await upload(client, pieces(data), "Bericht «ä».txt")
        assert file["name"] == "Bericht «ä».txt"
        assert (file["size_bytes"], file["sha256"]) == (len(data), sha256(data).hexdigest())
        got = await client.get(f"{FILES}/{file['id']}")
        assert got.content == data
        assert got.headers["content-length"] == str(len(data))
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert got.headers["content-disposition"] == "attachment; filename*=UTF-8''Bericht%20%C2%AB%C3%A4%C2%BB.txt"
        assert (await client.get(f"{FILES}/{file['id']}/metadata")).json() == file


async def test_the_head_of_a_file_is_told_without_it() -> None:
    async with client_of(World()) as client:
        address = f"{FILES}/{(await upload(client, b'x' * 5000))['id']}"
        got, head = await client.get(address), await client.head(address)
        assert (head.status_code, head.content) == (200, b"")
        assert (head.headers["content-length"], head.headers["etag"]) == ("5000", got.headers["etag"])
        assert head.headers["content-disposition"] == got.headers["content-disposition"]
        assert (await client.head(f"{FILES}/{NO_FILE}")).status_code == 404


@pytest.mark.parametrize(
    ("known", "status"), [("{}", 304), ("W/{}", 304), ('"x", {}', 304), ("*", 304), ('"x"', 200), ("", 200)]
)
async def test_who_has_a_file_is_not_sent_it_again(known: str, status: int) -> None:
    async with client_of(World()) as client:
        address = f"{FILES}/{(await upload(client, b'hello'))['id']}"
        tag = (await client.get(address)).headers["etag"]
        for method in ("GET", "HEAD"):
            again = await client.request(method, address, headers={"If-None-Match": known.format(tag)})
            assert (again.status_code, again.headers["etag"]) == (status, tag)
            assert again.content == (b"hello" if (method, status) == ("GET", 200) else b"")


@pytest.mark.parametrize(
    ("headers", "query", "name"),
    [
        ({}, {"name": "/etc/../passwd"}, "passwd"),
        ({}, {"name": "C:\\a\\b.txt"}, "b.txt"),
        ({}, {"name": "\u202ea\tb\n"}, "ab"),
        ({}, {"name": "x" * 300}, "x" * 200),
        ({}, {"name": " \u200b/"}, "file"),
        ({}, {"name": "../.."}, "file"),
        ({}, {}, "file"),
        ({"Content-Disposition": 'attachment; filename="plan b.md"'}, {}, "plan b.md"),
        ({"Content-Disposition": "attachment; filename*=UTF-8''%C3%A4.md"}, {}, "ä.md"),
        ({"Content-Disposition": 'attachment; filename="no"'}, {"name": "yes"}, "yes"),
    ],
)
async def test_a_name_is_cleaned(headers: dict[str, str], query: dict[str, str], name: str) -> None:
    async with client_of(World()) as client:
        response = await client.post(FILES, content=b"text", headers=headers, params=query)
        assert response.json()["name"] == name


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("a" * 1_000_000, "a" * 200),
        ("/" * 1_000_000, "file"),
        ("\u00e9" * 1_000_000, "\u00e9" * 200),
        ("\u200b" * 1_000_000 + "a", "file"),
        ("a/" * 500_000 + "b", "b"),
    ],
    ids=["long", "folders", "long and not ASCII", "invisible", "deep"],
)
def test_p10_a_name_is_cleaned_in_no_time_however_long_it_is(name: str, cleaned: str) -> None:
    """The field of a front door's message has as much room as its body. One of these took an hour of the loop."""
    began = process_time()
    assert clean_name(name) == cleaned
    assert process_time() - began < 2.0


async def test_p10_a_disposition_that_is_too_long_to_be_looked_at_is_refused() -> None:
    async with client_of(World()) as client:
        headers = {"Content-Disposition": 'attachment; filename="' + ";" * 5000}
        response = await client.post(FILES, content=b"text", headers=headers)
        assert (response.status_code, error_code(response)) == (400, "invalid_request")
        assert "?name=" in response.text


async def test_an_image_is_made_fit_for_models_when_it_comes_in() -> None:
    world = World()
    async with client_of(world) as client:
        large, small = await upload(client, picture(SIDE_PIXELS_MAX + 100)), await upload(client, picture(8))
    forms = await world.files.sent_forms([UUID(large["id"]), UUID(small["id"])])
    assert forms[UUID(large["id"])].is_rendition
    assert not forms[UUID(small["id"])].is_rendition
    with Image.open(io.BytesIO(await world.files.rendition(UUID(large["id"])))) as image:
        assert max(image.size) == SIDE_PIXELS_MAX


@pytest.mark.parametrize(
    "data",
    [b"PK\x03\x04" + bytes(100), b"\x7fELF" + bytes(3000), b"\xff\xfea\0b\0", b"text\0", picture(64)[:100], b"GIF89a"],
    ids=["zip", "program", "UTF-16", "NUL", "half an image", "no image"],
)
async def test_what_is_no_such_file_is_refused_and_leaves_nothing(data: bytes) -> None:
    world = World()
    async with client_of(world) as client:
        response = await client.post(FILES, content=data)
        assert (response.status_code, error_code(response)) == (415, "unsupported_file")
        assert world.database.kept.files == {}


async def test_an_empty_file_and_a_form_are_refused() -> None:
    async with client_of(World()) as client:
        assert error_code(await client.post(FILES, content=b"")) == "invalid_request"
        response = await client.post(FILES, files={"file": b"text"})
        assert (response.status_code, error_code(response)) == (415, "unsupported_media_type")


async def test_a_file_as_large_as_may_be_is_taken_and_a_larger_one_not_however_it_is_sent() -> None:
    world = World(file_bytes_max=100_000)
    async with client_of(world) as client:
        await upload(client, b"x" * 100_000)
        for data in (b"x" * 100_001, pieces(b"x" * 100_001), pieces(b"\\u0041" * 20_000)):
            response = await client.post(FILES, content=data)
            assert (response.status_code, error_code(response)) == (413, "request_too_large")
        assert len(world.database.kept.files) == 1


@pytest.mark.parametrize("path", [f"{FILES}/", "//api/v1//files"])
async def test_an_upload_has_its_own_limits_however_its_address_is_written(path: str) -> None:
    world = World(body_bytes_max=1024, file_bytes_max=100_000)
    async with client_of(world) as client:
        response = await client.post(f"{str(client.base_url).rstrip('/')}{path}", content=b"x" * 100_000)
        assert response.status_code == 201, response.text


async def test_a_users_files_have_so_much_room_and_no_more() -> None:
    world = World(user_files_bytes_max=1000)
    async with client_of(world) as client:
        file = await upload(client, b"x" * 600)
        response = await client.post(FILES, content=b"x" * 401)
        assert (response.status_code, error_code(response)) == (409, "files_full")
        assert response.json()["error"]["used_bytes"] == 600
        listed = (await client.get(FILES)).json()
        assert (listed["used_bytes"], listed["bytes_max"], listed["has_more"]) == (600, 1000, False)
        assert listed["file_bytes_max"] == world.settings.sizes.file_bytes_max
        assert listed["files"] == [file]
        assert (await client.delete(f"{FILES}/{file['id']}")).status_code == 204
        await upload(client, b"x" * 1000)


async def test_an_upload_that_breaks_off_leaves_nothing() -> None:
    world = World()
    async with client_of(world) as client, await connect(world.url) as stream:
        head = f"POST {FILES} HTTP/1.1\r\nHost: x\r\n{_authorization(client)}Content-Length: 500000\r\n\r\n"
        await stream.send_all(head.encode() + b"x" * 400_000)
        with trio.fail_after(60):
            while not any(row.chunks for row in world.database.kept.files.values()):
                await trio.lowlevel.checkpoint()
            await stream.aclose()
            while world.database.kept.files:
                await trio.lowlevel.checkpoint()


async def test_an_answer_whose_bytes_are_gone_is_broken_off() -> None:
    world = World()
    async with client_of(world) as client, await connect(world.url) as stream:
        file = await upload(client, b"x" * (CHUNK_BYTES + 10))
        del world.database.kept.files[UUID(file["id"])].chunks[1]
        await stream.send_all(f"GET {FILES}/{file['id']} HTTP/1.1\r\nHost: x\r\n{_authorization(client)}\r\n".encode())
        received = await read_until(stream, b"\r\n\r\n")
        with trio.fail_after(60):
            while piece := await stream.receive_some(65536):
                received += piece
        assert len(received.partition(b"\r\n\r\n")[2]) == CHUNK_BYTES


def _authorization(client: httpx.AsyncClient) -> str:
    return f"Authorization: {client.headers['authorization']}\r\n"


async def test_another_users_file_is_not_found_like_one_that_is_none() -> None:
    """P9."""
    world = World()
    async with client_of(world) as client, world.client(await world.token("eve")) as stranger:
        file = await upload(client, b"text")
        chat = await create(stranger)
        for file_id in (file["id"], str(uuid4()), "no ID"):
            answers = [
                await stranger.get(f"{FILES}/{file_id}"),
                await stranger.get(f"{FILES}/{file_id}/metadata"),
                await stranger.delete(f"{FILES}/{file_id}"),
                await stranger.get(FILES, params={"after": file_id}),
                await stranger.post("/api/v1/chats", json={"content": [{"type": "file", "file_id": file_id}]}),
                await stranger.post(
                    f"/api/v1/chats/{chat['id']}/messages", json={"content": [{"type": "file", "file_id": file_id}]}
                ),
            ]
            assert {(answer.status_code, error_code(answer)) for answer in answers} == {(404, "file_not_found")}
        assert (await stranger.get(FILES)).json()["files"] == []
        assert (await client.get(f"{FILES}/{file['id']}")).content == b"text"


# --- in messages ------------------------------------------------------------------------------


async def test_a_file_is_sent_along_and_cannot_be_deleted_under_its_chat() -> None:
    async with client_of(World()) as client:
        file = await upload(client, PDF, "plan.pdf")
        content = [{"type": "text", "text": "sum it up"}, {"type": "file", "file_id": file["id"]}]
        chat = await create(client, content=content)
        assert chat["title"] == "sum it up"
        (message,) = (await client.get(f"/api/v1/chats/{chat['id']}/messages")).json()["messages"]
        shown = {"type": "file", "file_id": file["id"], "name": "plan.pdf", "media_type": "application/pdf"}
        assert message["parts"] == [content[0], shown | {"size_bytes": len(PDF)}]
        response = await client.delete(f"{FILES}/{file['id']}")
        assert (response.status_code, error_code(response)) == (409, "file_in_use")


async def test_a_file_alone_is_a_message_and_names_its_chat() -> None:
    async with client_of(World()) as client:
        file = await upload(client, PDF, "plan b.pdf")
        chat = await create(client, content=[{"type": "file", "file_id": file["id"]}])
        assert chat["title"] == "plan b.pdf"


async def test_edits_and_queued_messages_may_have_files() -> None:
    async with client_of(World()) as client:
        file = await upload(client, b"text")
        content = [{"type": "file", "file_id": file["id"]}]
        chat = await create(client)
        path = f"/api/v1/chats/{chat['id']}"
        queued = (await client.post(f"{path}/messages", json={"content": content})).json()["queued"]
        assert queued["parts"][0]["file_id"] == file["id"]
        changed = await client.patch(f"{path}/queue/{queued['id']}", json={"content": content})
        assert changed.json()["queued"]["parts"][0]["file_id"] == file["id"]
        (message,) = (await client.get(f"{path}/messages")).json()["messages"]
        edited = await client.patch(f"{path}/messages/{message['id']}", json={"content": content})
        assert edited.json()["message"]["parts"][0]["file_id"] == file["id"]


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "file"}],
        [{"type": "file", "file_id": 1}],
        [{"type": "file", "file_id": NO_FILE, "name": "x"}],
        [{"type": "file_id", "file_id": NO_FILE}],
    ],
    ids=str,
)
async def test_a_malformed_file_part_is_an_invalid_request(content: list[Json]) -> None:
    async with client_of(World()) as client:
        response = await client.post("/api/v1/chats", json={"content": content})
        assert (response.status_code, error_code(response)) == (400, "invalid_request")


# --- the Python client ------------------------------------------------------------------------


async def test_the_client_uploads_lists_downloads_and_deletes(tmp_path: Path) -> None:
    world = World()
    path = tmp_path / "plan.pdf"
    path.write_bytes(PDF)
    async with serving(world), Client(world.url, await world.token()) as client:
        file = await client.upload(path)
        assert (file["name"], file["media_type"]) == ("plan.pdf", "application/pdf")
        assert (await client.upload(b"text", "ä b.txt"))["name"] == "ä b.txt"
        assert await client.file(file["id"]) == file
        assert [one["name"] for one in (await client.files(limit=10))["files"]] == ["ä b.txt", "plan.pdf"]
        assert await client.download(file["id"]) == PDF
        chat = await client.create([file_part(file), {"type": "text", "text": "sum it up"}])
        with pytest.raises(ApiError) as refused:
            await client.delete_file(file["id"])
        assert refused.value.code == "file_in_use"
        assert (await client.history(chat["id"]))[0]["parts"][0]["file_id"] == file["id"]
        for one in (await client.files())["files"]:
            if one["id"] != file["id"]:
                await client.delete_file(one["id"])
        assert [one["id"] for one in (await client.files())["files"]] == [file["id"]]
