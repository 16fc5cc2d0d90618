"""What users are promised, on real processes, Postgres and Redis, with processes really killed."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import trio
from cluster_processes import WAIT_SECONDS, Cluster, Json, Process, connected, follow, run_sql
from redis_faults import frozen

from chatcluster.client.chat_view import ChatView
from chatcluster.local.embedded import RedisServer
from chatcluster.parts import Role, text_of

pytestmark = pytest.mark.cluster

QUICK_LEASE = {"heartbeat_seconds": 0.3, "lease_ttl_seconds": 1.5, "lease_margin_seconds": 0.3, "sweep_seconds": 0.2}

TURNS = 5

Seen = tuple[str, Json]

TOLD_ANEW = ("status", "queue", "ready")
"""An event: the cursor after it, and its data."""

Start = Callable[..., Awaitable[Cluster]]


@pytest.fixture
async def start(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a cluster: ``await start(replicas, **settings)``; it is gone when the test ends."""
    async with AsyncExitStack() as clusters:

        async def start_cluster(replicas: int, *, redis_url: str = empty_redis_url, **settings: Any) -> Cluster:
            cluster = await clusters.enter_async_context(Cluster(database_url, redis_url, tmp_path))
            return await cluster.start(replicas, **settings)

        yield start_cluster


def answers(view: ChatView) -> list[str]:
    return [text_of(message.parts) for message in view.messages.values() if message.role is Role.ASSISTANT]


def story(tokens: int) -> str:
    """What the simulated model answers, unless told otherwise."""
    return "".join(f"w{index} " for index in range(tokens))


def answered(view: ChatView) -> bool:
    return view.at_rest and bool(answers(view))


async def begun(cluster: Cluster, prompt: str, *, tokens: int = 5) -> Json:
    """A chat in the middle of its answer: its ID and its owner's."""
    async with cluster.client(cluster.replicas[0]) as client:
        chat = await client.create(prompt)
        view = await follow(client, chat["id"], lambda view: len(view.preview_text.split()) >= tokens)
    return {"id": chat["id"], "worker_id": str(view.worker_id)}


def unfinished(tokens: int, tps: int) -> str:
    """Orders an answer of which the first attempt never says the last word, however late its owner is killed."""
    return f"[[tokens={tokens} tps={tps} silence_after={tokens - 1} times=1]]"


async def test_a_killed_owner_is_replaced_and_its_readers_see_each_thing_once(start: Start) -> None:
    """P3, P4: kill -9 in mid-answer; readers on both other replicas get the whole answer of the new attempt."""
    cluster = await start(3)
    chat = await begun(cluster, unfinished(60, tps=60))
    owner = cluster.owner_of(chat)
    views: list[ChatView] = []

    async def read(replica: Process) -> None:
        async with cluster.client(replica) as client:
            views.append(await follow(client, chat["id"], answered))

    async with trio.open_nursery() as readers:
        for replica in cluster.others(owner):
            readers.start_soon(read, replica)
        owner.send(signal.SIGKILL)
    assert [answers(view) for view in views] == [[story(60)]] * 2
    async with cluster.client(cluster.others(owner)[0]) as client:
        now = await client.chat(chat["id"])
    assert (now["status"], now["epoch"]) == ("waiting", 2)


async def test_a_frozen_owner_wakes_up_to_find_itself_replaced_and_changes_nothing(
    start: Start, database_url: str, empty_redis_url: str
) -> None:
    """P2: after SIGCONT not one late write in Postgres or on the stream; the process goes on as a new incarnation."""
    cluster = await start(2, **QUICK_LEASE)
    chat = await begun(cluster, unfinished(40, tps=40))
    owner = cluster.owner_of(chat)
    owner.send(signal.SIGSTOP)
    async with cluster.client(cluster.others(owner)[0]) as client:
        view = await follow(client, chat["id"], answered)
    assert answers(view) == [story(40)]
    await _stream_closed(empty_redis_url, chat["id"])

    before = await _durable_state(database_url, empty_redis_url, chat["id"])
    frozen_worker = owner.worker_id
    owner.send(signal.SIGCONT)
    announced = await owner.next_ready()
    assert announced["worker_id"] != frozen_worker, "the woken process has a new worker ID"
    assert await _durable_state(database_url, empty_redis_url, chat["id"]) == before
    async with cluster.client(owner) as client:
        names = {replica["worker_id"] for replica in await client.replicas()}
    assert owner.worker_id in names
    assert frozen_worker not in names


