"""OpenAI's own client, unmodified, against replicas of real processes, while they are killed (P1, P3, P4)."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster, Process
from mcp_world import test_server

pytestmark = pytest.mark.cluster

MODEL = "simulated"
ENDLESS = "[[tokens=100000 tps=40]]"
OPENED: list[openai.OpenAI] = []
"""Clients of the test, to be closed behind it."""
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


def words(count: int) -> str:
    return "".join(f"w{number} " for number in range(count))


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    # Without signs of life: whatever comes, its end included, comes by itself.
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(2, sse_heartbeat_seconds=3600)
        for opened in OPENED:
            opened.close()
        OPENED.clear()


def client(cluster: Cluster, replica: Process | None = None, token: str | None = None) -> Any:
    url = (replica or cluster.replicas[0]).url
    OPENED.append(
        openai.OpenAI(base_url=f"{url}/v1", api_key=token or cluster.token, max_retries=0, timeout=WAIT_SECONDS)
    )
    return OPENED[-1]


async def in_thread(work: Callable[[], Any]) -> Any:
    with trio.fail_after(2 * WAIT_SECONDS):
        return await trio.to_thread.run_sync(work)


def plain(events: Any) -> list[Any]:
    return [event.to_dict() for event in events]


def history(cluster: Cluster, response: Any) -> str:
    chat_id = response.model_extra["chat_id"]
    headers = {"Authorization": f"Bearer {cluster.token}"}
    alive = next(one for one in cluster.replicas if one.process.poll() is None)
    messages = httpx.get(f"{alive.url}/api/v1/chats/{chat_id}/messages", headers=headers).json()["messages"]
    last = [message for message in messages if message["role"] == "assistant"][-1]
    return "".join(part["text"] for part in last["parts"] if part["type"] == "text")


async def test_create_retrieve_go_on_and_delete(cluster: Cluster) -> None:
    def work() -> None:
        one, other = client(cluster), client(cluster, cluster.replicas[1])
        assert [model.id for model in one.models.list()] == [MODEL]
        assert one.models.retrieve(MODEL).id == MODEL
        made = one.responses.create(model=MODEL, input="hi [[tokens=9]]", metadata={"a": "b"}, instructions="Be kind.")
        assert (made.status, made.output_text, made.metadata) == ("completed", words(9), {"a": "b"})
        assert made.usage.output_tokens == 9
        assert other.responses.retrieve(made.id) == made
        went_on = other.responses.create(model=MODEL, input="[[mode=request]]", previous_response_id=made.id)
        assert '"Be kind."' in went_on.output_text
        assert "w8" in went_on.output_text
        assert went_on.model_extra["chat_id"] == made.model_extra["chat_id"]
        forked = one.responses.create(model=MODEL, input="[[tokens=2]]", previous_response_id=made.id)
        assert forked.model_extra["chat_id"] != made.model_extra["chat_id"], "it was not the last one any more"
        (given,) = one.responses.input_items.list(made.id)
        assert given.content[0].text == "hi [[tokens=9]]"
        one.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            other.responses.retrieve(made.id)

    await in_thread(work)


async def test_a_conversation_is_a_chat(cluster: Cluster) -> None:
    def work() -> None:
        one, other = client(cluster), client(cluster, cluster.replicas[1])
        items: Any = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "I am Ada."}]
        made = one.conversations.create(items=items, metadata={"a": "b"})
        assert other.conversations.retrieve(made.id) == made
        response = other.responses.create(model=MODEL, input="[[mode=request]]", conversation=made.id)
        assert "I am Ada." in response.output_text
        assert response.conversation.id == made.id
        listed = [item.type for item in one.conversations.items.list(made.id, order="asc")]
        assert listed == ["message"] * 3
        first = next(iter(one.conversations.items.list(made.id, limit=1)))
        assert one.conversations.items.retrieve(first.id, conversation_id=made.id).id == first.id
        aside: Any = [{"role": "user", "content": "By the way"}, {"role": "assistant", "content": "Noted."}]
        added = other.conversations.items.create(made.id, items=aside)
        assert [item.role for item in added.data] == ["user", "assistant"]
        assert next(iter(one.conversations.items.list(made.id, limit=1))) == added.data[1]
        assert one.conversations.items.delete(added.data[0].id, conversation_id=made.id) == made
        with pytest.raises(openai.NotFoundError):
            other.conversations.items.retrieve(added.data[0].id, conversation_id=made.id)
        told = one.responses.create(model=MODEL, input="[[mode=request]]", conversation=made.id).output_text
        assert "Noted." in told
        assert "By the way" not in told
        assert one.conversations.update(made.id, metadata={"c": "d"}).metadata == {"c": "d"}
        assert other.conversations.delete(made.id).deleted
        with pytest.raises(openai.NotFoundError):
            one.conversations.retrieve(made.id)
        with pytest.raises(openai.NotFoundError):
            one.responses.retrieve(response.id)

    await in_thread(work)


async def test_what_follows_any_event_is_exactly_the_rest_on_every_replica(cluster: Cluster) -> None:
    """P3, also where an attempt came to nothing in the middle: its model's connection was lost."""

    def work() -> None:
        one, other = client(cluster), client(cluster, cluster.replicas[1])
        asked = "[[tokens=24 reasoning=3 cut_after=12 times=1]]"
        events = plain(one.responses.create(model=MODEL, input=asked, stream=True))
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        closed = [event["item"]["status"] for event in events if event["type"] == "response.output_item.done"]
        assert closed == ["completed", "incomplete", "completed", "completed"]
        response_id = events[0]["response"]["id"]
        for at in (one, other):
            assert plain(at.responses.retrieve(response_id, stream=True)) == events
            for number in range(len(events)):
                rest = at.responses.retrieve(response_id, stream=True, starting_after=number)
                assert plain(rest) == events[number + 1 :], number
        assert other.responses.retrieve(response_id).output_text == words(24)

    await in_thread(work)


