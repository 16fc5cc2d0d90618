"""Images and files that come within the requests of other people's clients: stored as the user's, and shown again."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from test_web_files import PDF, picture, upload
from web_world import World, client_of

from chatcluster.config import Settings
from chatcluster.content import FilePart, ImagePart, TextPart, ToolResultPart
from chatcluster.parts import Role
from chatcluster.ports.files import CHUNK_BYTES

Json = dict[str, Any]
Ask = Callable[[str], tuple[str, Json]]

LARGE = b"line of a text\n" * 60_000
"""More than two chunks."""
SMALL, PICTURE = b"a note", picture(600)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def url_of(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64_of(data)}"


def responses(*content: Json, **more: Any) -> tuple[str, Json]:
    return "/v1/responses", {"background": True, "input": [{"role": "user", "content": list(content)}], **more}


def input_image(url: str) -> tuple[str, Json]:
    return responses({"type": "input_image", "image_url": url, "detail": "auto"})


def input_file(url: str) -> tuple[str, Json]:
    return responses({"type": "input_file", "file_data": url})


def ai_sdk(url: str) -> tuple[str, Json]:
    parts = [{"type": "file", "mediaType": "image/png", "url": url}]
    return "/api/ai/chat", {"id": "mine", "messages": [{"id": "m1", "role": "user", "parts": parts}]}


def ag_ui(url: str) -> tuple[str, Json]:
    source = {"type": "data", "value": url.partition(",")[2], "mimeType": "image/png"}
    if not url.startswith("data:"):
        source = {"type": "url", "value": url}
    content = [{"type": "image", "source": source}]
    message = {"id": "m1", "role": "user", "content": content}
    return "/api/agui", {"threadId": "mine", "runId": "r1", "messages": [message]}


def completion(url: str) -> tuple[str, Json]:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    return "/v1/chat/completions", {"stream": True, "messages": [{"role": "user", "content": content}]}


def conversation(url: str) -> tuple[str, Json]:
    content = [{"type": "input_image", "image_url": url}]
    return "/v1/conversations", {"items": [{"role": "user", "content": content}]}


DOORS: list[Ask] = [input_image, input_file, completion, conversation, ai_sdk, ag_ui]


async def begin(client: httpx.AsyncClient, path: str, body: Json | bytes, key: str | None = None) -> httpx.Response:
    """Ask, and leave as soon as it has begun."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **({} if key is None else {"Idempotency-Key": key})}
    asked = client.stream("POST", path, content=content, headers=headers)
    async with asked as response:
        if response.status_code != 200 or "event-stream" not in response.headers["content-type"]:
            await response.aread()
    return response


def files_asked(world: World) -> list[FilePart]:
    """Those of the users' messages of all chats."""
    rows = world.database.chats.values()
    said = [one for row in rows for one in row.messages if one.role is Role.USER]
    return [part for one in said for part in one.parts if isinstance(part, FilePart)]


async def bytes_of(client: httpx.AsyncClient, file: FilePart) -> bytes:
    return (await client.get(f"/api/v1/files/{file.file_id}")).content


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("data", [picture(4), picture(600, "PNG") + b"\0" * 300_000], ids=["small", "large"])
async def test_an_image_in_a_message_is_a_file_of_its_user(door: Ask, data: bytes) -> None:
    world = World()
    async with client_of(world) as client:
        response = await begin(client, *door(url_of(data, "image/png")))
        assert response.status_code == 200, response.text
        (file,) = files_asked(world)
        assert (file.media_type, file.size_bytes) == ("image/png", len(data))
        assert await bytes_of(client, file) == data


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
async def test_an_address_elsewhere_is_refused_with_what_to_do(door: Ask) -> None:
    world = World()
    async with client_of(world) as client:
        before = world.written()
        response = await begin(client, *door("https://example.com/cat.png"))
        assert response.status_code == 400
        assert "data URL" in response.json()["error"]["message"]
        assert world.written() == before


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("length", [30, 40_000])
async def test_what_is_no_base64_or_no_image_is_refused_and_leaves_nothing(door: Ask, length: int) -> None:
    world = World()
    async with client_of(world) as client:
        before = world.written()
        for wrong, status in ((url_of(b"\x07\0" * length, "image/png"), 415), ("data:image/png;base64,*", 400)):
            response = await begin(client, *door(wrong if status == 415 else f"{wrong[:-1]}{'A' * length}*"))
            assert response.status_code == status, response.text
        assert world.written() == before
        assert (await client.get("/api/v1/files")).json()["used_bytes"] == 0


