"""Files on the command line: sent along in a conversation, and commands of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_cli import WAITING, ScriptedClient, refusal, status

from chatcluster.cli import commands as cli
from chatcluster.cli import exits, file_commands, terminal_chat
from chatcluster.cli.prompting import converse
from chatcluster.cli.terminal_chat import Conversation
from chatcluster.client import ApiError

REACH = ("--url", "http://127.0.0.1:1", "--token", "ccl_x")


class Shelf:
    """A client whose cluster has one file."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, *_: str) -> Shelf:
        return self

    async def __aenter__(self) -> Shelf:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def upload(self, path: Path) -> dict[str, Any]:
        self.said.append(path.name)
        return {"id": f"id-of-{path.name}"}

    async def files(self, **query: Any) -> dict[str, Any]:
        number = 1 + int(query.get("after", "0"))
        file = {"id": str(number), "name": f"{number}.pdf", "media_type": "application/pdf", "size_bytes": 9}
        return {"files": [file | {"created_at": "2026-01-01T00:00:00Z"}], "has_more": number < 3}

    async def file(self, _: str) -> dict[str, Any]:
        return {"name": "plan.pdf"}

    async def download(self, _: str) -> bytes:
        return b"%PDF"

    async def delete_file(self, file_id: str) -> None:
        raise ApiError(409, "file_in_use", f"a chat has {file_id}", {})


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    shelf = Shelf()
    monkeypatch.setattr(file_commands, "Client", shelf)
    return shelf


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> ScriptedClient:
    scripted = ScriptedClient()
    monkeypatch.setattr(terminal_chat, "Client", scripted)
    return scripted


def typing(*lines: str) -> Callable[[], str]:
    """A prompt at which these lines are typed."""
    left = list(lines)

    def prompt() -> str:
        if not left:
            raise EOFError
        return left.pop(0)

    return prompt


def test_a_file_goes_along_with_the_next_message_and_with_that_alone(
    client: ScriptedClient, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "plan.pdf"
    path.write_bytes(b"%PDF-1.7")
    client.events = [status("waiting")]
    client.chats = [WAITING, WAITING]
    prompt = typing(f"/file {path}", "/file /nonexistent", "sum it up", "and?")
    assert converse(Conversation("http://cluster", "ccl_token"), prompt)
    parts = [{"type": "file", "file_id": "the ID of plan.pdf"}, {"type": "text", "text": "sum it up"}]
    assert client.sent == [repr(parts), "and?"]
    said = capsys.readouterr().err
    assert "[plan.pdf goes along with the next message]" in said
    assert "Error: /nonexistent is no file that can be read" in said


@pytest.mark.parametrize(
    "arguments", [("chat", "--file", "/nonexistent", "Hello"), ("files", "upload", "/nonexistent"), ("files", "upload")]
)
def test_a_file_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert refusal(capsys, *arguments)[0] == exits.USAGE


def test_uploads_print_their_ids(shelf: Shelf, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.txt", "b.txt")]
    for path in paths:
        path.write_text("text")
    assert cli.run(["files", "upload", *map(str, paths), *REACH]) == 0
    assert capsys.readouterr().out.split() == ["id-of-a.txt", "id-of-b.txt"]


def test_all_files_are_listed(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["files", "list", *REACH]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]] == ["1.pdf", "2.pdf", "3.pdf"]


def test_a_download_overwrites_nothing_that_was_not_named(
    shelf: Shelf, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["files", "download", "1", *REACH]) == 0
    assert (tmp_path / "plan.pdf").read_bytes() == b"%PDF"
    capsys.readouterr()
    exit_code, line = refusal(capsys, "files", "download", "1", *REACH)
    assert (exit_code, "--output" in line) == (exits.FAILED, True)
    assert cli.run(["files", "download", "1", "-o", "plan.pdf", *REACH]) == 0


def test_a_file_that_a_chat_has_is_not_deleted(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    assert "file_in_use" in refusal(capsys, "files", "delete", "1", *REACH)[1]
