"""Every tool of a workspace as a chat's model meets it, over HTTP and in a real sandbox: one row for each shape and
each limit, what is asked and what is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import trio
from chaos.cluster import open_cluster
from chaos.options import ClusterOptions, Options

from chatcluster.client.chat_view import ChatView
from chatcluster.client.client import Client
from chatcluster.parts import ToolResultPart
from chatcluster.tool_results import SHOWN_BYTES_MAX
from chatcluster.tools.workspace_files import PIECE_BYTES
from chatcluster.workspaces.sandbox import can_sandbox

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(can_sandbox() is not None, reason=str(can_sandbox())),
]
SECONDS_MAX = 180.0
ROWS_AT_ONCE = 12
"""Rows whose calls the model makes in one turn, one after the other."""


@dataclass(frozen=True)
class Told:
    """The result of a row's call."""

    text: str
    is_error: bool

    @property
    def fields(self) -> dict[str, Any]:
        """None for a text that is no object."""
        try:
            found = json.loads(self.text.partition("\n\n")[0])
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Row:
    tool: str
    arguments: dict[str, Any]
    fields: dict[str, Any] = field(default_factory=dict)
    """That have to be in the result."""
    says: str = ""
    """That has to be in its text."""
    is_error: bool = False
    holds: Callable[[dict[str, Any]], bool] | None = None

    def problem(self, told: Told) -> str | None:
        found = told.fields
        different = {name: found.get(name) for name, value in self.fields.items() if found.get(name) != value}
        if different or told.is_error != self.is_error or self.says not in told.text:
            return f"{self.tool} {str(self.arguments)[:200]}: wanted {self}, was told {told.text[:400]!r}"
        if self.holds is not None and not self.holds(found):
            return f"{self.tool} {str(self.arguments)[:200]}: was told {told.text[:600]!r}"
        return None


def ok(
    tool: str, arguments: dict[str, Any], holds: Callable[[dict[str, Any]], bool] | None = None, **fields: Any
) -> Row:
    return Row(tool, arguments, fields, holds=holds)


def refused(tool: str, arguments: dict[str, Any], says: str) -> Row:
    return Row(tool, arguments, says=says, is_error=True)


def run(command: str, holds: Callable[[dict[str, Any]], bool] | None = None, /, **fields: Any) -> Row:
    return ok("execute", {"command": command}, holds, **fields)


def templates() -> Iterator[Row]:
    yield ok("list_templates", {}, lambda told: told["templates"][0].keys() >= {"id", "name", "description"}, count=1)
    yield ok("list_templates", {"query": "machine"}, count=1)
    yield ok("list_templates", {"query": "none of these"}, templates=[], count=0)
    yield ok(
        "read_template", {"template_id": "default"}, lambda told: told["template"]["name"] == "default", parameters=[]
    )
    yield refused("read_template", {"template_id": "nowhere"}, "There is no template")
    yield refused("create_workspace", {"template_id": "nowhere"}, "There is no template")
    yield refused("create_workspace", {"template_id": "default", "parameters": {"a": 1}}, "no parameter 'a'")
    yield refused("start_workspace", {}, "no workspace yet")
    yield refused("execute", {"command": "true"}, "no workspace yet")
    yield ok("create_workspace", {"template_id": "default"}, created=True, agent_status="ready")
    yield ok(
        "create_workspace", {"template_id": "default"}, created=False, status="already_exists", agent_status="ready"
    )
    yield ok("start_workspace", {}, started=False, agent_status="ready")
    yield refused("stop_workspace", {}, "no tool of this turn")