async def test_functions_are_called_by_the_client(cluster: Cluster) -> None:
    def work() -> None:
        one, other = client(cluster), client(cluster, cluster.replicas[1])
        asked = one.responses.create(model=MODEL, input='[[call=get_weather {"city": "Oslo"}]]', tools=[WEATHER])
        (call,) = asked.output
        assert (call.type, call.name, call.arguments) == ("function_call", "get_weather", '{"city": "Oslo"}')
        with pytest.raises(openai.BadRequestError, match=r"No tool output found for function call"):
            one.responses.create(model=MODEL, input="well?", previous_response_id=asked.id, tools=[WEATHER])
        output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "12 degrees"}]
        with other.responses.stream(
            model=MODEL, input=output, previous_response_id=asked.id, tools=[WEATHER]
        ) as stream:
            told = stream.get_final_response()
        assert "12 degrees" in told.output_text
        assert one.responses.retrieve(asked.id) == asked
        own_history: Any = [{"role": "user", "content": "the weather?"}, call.to_dict(), *output]
        again = one.responses.create(model=MODEL, input=own_history, tools=[WEATHER], store=False)
        assert again.status == "completed"

    await in_thread(work)


async def test_what_runs_in_the_background_is_cancelled_and_resumed(cluster: Cluster) -> None:
    def work() -> None:
        one, other = client(cluster), client(cluster, cluster.replicas[1])
        made = one.responses.create(model=MODEL, input=ENDLESS, background=True)
        assert made.status == "queued"
        with pytest.raises(openai.ConflictError) as busy:
            one.with_options(max_retries=2).responses.create(model=MODEL, input="?", previous_response_id=made.id)
        assert busy.value.response.headers["x-should-retry"] == "false"
        assert busy.value.request.headers["x-stainless-retry-count"] == "0", "the client does not hammer"
        for event in other.responses.retrieve(made.id, stream=True):
            if event.type == "response.output_text.delta":
                break
        cancelled = other.responses.cancel(made.id)
        assert cancelled.status == "cancelled"
        assert cancelled.output_text == history(cluster, cancelled)
        assert one.responses.cancel(made.id) == one.responses.retrieve(made.id) == cancelled

    await in_thread(work)


