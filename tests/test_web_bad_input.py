"""Whatever comes in: a 4xx with a code, nothing written, never a 500. What types and names alone tell is in
``test_web_refusals.py``, for all routes; here is what takes a look at the meaning."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar._parsers import parse_query_string
from web_world import World, client_of, error_code, unknown_chat

from chatcluster.web.doors.openai.input_items import PARTS_MAX
from chatcluster.web.http.boundary import ADDRESS_BYTES_MAX, PARAMETERS_MAX

Json = dict[str, Any]

QUICK = settings(
    max_examples=5, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


async def refuse(
    client: httpx.AsyncClient, world: World, code: str, status: int, method: str, url: str, **options: Any
) -> None:
    """The request is refused with this code and status, and leaves no trace."""
    before, told = world.written(), len(world.notices.told)
    response = await client.request(method, url, **options)
    assert (response.status_code, error_code(response)) == (status, code), response.text
    assert world.written() == before
    assert len(world.notices.told) == told


BODIES: dict[str, bytes] = {
    "no body": b"",
    "a NUL in a part": b'{"content": [{"type": "text", "text": "\\u0000"}]}',
    "content empty": b'{"content": ""}',
    "content blank": b'{"content": " \\n\\t\\u2003"}',
    "content an empty list": b'{"content": []}',
    "content a list of blanks": b'{"content": [{"type": "text", "text": " "}]}',
    "content an object": b'{"content": {"type": "text", "text": "x"}}',
    "content a list of strings": b'{"content": ["x"]}',
    "a part that users do not write": b'{"content": [{"type": "tool_result", "call_id": "1", "content": "x"}]}',
    "a part with more fields": b'{"content": [{"type": "text", "text": "x", "role": "system"}]}',
    "too many parts": json.dumps({"content": [{"type": "text", "text": "x"}] * 1001}).encode(),
    "content of invisible characters": b'{"content": "\\u200b"}',
    "a part of invisible characters": b'{"content": [{"type": "text", "text": "\\u2060 "}]}',
}

CREATE_BODIES: dict[str, bytes] = {
    "title blank": b'{"content": "x", "title": " "}',
    "title too long": json.dumps({"content": "x", "title": "t" * 201}).encode(),
    "title with a line break": b'{"content": "x", "title": "a\\nb"}',
    "title of invisible characters": b'{"content": "x", "title": "\\u200b\\u2060"}',
    "title that turns the direction": b'{"content": "x", "title": "\\u202egpj.exe"}',
    "title with a line separator": b'{"content": "x", "title": "a\\u2028b"}',
    "model with an invisible character": b'{"content": "x", "model": "m\\u200b1"}',
    "model blank": b'{"content": "x", "model": ""}',
    "model too long": json.dumps({"content": "x", "model": "m" * 201}).encode(),
    "model with a control character": b'{"content": "x", "model": "m\\u0007"}',
}


async def test_bodies_that_no_route_takes() -> None:
    world = World()
    async with client_of(world) as client:
        chat = (await client.post("/api/v1/chats", json={"content": "hello"})).json()
        message_id = (await client.get(f"/api/v1/chats/{chat['id']}/messages")).json()["messages"][0]["id"]
        routes = [
            ("POST", "/api/v1/chats"),
            ("POST", f"/api/v1/chats/{chat['id']}/messages"),
            ("PATCH", f"/api/v1/chats/{chat['id']}/messages/{message_id}"),
        ]
        for method, url in routes:
            for body in BODIES.values():
                await refuse(client, world, "invalid_request", 400, method, url, content=body)
        for method, url in routes[1:]:  # a chat may begin without a message
            await refuse(client, world, "invalid_request", 400, method, url, content=b"{}")
        for body in CREATE_BODIES.values():
            await refuse(client, world, "invalid_request", 400, "POST", "/api/v1/chats", content=body)
        await refuse(client, world, "invalid_request", 400, "PATCH", f"/api/v1/chats/{chat['id']}", json={"title": ""})


async def test_sizes_above_the_limits() -> None:
    world = World(content_bytes_max=2048, body_bytes_max=8192)
    async with client_of(world) as client:
        for body in (
            {"content": "x" * 2049},
            {"content": "\u20ac" * 700},
            {"content": "x", "system_prompt": "x" * 2049},
        ):
            await refuse(client, world, "request_too_large", 413, "POST", "/api/v1/chats", json=body)
        await refuse(client, world, "request_too_large", 413, "POST", "/api/v1/chats", content=b"[" * 8193)
        assert (await client.post("/api/v1/chats", json={"content": "x" * 2048})).status_code == 201


async def test_a_limit_is_the_same_however_the_json_is_escaped() -> None:
    """What counts is the text that arrives, not how its JSON was written."""
    world = World(content_bytes_max=2048, body_bytes_max=4096)
    async with client_of(world) as client:

        async def status(text: str, *, escaped: bool) -> int:
            written = "".join(f"\\u{ord(character):04x}" for character in text) if escaped else text
            body = b'{"content": "%b"}' % written.encode()
            return (await client.post("/api/v1/chats", content=body)).status_code

        for character, bytes_each in (("A", 1), ("\u00e9", 2), ("\u4e2d", 3)):
            for escaped in (False, True):
                fitting = character * (2048 // bytes_each)
                assert await status(fitting, escaped=escaped) == 201, (character, escaped)
                assert await status(fitting + character, escaped=escaped) == 413, (character, escaped)
            assert await status(character * 8192, escaped=True) == 413
        backslashes = b'{"content": "%b"}' % (rb"\\u" * 20_000)
        assert (await client.post("/api/v1/chats", content=backslashes)).status_code == 413


async def test_media_types_other_than_json() -> None:
    world = World()
    async with client_of(world) as client:
        for content_type in (
            "application/x-www-form-urlencoded",
            "text/plain",
            "multipart/form-data; boundary=x",
            "\u00e9",
        ):
            await refuse(
                client, world, "unsupported_media_type", 415, "POST", "/api/v1/chats",
                content=b'{"content": "x"}', headers=[(b"content-type", content_type.encode("latin-1"))],
            )  # fmt: skip
        for content_type in ("application/json", "Application/JSON; charset=utf-8"):
            headers = {"Content-Type": content_type}
            response = await client.post("/api/v1/chats", content=b'{"content": "x"}', headers=headers)
            assert response.status_code == 201
        await refuse(
            client, world, "unsupported_media_type", 415, "POST", "/api/v1/chats",
            content=gzip.compress(b'{"content": "x"}'), headers={"Content-Encoding": "gzip"},
        )  # fmt: skip


@pytest.mark.parametrize(
    "chat_id",
    ["..", "{}", "0" * 36, "\u0661" * 8, "urn:uuid:" + "0" * 32],
)
async def test_what_cannot_be_a_chats_id_is_a_chat_that_is_not_there(chat_id: str) -> None:
    world = World()
    async with client_of(world) as client:
        for method, tail, body in (
            ("GET", "/messages", None),
            ("POST", "/messages", {"content": "x"}),
            ("POST", "/interrupt", None),
            ("POST", "/compact", None),
            ("GET", "/stream", None),
        ):
            url = f"/api/v1/chats/{quote(chat_id, safe='%')}{tail}"
            response = await client.request(method, url, json=body)
            assert response.status_code == 404, response.text
            assert error_code(response) in ("chat_not_found", "not_found")


async def test_what_cannot_be_a_messages_id_is_a_message_that_is_not_there() -> None:
    world = World()
    async with client_of(world) as client:
        chat = (await client.post("/api/v1/chats", json={"content": "hello"})).json()
        path = f"/api/v1/chats/{chat['id']}"
        for text in ("x", "-1", "1.5", "0x1", "1e3", "9" * 18, "9" * 19, "9" * 400, "%00", "\u0661"):
            url = f"{path}/messages/{text}"
            await refuse(client, world, "message_not_found", 404, "PATCH", url, json={"content": "x"})
            await refuse(client, world, "queued_message_not_found", 404, "DELETE", f"{path}/queue/{text}")
            await refuse(client, world, "queued_message_not_found", 404, "POST", f"{path}/queue/{text}/promote")


async def test_query_parameters_that_are_out_of_their_range() -> None:
    world = World()
    async with client_of(world) as client:
        chat = (await client.post("/api/v1/chats", json={"content": "hello"})).json()
        path = f"/api/v1/chats/{chat['id']}/messages"
        for query in ("limit=0", "limit=101", "limit=x", "limit=", "limit=-1", f"limit={10**30}", "archived=maybe"):
            await refuse(client, world, "invalid_request", 400, "GET", f"/api/v1/chats?{query}")
        for query in ("limit=501", "after=-1", "after=x", f"after={2**63}", "after=1.5", "after=%00"):
            await refuse(client, world, "invalid_request", 400, "GET", f"{path}?{query}")
        for query in (
            "after=1e3",
            "after=1.0",
            "limit=1e1",
            "limit=5.0",
            "limit=5&limit=5.0",
            "after=%201",
            "after=%2B1",
        ):
            await refuse(client, world, "invalid_request", 400, "GET", f"{path}?{query}")
        for after in ("x", "%00", unknown_chat()):
            await refuse(client, world, "chat_not_found", 404, "GET", f"/api/v1/chats?after={after}")


async def test_p10_what_is_read_of_items_in_one_step_is_bounded() -> None:
    world = World()
    item = {"role": "assistant", "content": [{"type": "output_text", "text": "a"}] * 100}
    async with client_of(world) as client:
        response = await client.post("/v1/responses", json={"model": "m", "input": [item] * (PARTS_MAX // 100 + 1)})
        assert response.status_code == 400
        assert str(PARTS_MAX) in response.text


async def test_p10_an_address_is_bounded_as_what_became_of_the_last_thousand_is_kept() -> None:
    """Also for those who are not signed in: 7 000 parameters took a megabyte, of each of the last thousand."""
    world = World()
    remembered = parse_query_string.cache_info().currsize
    async with client_of(world) as client:
        routes = [("POST", "/api/v1/session", {"authorization": ""}), ("GET", "/api/v1/chats", {})]
        for method, path, headers in routes:
            long, many = f"{path}?after={'x' * ADDRESS_BYTES_MAX}", f"{path}?{'a&' * PARAMETERS_MAX}"
            await refuse(client, world, "request_too_large", 413, method, long, headers=headers)
            await refuse(client, world, "invalid_request", 400, method, many, headers=headers)
        await refuse(client, world, "request_too_large", 413, "GET", f"/api/v1/chats/{'x' * ADDRESS_BYTES_MAX}")
        assert (await client.get(f"/v1/conversations/x/items?{'a&' * PARAMETERS_MAX}")).status_code == 400
        assert parse_query_string.cache_info().currsize == remembered
        query = "&".join(f"a{number}" for number in range(PARAMETERS_MAX))
        await refuse(client, world, "invalid_request", 400, "GET", f"/api/v1/chats?{query}")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "1",
        "1.1",
        "1.1-",
        "-1.1-1",
        "1.1-1.",
        "1.1-1.1.1",
        "\u0661.1-1",
        "1.1-1\x00",
        "9" * 19 + ".1-1",
        "a" * 3000,
    ],
)
async def test_a_cursor_that_this_api_never_gave_out(cursor: str) -> None:
    world = World()
    async with client_of(world) as client:
        chat = (await client.post("/api/v1/chats", json={"content": "hello"})).json()
        url = f"/api/v1/chats/{chat['id']}/stream"
        await refuse(client, world, "invalid_cursor", 400, "GET", url, params={"cursor": cursor})
        if cursor.isprintable():
            headers = [(b"last-event-id", cursor.encode())]
            await refuse(client, world, "invalid_cursor", 400, "GET", url, headers=headers)


async def test_addresses_and_methods_that_are_not_there() -> None:
    world = World()
    async with client_of(world) as client:
        for url in ("/api", "/api/v1", "/api/v1/nothing", "/api/v2/chats", "/%00", "/schema/nothing"):
            await refuse(client, world, "not_found", 404, "GET", url)
        for method, url in (
            ("PUT", "/api/v1/chats"),
            ("DELETE", "/api/v1/chats"),
            ("POST", "/livez"),
            ("PURGE", "/livez"),
        ):
            await refuse(client, world, "method_not_allowed", 405, method, url)
        allowed = (await client.put("/api/v1/chats")).headers["allow"]
        assert {"GET", "POST"} <= set(allowed.split(", "))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
fields = st.sampled_from(["content", "title", "model", "system_prompt", "busy", "archived", "x"])
bodies = st.dictionaries(fields, json_values, max_size=4).map(lambda body: json.dumps(body).encode())


def try_all(requests: Callable[[str], list[tuple[str, str, bytes | None]]]) -> None:
    """Run requests against one server; each has to be answered, with a well-formed error if with one."""

    async def main() -> None:
        world = World()
        async with client_of(world) as client:
            chat = (await client.post("/api/v1/chats", json={"content": "hello"})).json()
            for method, url, body in requests(chat["id"]):
                before = world.written()
                response = await client.request(method, url, content=body)
                assert response.status_code < 500, (method, url, body, response.text)
                if response.status_code >= 400:
                    error_code(response)
                    assert world.written() == before

    trio.run(main)


@QUICK
@given(st.lists(bodies | st.binary(max_size=40), min_size=10, max_size=20))
def test_any_body_is_taken_or_refused_but_never_an_error_of_ours(contents: list[bytes]) -> None:
    try_all(
        lambda chat_id: [
            (method, url, content)
            for content in contents
            for method, url in (
                ("POST", "/api/v1/chats"),
                ("PATCH", f"/api/v1/chats/{chat_id}"),
                ("POST", f"/api/v1/chats/{chat_id}/messages"),
                ("PATCH", f"/api/v1/chats/{chat_id}/messages/1"),
            )
        ]
    )


@QUICK
@given(st.lists(st.text(min_size=1, max_size=20), min_size=10, max_size=20))
def test_any_address_is_answered(segments: list[str]) -> None:
    quoted = [quote(segment, safe="") for segment in segments]
    try_all(
        lambda chat_id: [
            (method, url, None)
            for segment in quoted
            for method, url in (
                ("GET", f"/{segment}"),
                ("GET", f"/api/v1/chats/{segment}"),
                ("DELETE", f"/api/v1/chats/{chat_id}/queue/{segment}"),
                ("GET", f"/api/v1/chats?after={segment}&limit={segment}"),
                ("GET", f"/api/v1/chats/{chat_id}/messages?after={segment}"),
                ("GET", f"/api/v1/chats/{chat_id}/stream?cursor={segment}x"),
            )
        ]
    )