def files() -> Iterator[Row]:
    yield ok("write_file", {"path": "a/b.txt", "content": "one\ntwo\n"}, ok=True, created=True, bytes=8)
    yield ok("write_file", {"path": "a/b.txt", "content": "one\ntwo\n"}, ok=True, created=False)
    yield ok("write_file", {"path": "~/é ü\\xff'$(x)", "content": ""}, ok=True, bytes=0)
    yield ok("read_file", {"path": "a/b.txt"}, content="one\ntwo\n", mime_type="text/plain", size_bytes=8)
    yield ok("read_file", {"path": "a/b.txt", "offset": 4}, content="two\n", next_offset=8)
    yield ok("read_file", {"path": "a/b.txt", "offset": 99}, content="")
    yield ok("read_file", {"path": "a/b.txt", "limit": 5}, content="one\nt", next_offset=5, truncated=True)
    yield ok("read_file", {"path": "/workspace/a/../a/b.txt"}, content="one\ntwo\n")
    yield refused("read_file", {"path": "none"}, "none")
    yield refused("read_file", {"path": "a"}, "a")
    yield refused("read_file", {"path": ""}, "path")
    yield refused("read_file", {"path": "x" * 5000}, "path")
    yield refused("read_file", {"path": "a/b.txt", "offset": -1}, "offset")
    yield refused("read_file", {}, "path")
    yield refused("read_file", {"path": "../../../etc/shadow"}, "shadow")
    yield refused("read_file", {"path": "a\0b"}, "")
    yield run("seq 20000 >long; head -c 3000 /bin/sh >binary; printf 'é%.0s' $(seq 5) >accents", exit_code=0)
    yield ok("read_file", {"path": "long"}, lambda told: 0 < told["next_offset"] <= PIECE_BYTES, truncated=True)
    yield ok("read_file", {"path": "binary"}, lambda told: "no text" in told["note"], content="", size_bytes=3000)
    yield ok("read_file", {"path": "accents", "limit": 1}, content="éé", next_offset=4)
    yield ok("read_file", {"path": "accents", "offset": 3}, content="ééé", offset=4)
    for path in ("/usr/x", "/etc/passwd", "/proc/1/mem", "/"):
        yield refused("write_file", {"path": path, "content": "x"}, "")
    yield refused("write_file", {"path": "a/b.txt/c", "content": "x"}, "")
    yield refused("write_file", {"path": "a"}, "content")


def edits() -> Iterator[Row]:
    def edit(*files: tuple[str, list[dict[str, Any]]]) -> dict[str, Any]:
        return {"files": [{"path": path, "edits": edits} for path, edits in files]}

    def change(search: str, replace: str, **fields: Any) -> dict[str, Any]:
        return {"search": search, "replace": replace, **fields}

    yield ok("write_file", {"path": "e", "content": "a b a"}, ok=True)
    yield refused("edit_files", {"files": []}, "files is required")
    yield refused("edit_files", edit(("e", [])), "edits")
    yield refused("edit_files", edit(("e", [change("", "x")])), "search")
    yield refused("edit_files", edit(("e", [change("c", "x")])), "no_match")
    yield refused("edit_files", edit(("e", [change("a", "x")])), "not_unique")
    yield refused("edit_files", edit(("none", [change("a", "x")])), "file_not_found")
    yield refused("edit_files", edit(("e", [change("b", "x")]), ("none", [change("a", "x")])), "file_not_found")
    yield ok("read_file", {"path": "e"}, content="a b a")
    yield ok("edit_files", edit(("e", [change("b", "c"), change("a", "d", replace_all=True)])), ok=True)
    yield ok("read_file", {"path": "e"}, content="d c d")


