"""Clients that are published for Node, run as they are: each in a process of its own, which a test gives orders to.

They are installed as their lock file says, once, by whichever process of the tests comes first; nothing of them is
committed. Where there is no Node that they run on, and none can be had, the tests are skipped, and say why.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

FOLDER = Path(__file__).with_name("node")
SITE = Path(__file__).parent.parent / "site" / "build.py"
NODE_MIN = (22, 0)
INSTALL_SECONDS_MAX = 300
ORDER_SECONDS_MAX = 180.0
OnTold = Callable[[Any], Awaitable[object]]


def _site() -> Any:
    """How the page finds its Node."""
    spec = importlib.util.spec_from_file_location("site_build", SITE)
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    return build


def prepared_node() -> str:
    """A Node that has the clients. Skips the test where there can be none."""
    build = _site()
    node, npm = shutil.which("node"), shutil.which("npm")
    try:
        if node and npm and build._version(node) >= NODE_MIN:
            command = [npm]
        else:
            with build.one_at_a_time("install"):  # as the page's tests may have it, which run beside these
                (node,), command = build._wheel()
        with build.one_at_a_time("clients"):
            _install(str(node), command)
    except (build.BuildError, subprocess.SubprocessError) as error:
        pytest.skip(f"there is no Node with the clients of others: {error}")
    return str(node)


def _install(node: str, npm: list[str]) -> None:
    modules, lock = FOLDER / "node_modules", (FOLDER / "package-lock.json").read_bytes()
    stamp, wanted = modules / ".installed", hashlib.sha256(lock).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    path = f"{Path(node).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    install = [*npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    subprocess.run(
        install,
        cwd=FOLDER,
        env=os.environ | {"PATH": path},
        check=True,
        capture_output=True,
        timeout=INSTALL_SECONDS_MAX,
    )
    stamp.write_text(wanted)


class NodeClient:
    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._pending = b""

    async def __call__(
        self, scenario: str, *, on_told: OnTold | None = None, seconds_max: float = ORDER_SECONDS_MAX, **order: Any
    ) -> Any:
        """What the scenario gives. ``on_told`` gets what it tells on the way."""
        line = msgspec.json.encode({"scenario": scenario, **order}) + b"\n"
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line)
        return await self.result(on_told, seconds_max)

    async def result(self, on_told: OnTold | None = None, seconds_max: float = ORDER_SECONDS_MAX) -> Any:
        with trio.fail_after(seconds_max):
            while "result" not in (said := msgspec.json.decode(await self._line())):
                assert "error" not in said, said["error"]
                if on_told is not None:
                    await on_told(said["told"])
        return said["result"]

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._pending:
            more = await self._process.stdout.receive_some()
            assert more, "the client's process ended"
            self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        return line


@asynccontextmanager
async def node_client(script: str, package: str) -> AsyncIterator[NodeClient]:
    """The scenarios of ``script``, with a package under the name that it is installed by."""
    node = await trio.to_thread.run_sync(prepared_node)
    command = [node, str(FOLDER / "driver.mjs"), script, package]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=FOLDER)
    try:
        client = NodeClient(process)
        await client.result()
        yield client
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