async def test_files_of_a_response_are_named_by_their_sender_and_shown_again() -> None:
    world = World()
    async with client_of(world) as client:
        mine = await upload(client, b"# mine", "mine.md")
        asked = responses(
            {"type": "input_text", "text": "look"},
            {"type": "input_file", "filename": "a/report.pdf", "file_data": url_of(PDF, "application/pdf")},
            {"type": "input_file", "file_data": base64_of(LARGE), "filename": "notes.txt"},
            {"type": "input_file", "file_id": mine["id"]},
            {"type": "input_image", "image_url": url_of(PICTURE, "image/png")},
        )
        made = (await begin(client, *asked)).json()
        (item,) = (await client.get(f"/v1/responses/{made['id']}/input_items")).json()["data"]
        text, pdf, notes, named, image = item["content"]
        assert text == {"type": "input_text", "text": "look"}
        assert [one["filename"] for one in (pdf, notes, named)] == ["report.pdf", "notes.txt", "mine.md"]
        assert (image["type"], image["detail"]) == ("input_image", "auto")
        found = [(await client.get(f"/api/v1/files/{one['file_id']}")).content for one in (pdf, notes, named, image)]
        assert found == [PDF, LARGE, b"# mine", PICTURE]


async def test_a_file_of_a_chat_completion_comes_as_its_bytes_or_its_id() -> None:
    world = World()
    async with client_of(world) as client:
        mine = await upload(client, SMALL, "note.txt")
        files = [{"file_data": url_of(PDF, "application/pdf"), "filename": "a.pdf"}, {"file_id": mine["id"]}]
        content = [{"type": "file", "file": file} for file in files]
        response = await begin(
            client, "/v1/chat/completions", {"stream": True, "messages": [{"role": "user", "content": content}]}
        )
        assert response.status_code == 200
        assert [(file.name, file.size_bytes) for file in files_asked(world)] == [("a.pdf", len(PDF)), ("note.txt", 6)]


async def test_p9_a_file_of_somebody_else_is_not_there() -> None:
    world = World()
    async with client_of(world) as client, world.client(await world.token("eve")) as eve:
        mine = (await upload(client, SMALL))["id"]
        before = world.written()
        for path, body in (
            responses({"type": "input_file", "file_id": mine}),
            input_image(f"/api/v1/files/{mine}"),
            ai_sdk(f"/api/v1/files/{mine}"),
            ag_ui(f"/api/v1/files/{mine}"),
        ):
            response = await begin(eve, path, body)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "file_not_found")
        assert world.written() == before


async def test_what_is_sent_again_is_stored_once() -> None:
    """Clients send the whole history each time, and repeat what failed."""
    world = World()
    async with client_of(world) as client:
        for _ in range(3):
            path, body = completion(url_of(PICTURE, "image/png"))
            assert (await begin(client, path, body)).status_code == 200
        first, *others = {file.file_id for file in files_asked(world)}
        assert not others
        assert (await client.get("/api/v1/files")).json()["used_bytes"] == len(PICTURE)
        assert (await client.delete(f"/api/v1/files/{first}")).json()["error"]["code"] == "file_in_use"


async def test_p1_a_repeat_with_its_key_finds_the_turn_that_had_the_file() -> None:
    async with client_of(World()) as client:
        asked = input_image(url_of(PICTURE, "image/png"))
        first, again = [(await begin(client, *asked, key="once")).json() for _ in range(2)]
        assert first["id"] == again["id"]
        path, other = input_image(url_of(picture(601), "image/png"))
        refused = await begin(client, path, other, key="once")
        assert refused.status_code == 409


