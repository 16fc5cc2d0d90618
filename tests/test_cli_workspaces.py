"""The commands for workspaces and their templates: what they ask of a cluster, what they print, and how they fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_cli import refusal

from chatcluster.cli import commands as cli
from chatcluster.cli import workspace_commands
from chatcluster.client import ApiError

REACH = ("--url", "http://127.0.0.1:1", "--token", "ccl_x")
TEMPLATE = """
name = "python"
description = "Python"
[[parameters]]
name = "branch"
"""
HOST = {
    "name": "here",
    "address": "127.0.0.1:8300",
    "provider": "process",
    "state": "unable",
    "workspaces": 0,
    "heartbeat_age_seconds": 0.5,
    "problem": "bubblewrap is missing",
}


def none_such(kind: str = "workspace") -> ApiError:
    return ApiError(404, f"{kind}_not_found", f"there is no such {kind}", {})


class Cluster:
    """A client whose cluster has one workspace, which takes a look to do what it is asked for."""

    def __init__(self) -> None:
        self.templates_by_name: dict[str, dict[str, Any]] = {}
        self.state, self.becomes, self.detail = "stopped", "running", ""
        self.asked: list[tuple[Any, ...]] = []
        self.has_one = False

    def __call__(self, *_: str) -> Cluster:
        return self

    async def __aenter__(self) -> Cluster:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def put_template(self, name: str, **settings: Any) -> dict[str, Any]:
        self.templates_by_name[name] = settings
        return {"name": name, "revision": 1}

    async def templates(self) -> list[dict[str, Any]]:
        empty = {"display_name": "", "description": "", "parameters": [], "desktop": True}
        return [{"name": name, **empty, **settings} for name, settings in self.templates_by_name.items()]

    async def template(self, name: str) -> dict[str, Any]:
        if name not in self.templates_by_name:
            raise none_such("template")
        return {"name": name, **self.templates_by_name[name]}

    async def remove_template(self, name: str) -> None:
        await self.template(name)
        del self.templates_by_name[name]

    async def workspaces(self) -> list[dict[str, Any]]:
        return [await self.workspace("one")]

    async def workspace(self, workspace_id: str) -> dict[str, Any]:
        if workspace_id != "one":
            raise none_such()
        state, self.state = self.state, self.becomes
        rest = {"template": "python", "chat_id": "chat", "expires_at": None, "detail": self.detail}
        return {"id": workspace_id, "name": "python-1", "state": state, **rest}

    async def create_workspace(self, chat_id: str, template: str, **fields: Any) -> dict[str, Any]:
        self.asked.append((chat_id, template, fields["parameters"]))
        if not self.has_one:
            self.state = "building"
        return {"workspace": {"id": "one"}, "changed": not self.has_one}

    async def start_workspace(self, workspace_id: str) -> None:
        await self.workspace(workspace_id)
        self.state = "starting"

    async def stop_workspace(self, workspace_id: str) -> None:
        await self.workspace(workspace_id)
        self.state, self.becomes = "stopping", "stopped"

    async def delete_workspace(self, workspace_id: str) -> None:
        await self.workspace(workspace_id)
        self.asked.append(("delete", workspace_id))

    async def workspace_log(self, workspace_id: str, *, after: int = 0) -> list[dict[str, Any]]:
        await self.workspace(workspace_id)
        lines = [
            {"number": 1, "source": "build", "text": "made"},
            {"number": 2, "source": "startup", "text": "a\x1b[31m"},
        ]
        return lines[after : after + 1]

    async def workspace_hosts(self) -> list[dict[str, Any]]:
        return [HOST]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(workspace_commands, "WorkspaceClient", cluster)
    monkeypatch.setattr(workspace_commands, "FOLLOW_SECONDS", 0)
    return cluster


Say = Callable[..., str]


@pytest.fixture
def say(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> Say:
    """What a command that succeeds prints."""

    def said(*arguments: str) -> str:
        status = cli.run([*arguments, *REACH])
        captured = capsys.readouterr()
        assert (status, captured.err) == (0, "")
        return captured.out

    return said


def test_a_template_is_added_from_a_file_listed_shown_and_removed(cluster: Cluster, say: Say, tmp_path: Path) -> None:
    path = tmp_path / "template.toml"
    path.write_text(TEMPLATE)
    assert say("template", "add", str(path)) == "python: revision 1\n"
    assert cluster.templates_by_name["python"]["parameters"] == ({"name": "branch"},)
    assert say("template", "list").splitlines()[1].split() == ["python", "branch", "yes", "Python"]
    assert [one["name"] for one in json.loads(say("template", "list", "--json"))] == ["python"]
    assert json.loads(say("template", "show", "python"))["description"] == "Python"
    assert say("template", "remove", "python") == "removed python\n"
    assert cluster.templates_by_name == {}


def test_a_file_as_editors_of_windows_write_it_is_a_template(cluster: Cluster, say: Say, tmp_path: Path) -> None:
    path = tmp_path / "template.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TEMPLATE.replace("\n", "\r\n").encode())
    assert say("template", "add", str(path)) == "python: revision 1\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"bad", "this is no TOML"),
        (b"description = 'x'", "begins with its name"),
        (b"name = 'Python'", "is made of a-z"),
        (b"name = 'x'\nsurprise = 1", "surprise"),
        (b"\xff", "is no text in UTF-8"),
        (b"name = 'x'\n#" + b"x" * (1 << 20), "that is no template"),
    ],
    ids=["toml", "nameless", "name", "field", "bytes", "size"],
)
def test_a_file_that_is_no_template_is_one_line_and_writes_nothing(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "template.toml"
    path.write_bytes(content)
    status, line = refusal(capsys, "template", "add", str(path), *REACH)
    assert status != 0
    assert words in line
    assert cluster.templates_by_name == {}


def test_a_workspace_is_created_with_its_parameters_and_waited_for(cluster: Cluster, say: Say) -> None:
    given = ("--parameter", "branch=next", "--parameter", "number=3", "--parameter", "text=a=b")
    assert say("workspace", "create", "chat", "python", *given) == "one python-1 is running\n"
    assert cluster.asked == [("chat", "python", {"branch": "next", "number": 3, "text": "a=b"})]


def test_a_value_that_is_no_json_that_can_be_read_is_text(cluster: Cluster, say: Say) -> None:
    deep = "[" * 100_000
    say("workspace", "create", "chat", "python", "--parameter", f"deep={deep}", "--parameter", "open=[")
    assert cluster.asked == [("chat", "python", {"deep": deep, "open": "["})]


def test_a_chat_that_has_a_workspace_gets_no_other_and_that_is_said(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.has_one, cluster.state = True, "running"
    assert cli.run(["workspace", "create", "chat", "other", *REACH]) == 0
    said = capsys.readouterr()
    assert said.out == "one python-1 is running\n"
    assert said.err == "the chat has a workspace already, of the template python: one\n"


def test_a_workspace_is_listed_shown_started_stopped_and_deleted(cluster: Cluster, say: Say) -> None:
    assert "python-1" in say("workspace", "list")
    assert json.loads(say("workspace", "list", "--json"))[0]["id"] == "one"
    assert json.loads(say("workspace", "show", "one"))["name"] == "python-1"
    assert say("workspace", "start", "one") == "one python-1 is running\n"
    assert say("workspace", "stop", "one") == "stopped\n"
    assert say("workspace", "delete", "--yes", "one") == "deleted one\n"
    assert cluster.asked == [("delete", "one")]


def test_its_log_is_printed_and_steers_no_terminal(say: Say) -> None:
    assert say("workspace", "logs", "one") == "build   made\nstartup a\N{REPLACEMENT CHARACTER}[31m\n"


def test_the_machines_are_listed_with_what_they_lack(say: Say) -> None:
    assert "bubblewrap is missing" in say("workspace", "hosts")
    assert json.loads(say("workspace", "hosts", "--json")) == [HOST]


def test_one_that_does_not_come_to_run_is_an_error_that_says_why(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.becomes, cluster.detail = "failed", "the disk is full"
    status, line = refusal(capsys, "workspace", "start", "one", *REACH)
    assert (status, line) == (1, "python-1 is failed: the disk is full")


def test_one_that_never_comes_to_rest_is_not_waited_for_without_end(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace_commands, "REST_SECONDS_MAX", 0.01)
    cluster.becomes = "starting"
    status, line = refusal(capsys, "workspace", "start", "one", *REACH)
    assert (status, "not at rest" in line) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("workspace", "show", "none"),
        ("workspace", "start", "none"),
        ("workspace", "stop", "none"),
        ("workspace", "logs", "none"),
        ("workspace", "delete", "--yes", "none"),
        ("template", "show", "none"),
        ("template", "remove", "none"),
        ("workspace", "create", "chat", "python", "--parameter", "branch"),
        ("template", "add", "/nonexistent.toml"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_one_line_and_a_status(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    status, line = refusal(capsys, *arguments, *REACH)
    assert (status != 0, bool(line)) == (True, True)
    assert cluster.asked == []