async def test_a_client_that_leaves_stops_nothing_unless_it_wants_to(cluster: Cluster) -> None:
    def work() -> None:
        one = client(cluster)
        for wanted, text, status in (
            ("continue", "[[tokens=40 tps=40]]", "completed"),
            ("cancel", ENDLESS, "cancelled"),
        ):
            more = {"on_disconnect": wanted}
            with one.responses.create(model=MODEL, input=text, stream=True, extra_body=more) as stream:
                response_id = next(iter(stream)).response.id
            deadline = time.monotonic() + WAIT_SECONDS
            while (now := one.responses.retrieve(response_id)).status == "in_progress":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert now.status == status

    await in_thread(work)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
async def test_the_client_works_under_asyncio_and_under_trio(cluster: Cluster) -> None:
    async def work() -> None:
        url = f"{cluster.replicas[0].url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=cluster.token, max_retries=0) as one:
            events = [
                event async for event in await one.responses.create(model=MODEL, input="[[tokens=5]]", stream=True)
            ]
            assert events[-1].type == "response.completed"
            async with one.responses.stream(model=MODEL, input="[[tokens=5]]") as stream:
                assert (await stream.get_final_response()).output_text == words(5)

    await work()
    await in_thread(lambda: asyncio.run(work()))


async def test_errors_are_those_that_the_client_knows(cluster: Cluster) -> None:
    def work() -> None:
        one = client(cluster)
        with pytest.raises(openai.AuthenticationError):
            client(cluster, token="ccl_wrong").responses.create(model=MODEL, input="x")
        with pytest.raises(openai.NotFoundError):
            one.responses.retrieve("resp_x")
        with pytest.raises(openai.BadRequestError) as refused:
            one.responses.create(model=MODEL, input="x", tools=[{"type": "web_search"}])
        assert (refused.value.param, refused.value.code) == ("tools", "invalid_request")
        failed = one.responses.create(model=MODEL, input="[[fail=401]]")
        assert failed.status == "failed"
        assert "401" in failed.error.message
        cut = one.responses.create(model=MODEL, input="[[tokens=3 finish=length]]")
        assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")

    await in_thread(work)


async def test_p1_a_repeat_with_its_key_attaches_to_what_the_first_one_began(cluster: Cluster) -> None:
    def work() -> None:
        key = {"Idempotency-Key": "once"}
        asked: Any = {"model": MODEL, "input": "[[tokens=30 tps=40]]", "stream": True, "extra_headers": key}
        with client(cluster).responses.create(**asked) as stream:
            next(iter(stream))
        first = plain(client(cluster).responses.create(**asked))
        assert plain(client(cluster, cluster.replicas[1]).responses.create(**asked)) == first
        assert first[-1]["response"]["output"][0]["content"][0]["text"] == words(30)

    await in_thread(work)


async def test_a_connection_that_ends_with_its_response_is_not_used_again(cluster: Cluster) -> None:
    """Whatever follows at once, on a client that keeps connections, gets its answer."""

    def work() -> None:
        headers = {"Authorization": f"Bearer {cluster.token}"}
        with httpx.Client(base_url=cluster.replicas[0].url, headers=headers) as one:
            for stream in (True, False) * 50:
                body = {"model": MODEL, "input": "[[fail=401]]", "stream": stream}
                assert '"failed"' in one.post("/v1/responses", json=body).text
                assert one.get("/v1/models").status_code == 200

    await in_thread(work)


def ask(one: Any, messages: Any, **options: Any) -> str:
    return str(one.chat.completions.create(model=MODEL, messages=messages, **options).choices[0].message.content)