async def _durable_state(database_url: str, redis_url: str, chat_id: str) -> tuple[Any, ...]:
    chats = await run_sql(database_url, "SELECT c::text FROM chats c WHERE id = $1::uuid", chat_id)
    messages = await run_sql(
        database_url, "SELECT row_to_json(m)::text FROM messages m WHERE chat_id = $1::uuid", chat_id
    )
    return chats, messages, _frames(redis_url, chat_id)


def _frames(redis_url: str, chat_id: str) -> Any:
    with redis.Redis.from_url(redis_url) as client:
        (key,) = client.keys(f"chatcluster:*:{{{chat_id}}}:parts")
        return client.xrange(key)


async def _stream_closed(redis_url: str, chat_id: str) -> None:
    """What the new owner says last comes behind its commit, which readers have heard of by then."""
    with trio.fail_after(WAIT_SECONDS):
        while _frames(redis_url, chat_id)[-1][1][b"kind"] != b"close":  # noqa: ASYNC110 - it is in another process
            await trio.sleep(0.05)


async def test_a_drained_owner_hands_over_and_its_readers_resume_at_their_cursor(start: Start) -> None:
    """P6: SIGTERM in mid-answer; whoever read on that replica goes on elsewhere, no text twice, none missing."""
    cluster = await start(2, drain_seconds=0.5)
    chat = await begun(cluster, unfinished(120, tps=60))
    owner = cluster.owner_of(chat)
    seen: list[Seen] = []
    is_asked = False
    async with connected(owner.url, cluster.token, chat["id"]) as events:
        async for event in events:
            seen.append(event)
            if event[1]["type"] == "part" and not is_asked:
                owner.send(signal.SIGTERM)
                is_asked = True
    assert await owner.exit_code() == 0
    other = cluster.others(owner)[0]
    await read_to_rest(cluster, other, chat["id"], seen, cursor=seen[-1][0])
    assert assembled(seen) == story(120)
    async with cluster.client(other) as client:
        view = await follow(client, chat["id"], answered)
    assert answers(view) == [story(120)]


async def read_to_rest(
    cluster: Cluster, replica: Process, chat_id: str, seen: list[Seen], *, cursor: str | None = None
) -> None:
    """Append what one connection brings until the chat rests, and all that was said before has been sent."""
    status, initial = "", True
    with trio.fail_after(WAIT_SECONDS):
        async with connected(replica.url, cluster.token, chat_id, cursor) as events:
            async for event_id, data in events:
                seen.append((event_id, data))
                status = data["status"] if data["type"] == "status" else status
                initial = initial and data["type"] != "queue"  # the queue ends the durable part of the first state
                if status == "waiting" and not initial:
                    return
    raise AssertionError("the stream broke off")


def assembled(events: list[Seen]) -> str:
    """The parts as a client puts them together, checked against the message at the end; each message once."""
    preview, messages = "", []
    for _, event in events:
        if event["type"] == "attempt":
            preview = ""
        elif event["type"] == "part":
            preview += event["part"]["text"]
        elif event["type"] == "message":
            messages.append(event["message"])
    assert len(messages) == len({message["id"] for message in messages})
    assert messages[-1]["parts"] == [{"type": "text", "text": preview}]
    return preview


def content(events: list[Seen]) -> list[Seen]:
    """Messages, attempts, parts and ends of turns: what a cursor is about. The rest is told anew to everybody."""
    return [event for event in events if event[1]["type"] not in TOLD_ANEW]


