"""Web push on real processes: a local push service decrypts exactly one message for each turn that is to be told."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster, follow
from postgres_sessions import fetchval, open_session
from push_service import Browser, PushService

from chatcluster.config import Settings
from chatcluster.postgres import open_database
from chatcluster.push_encryption import new_push_key

pytestmark = pytest.mark.cluster


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """An owner that tells nobody, and a replica that owns nothing and tells."""
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        await cluster.start(1)
        cluster.add(slots=0, push_key=new_push_key(), push_private_addresses=True)
        await cluster.replicas[1].next_ready()
        yield cluster


async def test_each_turn_that_ended_is_told_once_also_when_its_owner_died_right_after_the_commit(
    cluster: Cluster, database_url: str
) -> None:
    owner, teller = cluster.replicas
    browser = Browser()
    with PushService(browser) as service:
        await subscribe(cluster, service)
        async with cluster.client(teller) as client:
            stopped = (await client.create("Stopped [[tokens=10000 tps=50]]"))["id"]
            await follow(client, stopped, lambda view: bool(view.preview_text))
            await client.interrupt(stopped)
            await follow(client, stopped, lambda view: view.at_rest)
            failed = (await client.create("Failed [[fail=401]]"))["id"]
            await follow(client, failed, lambda view: view.status == "error")
            last = (await client.create("Last [[tokens=3]]"))["id"]
            await follow(client, last, lambda view: view.turn is not None)
            owner.send(signal.SIGKILL)
        await until_told(database_url, service, 2)
    assert sorted((said["title"], said["path"], said["body"]) for said in service.said) == [
        ("Failed [[fail=401]]", f"/chats/{failed}", "The answer failed."),
        ("Last [[tokens=3]]", f"/chats/{last}", "The answer is complete."),
    ]


async def test_a_browser_that_is_gone_is_forgotten(cluster: Cluster, database_url: str) -> None:
    teller = cluster.replicas[1]
    with PushService(Browser(), 410) as service:
        await subscribe(cluster, service)
        async with cluster.client(teller) as client:
            await client.create("Gone [[tokens=3]]")
        async with httpx.AsyncClient(base_url=f"{teller.url}/api/v1", headers=authorization(cluster)) as http:
            with trio.fail_after(WAIT_SECONDS):
                while (await http.get("/me/push-subscriptions")).json()["subscriptions"]:  # noqa: ASYNC110
                    await trio.sleep(0.05)
    assert service.said == []


async def subscribe(cluster: Cluster, service: PushService) -> None:
    body = {"endpoint": service.endpoint, "keys": service.browser.keys}
    url = f"{cluster.replicas[1].url}/api/v1/me/push-subscriptions"
    async with httpx.AsyncClient(headers=authorization(cluster)) as http:
        (await http.post(url, json=body)).raise_for_status()


def authorization(cluster: Cluster) -> dict[str, str]:
    return {"Authorization": f"Bearer {cluster.token}"}


async def until_told(database_url: str, service: PushService, count: int) -> None:
    """So many messages came, and there is none to come."""
    async with (
        open_database(Settings.of(database_url=database_url)) as database,
        open_session(database, "observer") as observer,
    ):
        with trio.fail_after(WAIT_SECONDS):
            while len(service.said) < count or await fetchval(observer, "SELECT count(*) FROM push_notices"):  # noqa: ASYNC110
                await trio.sleep(0.05)