async def test_a_chat_completion_is_streamed_and_made_as_a_whole(cluster: Cluster) -> None:
    def work() -> None:
        one = client(cluster)
        messages: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi [[tokens=9]]"}]
        made = one.chat.completions.create(model=MODEL, messages=messages)
        assert (made.choices[0].message.content, made.choices[0].finish_reason) == (words(9), "stop")
        assert made.usage.completion_tokens == 9
        usage = {"include_usage": True}
        asked = one.chat.completions.create(model=MODEL, messages=messages, stream=True, stream_options=usage)
        chunks = list(asked)
        assert chunks[0].choices[0].delta.role == "assistant"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == words(9)
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 9)
        assert "Be kind." in ask(one, [messages[0], {"role": "user", "content": "[[mode=request]]"}])

    await in_thread(work)


async def test_a_chat_completion_has_calls_of_the_clients_functions(cluster: Cluster) -> None:
    def work() -> None:
        one = client(cluster)
        nested: Any = [{"type": "function", "function": {key: WEATHER[key] for key in WEATHER if key != "type"}}]
        messages: Any = [{"role": "user", "content": '[[call=get_weather {"city": "Oslo"}]]'}]
        chunks = list(one.chat.completions.create(model=MODEL, messages=messages, tools=nested, stream=True))
        (call,) = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        assert (call.index, call.function.name, call.function.arguments) == (0, "get_weather", '{"city": "Oslo"}')
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
        asked = one.chat.completions.create(model=MODEL, messages=messages, tools=nested).choices[0]
        assert (asked.finish_reason, asked.message.tool_calls[0].function.name) == ("tool_calls", "get_weather")
        output = {"role": "tool", "tool_call_id": asked.message.tool_calls[0].id, "content": "12 degrees"}
        assert "12 degrees" in ask(one, [*messages, asked.message.to_dict(), output], tools=nested)

    await in_thread(work)


async def test_a_chat_completion_that_fails_is_an_error(cluster: Cluster) -> None:
    def work() -> None:
        one = client(cluster)
        failing: Any = [{"role": "user", "content": "[[fail=401]]"}]
        with pytest.raises(openai.InternalServerError, match="401"):
            ask(one, failing)
        with pytest.raises(openai.APIError, match="401"):
            list(one.chat.completions.create(model=MODEL, messages=failing, stream=True))
        wrong: Any
        for wrong in ({"n": 2}, {"stop": "x"}, {"response_format": {"type": "json_object"}}):
            with pytest.raises(openai.BadRequestError):
                ask(one, [{"role": "user", "content": "x"}], **wrong)
        image = {"type": "image_url", "image_url": {"url": "x"}}
        with pytest.raises(openai.BadRequestError) as refused:
            ask(one, [{"role": "user", "content": [image]}])
        assert refused.value.param == "messages"

    await in_thread(work)


@pytest.fixture
def tool_server() -> Iterator[str]:
    with test_server() as server:
        yield server.url