async def test_every_replica_shows_the_same_sequence_from_the_start_and_from_every_cursor(start: Start) -> None:
    """P3: the same events under the same cursors, whichever replica is asked, less what the cursor had."""
    cluster = await start(2, coalesce_ms=0)
    sequences: list[list[Seen]] = [[] for _ in range(4)]
    async with trio.open_nursery() as readers:
        with cluster.silent_model():  # until all of them read
            async with cluster.client(cluster.replicas[0]) as client:
                chat = await client.create("[[tokens=12 tps=50]]")
            for index, sequence in enumerate(sequences):
                readers.start_soon(read_to_rest, cluster, cluster.replicas[index % 2], chat["id"], sequence)
            while not all(any(data["type"] == "ready" for _, data in sequence) for sequence in sequences):  # noqa: ASYNC110
                await trio.sleep(0.02)
    first = content(sequences[0])
    for sequence in sequences:
        assert content(sequence) == first
    assert [data["type"] for _, data in first] == ["message", "attempt", *["part"] * 12, "message", "turn"]

    # Once the answer is history, a cursor from the middle of its parts leads to the message and the turn's end alone.
    for index, (cursor, _) in enumerate(first):
        for replica in cluster.replicas:
            rest: list[Seen] = []
            await read_to_rest(cluster, replica, chat["id"], rest, cursor=cursor)
            later = [data for _, data in first[index + 1 :] if data["type"] in ("message", "turn")]
            assert [data for _, data in content(rest)] == later


async def test_a_reader_that_reconnects_at_each_event_of_a_running_answer_misses_nothing(start: Start) -> None:
    """P3: a new connection for every event, each on the next replica, is the same sequence as one connection."""
    cluster = await start(2, coalesce_ms=0)
    chat = await begun(cluster, "[[tokens=26 tps=12 silence_after=25]]", tokens=1)  # it is stopped once all is seen
    whole: list[Seen] = []
    piecewise: list[Seen] = []

    async def hop() -> None:
        while not piecewise or len(content(piecewise)) < 29:
            replica = cluster.replicas[len(piecewise) % 2]
            cursor = piecewise[-1][0] if piecewise else None
            async with connected(replica.url, cluster.token, chat["id"], cursor) as events:
                async for event in events:
                    if event[1]["type"] not in TOLD_ANEW:
                        piecewise.append(event)
                        break
            if len(content(piecewise)) == 27:
                async with cluster.client(replica) as client:
                    await client.interrupt(chat["id"])

    with trio.fail_after(WAIT_SECONDS):
        async with trio.open_nursery() as readers:
            readers.start_soon(read_to_rest, cluster, cluster.replicas[0], chat["id"], whole)
            readers.start_soon(hop)
    assert piecewise == content(whole)
    assert assembled(piecewise) == story(25)


async def test_with_an_hourly_poll_a_message_starts_at_once_wherever_it_is_posted(start: Start) -> None:
    """Wake-ups: in process on the replica that took the message, by a hint where that one works on no chats."""
    cluster = await start(1, claim_poll_seconds=3600)
    passive = cluster.add(slots=0, claim_poll_seconds=3600)
    await passive.next_ready()
    for replica in cluster.replicas:
        async with cluster.client(replica) as client:
            with trio.fail_after(WAIT_SECONDS):
                chat = await client.create("[[tokens=3]]")
                view = await follow(client, chat["id"], answered)
                assert answers(view) == [story(3)]
                await client.send(chat["id"], "[[tokens=4]]")
                view = await follow(client, chat["id"], lambda view: len(answers(view)) == 2)
                assert answers(view)[1] == story(4)


async def test_a_plain_turn_costs_three_transactions(start: Start) -> None:
    """Send, claim, and the one that inserts the answer and ends the turn. The history is known here."""
    cluster = await start(1, claim_poll_seconds=3600, feed_poll_seconds=3600)
    turn = ("create", "apply", "claim", "commit_known")
    async with cluster.client(cluster.replicas[0]) as client:
        chat = await client.create("[[tokens=3]]")
        await _at_rest(client, chat["id"])
        before = await cluster.transactions()
        for _ in range(TURNS):
            await client.send(chat["id"], "[[tokens=3]]")
            await _at_rest(client, chat["id"])
        spent = await cluster.transactions() - before
    beside = ("get_details", "any", "check_schema", "authenticate", "heartbeats")
    sweeps = ("overdue_chats", "fetch", "templates")
    # What a replica asks for now and then may fall in between, and is not asked for by each turn.
    work = {name: count for name, count in spent.items() if name not in (*beside, *sweeps) and count >= TURNS}
    assert sum(work.values()) <= 4 * TURNS, work  # a claim that finds nothing may follow each one that does
    assert spent["apply"] == spent["commit_known"] == TURNS, spent
    assert set(work) <= set(turn), work


