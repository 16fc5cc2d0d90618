"""The ledger: which calls there are, and what became of each. SQLite, on the disk before anything is begun.

Every method is one transaction, and on the disk when it returns (``synchronous = FULL``). None awaits, so what a
request finds here is still so when it acts on it. Its locks are taken once and kept: whatever may read a file may lock
it against who writes, and commands may read this one.

Calls are never forgotten, as a call that is put again must not be begun again; what is kept of old ones is their end
alone: input, result and output go, the oldest first (``CALLS_KEPT_MAX``, ``BYTES_KEPT_MAX``).

What happens on failure: where the disk is full nothing can be begun (``disk_full``). The end of a call that cannot be
written is kept in memory, and written before the next one.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from chatcluster.workspace_wire import CallState, Code, Execute
from chatcluster.workspaces.agent.refused import Refused

CALLS_KEPT_MAX = 500
BYTES_KEPT_MAX = 256 << 20
BUSY_SECONDS = 2.0

_SECTION = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_, *_PIECES = _SECTION.split((Path(__file__).parent / "ledger.sql").read_text())
_QUERIES = dict(zip(_PIECES[0::2], _PIECES[1::2], strict=True))


class Entry(msgspec.Struct, kw_only=True):
    """A row of the ledger; of a call that runs, what is known now."""

    number: int
    call_id: str
    chat_id: str
    digest: str
    kind: str
    input: bytes | None
    """JSON. None where it was buried, or is too old."""
    state: CallState
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    result: bytes | None = None
    """JSON."""
    started_at: float | None = None
    ended_at: float | None = None
    output_bytes: int = 0
    kept_bytes: int = 0

    @property
    def command(self) -> Execute:
        """What was asked for, of a call of that kind; no words where it is too old."""
        return Execute(command="") if self.input is None else msgspec.json.decode(self.input, type=Execute)


class Ledger:
    def __init__(self, directory: Path) -> None:
        """Open the one in ``directory``, or make it. Raises ``OSError`` and ``sqlite3.Error``."""
        self._outputs = directory / "output"
        self._outputs.mkdir(mode=0o700, exist_ok=True)
        self._unwritten: dict[str, Entry] = {}
        self._database = sqlite3.connect(
            directory / "ledger.sqlite", timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        self._database.execute("PRAGMA journal_mode = WAL").fetchall()
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_QUERIES["schema"])

    def close(self) -> None:
        self._database.close()

    def output_path(self, number: int) -> Path:
        return self._outputs / str(number)

    def epoch(self, chat_id: str) -> int | None:
        """The highest that was seen of the chat."""
        row = self._database.execute(_QUERIES["epoch"], (chat_id,)).fetchone()
        return None if row is None else int(row["epoch"])

    def raise_epoch(self, chat_id: str, epoch: int) -> None:
        """What is lower is refused from now on."""
        with self._transaction():
            self._database.execute(_QUERIES["raise_epoch"], (chat_id, epoch))

    def call(self, call_id: str) -> Entry | None:
        if (entry := self._unwritten.get(call_id)) is not None:
            return entry
        row = self._database.execute(_QUERIES["call"], (call_id,)).fetchone()
        return None if row is None else _entry(row)

    def begin(self, values: dict[str, Any], epoch: int) -> Entry:
        """Say that a call is begun. Raises ``Refused`` where the disk is full."""
        with self._transaction():
            self._database.execute(_QUERIES["raise_epoch"], (values["chat_id"], epoch))
            number = self._database.execute(_QUERIES["begin"], values).lastrowid
        return Entry(number=number or 0, state=CallState.RUNNING, **values)

    def bury(self, call_id: str, chat_id: str, epoch: int) -> None:
        """Say that a call is never begun."""
        with self._transaction():
            if chat_id:
                self._database.execute(_QUERIES["raise_epoch"], (chat_id, epoch))
            self._database.execute(_QUERIES["bury"], (call_id, chat_id))

    def end(self, entry: Entry) -> None:
        """Say what became of a call."""
        self._unwritten[entry.call_id] = entry
        try:
            with self._transaction():
                for ended in self._unwritten.values():
                    self._database.execute(_QUERIES["end"], msgspec.structs.asdict(ended))
        except Refused:
            return
        self._unwritten.clear()
        with suppress(Refused, sqlite3.Error):  # the end stands; what is too old goes after the next one
            self._strip()

    def running(self) -> list[Entry]:
        return [_entry(row) for row in self._database.execute(_QUERIES["running"])]

    def commands(self, limit: int) -> list[Entry]:
        """The commands that run, and the newest of the others."""
        found = [_entry(row) for row in self._database.execute(_QUERIES["commands"], (limit,))]
        return [self._unwritten.get(entry.call_id, entry) for entry in found]

    def _strip(self) -> None:
        limits = {"calls_max": CALLS_KEPT_MAX, "bytes_max": BYTES_KEPT_MAX}
        for row in self._database.execute(_QUERIES["too_old"], limits).fetchall():
            with self._transaction():
                self._database.execute(_QUERIES["strip"], (row["number"],))
            with suppress(OSError):  # it is of nobody any more, and counts no more
                self.output_path(row["number"]).unlink()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise Refused(Code.DISK_FULL, f"the ledger cannot be written: {error}") from None
        finally:
            if self._database.in_transaction:  # whatever failed: the next one begins its own
                self._database.execute("ROLLBACK")


def _entry(row: sqlite3.Row) -> Entry:
    values = dict(row)
    return Entry(**values | {"state": CallState(values["state"])})


def size_of(path: Path) -> int:
    """The size of a file that may not be there."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
