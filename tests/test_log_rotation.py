"""Logs of children are bounded while the children run, whatever becomes of the disk."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from chatcluster.local import log_rotation
from chatcluster.local.embedded import child
from chatcluster.local.log_rotation import keep_small, put_large_aside
from chatcluster.local.log_tail import Tail, follow


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "replica-1.log"


def test_a_child_goes_on_writing_to_a_log_that_was_put_aside(log: Path) -> None:
    program = (
        "import sys\nfor line in sys.stdin: print('x' * 999, flush=True); print('said', file=sys.stderr, flush=True)"
    )
    with child.open_log(log) as output:
        process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=output, stderr=output)
    assert process.stdin is not None

    def write(size: int) -> None:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        while not log.exists() or log.stat().st_size < size:
            pass

    write(1005)
    tail = Tail(log)
    for _ in range(3):
        put_large_aside(log.parent.parent, bytes_max=1000)
        assert log.stat().st_size == 0
        assert log.with_name("replica-1.log.1").stat().st_size == 1005
        write(1005)
        assert tail.new_lines()[-1:] == [b"said"] or tail.new_lines() == []
    process.stdin.close()
    process.wait(60)
    assert log.stat().st_mode & 0o777 == log.with_name("replica-1.log.1").stat().st_mode & 0o777 == 0o600


def test_so_are_the_logs_of_the_servers(log: Path) -> None:
    postgres = log.parent.parent / "postgres.log"
    postgres.write_bytes(b"x" * 1001)
    put_large_aside(log.parent.parent, bytes_max=1000)
    assert postgres.stat().st_size == 0


def test_small_ones_are_left_alone(log: Path) -> None:
    log.write_bytes(b"x" * 1000)
    put_large_aside(log.parent.parent, bytes_max=1000)
    assert log.stat().st_size == 1000
    assert not log.with_name("replica-1.log.1").exists()


def test_where_there_is_no_room_for_a_copy_the_log_is_emptied(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    log.write_bytes(b"x" * 1001)
    put_large_aside(log.parent.parent, bytes_max=1000)
    assert log.stat().st_size == 0
    assert [path.name for path in log.parent.iterdir()] == [log.name]


def test_a_link_is_not_followed(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"x" * 2000)
    log.symlink_to(other)
    put_large_aside(tmp_path, bytes_max=10)
    assert other.stat().st_size == 2000


async def test_it_looks_again_and_again(
    log: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    looks: list[tuple[Path, int]] = []
    scope = trio.CancelScope()

    def look(*where: Any) -> None:
        looks.append(where)
        if len(looks) == 3:
            trio.from_thread.run_sync(scope.cancel)

    monkeypatch.setattr(log_rotation, "put_large_aside", look)
    with scope:
        await keep_small(log.parent, bytes_max=10)
    assert looks == 3 * [(log.parent, 10)]


async def test_a_log_that_cannot_be_read_ends_no_cluster(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """P10: somebody put something else in its place, for a while."""
    log = tmp_path / "replica-1.log"
    said: list[str] = []
    log.mkdir()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(follow, log, "replica-1", said.append, everything=True))
        await trio.sleep(1)
        log.rmdir()
        log.write_bytes(b"a line\n")
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert said == ["replica-1: a line"]