@pytest.mark.parametrize("size", [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 20_000, 12_288, 16 << 10])
async def test_a_file_is_the_same_however_its_base64_is_written(size: int) -> None:
    world = World()
    data = (bytes(range(97, 123)) * (size // 26 + 1))[:size]
    text = base64_of(data)
    lines = "\\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    written = [text, text.rstrip("="), text.replace("+", "-").replace("/", "_"), text.replace("/", "\\/"), lines]
    async with client_of(world) as client:
        for one in written:
            body = '{"background":true,"input":[{"role":"user","content":[{"type":"input_file","file_data" : "%s"}]}]}'
            response = await begin(client, "/v1/responses", (body % one).encode())
            assert response.status_code == 200, response.text
        assert {file.size_bytes for file in files_asked(world)} == {size}
        assert [await bytes_of(client, file) for file in files_asked(world)] == [data] * len(written)


async def test_a_body_that_comes_in_small_pieces_is_the_same() -> None:
    world = World()
    path, body = responses(
        {"type": "input_image", "image_url": url_of(PICTURE, "image/png")},
        {"type": "input_text", "text": 'it says "file_data":"' + "A" * 20_000},
    )
    whole = json.dumps(body).encode()

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(whole), size):
            yield whole[start : start + size]

    async with client_of(world) as client:
        for size in (97, 1000, 65_536):
            headers = {"Content-Type": "application/json"}
            assert (await client.post(path, content=pieces(size), headers=headers)).status_code == 200
        assert len({file.file_id for file in files_asked(world)}) == 1
        items = [one.parts for row in world.database.chats.values() for one in row.messages]
        assert len({parts[-1] for parts in items}) == 1, "a text that looks like a file is a text"


async def test_files_count_by_themselves_and_the_rest_of_a_body_as_always() -> None:
    world = World()
    world.settings = Settings.of(body_bytes_max=50_000, file_bytes_max=1 << 20, user_files_bytes_max=2 << 20)
    async with client_of(world) as client:
        assert (await begin(client, *input_file(url_of(LARGE, "text/plain")))).status_code == 200
        too_long = responses({"type": "input_text", "text": "x" * 50_000})
        assert (await begin(client, *too_long)).status_code == 413
        too_large = await begin(client, *input_file(url_of(b"x" * ((1 << 20) + 1), "text/plain")))
        assert (too_large.status_code, too_large.json()["error"]["code"]) == (413, "request_too_large")
        parts = [{"type": "input_file", "file_data": url_of(b"%d" % n * 700_000, "text/plain")} for n in range(3)]
        full = await begin(client, *responses(*parts))
        assert (full.status_code, full.json()["error"]["code"]) == (409, "files_full")
        assert full.headers["x-should-retry"] == "false"


async def test_there_is_room_for_files_where_an_address_has_two_slashes() -> None:
    """As of a client whose base URL ends with one."""
    world = World()
    world.settings = Settings.of(body_bytes_max=20_000, file_bytes_max=1 << 20, user_files_bytes_max=2 << 20)
    async with client_of(world) as client:
        path, body = input_file(url_of(LARGE, "text/plain"))
        assert len(json.dumps(body)) > 6 * 20_000
        assert (await begin(client, path.replace("/v1/", "/v1//"), body)).status_code == 200


async def test_what_a_tool_of_the_page_gives_is_no_file() -> None:
    """The AI SDK's client sends values of its own under the same names."""
    world = World()
    async with client_of(world) as client:
        path, body = ai_sdk(url_of(SMALL, "text/plain"))
        assert (await begin(client, path, body)).status_code == 200
        shot = {"url": url_of(PICTURE, "image/png")}
        part = {"type": "dynamic-tool", "toolCallId": "c1", "state": "output-available", "output": shot}
        answer = {"id": "a1", "role": "assistant", "parts": [part]}
        response = await begin(client, path, {"id": "mine", "message": answer})
        assert response.json()["error"]["message"] == "there is no call here that this chat made"


@pytest.mark.parametrize("data", [picture(4), picture(200, "PNG") + b"\0" * 40_000], ids=["small", "large"])
async def test_an_image_that_a_function_gives_is_part_of_its_result(data: bytes) -> None:
    world = World()
    async with client_of(world) as client:
        image = {"type": "input_image", "image_url": url_of(data, "image/png")}
        output: list[Json] = [{"type": "input_text", "text": "a"}, image]
        called = {"call_id": "call_1", "type": "function_call", "name": "look", "arguments": "{}"}
        given: Json = {"call_id": "call_1", "type": "function_call_output", "output": output}
        items: list[Json] = [{"role": "user", "content": "look"}, called, given]
        made = await client.post("/v1/responses", json={"background": True, "input": items})
        assert made.status_code == 200, made.text
        (row,) = world.database.chats.values()
        (result,) = [part for one in row.messages for part in one.parts if isinstance(part, ToolResultPart)]
        assert [type(piece) for piece in result.content] == [TextPart, ImagePart]
        listed = (await client.get(f"/v1/responses/{made.json()['id']}/input_items?order=asc")).json()["data"]
        assert [one["type"] for one in listed[-1]["output"]] == ["input_text", "input_image"]
        wrong = {**image, "image_url": "https://example.com/cat.png"}
        given["output"] = [wrong]
        refused = await client.post("/v1/responses", json={"background": True, "input": items})
        assert (refused.status_code, "data URL" in refused.text) == (400, True)