def odd_files() -> Iterator[Row]:
    program = "import os, socket; socket.socket(socket.AF_UNIX).bind('sock');"
    program += "[os.symlink(f'c{number + 1}', f'c{number}') for number in range(1100)]"
    make = f"""mkfifo pipe; truncate -s 100M sparse; mkdir ro; echo x >ro/f; ln ro/f hard; chmod 555 ro
        ln -s nowhere dangling; ln -s loop loop; ln -s /run/chatcluster own; printf '\\033[2J\\r\\n' >escapes
        /usr/bin/python3 -c "{program}\" """
    yield run(make, exit_code=0)
    yield run("echo old >closed; chmod 444 closed", exit_code=0)
    yield refused("write_file", {"path": "closed", "content": "new"}, "read-only")
    yield refused(
        "edit_files", {"files": [{"path": "closed", "edits": [{"search": "o", "replace": "n"}]}]}, "read-only"
    )
    yield run("(echo hello >pipe) & sleep 0.3; echo begun", output="begun\n")
    yield refused("read_file", {"path": "pipe"}, "no regular file")
    yield run("timeout 5 cat pipe", output="hello\n")
    yield refused("read_file", {"path": "\N{GRINNING FACE}" * 4096}, "more than 4096 bytes")
    yield ok("read_file", {"path": "/proc/kallsyms"}, lambda told: told["next_offset"] <= PIECE_BYTES, truncated=True)
    for path in ("pipe", "sock", "ro", "dangling", "loop", "c0", "/dev/zero", "/dev/full", "/dev/tty", "/proc/kmsg"):
        yield refused("read_file", {"path": path}, path)
    for path in ("/proc/self/environ", "/proc/1/mem", "/proc/thread-self/maps", "own/ledger.sqlite", "~root/x", "-rf"):
        yield refused("read_file", {"path": path}, path)
    yield ok("read_file", {"path": "sparse", "offset": 10**18 - 1}, content="")
    yield refused("read_file", {"path": "sparse", "offset": 10**30}, "offset")
    yield ok("read_file", {"path": "escapes"}, content="\x1b[2J\r\n")
    for path in ("new\nline", "-rf", "n" * 255, "d/" * 1010 + "f", "\\xff\\xfe", "dangling", "hard", "\u202e", " "):
        yield ok("write_file", {"path": path, "content": "x"}, ok=True)
    for path in (
        "n" * 256,
        "d/" * 2100 + "f",
        "ro/new",
        "ro/f",
        "loop",
        "c0",
        "pipe",
        "sock",
        "escapes/x",
        ".",
        "..",
        "/",
    ):
        yield refused("write_file", {"path": path, "content": "x"}, "")
    for path in ("/dev/null", "/dev/stdout", "/proc/self/mem", "/run/chatcluster/ledger.sqlite", "own/sub/x"):
        yield refused("write_file", {"path": path, "content": "x"}, "")
    yield run("cat hard ro/f nowhere; test -e own/sub || echo none", lambda told: told["output"] == "xx\nxnone\n")
    yield refused("edit_files", {"files": [{"path": "pipe", "edits": [{"search": "x", "replace": "y"}]}]}, "not_a_file")
    yield refused(
        "edit_files", {"files": [{"path": "sparse", "edits": [{"search": "x", "replace": "y"}]}]}, "too_large"
    )


def odd_commands() -> Iterator[Row]:
    yield run("printf '\\033]0;title\\007\\033[2J'", output="\x1b]0;title\x07\x1b[2J")
    yield run("exec >&- 2>&-; exit 4", output="", exit_code=4)
    yield run("head -c 1000000 /dev/zero | tr '\\0' x >&2", lambda told: told["truncated"]["original_bytes"] == 10**6)
    yield run("umask 000; touch open; stat -c %a open", output="666\n")
    yield run("date -s 2001-01-01 >/dev/null 2>&1 || echo no", output="no\n")
    yield run("kill -RTMAX $$", exit_code=192)
    yield run("-x", lambda told: "not found" in told["output"], exit_code=127)
    yield run("--version", lambda told: "not found" in told["output"], exit_code=127)
    yield ok("execute", {"command": "kill -STOP $$", "timeout": "200ms"}, success=False, exit_code=-1)
    yield refused("execute", {"command": "true", "timeout": "-1s"}, "no duration")
    yield run("chmod 000 /workspace", exit_code=0)
    yield Row("execute", {"command": "true"}, says="/workspace: Permission denied", is_error=True)
    yield refused("write_file", {"path": "f", "content": "x"}, "not_allowed")
    yield ok("execute", {"command": "chmod 755 /workspace", "workdir": "/"}, exit_code=0)
    yield refused("process_output", {"process_id": "\n"}, "no process of this ID")
    endless = "import socket; [socket.socket() for _ in range(10000)]"
    yield run(f'/usr/bin/python3 -c "{endless}"', lambda told: "Too many open files" in told["output"], exit_code=1)


