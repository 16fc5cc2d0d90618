"""The command line: what it takes, what it says, and how it ends."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import trio
import trio.testing
from conftest import execute_sql, url_of_database

from chatcluster import tokens
from chatcluster.cli import commands as cli
from chatcluster.cli import exits, flags, listings, prompting, terminal_chat
from chatcluster.cli.call_answers import ask
from chatcluster.cli.prompting import converse
from chatcluster.cli.terminal_chat import Conversation
from chatcluster.client import ApiError, StreamEvent
from chatcluster.config import SETTINGS, Settings, env_name
from chatcluster.errors import ConfigError
from chatcluster.events import MessageEvent, RetryEvent, StatusEvent
from chatcluster.local import local_cluster, provisioning
from chatcluster.parts import (
    AttemptFrame,
    Message,
    PartFrame,
    Parts,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from chatcluster.setting_checks import flag_name
from chatcluster.setting_fields import Setting


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for item in SETTINGS.values():
        for name in (env_name(item.name), *item.fallbacks):
            monkeypatch.delenv(name, raising=False)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code of a command that has to fail, and its one line."""
    status = cli.run(list(arguments))
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("Error: ")
    return status, line.removeprefix("Error: ")


class TestHelp:
    @pytest.mark.parametrize("command", [[], *([name] for name in cli.commands.commands), ["token", "create"]])
    def test_every_command_explains_itself(self, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
        assert cli.run([*command, "--help"]) == 0
        assert "Usage: chatcluster" in capsys.readouterr().out

    @pytest.mark.parametrize("item", SETTINGS.values(), ids=SETTINGS)
    def test_every_setting_is_a_flag_of_serve_and_a_variable(self, item: Setting) -> None:
        options = {name: option for option in cli.serve.params for name in option.opts}
        option = options[f"--{flag_name(item.name)}"]
        assert isinstance(option, click.Option)
        assert option.help is not None
        assert item.help in option.help
        assert env_name(item.name) in option.help

    @pytest.mark.parametrize("name", ["replicas", "port", "host", "data_dir"])
    def test_what_only_up_has_names_its_variable(self, name: str) -> None:
        (option,) = (option for option in cli.up.params if option.name == name)
        assert isinstance(option, click.Option)
        assert option.show_envvar
        assert option.envvar == env_name(name)

    def test_no_secret_has_its_value_in_the_help(self) -> None:
        """P9: a default that is shown is no secret."""
        assert all(item.default == "" for item in SETTINGS.values() if item.secret)

    def test_without_a_command_it_says_what_there_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run([]) == exits.USAGE
        assert "simulate-llm" in capsys.readouterr().out

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["--version"]) == 0
        assert capsys.readouterr().out.startswith("chatcluster, version ")