async def _at_rest(client: Any, chat_id: str) -> None:
    with trio.fail_after(WAIT_SECONDS):
        while (await client.chat(chat_id))["status"] != "waiting":
            await trio.lowlevel.checkpoint()


async def test_a_redis_that_hangs_takes_no_replica_out_of_the_load_balancer(
    start: Start, own_redis: RedisServer
) -> None:
    """P8: neither while a connection is open on which nothing is answered, nor when a new one is tried."""
    cluster = await start(1, redis_url=own_redis.start())
    async with httpx.AsyncClient(timeout=WAIT_SECONDS) as client:
        url = f"{cluster.replicas[0].url}/readyz"
        assert (await client.get(url)).json()["checks"]["redis"] == "ok"
        with frozen(own_redis):
            for _ in range(5):
                answer = await client.get(url)
                assert answer.status_code == 200
                assert answer.json()["checks"]["redis"] != "ok"


async def test_without_redis_chats_complete_and_interrupts_work_and_parts_flow_when_it_is_back(
    start: Start, own_redis: RedisServer
) -> None:
    """P8: Redis dies in mid-answer and comes back empty."""
    cluster = await start(2, redis_url=own_redis.start())
    chat = await begun(cluster, "[[tokens=60 tps=40]]")
    reader_at = cluster.others(cluster.owner_of(chat))[0]
    own_redis.kill()
    async with cluster.client(reader_at) as client:
        view = await follow(client, chat["id"], answered)
        assert answers(view) == [story(60)], "the durable message arrives without Redis"

        long = await client.create("[[tokens=10000 tps=20]]")
        await _running(client, long["id"])
        await client.interrupt(long["id"])
        await _at_rest(client, long["id"])

        running = await client.create("[[tokens=10000 tps=25]]")
        await _running(client, running["id"])
        own_redis.start()
        view = await follow(client, running["id"], lambda view: len(view.preview_text.split()) > 20)
        await client.interrupt(running["id"])
        view = await follow(client, running["id"], answered)
        (answer,) = answers(view)
        assert story(10000).startswith(answer)
        assert len(answer.split()) > 20


async def _running(client: Any, chat_id: str) -> None:
    with trio.fail_after(WAIT_SECONDS):
        while (await client.chat(chat_id))["status"] != "running":
            await trio.lowlevel.checkpoint()


async def test_an_interrupt_keeps_what_was_streamed_even_when_the_owner_dies_of_it(start: Start) -> None:
    """P5: the owner is frozen, the chat interrupted, the owner killed: the partial comes from its stream."""
    cluster = await start(2)
    chat = await begun(cluster, unfinished(200, tps=40), tokens=10)
    owner = cluster.owner_of(chat)
    other = cluster.others(owner)[0]
    owner.send(signal.SIGSTOP)
    async with cluster.client(other) as client:
        await client.interrupt(chat["id"])
        owner.send(signal.SIGKILL)
        view = await follow(client, chat["id"], answered)
    [partial] = answers(view)
    assert len(partial.split()) >= 10
    assert story(200).startswith(partial)
    [message] = [message for message in view.messages.values() if message.role is Role.ASSISTANT]
    assert message.finish_reason == "interrupted"


async def test_a_chat_gets_a_title_though_the_replica_that_was_asked_for_it_dies(start: Start) -> None:
    cluster = await start(2, titles=True)
    first, second = cluster.replicas
    async with cluster.client(first) as client:
        chat = await client.create("Why is the sky blue? [[tokens=5]]")
    first.send(signal.SIGKILL)
    async with cluster.client(second) as client:
        with trio.fail_after(WAIT_SECONDS):  # the answer may still be under way when there is a title
            while chat["title"] != "Why is the sky blue" or chat["usage"]["attempts"] < 2:
                await trio.sleep(0.1)
                chat = await client.chat(chat["id"])
