"""`chatcluster mcp` and `chatcluster permissions`: what is asked of a cluster, and how its answers are shown."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from chatcluster.cli import commands as cli
from chatcluster.cli import mcp_commands, permission_commands

Json = dict[str, Any]


class Cluster:
    """Answers what a test has written down, and notes what it was told."""

    def __init__(self) -> None:
        self.tools: Json = {"buy": {"approval": "ask", "effect": "once"}, "drop": {"approval": "deny"}}
        self.report: Json = {"ok": False, "error": "no \x1b[2J way", "trouble": "unreachable"}
        self.told: list[Json] = []
        self.removed: list[str] = []

    def ask(self, _: object, __: object, question: Callable[[Cluster], Awaitable[Any]]) -> Any:
        return trio.run(question, self)

    async def mcp_server(self, slug: str) -> Json:
        return {"slug": slug, "tools": self.tools}

    async def change_mcp_server(self, _: str, **fields: Any) -> None:
        self.told.append(fields)

    async def test_mcp_server(self, slug: str) -> Json:
        return self.report

    async def usable_mcp_servers(self) -> list[Json]:
        return [{"slug": slug, "description": "", "availability": "choice"} for slug in ("docs", "mail", "news", "new")]

    async def my_mcp_servers(self) -> list[Json]:
        logins = {"mail": (True, False), "news": (False, True), "new": (False, False)}
        return [{"slug": slug, "signed_in": good, "refused": bad} for slug, (good, bad) in logins.items()]

    async def tool_permissions(self) -> list[Json]:
        return [
            {"id": "one", "tool": "mail__send", "chat_id": None, "expires_at": "2026-03-01T00:00:00Z"},
            {"id": "two", "tool": "workspace/x__y", "chat_id": "chat-1", "expires_at": "2026-03-02T00:00:00Z"},
        ]

    async def delete_tool_permission(self, permission_id: str) -> None:
        self.removed.append(permission_id)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    for module in (mcp_commands, permission_commands):
        monkeypatch.setattr(module, "ask", cluster.ask)
    return cluster


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--tool", "sell=ask"], {"tools": {**Cluster().tools, "sell": {"approval": "ask"}}}),
        (["--tool", "buy=read"], {"tools": {**Cluster().tools, "buy": {"approval": "ask", "effect": "read"}}}),
        (["--without", "tools", "--without", "deny"], {"tools": {}, "deny": []}),
        (["--allow-all", "--deny", "drop"], {"allow": None, "deny": ["drop"]}),
        (["--without", "description", "--approval", "ask"], {"description": "", "approval": "ask"}),
    ],
)
def test_what_is_said_of_one_tool_leaves_what_was_said_of_others(
    cluster: Cluster, flags: list[str], told: Json
) -> None:
    assert cli.run(["mcp", "set", "files", *flags]) == 0
    assert cluster.told == [told]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--without", "tools", "--tool", "buy=ask"], "tools"),
        (["--allow-all", "--allow", "buy"], "allow"),
        (["--without", "secrets"], "secrets"),
        ([], "say what to change"),
    ],
)
def test_what_makes_no_sense_changes_nothing(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], flags: list[str], why: str
) -> None:
    assert cli.run(["mcp", "set", "files", *flags]) == 2
    assert why in capsys.readouterr().err
    assert cluster.told == []


def test_a_test_that_fails_is_one_line_that_commands_no_terminal(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["mcp", "test", "files"]) == 1
    assert capsys.readouterr().err == "Error: files: no [2J way (unreachable)\n"
    tool = {
        "called": "files__read",
        "available": True,
        "effect": "read",
        "approval": "never",
        "description": "\x1b]0;x\x07",
    }
    cluster.report = {"ok": True, "tools": [tool]}
    assert cli.run(["mcp", "test", "files"]) == 0
    assert not {"\x1b", "\x07"} & set(capsys.readouterr().out)


def test_everybody_sees_which_servers_there_are_and_where_to_sign_in(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["mcp", "list", "--mine", "--json"]) == 0
    listed = {server["slug"]: server["login"] for server in json.loads(capsys.readouterr().out)}
    assert listed == {"docs": "-", "mail": "signed in", "news": "sign in again", "new": "sign in first"}
    assert cli.run(["mcp", "list", "--mine"]) == 0
    assert "sign in again" in capsys.readouterr().out


def test_what_was_allowed_is_listed_and_taken_back(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["permissions", "list"]) == 0
    _, for_all, in_one = capsys.readouterr().out.splitlines()
    assert for_all.split() == ["one", "mail__send", "all", "2026-03-01"]
    assert in_one.split() == ["two", "workspace/x__y", "chat-1", "2026-03-02"]
    assert cli.run(["permissions", "remove", "one"]) == 0
    assert cluster.removed == ["one"]