def asking_tool(cluster: Cluster, url: str, approval: str) -> tuple[str, Any]:
    """A server of tools, and how a response is given it."""
    slug = f"tools-{uuid.uuid4().hex[:8]}"
    body = {"slug": slug, "url": f"{url}/mcp", "approval": approval}
    headers = {"Authorization": f"Bearer {cluster.token}"}
    answer = httpx.post(f"{cluster.replicas[0].url}/api/v1/admin/mcp-servers", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return slug, [{"type": "mcp", "server_label": slug, "require_approval": "always"}]


async def test_p1_a_call_is_approved_by_the_client_whatever_dies_meanwhile(cluster: Cluster, tool_server: str) -> None:
    """The request ends the response, its answer begins the next one: each is the same at every replica, from any number
    on, also when all of it is over."""

    def work() -> None:
        slug, tools = asking_tool(cluster, tool_server, "ask")
        text = f'[[call={slug}__weather {{"city": "Oslo"}}]]'
        one, other = client(cluster), client(cluster, cluster.replicas[1])
        asked = plain(one.responses.create(model=MODEL, input=text, tools=tools, stream=True))
        assert asked[-1]["type"] == "response.completed"
        _, request = asked[-1]["response"]["output"]
        assert (request["type"], request["server_label"], request["name"]) == ("mcp_approval_request", slug, "weather")
        assert request["arguments"] == '{"city": "Oslo"}'
        answer: Any = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
        wrong: Any = {**answer, "approval_request_id": "mcpr_x_0"}
        response_id = asked[0]["response"]["id"]
        with pytest.raises(openai.ConflictError):
            one.responses.create(model=MODEL, input="well?", previous_response_id=response_id)
        more: Any = {"model": MODEL, "tools": tools, "previous_response_id": response_id}
        with pytest.raises(openai.BadRequestError, match="no call here"):
            one.responses.create(input=[wrong], **more)
        cluster.replicas[0].send(signal.SIGKILL)
        cluster.replicas[0].process.wait()
        with other.responses.stream(input=[answer], **more) as stream:
            told = [event.type for event in stream]
            final = stream.get_final_response()
        call, said = final.output
        assert (call.type, call.approval_request_id, call.error) == ("mcp_call", request["id"], None)
        assert "Oslo" in call.output
        assert said.type == "message"
        assert other.responses.retrieve(final.id).output_text == final.output_text
        again = other.responses.create(input=[answer], **more)
        assert again.id == final.id, "a repeat is told the same"
        for key, events in ((response_id, asked), (final.id, plain(other.responses.retrieve(final.id, stream=True)))):
            for number in range(len(events)):
                rest = plain(other.responses.retrieve(key, stream=True, starting_after=number))
                assert rest == events[number + 1 :], (number, rest)
        assert len(told) == len(plain(other.responses.retrieve(final.id, stream=True)))
        (given,) = other.responses.input_items.list(final.id)
        assert (given.type, given.approve) == ("mcp_approval_response", True)

    await in_thread(work)


async def test_what_only_its_user_can_answer_ends_a_response_in_words_and_it_goes_on_from_there(
    cluster: Cluster, tool_server: str
) -> None:
    def work() -> None:
        slug, tools = asking_tool(cluster, tool_server, "never")
        text = f"[[call={slug}__introduce {{}}]]"
        one, other = client(cluster), client(cluster, cluster.replicas[1])
        asked = one.responses.create(model=MODEL, input=text, tools=tools)
        assert (asked.status, asked.incomplete_details.reason) == ("incomplete", "action_required")
        assert f"{slug}__introduce" in asked.incomplete_details.model_extra["message"]
        with pytest.raises(openai.ConflictError, match="still waits"):
            one.responses.create(model=MODEL, input=[], previous_response_id=asked.id)
        chat_id = asked.model_extra["chat_id"]
        headers = {"Authorization": f"Bearer {cluster.token}"}
        with httpx.Client(base_url=f"{cluster.replicas[0].url}/api/v1/chats/{chat_id}", headers=headers) as api:
            (action,) = api.get("").json()["action_required"]
            (question,) = action["questions"]
            reply = {question["key"]: {"action": "accept", "content": {"name": "Ada"}}}
            assert api.post(f"/tool-calls/{action['call_id']}/answer", json={"answers": reply}).status_code == 200
        rest = other.responses.create(model=MODEL, input=[], previous_response_id=asked.id, tools=tools)
        assert "Ada" in rest.output[0].output
        assert one.responses.retrieve(asked.id).status == "incomplete", "what was told stays so"
        key = {"Idempotency-Key": "asking"}
        messages: Any = [{"role": "user", "content": text}]
        with pytest.raises(openai.ConflictError, match="waits for a person"):
            one.chat.completions.create(model=MODEL, messages=messages, tools=tools, extra_headers=key)

    await in_thread(work)
