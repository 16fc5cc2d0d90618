"""The waves of a run, and what is counted."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import msgspec
import trio
from chaos import options as chaos_options
from chaos.api import Api
from chaos.cluster import Cluster, open_cluster
from chaos.fleet import Fleet

from chatcluster.client import Client
from chatcluster.events import MessageEvent
from chatcluster.llm.simulator.server import Simulator, SimulatorOptions
from chatcluster.parts import AttemptFrame, PartFrame, ResumedFrame, Role, TextPart, text_of

MODES = ("background", "prefix", "none")
KINDS = {"background": "openai-responses", "prefix": "openai", "none": "openai"}
WAVE_SECONDS_MAX = 60.0
POLL_SECONDS = 0.02


class Options(msgspec.Struct, frozen=True):
    how: str
    kills: int
    chats: int
    replicas: int
    tokens: int
    tps: float
    seed: int


class Answer:
    """One chat's answer as its reader gets it."""

    def __init__(self, chat_id: str, word: str, tokens: int) -> None:
        self.chat_id = chat_id
        self.expected = "".join(f"{word}{index} " for index in range(tokens))
        self.streamed = ""
        self.attempts = 0
        self.resumed = 0
        self.was_hit = False
        self.message: str | None = None

    def take(self, event: object) -> None:
        match event:
            case AttemptFrame():
                self.attempts += 1
                self.streamed = ""
            case ResumedFrame():
                self.resumed += 1
            case PartFrame(part=TextPart(text=text)):
                self.streamed += text
            case MessageEvent(message=message) if message.role is Role.ASSISTANT:
                self.message = text_of(message.parts)

    @property
    def is_under_way(self) -> bool:
        return bool(self.streamed) and self.message is None

    @property
    def is_exact(self) -> bool:
        """The history has each word once, and what was streamed is how it begins."""
        return self.message == self.expected and self.expected.startswith(self.streamed)

    @property
    def is_short(self) -> bool:
        """The message came before the last of its frames, as it does on a busy machine: it told the rest."""
        return self.is_exact and self.streamed != self.expected


class Run:
    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        self._draw = random.Random(options.seed)
        self._simulator = Simulator(SimulatorOptions(port=0))
        self._answers: list[Answer] = []

    async def run(self) -> dict[str, Any]:
        async with trio.open_nursery() as nursery:
            url: str = await nursery.start(self._simulator.serve)
            options = self._options
            model = ("--llm-base-url", url, "--llm-api-key", "simulated", "--llm-model", "simulated")
            own = chaos_options.Options(
                faults=chaos_options.FaultOptions(kinds=()),
                cluster=chaos_options.ClusterOptions(replicas=options.replicas, up_arguments=model),
                seed=options.seed,
            )
            async with open_cluster(own) as cluster:
                await self._waves(cluster, url)
            nursery.cancel_scope.cancel()
        return self._summary()

    async def _waves(self, cluster: Cluster, url: str) -> None:
        api = Api(cluster.url, cluster.token, self._draw)
        fleet = Fleet(api, size=self._options.replicas)
        try:
            async with Client(cluster.url, cluster.token) as client:
                await client.admin.add_provider("sim", base_url=url, kind=KINDS[self._options.how], key="simulated")
                fields = {"provider": "sim", "provider_model": "simulated", "continuation": self._options.how}
                await client.admin.add_model("model", **fields)
                while self._hits < self._options.kills:
                    await fleet.ready()
                    with trio.fail_after(WAVE_SECONDS_MAX):
                        await self._wave(client, fleet)
                    self._say(f"{self._hits} of {self._options.kills}: {self._summary()}")
        finally:
            await api.aclose()

    @property
    def _hits(self) -> int:
        return sum(answer.was_hit for answer in self._answers)

    async def _wave(self, client: Client, fleet: Fleet) -> None:
        options = self._options
        answers = [await self._ask(client, len(self._answers) + number) for number in range(options.chats)]
        self._answers.extend(answers)
        async with trio.open_nursery() as readers:
            for answer in answers:
                readers.start_soon(self._read, client, answer)
            while not all(answer.streamed or answer.message is not None for answer in answers):  # noqa: ASYNC110 - any reader may bring it about
                await trio.sleep(POLL_SECONDS)
            await trio.sleep(self._draw.uniform(0, 0.6 * options.tokens / options.tps))
            await self._kill(client, fleet, answers)

    async def _ask(self, client: Client, number: int) -> Answer:
        word = f"c{number}x"
        prompt = f"[[word={word} tokens={self._options.tokens} tps={self._options.tps}]]"
        chat = await client.create(prompt, model="model")
        return Answer(chat["id"], word, self._options.tokens)

    async def _read(self, client: Client, answer: Answer) -> None:
        async with aclosing(client.stream(answer.chat_id)) as events:
            async for _, event in events:
                answer.take(event)
                if answer.message is not None:
                    self._tell_of(answer)
                    return

    def _tell_of(self, answer: Answer) -> None:
        if not answer.is_exact or answer.is_short:
            told = "was hit" if answer.was_hit else "was not hit"
            message = "as it is to be" if answer.message == answer.expected else repr(answer.message)
            self._say(f"{answer.chat_id} {told}: streamed {answer.streamed!r}; the message is {message}")

    async def _kill(self, client: Client, fleet: Fleet, answers: list[Answer]) -> None:
        under_way = [answer for answer in answers if answer.is_under_way]
        owners = {answer.chat_id: (await client.chat(answer.chat_id))["worker_id"] for answer in under_way}
        await fleet.refresh()
        victims = sorted({owner for owner in owners.values() if fleet.owner(owner) is not None})
        if not victims:
            return
        worker_id = self._draw.choice(victims)
        victim = fleet.owner(worker_id)
        assert victim is not None
        pid = await fleet.process(victim)
        for answer in under_way:
            answer.was_hit = owners[answer.chat_id] == worker_id and answer.is_under_way
        await fleet.signal(victim, pid, signal.SIGKILL)
        fleet.forget(victim)

    def _summary(self) -> dict[str, Any]:
        answers, how = self._answers, self._options.how
        hit = [answer for answer in answers if answer.was_hit]
        anew = sum(answer.attempts > 1 for answer in hit)
        inexact = sum(not answer.is_exact for answer in answers)
        generations = self._simulator.generations
        violations = inexact
        if how == "background":
            violations += max(0, generations - len(answers)) + anew
        elif how == "prefix":
            violations += anew
        return {
            "how": how,
            "chats": len(answers),
            "takeovers": len(hit),
            "resumed": sum(answer.resumed for answer in answers),
            "anew": anew,
            "generations": generations,
            "generated": self._simulator.generated,
            "needed": len(answers) * self._options.tokens,
            "inexact": inexact,
            "short": sum(answer.is_short for answer in answers),
            "violations": violations,
        }