NOWHERE = ("--url", "http://127.0.0.1:1", "--token", "x")
SERVERS = ("--database-url", "postgresql://nobody@127.0.0.1:1/nothing", "--redis-url", "redis://127.0.0.1:1/0")


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["serve", "--port", "many"], "'many' is not a valid integer"),
            (["serve", "--port", "70000"], "port must be at most 65535"),
            (["serve", "--lease-ttl-seconds", "1"], "3 x heartbeat-seconds"),
            (["serve", "--log-level", "loud"], "log-level must be"),
            (["serve"], "--database-url (or CHATCLUSTER_DATABASE_URL)"),
            (
                ["serve", *SERVERS, "--llm-base-url", "http://127.0.0.1:1/v1"],
                "--llm-api-key (or CHATCLUSTER_LLM_API_KEY)",
            ),
            (["up", "--replicas", "0"], "--replicas"),
            (["up", "--slots", "-1"], "slots must be at least 0"),
            (["migrate", "--data-dir", "/nonexistent"], "--database-url"),
            (["chat", "--data-dir", "/nonexistent", "Hello"], "chatcluster up"),
            (["replicas", "--data-dir", "/nonexistent", "--url", "http://127.0.0.1:1"], "--token"),
            (["chat", "--url", "nonsense", "--token", "x", "Hello"], "--url must be a URL"),
            (["replicas", "--url", "http://[::1", "--token", "x"], "--url must be a URL"),
            (
                ["chat", "--url", "http://127.0.0.1:1", "--token", "ccl_\u00fc", "Hello"],
                "--token must be printable ASCII",
            ),
            (["chat", "--url", "http://127.0.0.1:1", "--token", "x", "\udcff"], "the question is not text"),
            (["up", "--data-dir", "/proc/nowhere"], "cannot use the data directory /proc/nowhere"),
            (["up", "--host", "a..b", "--data-dir", "DATA"], "cannot listen on a..b: it is no host name"),
            (["serve", *SERVERS, "--slots", "0", "--host", "a..b"], "cannot listen on a..b: it is no host name"),
            (["serve", *SERVERS, "--slots", "0", "--port", "0", "--listen-fd", "-1"], "descriptor -1 is no socket"),
            (["serve", *SERVERS, "--slots", "0", "--port", "0", "--listen-fd", "9999"], "descriptor 9999 is no socket"),
            (["serve", *SERVERS, "--ready-fd", "9999"], "9999 is no open file"),
            (["serve", "--replaces", "replica-1"], "replaces must be a worker ID"),
            (["simulate-llm", "--host", "a..b"], "cannot listen on a..b: it is no host name"),
            (["simulate-llm", "--mode", "poetry"], "--mode"),
            (["provider", "remove", *NOWHERE, "\udcff"], exits.NOT_TEXT),
            (["model", "set", *NOWHERE, "a", "--option", "a=\udcff"], exits.NOT_TEXT),
            (["mcp", "add", *NOWHERE, "a", "http://a", "--tool", "a\udcff=read"], exits.NOT_TEXT),
            (["mcp", "add", *NOWHERE, "a", "http://a", "--idle-seconds", "nan"], "not a number"),
            (["limits", "set", *NOWHERE, "--per", "day", "--cost", "nan"], "not a number"),
            (["token", "create", "--data-dir", "DATA", "--expires-in-days", "nan"], "not a number"),
            (["model", "set", *NOWHERE, "a", "--price", "input=nan"], "KIND=NUMBER"),
            (["model", "set", *NOWHERE, "a", "--price", "input=0.00000125"], "per million tokens"),
            (["model", "set", *NOWHERE, "a", "--price", "search=0.01"], "per thousand searches"),
            (["provider", "set", *NOWHERE, "a", "--no-key", "--new-key"], "--new-key or --no-key, not both"),
            (["provider", "set", *NOWHERE, "a", "--no-key", "--key-file", "-"], "--key-file or --no-key, not both"),
            (["mcp", "add", *NOWHERE, "a", "http://a", "--total-seconds", "inf"], "--total-seconds"),
            (["mcp", "add", *NOWHERE, "a", "http://a", "--idle-seconds", "0"], "--idle-seconds"),
            (["no-such-command"], "no-such-command"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_is_one_line_and_exit_code_2(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
    ) -> None:
        status, line = refusal(capsys, *(str(tmp_path) if word == "DATA" else word for word in arguments))
        assert status == exits.USAGE
        assert message in line

    def test_a_key_that_is_not_text(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "key").write_bytes(b"\xff\xfe\x00")
        given = ["provider", "add", *NOWHERE, "a", "--base-url", "http://a", "--key-file", str(tmp_path / "key")]
        status, line = refusal(capsys, *given)
        assert (status, "--key-file is not text" in line) == (exits.USAGE, True)

    def test_a_bad_variable_is_named(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHATCLUSTER_SLOTS", "a few")
        status, line = refusal(capsys, "serve")
        assert status == exits.USAGE
        assert line == "CHATCLUSTER_SLOTS must be a whole number, not 'a few'"

    @pytest.mark.parametrize(
        ("piped", "message"), [(b"a\xffb", "not text"), (b" \n", "no question"), (None, "no question")]
    )
    def test_a_question_that_cannot_be_asked_is_one_line(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, piped: bytes | None, message: str
    ) -> None:
        """Closed standard input is None in Python."""
        stdin = None if piped is None else io.TextIOWrapper(io.BytesIO(piped), "utf-8")
        monkeypatch.setattr("sys.stdin", stdin)
        status, line = refusal(capsys, "chat", "--url", "http://127.0.0.1:1", "--token", "x")
        assert status == exits.USAGE
        assert message in line

    @pytest.mark.parametrize("user", ["", " ", "a\nb", "a" * 101, "\udcff", "\u200b", "a\u200bb", "\u202ea"])
    def test_what_is_no_name_gets_no_token(self, capsys: pytest.CaptureFixture[str], user: str) -> None:
        """By the command line as little as by the API."""
        arguments = ("token", "create", "--user", user, "--database-url", "postgresql://nobody@127.0.0.1:1/nothing")
        status, line = refusal(capsys, *arguments)
        assert status == exits.FAILED
        assert line.startswith("user ")

    def test_a_server_that_does_not_answer_is_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, _ = refusal(capsys, "migrate", "--database-url", "postgresql://nobody@127.0.0.1:1/nothing")
        assert status == exits.FAILED


class TestWhichCluster:
    """URL and token that are not given are those of the cluster on this machine."""

    def test_the_token_of_the_cluster_on_this_machine_is_sent_to_no_other(self, tmp_path: Path) -> None:
        """P9: it is an administrator's."""
        local_cluster.write_token(tmp_path, "ccl_local")
        assert local_cluster.reach("http://localhost:8000", None, tmp_path) == ("http://localhost:8000", "ccl_local")
        with pytest.raises(ConfigError, match="give --token"):
            local_cluster.reach("https://chat.example", None, tmp_path)

    def test_without_a_url_it_is_the_one_that_runs(self, tmp_path: Path) -> None:
        local_cluster.write_token(tmp_path, "ccl_local")
        here = local_cluster.LocalCluster("http://10.0.0.1:8000", "postgresql://", "redis://", os.getpid())
        local_cluster.write_cluster(tmp_path, here)
        assert local_cluster.reach(None, None, tmp_path) == ("http://10.0.0.1:8000", "ccl_local")
        assert local_cluster.reach(None, "ccl_mine", tmp_path) == ("http://10.0.0.1:8000", "ccl_mine")

    def test_who_gives_both_needs_no_cluster_here(self, tmp_path: Path) -> None:
        for content in (b"damaged", b'{"url": "\xff"}'):
            (tmp_path / local_cluster.CLUSTER_FILE).write_bytes(content)
            assert local_cluster.reach("http://localhost", "ccl_mine", tmp_path) == ("http://localhost", "ccl_mine")
            with pytest.raises(ConfigError, match="is damaged"):
                local_cluster.reach(None, "ccl_mine", tmp_path)


@pytest.mark.postgres
class TestForeignDatabases:
    """Whatever the database is, or its URL says: one line, and no traceback."""

    @pytest.mark.parametrize("command", [["migrate"], ["token", "create"]], ids=" ".join)
    @pytest.mark.parametrize(
        ("name", "parameter", "message"),
        [
            ("absent", "", 'database "absent" does not exist'),
            ("chatcluster", "&user=unlisted", "unlisted"),
            ("chatcluster", "&channel_binding=require", "channel_binding"),
            ("chatcluster", "&options=-c%20no_such_setting%3D1", "no_such_setting"),
            ("chatcluster", "&options=-c%20work_mem%3Dmuch", "work_mem"),
            ("chatcluster", "&sslrootcert=/absent.pem", "/absent.pem"),
        ],
    )
    def test_is_refused_in_one_line(
        self,
        capsys: pytest.CaptureFixture[str],
        postgres_url: str,
        command: list[str],
        name: str,
        parameter: str,
        message: str,
    ) -> None:
        url = url_of_database(postgres_url, name)
        if "user=" in parameter:
            url = url.replace("chatcluster@", "")
        status, line = refusal(capsys, *command, "--database-url", url + parameter)
        assert status != 0
        assert message in line

    def test_an_encoding_that_cannot_hold_text_is_refused_by_who_would_write_it(
        self, capsys: pytest.CaptureFixture[str], postgres_url: str
    ) -> None:
        execute_sql(postgres_url, "CREATE DATABASE latin_2 ENCODING 'LATIN2' LOCALE 'C' TEMPLATE template0")
        url = url_of_database(postgres_url, "latin_2")
        status, line = refusal(capsys, "migrate", "--database-url", url)
        assert (status, "LATIN2" in line) == (exits.USAGE, True)
        assert self.serve(url).returncode == exits.USAGE
        execute_sql(postgres_url, "DROP DATABASE latin_2")

    def test_a_replica_that_nobody_lets_in_does_not_start(self, postgres_url: str) -> None:
        """Its supervisor tries again; one that was let in once waits, and says so on /readyz."""
        ended = self.serve(url_of_database(postgres_url, "absent"))
        assert ended.returncode == exits.FAILED
        assert ended.stderr.splitlines()[-1] == 'Error: Postgres: database "absent" does not exist'

    def serve(self, url: str) -> subprocess.CompletedProcess[str]:
        arguments = ["serve", "--database-url", url, "--redis-url", "redis://127.0.0.1:1/0", "--slots", "0"]
        command = [sys.executable, "-m", "chatcluster", *arguments, "--port", "0"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=180)
        assert "Traceback" not in ended.stderr
        return ended


@pytest.mark.postgres
class TestAdministration:
    def test_migrate_says_what_it_did_and_may_be_repeated(
        self, capsys: pytest.CaptureFixture[str], empty_database_url: str
    ) -> None:
        assert cli.run(["migrate", "--database-url", empty_database_url]) == 0
        assert "applied 0001" in capsys.readouterr().out
        assert cli.run(["migrate", "--database-url", empty_database_url]) == 0
        assert capsys.readouterr().out == "The schema is up to date.\n"

    def test_a_token_is_shown_once_works_and_can_be_revoked(
        self, capsys: pytest.CaptureFixture[str], database_url: str
    ) -> None:
        """P9"""
        assert cli.run(["token", "create", "--user", "alice", "--name", "laptop", "--database-url", database_url]) == 0
        plaintext = capsys.readouterr().out.strip()
        parsed = tokens.parse(plaintext)
        assert parsed is not None

        assert cli.run(["token", "list", "--json", "--database-url", database_url]) == 0
        listing = capsys.readouterr().out
        (listed,) = msgspec.json.decode(listing)
        assert (listed["id"], listed["user_name"], listed["name"]) == (parsed.token_id, "alice", "laptop")
        assert plaintext not in listing

        assert cli.run(["token", "revoke", parsed.token_id, "--database-url", database_url]) == 0
        capsys.readouterr()
        status, line = refusal(capsys, "token", "revoke", parsed.token_id, "--database-url", database_url)
        assert status == exits.FAILED
        assert parsed.token_id in line

    def test_a_first_start_makes_a_token_and_the_next_ones_keep_it(
        self, tmp_path: Any, empty_database_url: str
    ) -> None:
        settings = Settings.of(database_url=empty_database_url)
        token = trio.run(provisioning.provision, settings, tmp_path)
        assert trio.run(provisioning.provision, settings, tmp_path) == token
        assert local_cluster.read_token(tmp_path) == token

    def test_a_token_that_the_database_does_not_know_any_more_is_replaced(
        self, tmp_path: Any, database_url: str
    ) -> None:
        settings = Settings.of(database_url=database_url)
        token = trio.run(provisioning.provision, settings, tmp_path)
        execute_sql(database_url, "TRUNCATE tokens CASCADE")
        assert trio.run(provisioning.provision, settings, tmp_path) != token

    @pytest.mark.redis
    def test_a_revocation_is_announced_where_redis_is_known(self, database_url: str, empty_redis_url: str) -> None:
        import redis

        settings = Settings.of(database_url=database_url, redis_url=empty_redis_url)

        async def create_and_revoke() -> str:
            plaintext = await provisioning.create_token(settings, user="alice", admin=False, name="")
            parsed = tokens.parse(plaintext)
            assert parsed is not None
            assert await provisioning.revoke_token(settings, parsed.token_id)
            return parsed.token_id

        with redis.Redis.from_url(empty_redis_url) as client, client.pubsub() as listener:
            listener.psubscribe("chatcluster:????????????????:0:tokens")
            assert listener.get_message(timeout=60) is not None
            token_id = trio.run(create_and_revoke)
            announced = listener.get_message(timeout=60)
            assert announced is not None
            assert announced["data"] == token_id.encode()


def test_a_table_in_a_pipe_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    worker_id = "0198c7e2-1111-2222-3333-444455556666"
    name = "[/x] a-rather-long-name-" * 6
    replica = {
        "name": name,
        "address": "10.0.0.1:8100",
        "state": "active",
        "chats": 3,
        "slots": 64,
        "heartbeat_age_seconds": 0.42,
        "version": "0.1.0",
        "worker_id": worker_id,
    }
    listings.show_replicas([replica], as_json=False)
    output = capsys.readouterr().out
    assert worker_id in output
    assert name in output, "also where it looks like markup"
    assert "3/64" in output
    assert "0.4 s" in output


def test_a_flag_says_its_default_and_its_variables() -> None:
    @flags.settings_flags("llm_base_url", "slots", "llm_include_usage")
    @click.command()
    def command() -> None: ...

    helps = {option.name: getattr(option, "help", "") for option in command.params}
    assert helps["llm_base_url"].endswith("[env: CHATCLUSTER_LLM_BASE_URL, OPENAI_BASE_URL]")
    assert helps["slots"].endswith("[default: 64; env: CHATCLUSTER_SLOTS]")
    assert "default: on" in helps["llm_include_usage"]


# --- chat -------------------------------------------------------------------------------------


def text(value: str) -> Parts:
    return (TextPart(value),)


def message(number: int, value: str, role: Role = Role.ASSISTANT, finish_reason: str = "stop") -> Message:
    return Message(number, role, text(value), number, datetime.now(UTC), finish_reason=finish_reason)


def part(value: str, attempt: int = 1) -> PartFrame:
    return PartFrame(attempt, TextPart(value))


def status(value: str) -> StatusEvent:
    return StatusEvent(value, False, 1, None)


class ScriptedClient:
    """In the place of ``Client``: a cluster that says what a test has written down."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.chats: list[dict[str, Any]] = []
        self.history_messages: list[Message] = []
        self.sent: list[str] = []
        self.interrupted = trio.Event()

    def __call__(self, url: str, token: str) -> ScriptedClient:
        return self

    async def __aenter__(self) -> ScriptedClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def create(self, content: str | list[dict[str, Any]], **_: object) -> dict[str, Any]:
        self.sent.append(content if isinstance(content, str) else repr(content))
        return {"id": "chat-1"}

    async def upload(self, path: Path) -> dict[str, Any]:
        return {"id": f"the ID of {path.name}"}

    async def send(self, _: str, content: str, busy: str = "") -> dict[str, Any]:
        self.sent.append(f"{busy}: {content}" if busy else content)
        return {}

    async def approve(self, _: str, call_id: str, **fields: object) -> None:
        self.sent.append(f"approve {call_id} {fields}")

    async def deny(self, _: str, call_id: str) -> None:
        self.sent.append(f"deny {call_id}")

    async def interrupt(self, _: str) -> None:
        self.interrupted.set()
        raise ApiError(409, "not_allowed_in_status", "it rests already", {})

    async def chat(self, _: str) -> dict[str, Any]:
        return self.chats.pop(0)

    async def history(self, _: str) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(item) for item in self.history_messages]

    async def messages(self, _: str, after: int) -> dict[str, Any]:
        later = [msgspec.to_builtins(item) for item in self.history_messages if item.id > after]
        return {"messages": later[:1], "has_more": len(later) > 1}

    async def stream(self, _: str, cursor: str | None) -> AsyncGenerator[StreamEvent, None]:
        for number, event in enumerate(self.events):
            if callable(event):
                await event()
            else:
                yield StreamEvent(f"{number}.1-{number}", event)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> ScriptedClient:
    scripted = ScriptedClient()
    monkeypatch.setattr(terminal_chat, "Client", scripted)
    return scripted


WAITING = {"status": "waiting", "last_error": None}
RUNNING = {"status": "running", "last_error": None}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACTION = {
    "call_id": "call-1", "name": "mail", "kind": "approval", "arguments": '{"to": "ada"}', "digest": "d",
    "may_have_run": False,
}  # fmt: skip
ASKING = {"status": "requires_action", "last_error": None, "action_required": [ACTION]}


class TestConversation:
    @pytest.fixture
    def out(self) -> io.StringIO:
        return io.StringIO()

    @pytest.fixture
    def notes(self) -> list[str]:
        return []

    @pytest.fixture
    def converses(self, out: io.StringIO, notes: list[str]) -> Callable[..., Conversation]:
        return lambda **options: Conversation("http://cluster", "ccl_token", out=out, note=notes.append, **options)

    async def test_an_answer_is_streamed_and_ends_with_the_turn(
        self, client: ScriptedClient, converses: Callable[..., Conversation], out: io.StringIO
    ) -> None:
        client.events = [
            status("running"),
            AttemptFrame(1, 1),
            part("Hel"),
            part("lo"),
            MessageEvent(message(2, "Hello")),
        ]
        client.events.append(status("waiting"))
        client.chats = [WAITING]
        assert await converses().turn("Hi")
        assert out.getvalue() == "Hello\n"

    async def test_a_takeover_in_mid_answer_is_not_seen(
        self, client: ScriptedClient, converses: Callable[..., Conversation], out: io.StringIO
    ) -> None:
        """P4: the next attempt begins with what was said already."""
        client.events = [part("one two "), AttemptFrame(2, 1), part("one "), part("two three", 2), status("waiting")]
        client.chats = [WAITING]
        client.history_messages = [message(1, "Hi", Role.USER), message(2, "one two three")]
        assert await converses().turn("Hi")
        assert out.getvalue() == "one two three\n"

    async def test_a_rest_from_before_the_message_does_not_end_the_turn(
        self, client: ScriptedClient, converses: Callable[..., Conversation], out: io.StringIO
    ) -> None:
        """The database decides: the replica that serves the stream may be a moment behind."""
        client.events = [status("waiting"), part("Hello"), status("waiting")]
        client.chats = [RUNNING, WAITING]
        client.history_messages = [message(2, "Hello")]
        assert await converses().turn("Hi")
        assert out.getvalue() == "Hello\n"

    async def test_a_chat_that_goes_on_does_not_repeat_its_history(
        self, client: ScriptedClient, converses: Callable[..., Conversation], out: io.StringIO
    ) -> None:
        old = message(2, "an old answer")
        client.history_messages = [message(1, "an old question", Role.USER), old]
        client.events = [MessageEvent(old), MessageEvent(message(4, "a new answer")), status("waiting")]
        client.chats = [WAITING]
        assert await converses(chat_id="chat-1").turn("a new question")
        assert client.sent == ["a new question"]
        assert out.getvalue() == "a new answer\n"

    async def test_a_cluster_that_does_not_answer_is_noted_and_tried_on(
        self,
        client: ScriptedClient,
        converses: Callable[..., Conversation],
        notes: list[str],
        autojump_clock: trio.testing.MockClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        async def answer_late(content: str) -> dict[str, str]:
            await trio.sleep(20)
            return {"id": "chat-1"}

        monkeypatch.setattr(client, "create", answer_late)
        client.events, client.chats = [status("waiting")], [WAITING]
        assert await converses().turn("Hi")
        assert notes == ["[no answer from http://cluster yet; still trying]"]

    async def test_a_retry_and_an_error_are_noted_and_the_answer_stays_clean(
        self, client: ScriptedClient, converses: Callable[..., Conversation], out: io.StringIO, notes: list[str]
    ) -> None:
        elsewhere = RetryEvent(2, 0, "forbidden", "auth", None, model="backup")
        client.events = [RetryEvent(1, 1500, "overloaded", "overloaded", None), elsewhere, status("error")]
        client.chats = [{"status": "error", "last_error": {"message": "no such model"}}]
        assert not await converses().turn("Hi")
        assert out.getvalue() == ""
        retries = ["[overloaded; trying again in 1.5 s]", "[forbidden; asking backup]"]
        assert notes == [*retries, "Error: no such model"]

    async def test_ctrl_c_interrupts_the_chat_and_what_was_said_stays(
        self, client: ScriptedClient, converses: Callable[..., Conversation], out: io.StringIO, notes: list[str]
    ) -> None:
        """P5"""

        async def press_ctrl_c() -> None:
            signal.raise_signal(signal.SIGINT)
            await client.interrupted.wait()

        client.events = [part("one two"), press_ctrl_c]
        client.events += [MessageEvent(message(2, "one two", finish_reason="interrupted")), status("waiting")]
        client.chats = [WAITING]
        assert await converses().turn("Hi")
        assert out.getvalue() == "one two\n"
        assert notes == ["\n[interrupting; once more to leave]", "[interrupted]"]

    async def test_a_second_ctrl_c_leaves(self, client: ScriptedClient, converses: Callable[..., Conversation]) -> None:
        async def press_ctrl_c_twice() -> None:
            signal.raise_signal(signal.SIGINT)
            await client.interrupted.wait()
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

        client.events = [press_ctrl_c_twice]
        with pytest.RaisesGroup(KeyboardInterrupt):
            await converses().turn("Hi")

    async def test_calls_and_their_results_are_told_in_a_few_words(
        self, client: ScriptedClient, converses: Callable[..., Conversation], out: io.StringIO, notes: list[str]
    ) -> None:
        """Whatever they say: nothing of it controls the terminal."""
        call = ToolCallPart("call-1", "search", '{"query": "' + "x" * 300 + '"}')
        result = ToolResultPart("call-1", "\x1b[2J two\nlines", is_error=True)
        client.history_messages = [
            Message(2, Role.ASSISTANT, (TextPart("Let me look."), call), 2, NOW),
            Message(3, Role.TOOL, (result,), 3, NOW),
            message(4, "Done."),
        ]
        client.events, client.chats = [status("waiting")], [WAITING]
        assert await converses().turn("Hi")
        assert out.getvalue() == "Let me look.\nDone.\n"
        asked, failed = notes
        assert asked.startswith('[calls search {"query": "xxx')
        assert len(asked) < 230
        assert failed == "[failed: [2J two lines]"

    async def test_a_message_with_a_part_that_only_a_newer_version_knows_is_shown_without_it(
        self, client: ScriptedClient, converses: Callable[..., Conversation], out: io.StringIO
    ) -> None:
        async def messages(_: str, after: int) -> dict[str, Any]:
            whole = msgspec.to_builtins(message(2, "and words"))
            return {"messages": [{**whole, "parts": [{"type": "hologram"}, *whole["parts"]]}], "has_more": False}

        client.messages = messages  # type: ignore[method-assign]
        client.events, client.chats = [status("waiting")], [WAITING]
        assert await converses().turn("Hi")
        assert out.getvalue() == "and words\n"

    async def test_what_is_typed_while_the_chat_is_at_work_steers_queues_and_stops(
        self, client: ScriptedClient, converses: Callable[..., Conversation], notes: list[str]
    ) -> None:
        lines = iter(["rather this\n", "\n", "/queue and that\n", "/stop\n", ""])

        async def typed() -> str:
            return next(lines)

        client.events = [client.interrupted.wait, status("waiting")]
        client.chats = [WAITING]
        assert await converses(typed=typed).turn("Hi")
        assert client.sent == ["Hi", "steer: rather this", "queue: and that"]
        assert notes == ["[goes in at the next step]", "[queued]"]

    async def test_what_is_typed_meanwhile_and_refused_ends_nothing_and_a_command_is_no_message(
        self, client: ScriptedClient, converses: Callable[..., Conversation], out: io.StringIO, notes: list[str]
    ) -> None:
        lines = iter(["one too many\n", '/answer {"password": "secret"}\n', "/compact\n", "/queue \n", "/stop\n", ""])

        async def typed() -> str:
            return next(lines)

        async def send(_: str, content: str, busy: str = "") -> dict[str, Any]:
            raise ApiError(409, "queue_full", "the queue is full", {})

        client.send = send  # type: ignore[method-assign]
        client.history_messages = [message(2, "Hello!")]
        client.events, client.chats = [client.interrupted.wait, status("waiting")], [WAITING]
        assert await converses(typed=typed).turn("Hi")
        assert out.getvalue() == "Hello!\n"
        assert [note.split(":")[0] for note in notes] == ["Error"] * 3
        assert ("queue is full" in notes[0], "nothing is asked" in notes[1]) == (True, True)

    async def test_of_several_answers_each_is_given_whatever_becomes_of_the_others(
        self, client: ScriptedClient, converses: Callable[..., Conversation], notes: list[str]
    ) -> None:
        async def approve(_: str, call_id: str, **__: object) -> None:
            if call_id == "call-1":
                raise ApiError(409, "call_answered", "this call has its answer already", {})
            client.sent.append(f"approve {call_id}")

        client.approve = approve  # type: ignore[method-assign]
        conversation = converses(chat_id="chat-1")
        client.events, client.chats = [status("waiting")], [WAITING]
        assert await conversation.answer({"call-1": {"digest": "d"}, "call-2": {"digest": "d"}, "call-3": None})
        assert client.sent == ["approve call-2", "deny call-3"]
        client.events, client.chats = [], [ASKING]
        assert not await conversation.answer({"call-1": {"digest": "d"}}), "nothing moves, so nothing is waited for"
        assert conversation.actions == [ACTION], "who answered is asked again"
        assert notes[:2] == ["Error: this call has its answer already (409 call_answered)"] * 2

    async def test_what_an_agent_waits_for_is_said_with_where_to_answer_it(
        self, client: ScriptedClient, converses: Callable[..., Conversation], notes: list[str]
    ) -> None:
        of_agent = {**ACTION, "chat_id": "agent-1"}
        client.events, client.chats = [status("waiting")], [{**WAITING, "action_required": [of_agent]}]
        conversation = converses()
        assert await conversation.turn("Hi")
        assert "--chat agent-1" in notes[0]
        assert ask(conversation.actions, lambda _: "y") == {}, "the call is none of this chat"

    async def test_nothing_that_others_say_commands_the_terminal(
        self, client: ScriptedClient, converses: Callable[..., Conversation], notes: list[str]
    ) -> None:
        failed = {"status": "error", "last_error": {"message": "no \x1b]0;title\x07 model"}}
        client.events, client.chats = [status("error")], [failed]
        assert not await converses().turn("Hi")
        assert notes == ["Error: no ]0;title model"]

    async def test_a_turn_that_waits_for_an_approval_says_so_and_goes_on_with_it(
        self, client: ScriptedClient, converses: Callable[..., Conversation], notes: list[str]
    ) -> None:
        client.events, client.chats = [status("requires_action")], [ASKING]
        conversation = converses()
        assert not await conversation.turn("Hi")
        assert notes == ['[waits for an approval: mail {"to": "ada"}]']
        answers = ask(conversation.actions, lambda _: " A ")
        client.events, client.chats = [status("waiting")], [WAITING]
        assert await conversation.answer(answers)
        assert client.sent[1:] == ["approve call-1 {'digest': 'd', 'remember': 'chat'}"]
        assert conversation.actions == []


def test_a_conversation_asks_until_the_chat_waits_for_nobody(
    client: ScriptedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompting, "ask", partial(ask, prompt=lambda _: "n"))
    lines = iter(["Hi"])

    def prompt() -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    client.events = [status("requires_action"), status("waiting")]
    client.chats = [ASKING, ASKING, WAITING]
    assert converse(Conversation("http://cluster", "ccl_token"), prompt)
    assert client.sent == ["Hi", "deny call-1", "deny call-1"]


def test_a_conversation_that_begins_with_a_chat_that_waits_asks_at_once(
    client: ScriptedClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a call that was left for later, or an agent's, could be approved only by sending a message."""
    monkeypatch.setattr(prompting, "ask", partial(ask, prompt=lambda _: "y"))

    def prompt() -> str:
        raise EOFError

    client.history_messages = [message(1, "said before")]
    client.events, client.chats = [status("waiting")], [ASKING, WAITING]
    assert converse(Conversation("http://cluster", "ccl_token", chat_id="chat-1"), prompt)
    assert client.sent == ["approve call-1 {'digest': 'd'}"]
    assert "said before" not in capsys.readouterr().out


def test_a_command_that_there_is_nothing_for_is_no_message(
    client: ScriptedClient, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = iter(["/stop", '/answer {"password": "secret"}', "/decline", "/queue Hi"])

    def prompt() -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    client.events, client.chats = [status("waiting")], [WAITING]
    assert converse(Conversation("http://cluster", "ccl_token"), prompt)
    assert client.sent == ["Hi"]
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_refused_question_does_not_end_the_conversation(
    client: ScriptedClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["too much", "less"])

    def prompt() -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    async def create(content: str, **_: object) -> dict[str, Any]:
        if content == "too much":
            raise ApiError(413, "request_too_large", "content is larger than 10 bytes", {})
        return {"id": "chat-1"}

    monkeypatch.setattr(client, "create", create)
    client.events = [status("waiting")]
    client.chats = [WAITING]
    assert converse(Conversation("http://cluster", "ccl_token"), prompt)
    assert capsys.readouterr().err.splitlines() == [
        "Error: content is larger than 10 bytes (413 request_too_large)",
    ]


def test_one_question_after_the_other_until_the_end_of_input(
    client: ScriptedClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be asked is said to be so, and the conversation goes on."""
    lines = iter(["first", "", "no \udcff text", "second"])

    def prompt() -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    client.events = [status("waiting")]
    client.chats = [WAITING, WAITING]
    assert converse(Conversation("http://cluster", "ccl_token"), prompt)
    assert client.sent == ["first", "second"]
    assert capsys.readouterr().err.splitlines() == ["Error: the question is not text"]