def commands() -> Iterator[Row]:
    yield run("echo out; echo err >&2", success=True, output="out\nerr\n", exit_code=0, error=None)
    yield run("exit 3", success=False, exit_code=3, error="exit status 3")
    yield run("kill -9 $$", success=False, exit_code=137, error="ended by signal 9")
    yield run("nosuchprogram", lambda told: "not found" in told["output"], success=False, exit_code=127)
    yield ok("execute", {"command": "pwd", "workdir": "a"}, output="/workspace/a\n")
    yield Row("execute", {"command": "pwd", "workdir": "none"}, says="no directory", is_error=True)
    yield refused("execute", {"command": "  "}, "empty")
    yield refused("execute", {"command": "true", "timeout": "soon"}, "no duration")
    yield refused("execute", {"command": "true", "sudo": True}, "sudo")
    yield refused("execute", {"command": "a\0b"}, "")
    yield run("echo $CHATCLUSTER $EDITOR $PAGER $TERM $GIT_TERMINAL_PROMPT $NO_COLOR", output="1 true cat dumb 0 1\n")
    yield run("cat; tty; echo over", lambda told: "not a tty" in told["output"] and "over" in told["output"])
    yield run("cat a/b.txt", lambda told: "read_file" in told["note"], output="one\ntwo\n")
    yield run("printf 'a\\0b\\377c'", lambda told: told["output"].startswith("a") and "\ufffd" in told["output"])
    yield run(
        "printf 'é%.0s' $(seq 30000)",
        lambda told: (
            told["truncated"]["original_bytes"] == 60000
            and len(json.dumps(told, ensure_ascii=False).encode()) <= SHOWN_BYTES_MAX
            and "\ufffd" not in told["output"]
        ),
        success=True,
    )
    yield ok(
        "execute",
        {"command": "echo begun; exec sleep 100", "timeout": "3s"},
        lambda told: "timed out after 3 s" in told["error"] and told["background_process_id"] != "",
        success=False,
        output="begun\n",
        exit_code=-1,
    )
    yield ok(
        "execute",
        {"command": "exec sleep 100", "run_in_background": True},
        lambda told: told["background_process_id"] != "",
        success=True,
    )
    yield ok("process_list", {}, lambda told: [one["running"] for one in told["processes"]].count(True) == 2)
    yield refused("process_output", {"process_id": "none"}, "no process of this ID")
    yield refused("process_signal", {"process_id": "none", "signal": "terminate"}, "")
    yield refused("process_signal", {"process_id": "none", "signal": "stop"}, "signal")


def escapes() -> Iterator[Row]:
    yield run("ln -s / top; ls /sys /boot /root 2>/dev/null | wc -l", output="0\n")
    yield refused("read_file", {"path": "top/etc/shadow"}, "")
    yield run("env | grep -ciE 'postgres|redis|api_key|secret|token'", output="0\n", exit_code=1)
    reach = "import socket; socket.create_connection(({!r}, {}), timeout=3)"
    for host, port in (("127.0.0.1", 5432), ("127.0.0.1", 6379), ("169.254.169.254", 80), ("10.0.0.1", 80)):
        yield run(f'/usr/bin/python3 -c "{reach.format(host, port)}"', success=False, exit_code=1)
    yield run("ls /proc | grep -E '^[0-9]+$' | sort -n | tail -n 1", lambda told: int(told["output"]) < 100_000)
    yield run("kill -9 1; echo lives", output="lives\n")


def rows() -> list[Row]:
    return [*templates(), *files(), *edits(), *commands(), *escapes(), *odd_files(), *odd_commands()]


async def told(client: Client, chat_id: str, asked: list[Row]) -> list[Told]:
    """What is told of these calls, which the model is ordered to make one after the other in one turn."""
    orders = [
        f"[[step={step} call={row.tool} {msgspec.json.encode(row.arguments).decode().replace(']]', '] ]')}]]"
        for step, row in enumerate(asked, 1)
    ]
    sent = await client.send(chat_id, " ".join((*orders, f"[[step={len(asked) + 1} say=over]]")))
    view = ChatView()
    async with aclosing(client.stream(chat_id)) as events:
        async for cursor, event in events:
            view.apply(cursor, event)
            if view.ready and view.at_rest and max(view.messages, default=0) > sent["message"]["id"]:
                break
    parts = [part for message in view.messages.values() for part in message.parts if isinstance(part, ToolResultPart)]
    assert len(parts) >= len(asked), view.error
    return [Told(part.text, part.is_error) for part in parts[-len(asked) :]]


async def test_each_shape_and_each_limit_is_as_the_table_says() -> None:
    options = Options(cluster=ClusterOptions(replicas=2, up_arguments=("--workspaces",)))
    problems: list[str | None] = []
    with trio.fail_after(SECONDS_MAX):
        async with open_cluster(options) as cluster, Client(cluster.url, cluster.token) as client:
            chat_id = (await client.create())["id"]
            table = rows()
            while table:
                asked, table = table[:ROWS_AT_ONCE], table[ROWS_AT_ONCE:]
                found = await told(client, chat_id, asked)
                problems += [row.problem(one) for row, one in zip(asked, found, strict=True)]
    assert [problem for problem in problems if problem] == []
