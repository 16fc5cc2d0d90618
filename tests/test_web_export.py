"""A chat as one document; and that no route passes over a parameter that it does not know."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from chat_states import user
from test_web_api import create
from web_world import World, client_of, error_code, serving

from chatcluster.cli import chat_commands
from chatcluster.cli import commands as cli
from chatcluster.client import Client
from chatcluster.content import FilePart
from chatcluster.parts import (
    ImagePart,
    JsonPart,
    Message,
    NewMessage,
    OpaquePart,
    Part,
    ReasoningPart,
    Role,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from chatcluster.ports import NewChat
from chatcluster.transcript import markdown_of
from chatcluster.web.api import export


def said(*parts: Part, role: Role = Role.ASSISTANT, **fields: str) -> Message:
    return Message(1, role, parts, 1, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), **fields)  # type: ignore[arg-type]


# --- Markdown ---------------------------------------------------------------------------------


def test_words_are_given_as_they_were_written_and_thoughts_are_left_out() -> None:
    message = said(ReasoningPart("hm"), OpaquePart("p", "m", "k", "{}"), TextPart("**Yes**\n\n* one\n"), model="large")
    assert markdown_of(message) == "\n## Assistant, large · 2026-01-02 03:04:05 UTC\n\n**Yes**\n\n* one\n"


def test_sources_stand_behind_the_text_that_they_are_for() -> None:
    parts = (TextPart("It rains."), SourcePart("https://a.example/", "Weather"), SourcePart("https://b.example/"))
    assert said_in(parts) == "It rains.\n\nSource: Weather <https://a.example/>\n\nSource: <https://b.example/>"


def said_in(parts: tuple[Part, ...]) -> str:
    return markdown_of(said(*parts)).partition("\n\n")[2].strip()


def test_a_cut_answer_says_so() -> None:
    assert "*(interrupted)*" in markdown_of(said(TextPart("Ye"), finish_reason="interrupted"))


def test_nothing_in_a_result_closes_its_block() -> None:
    text = markdown_of(said(ToolResultPart("1", "a\n````\n# b"), role=Role.TOOL))
    assert "``````\na\n````\n# b\n``````" in text


def test_calls_files_and_images_are_told() -> None:
    call = markdown_of(said(ToolCallPart("1", "look", '{"at": 1}')))
    assert 'Calls `look`:\n\n```json\n{"at": 1}\n```' in call
    result = markdown_of(
        said(ToolResultPart("1", (JsonPart("[1]"), ImagePart("image/png", "x")), True), role=Role.TOOL)
    )
    assert "Failed:\n\n```json\n[1]\n```\n\n*Image (image/png)*" in result
    file = FilePart(UUID(int=1), "plan.pdf", "application/pdf", 9)
    assert "*File: plan.pdf (application/pdf, 9 bytes)*" in markdown_of(said(file, role=Role.USER))


# --- the route --------------------------------------------------------------------------------


async def long_chat(world: World, owner_id: UUID) -> str:
    messages = (NewMessage(Role.SYSTEM, (TextPart("Be kind."),)), *(user(f"word {number}") for number in range(5)))
    chat_id = uuid4()
    await world.store.create(NewChat(chat_id, owner_id, "A plan / «b»", None, messages))
    return str(chat_id)


async def test_a_chat_is_given_as_one_document_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PAGE_MESSAGES", 2)
    world = World()
    async with client_of(world) as client:
        me = UUID((await client.get("/api/v1/me")).json()["user_id"])
        path = f"/api/v1/chats/{await long_chat(world, me)}/export"
        document = await client.get(path)
        assert document.headers["content-type"] == "text/markdown; charset=utf-8"
        assert (
            document.headers["content-disposition"] == "attachment; filename*=UTF-8''A%20plan%20%2F%20%C2%ABb%C2%BB.md"
        )
        assert document.text.startswith("# A plan / «b»\n")
        assert re.findall(r"word \d", document.text) == [f"word {number}" for number in range(5)]
        whole = (await client.get(path, params={"format": "json"})).json()
        assert whole["chat"]["title"] == "A plan / «b»"
        assert [message["role"] for message in whole["messages"]] == ["user"] * 5
        assert "Be kind." not in document.text, "a system text is for the model alone"
        listed = (await client.get(path.replace("export", "messages"))).json()["messages"]
        assert whole["messages"] == listed


async def test_an_empty_chat_is_a_document_as_well() -> None:
    async with client_of(World()) as client:
        chat = (await client.post("/api/v1/chats", json={"title": "T"})).json()
        path = f"/api/v1/chats/{chat['id']}/export"
        assert (await client.get(path)).text == "# T\n"
        assert (await client.get(path, params={"format": "json"})).json()["messages"] == []


async def test_another_users_chat_is_not_found_and_an_unknown_format_is_refused() -> None:
    world = World()
    async with client_of(world) as client, world.client(await world.token("eve")) as stranger:
        path = f"/api/v1/chats/{(await create(client))['id']}/export"
        assert error_code(await stranger.get(path)) == "chat_not_found"
        assert error_code(await client.get(path, params={"format": "pdf"})) == "invalid_request"


async def test_the_client_exports() -> None:
    world = World()
    async with serving(world), Client(world.url, await world.token()) as client:
        chat = await client.create("hello")
        assert b"hello" in await client.export(chat["id"])
        assert json.loads(await client.export(chat["id"], "json"))["chat"]["id"] == chat["id"]


# --- unknown parameters -----------------------------------------------------------------------


async def test_no_route_passes_over_a_parameter_that_it_does_not_know() -> None:
    """Somebody who mistypes one shall not take the answer for what was asked for. Doors take what comes."""
    world = World()
    async with client_of(world, admin=True) as client:
        before = world.written()
        answers = {}
        paths = (await client.get("/schema/openapi.json")).json()["paths"]
        routes = [(method, path) for path, item in paths.items() for method in item if path.startswith("/api/v1/")]
        for method, path in routes:
            filled = re.sub(r"{[^}]*}", str(uuid4()), path)
            answer = await client.request(method, filled, params={"nonsense": "1"})
            answers[method, path] = (answer.status_code, answer.json()["error"]["code"])
        assert {route for route, answer in answers.items() if answer != (400, "invalid_request")} == set()
        assert len(answers) > 60
        assert world.written() == before


# --- the command line -------------------------------------------------------------------------


class ScriptedClient:
    def __call__(self, *_: str) -> ScriptedClient:
        return self

    async def __aenter__(self) -> ScriptedClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def chats(self, *, limit: int, after: str = "0", **query: object) -> dict[str, object]:
        assert query == {"archived": False, "q": "plan"}
        number = 1 + int(after)
        row = {"id": str(number), "status": "waiting", "updated_at": "2026-01-02T03:04:05Z", "model": None}
        return {"chats": [row | {"title": f"plan {number}"}][:limit], "has_more": True}

    async def export(self, chat_id: str, form: str) -> bytes:
        return f"{chat_id} as {form}".encode()


@pytest.fixture
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_commands, "Client", ScriptedClient())


REACH = ("--url", "http://127.0.0.1:1", "--token", "ccl_x", "--data-dir", str(Path("/nonexistent")))


@pytest.mark.usefixtures("_scripted")
def test_chats_are_listed_as_far_as_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["chats", "-q", "plan", "--limit", "3", *REACH]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["ID", "1", "2", "3"]


@pytest.mark.usefixtures("_scripted")
def test_a_history_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["history", "abc", *REACH]) == 0
    assert cli.run(["history", "abc", "--json", *REACH]) == 0
    assert capsys.readouterr().out == "abc as markdownabc as json\n"
