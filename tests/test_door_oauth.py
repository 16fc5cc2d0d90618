"""A real authorization server behind the doors of real replicas: who is let in no longer is told where to sign in, does
so, and the turn goes on, whatever dies meanwhile (P4)."""

from __future__ import annotations

import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import openai
import pytest
import trio
from cluster_processes import Cluster, Process
from mcp_world import test_server

from chatcluster.secrets import new_key

pytestmark = pytest.mark.cluster

MODEL = "simulated"
BEGINNINGS_MAX = 5


class Mail:
    """A server of tools that its users sign in at. ``ask`` is what makes the model call one of them."""

    def __init__(self, cluster: Cluster, url: str) -> None:
        self._url, self._headers = url, {"Authorization": f"Bearer {cluster.token}"}
        self.slug = f"mail-{uuid.uuid4().hex[:8]}"
        self.ask = f"[[call={self.slug}__peek {{}}]]"
        self.login = f"/api/v1/me/mcp-servers/{self.slug}/login"
        body = {"slug": self.slug, "url": f"{url}/oauth/mcp", "auth": {"kind": "oauth"}}
        self.post(cluster.replicas[0], "/api/v1/admin/mcp-servers", body)

    def post(self, replica: Process, path: str, body: Any = None) -> Any:
        answer = httpx.post(replica.url + path, json=body, headers=self._headers, timeout=30)
        assert answer.is_success, answer.text
        return answer.json()

    def stream(self, replica: Process, path: str, body: Any) -> Any:
        return httpx.stream("POST", replica.url + path, json=body, headers=self._headers, timeout=30)

    def sign_in(self, replica: Process, path: str) -> None:
        """As a browser does, which ends up at this replica."""
        asked = httpx.get(self._begin(replica, path))
        assert asked.status_code == 302, asked.text
        back = httpx.get(f"{replica.url}/oauth/mcp/callback?{urlsplit(asked.headers['location']).query}", timeout=30)
        assert back.status_code == 200, back.text

    def _begin(self, replica: Process, path: str) -> str:
        """Where to go to. The first one waits for the process that speaks to servers of tools, and may be told to come
        again."""
        for _ in range(BEGINNINGS_MAX):
            answer = httpx.post(replica.url + path, headers=self._headers, timeout=30)
            if answer.is_success:
                return str(answer.json()["url"])
            assert "was not found out within" in answer.text, answer.text
        raise AssertionError(f"{replica.name} does not begin to sign anybody in")

    def revoke(self) -> None:
        httpx.post(f"{self._url}/control", json={"revoke_all": True}).raise_for_status()


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(2, encryption_keys=new_key())


@pytest.fixture
def mail(cluster: Cluster) -> Iterator[Mail]:
    with test_server() as server:
        yield Mail(cluster, server.url)


async def in_thread(work: Callable[[], Any]) -> Any:
    with trio.fail_after(180):
        return await trio.to_thread.run_sync(work)


async def test_p4_a_response_says_where_to_sign_in_and_the_next_one_has_the_result_whatever_dies_meanwhile(
    cluster: Cluster, mail: Mail
) -> None:
    def work() -> None:
        first, second = cluster.replicas
        mail.sign_in(first, mail.login)
        asked: Any = {"model": MODEL, "tools": [{"type": "mcp", "server_label": mail.slug}]}
        with openai.OpenAI(base_url=f"{first.url}/v1", api_key=cluster.token, max_retries=0, timeout=30) as one:
            assert one.responses.create(input=mail.ask, **asked).output[0].type == "mcp_call", "signed in"
            mail.revoke()
            told = one.responses.create(input=mail.ask, **asked)
        assert (told.status, told.incomplete_details.reason) == ("incomplete", "action_required")
        assert f"POST {mail.login}" in told.incomplete_details.model_extra["message"]
        first.send(signal.SIGKILL)
        first.process.wait()
        mail.sign_in(second, mail.login)
        with openai.OpenAI(base_url=f"{second.url}/v1", api_key=cluster.token, max_retries=0, timeout=30) as other:
            done = other.responses.create(input=[], previous_response_id=told.id, **asked)
        assert done.status == "completed"
        assert (done.output[0].type, done.output[0].error) == ("mcp_call", None)

    await in_thread(work)


@pytest.mark.parametrize("door", ["ai-sdk", "ag-ui"])
async def test_a_stream_stays_open_until_its_user_has_signed_in_elsewhere(
    cluster: Cluster, mail: Mail, door: str
) -> None:
    said = {"id": "m1", "role": "user"}
    doors: dict[str, tuple[str, Any, str]] = {
        "ai-sdk": (
            "/api/ai/chat",
            {"id": "x", "message": {**said, "parts": [{"type": "text", "text": mail.ask}]}, "mcpServers": [mail.slug]},
            "finish",
        ),
        "ag-ui": (
            "/api/agui",
            {
                "threadId": "x",
                "runId": "r",
                "messages": [{**said, "content": mail.ask}],
                "forwardedProps": {"mcpServers": [mail.slug]},
            },
            "RUN_FINISHED",
        ),
    }
    path, body, end = doors[door]

    def work() -> None:
        first, second = cluster.replicas
        mail.sign_in(first, mail.login)
        mail.post(first, "/v1/responses", {"input": mail.ask, "tools": [{"type": "mcp", "server_label": mail.slug}]})
        mail.revoke()  # the list is known by then
        told = []
        with mail.stream(first, path, body) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: {"):
                    told.append(msgspec.json.decode(line.removeprefix("data: ")))
                    where = told[-1].get("data", told[-1].get("value"))
                    if isinstance(where, dict) and "signInAt" in where:
                        mail.sign_in(second, where["signInAt"])
        assert told[-1]["type"] == end
        assert any("signInAt" in str(one) for one in told)

    await in_thread(work)
