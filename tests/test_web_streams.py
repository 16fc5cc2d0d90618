"""Event streams as the API gives them out; what is in them is the feeds' business."""

from __future__ import annotations

import httpx
import pytest
import trio
from web_world import World, client_of, read_until, serving, until_broken_off, watching

from chatcluster.errors import StoreUnavailable
from chatcluster.parts import BEGINNING, Cursor, Position
from chatcluster.subscriber import Cut


async def chat_id(client: httpx.AsyncClient) -> str:
    return str((await client.post("/api/v1/chats", json={"content": "hello"})).json()["id"])


async def test_what_is_pending_arrives_as_it_is_in_one_piece() -> None:
    world = World()
    async with client_of(world) as client:
        path = f"/api/v1/chats/{await chat_id(client)}/stream"
        async with watching(world, path, token=await world.token()) as stream:
            reader = await world.feeds.next_reader()
            for event in (b"id: 1.1-0\nevent: status\ndata: {}\n\n", "data: ü\u2028\n\n".encode()):
                await reader.events.send(event)
                with trio.fail_after(60):
                    data = await read_until(stream, event)
                assert b"%x\r\n%s" % (len(event), event) in data
            assert world.feeds.cursors == [BEGINNING]


async def test_an_idle_reader_gets_heartbeats() -> None:
    world = World(sse_heartbeat_seconds=0.05)
    async with serving(world), watching(world) as stream:
        with trio.fail_after(60):
            for _ in range(2):
                await read_until(stream, b": hb\n\n\r\n")


@pytest.mark.parametrize(
    ("header", "query", "expected"),
    [
        ("", "", BEGINNING),
        ("", "7.2-5", Cursor(7, Position(2, 5))),
        ("8.2-6", "7.2-5", Cursor(8, Position(2, 6))),
        ("8.2-6.41", "", Cursor(8, Position(2, 6), 41)),
    ],
)
async def test_a_reader_resumes_at_its_last_event_id_or_else_at_its_cursor(
    header: str, query: str, expected: Cursor
) -> None:
    world = World()
    async with client_of(world) as client:
        headers = {"Last-Event-ID": header} if header else {}
        url = f"/api/v1/chats/{await chat_id(client)}/stream"
        async with client.stream("GET", url, headers=headers, params={"cursor": query}) as response:
            assert response.status_code == 200
            assert world.feeds.cursors == [expected]


@pytest.mark.parametrize("end", [Cut("slow"), StoreUnavailable("no"), RuntimeError("a bug")])
async def test_no_stream_ever_ends_like_one_that_is_complete(end: Exception) -> None:
    """P3: a client that saw a clean end would take what it has for the whole answer."""
    world = World()
    async with client_of(world) as client, client.stream("GET", "/api/v1/watch") as response:
        reader = await world.watches.next_reader()
        await reader.events.send(b"data: 1\n\n")
        await reader.events.send(end)
        assert (await until_broken_off(response)).endswith(b"data: 1\n\n")
        assert reader.left.is_set()


async def test_open_streams_are_counted_and_how_they_end() -> None:
    world = World()
    async with client_of(world) as client:
        async with client.stream("GET", "/api/v1/watch"):
            reader = await world.watches.next_reader()
            assert b'chatcluster_stream_subscribers{protocol="sse"} 1.0' in world.metrics.render()
        with trio.fail_after(60):
            await reader.left.wait()
        rendered = world.metrics.render()
        assert b'chatcluster_stream_subscribers{protocol="sse"} 0.0' in rendered
        assert b"chatcluster_stream_cuts_total{" not in rendered
