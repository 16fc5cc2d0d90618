"""What a tab of the page costs beside a reader of the API: a word that is shown, and a stream that is opened.

A tab has one stream for the list of chats and the chat that is open, and a cookie in the place of a token. Both kinds
of readers take turns in each repeat, so that what the machine does meanwhile is the same for both.
"""

from __future__ import annotations

import json
import urllib.request

import trio

from bench.bench import Bench, Workload
from bench.cluster import Cluster, Setup
from bench.figures import Case
from bench.workloads.stream import read_tokens

READERS = 400
CHATS = 20
CONCURRENCY = 4
SIGN_IN_SECONDS_MAX = 30.0
READER, TAB = "a reader of the API", "a tab"


async def measure(bench: Bench) -> list[Case]:
    words = {kind: Case("page", f"words to {kind}", "event") for kind in (READER, TAB)}
    opened = {kind: Case("page", f"{kind} that comes", "stream") for kind in (READER, TAB)}
    async with bench.cluster(Setup(replicas=1)) as cluster:
        cookies = {READER: "", TAB: await _signed_in(bench, cluster)}
        for _ in range(bench.repeats):
            for kind, cookie in cookies.items():
                words[kind].runs.append(await _words(bench, cluster, cookie))
            for kind, cookie in cookies.items():
                opened[kind].runs.append(await _openings(bench, cluster, cookie))
            for cases in (words, opened):
                reader, tab = cases[READER].runs, cases[TAB].runs
                tab[-1] = {**tab[-1], "reader_times": tab[-1]["replica_cpu_s"] / reader[-1]["replica_cpu_s"]}
    return [*words.values(), *opened.values()]


async def _words(bench: Bench, cluster: Cluster, cookie: str) -> dict[str, float]:
    [chat_id], [address] = await bench.chats(cluster, 1), cluster.addresses
    place = (address, chat_id)
    return await read_tokens(bench, cluster, [place], [place] * READERS, bench.seconds(4.0, 2.0), cookie=cookie)


async def _openings(bench: Bench, cluster: Cluster, cookie: str) -> dict[str, float]:
    [address] = cluster.addresses
    result, costs, late = await bench.metered(
        cluster,
        "openings",
        address=address,
        chats=await bench.chats(cluster, CHATS),
        concurrency=CONCURRENCY,
        seconds=bench.seconds(3.0, 1.5),
        cookie=cookie,
    )
    return {**result["taken"], **costs.figures(result["count"]), **late}


async def _signed_in(bench: Bench, cluster: Cluster) -> str:
    """The cookie of a session, for the host that the load asks for."""
    body = json.dumps({"token": bench.servers.token}).encode()
    headers = {"Content-Type": "application/json", "Host": "bench"}
    url = f"http://{cluster.addresses[0]}/api/v1/session"

    def sign_in() -> str:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=SIGN_IN_SECONDS_MAX) as answer:
            return str(answer.headers["Set-Cookie"]).partition(";")[0]

    return await trio.to_thread.run_sync(sign_in)


WORKLOAD = Workload("page", f"{READERS} tabs beside {READERS} readers of the API, and how they come", measure)
