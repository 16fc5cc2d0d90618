"""Servers from PyPI that speak through their standard streams, unmodified, behind a bridge: every tool that they have,
by both transports of the bridge.

They are installed beside this environment, as their own versions, once for each list of them. Where no registry can be
reached the tests are skipped, and say so.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_ports import free_port
from mcp_world import McpWorld, listening, mcp_world, text_of

PACKAGES = (
    *("mcp==1.30.0", "mcp-proxy==0.13.0", "mcp-server-time==2026.10.10", "mcp-server-sqlite==2025.4.25"),
    *("httpx-auth==0.23.1", "httpx-sse==0.4.3", "pydantic-settings==2.16.3", "pyjwt==2.15.1"),
    *("python-dotenv==1.2.4", "python-multipart==0.0.34", "tzdata==2026.6", "tzlocal==5.4.5"),
)
"""With what of their dependencies is not here anyway."""
FOLDERS = Path(__file__).parent.parent / ".venv-mcp-servers"
INSTALL_SECONDS_MAX = 300
TRANSPORTS = {"streamable-http": "mcp", "sse": "sse"}
CALLS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("clock__get_current_time", {"timezone": "Europe/Paris"}, '"timezone": "Europe/Paris"'),
    (
        "clock__convert_time",
        {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"},
        '"time_difference": "+9.0h"',
    ),
    ("notes__create_table", {"query": "create table notes (text text)"}, "created"),
    ("notes__write_query", {"query": "insert into notes values ('hello')"}, "affected_rows"),
    ("notes__read_query", {"query": "select text from notes"}, "hello"),
    ("notes__list_tables", {}, "notes"),
    ("notes__describe_table", {"table_name": "notes"}, "text"),
    ("notes__append_insight", {"insight": "greetings are short"}, "added"),
    ("notes__write_query", {"query": "drop table notes"}, "affected_rows"),
)
"""Of all tools that they have, with what is in the result."""


def prepared_folder() -> Path:
    """Where they are installed. Skips the test where they cannot be."""
    folder = FOLDERS / hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:12]
    stamp = folder / ".installed"
    if not stamp.exists():
        install = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        try:
            subprocess.run(
                [*install, "--upgrade", "--target", str(folder), *PACKAGES],
                check=True,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS_MAX,
            )
        except subprocess.CalledProcessError as error:
            pytest.skip(f"the servers could not be installed: {error.stderr[-300:]}")
        stamp.touch()
    return folder


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the bridge, with both servers behind it."""
    folder = prepared_folder()
    port = free_port()
    database = tmp_path_factory.mktemp("notes") / "notes.db"
    servers = (("clock", "mcp-server-time"), ("notes", f"mcp-server-sqlite --db-path {database}"))
    named = [word for name, command in servers for word in ("--named-server", name, f"{folder}/bin/{command}")]
    process = subprocess.Popen(
        [sys.executable, f"{folder}/bin/mcp-proxy", "--port", str(port), "--pass-environment", *named],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=TRANSPORTS)
async def world(request: pytest.FixtureRequest, bridge: str, forked: None) -> AsyncIterator[McpWorld]:
    await listening(bridge)
    async with mcp_world() as world:
        for name in ("clock", "notes"):
            url = f"{bridge}/servers/{name}/{TRANSPORTS[request.param]}"
            await world.add(name, url, transport=request.param)
        yield world


async def test_every_tool_of_servers_that_others_wrote_is_offered_and_runs(world: McpWorld) -> None:
    async with world.turn("clock", "notes") as turn:
        assert sorted(await turn.names()) == sorted({name for name, _, _ in CALLS})
        for name, arguments, said in CALLS:
            result = await turn.run_with(name, arguments)
            assert not result.is_error, text_of(result)
            assert said in text_of(result)


async def test_what_they_refuse_is_told_the_model_and_the_session_goes_on(world: McpWorld) -> None:
    async with world.turn("clock", "notes") as turn:
        refused = await turn.call("clock__get_current_time", timezone="Mars/Olympus")
        assert refused.is_error
        assert "Mars/Olympus" in text_of(refused)
        assert "Error" in text_of(await turn.run("notes__read_query", query="delete from notes"))
        assert not (await turn.run("clock__get_current_time", timezone="UTC")).is_error
