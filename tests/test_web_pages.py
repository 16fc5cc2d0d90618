"""The built page as a browser gets it, and what does not lead to a file."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import httpx
import pytest
from web_world import World, connect, error_code, read_until, serving

from chatcluster.web.pages import CONTENT_SECURITY_POLICY, NO_PAGE, read_files

HTML = {"Accept": "text/html,*/*;q=0.8"}
SCRIPT = "console.log('x');" * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    built = tmp_path / "static"
    (built / "assets").mkdir(parents=True)
    (built / "assets" / "main-abc123.js").write_text(SCRIPT)
    (built / "icon.png").write_bytes(b"\x89PNG")
    (built / "index.html").write_text("<!doctype html><title>chatcluster</title>")
    (tmp_path / "secret.txt").write_text("secret")
    return built


def world_with(folder: Path) -> World:
    world = World()
    world.page_folder = folder
    return world


async def test_each_address_within_the_page_is_its_index_with_the_headers_that_keep_it_safe(folder: Path) -> None:
    async with serving(world_with(folder)) as world, world.client(None) as client:
        for path in ("/", "/index.html", "/chats/0198c7e2", "/sign-in", "/cluster/replicas?state=late"):
            page = await client.get(path, headers=HTML)
            assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8"), path
            assert "chatcluster" in page.text
            assert page.headers["cache-control"] == "no-cache"
            assert page.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
            assert page.headers["x-content-type-options"] == "nosniff"
            assert page.headers["referrer-policy"] == "no-referrer"
            assert page.headers["cross-origin-opener-policy"] == "same-origin"


async def test_hashed_files_are_kept_for_good_and_come_compressed_to_those_who_take_it(folder: Path) -> None:
    async with serving(world_with(folder)) as world, world.client(None) as client:
        url = "/assets/main-abc123.js"
        plain = await client.get(url, headers={"Accept-Encoding": "identity, gzip;q=0"})
        assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert plain.headers["content-type"] == "text/javascript; charset=utf-8"
        assert plain.text == SCRIPT
        assert "content-encoding" not in plain.headers
        async with client.stream("GET", url, headers={"Accept-Encoding": "br, gzip"}) as packed:
            assert packed.headers["content-encoding"] == "gzip"
            assert packed.headers["vary"] == "accept-encoding"
            raw = b"".join([piece async for piece in packed.aiter_raw()])
            assert len(raw) == int(packed.headers["content-length"]) < len(SCRIPT)
            assert gzip.decompress(raw).decode() == SCRIPT
        image = await client.get("/icon.png")
        assert image.headers["content-type"] == "image/png"
        assert "content-encoding" not in image.headers


async def test_a_head_has_the_headers_of_a_get_and_no_body(folder: Path) -> None:
    async with serving(world_with(folder)) as world, world.client(None) as client:
        got, head = await client.get("/", headers=HTML), await client.head("/", headers=HTML)
        assert head.status_code == 200
        assert head.content == b""
        for name in ("content-length", "etag", "content-type", "cache-control"):
            assert head.headers[name] == got.headers[name]
        assert (await client.get("/")).status_code == 200, "the connection is in order after a HEAD"


async def test_what_is_the_same_is_not_sent_again(folder: Path) -> None:
    async with serving(world_with(folder)) as world, world.client(None) as client:
        first = await client.get("/")
        again = await client.get("/", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await client.get("/", headers={"If-None-Match": '"other"'})).status_code == 200


async def test_a_path_leads_to_no_file_outside_and_to_no_page_within_the_api(folder: Path) -> None:
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    async with serving(world_with(folder)) as world:
        for path in (
            "/../secret.txt", "/%2e%2e/secret.txt", "/assets/../../secret.txt", "/..%2fsecret.txt", "//etc/passwd.txt",
            "/assets/%2e%2e%2f%2e%2e%2fsecret.txt", "/link.txt", "/assets/gone-123.js", "/.env", "/\\..\\secret.txt",
        ):  # fmt: skip
            async with await connect(world.url) as stream:
                await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n".encode())
                answer = await read_until(stream, b"not_found")
                assert answer.startswith(b"HTTP/1.1 404"), path
                assert b"no-store" in answer
        async with world.client(None) as client:
            for path in ("/api", "/api/v2/chats", "/schema/nothing", "/openapi/x", "/livez/x", "/oauth/x"):
                assert error_code(await client.get(path, headers=HTML)) == "not_found", path
            assert error_code(await client.get("/chats", headers={"Accept": "application/json"})) == "not_found"
            assert error_code(await client.post("/", headers=HTML)) in ("not_found", "method_not_allowed")
            assert (await client.get("/livez")).json() == {"status": "alive"}


async def test_without_a_built_page_words_say_how_to_get_it_a_browser_asks_again_and_the_api_serves() -> None:
    async with serving(World()) as world, world.client(None) as client:
        for answer in (await client.get("/"), await client.get("/chats/1", headers=HTML)):
            assert (answer.status_code, answer.content) == (404, NO_PAGE)
            assert answer.headers["content-type"].startswith("text/plain")
            assert (answer.headers["cache-control"], answer.headers["refresh"]) == ("no-store", "3")
        assert error_code(await client.get("/api/v1/me")) == "invalid_token"


async def test_a_page_that_is_built_while_the_replica_runs_appears(folder: Path) -> None:
    hidden = folder.with_name("later")
    os.rename(folder, hidden)
    world = World()
    world.page_folder = folder
    async with serving(world), world.client(None) as client:
        assert (await client.get("/")).status_code == 404
        os.rename(hidden, folder)
        assert (await until(client, 200)).text.startswith("<!doctype html>")
        (folder / "assets" / "main-new.js").write_text("new")
        (folder / "index.html").write_text("<!doctype html>new")
        os.utime(folder / "index.html", (1, 1))
        while (await client.get("/")).text != "<!doctype html>new":
            pass
        assert (await client.get("/assets/main-new.js")).text == "new"


async def until(client: httpx.AsyncClient, status: int) -> httpx.Response:
    while (page := await client.get("/")).status_code != status:
        pass
    return page


def test_a_folder_that_is_no_page_is_not_read_into_memory(folder: Path) -> None:
    with open(folder / "core.bin", "wb") as file:
        file.truncate(33 << 20)
    with pytest.raises(ValueError, match="more than"):
        read_files(folder)
