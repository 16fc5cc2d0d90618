"""Tools in a chaos run: real MCP servers, what the model is ordered to call, and what became of each call (P7).

The servers note every run of a call outside of themselves (``tool_server.py``). In the end each chat's history is held
against that: a call that must not be repeated ran once, or as often as a person wanted it; one that ran again says so;
each result is one that the tool gave, or says that there is none; an answer that was taken counts, and one of several.
Some questions nobody ever answers: those calls go on past their deadline.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trio
from checker import Fault, Kind, Violation
from local_ports import free_port, is_listened_to

from chaos.api import Answer, Api, Json
from chaos.families import Families
from chaos.summary import spread
from chatcluster.agents import NAMES as AGENT_TOOLS
from chatcluster.chat.calls import DENIED_TEXT, EARLIER_RUN_TEXT
from chatcluster.config import env_name

KINDS = ("counting", "slow", "dying", "asking", "holding")
SERVERS = {
    **{kind: (kind, "streamable-http", "/mcp") for kind in KINDS},
    "holding": ("holding", "sse", "/sse"),
    "keeping": ("holding", "streamable-http", "/mcp"),
}
"""As the cluster has them: the kind, the transport, the path."""
SWEARING = ("holding__swear", "keeping__swear")
ASKING = ("asking__sign", *SWEARING)
"""Their servers ask the user for a word."""
ONCE = ("counting__buy", "counting__ask", "slow__ship", "dying__risk", *ASKING)
CALLABLE = (
    *("counting__peek", "counting__put", "counting__buy", "counting__buy", "counting__ask"),
    *("slow__look", "slow__move", "slow__ship", "dying__peer", "dying__risk", "mine", *ASKING),
)
PATIENCE = {env_name("answer_seconds"): "6", env_name("live_answer_seconds"): "6"}
"""How long the cluster waits for the answer to a question."""
NEVER_ANSWERED = 0.15
DECLINED = 0.2
CLIENT_TOOLS = [{"name": "mine", "description": "Run by the client", "parameters": {"type": "object"}}]
CALLS_MAX = 3
CALLING = 0.7
"""How often a message has the model call tools."""
SWEARING_TWICE = 0.1
"""How often it calls the same tool twice then, whose server does not say which call it asks for."""
START_SECONDS_MAX = 90.0
RESTART_SECONDS = 0.2
RUN_AGAIN = "it was run again"
NOT_ASKED = ("Nobody approved", DENIED_TEXT)
NOT_ANSWERED = ("Nobody answered",)
TAKEN = 200


class Ran(NamedTuple):
    """One run of a call, as its server noted it."""

    time: float
    tool: str


class Tools:
    """The servers of a run, and the judge of its calls. ``report`` gets each violation."""

    def __init__(self, directory: Path, report: Callable[[Violation], None]) -> None:
        self.calls: Counter[str] = Counter()
        """What became of the calls in the histories."""
        self.families = Families(report)
        self._directory = directory
        self._report = report
        self._ports = {kind: free_port() for kind in KINDS}
        self._approvals: Counter[str] = Counter()
        """How often each call was approved, also where nobody heard whether that was taken."""
        self._approved: set[str] = set()
        """The calls whose approval somebody heard was taken."""
        self._denied: set[str] = set()
        """The calls that somebody denied, whether that was taken or not."""
        self._words: dict[str, list[str]] = defaultdict(list)
        """What was said to the question of each call, heard of or not."""
        self._taken: set[str] = set()
        """The calls whose question was answered, as somebody heard."""
        self._ignored: dict[str, bool] = {}

    @asynccontextmanager
    async def serving(self, api: Api) -> AsyncIterator[None]:
        """The servers run, and the cluster knows them, for the length of the block."""
        async with trio.open_nursery() as nursery:
            for kind in KINDS:
                nursery.start_soon(self._keep_running, kind)
            for kind in KINDS:
                if not await is_listened_to(self._ports[kind], seconds_max=START_SECONDS_MAX):
                    raise RuntimeError(f"the server {kind} does not start")
            for slug in SERVERS:
                await self._add(slug, api)
            yield
            nursery.cancel_scope.cancel()

    async def _keep_running(self, kind: str) -> None:
        port, log = str(self._ports[kind]), str(self._log(kind))
        while True:
            command = [sys.executable, "-m", "tool_server", kind, port, log]
            await trio.run_process(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            await trio.sleep(RESTART_SECONDS)

    async def _add(self, slug: str, api: Api) -> None:
        kind, transport, path = SERVERS[slug]
        url = f"http://127.0.0.1:{self._ports[kind]}{path}"
        body: Json = {"slug": slug, "trusted": True, "url": url, "transport": transport}
        if slug == "counting":
            body["tools"] = {"ask": {"approval": "ask"}}
        answer = await api.write("POST", "/admin/mcp-servers", body)
        if answer.status != 201:
            raise RuntimeError(f"the server {slug} could not be added: {answer.status} {answer.body}")

    # --- people -------------------------------------------------------------------------------

    async def answer(self, api: Api, chat: str, draw: random.Random) -> None:
        """Answer what the chat waits for, now and then twice at once."""
        for action in (await api.read(f"/chats/{chat}"))["action_required"]:
            if action["kind"] == "question" and self._ignored.setdefault(
                action["call_id"], draw.random() < NEVER_ANSWERED
            ):
                continue
            times = 2 if draw.random() < 0.3 else 1
            answers: list[str] = []
            async with trio.open_nursery() as nursery:
                for _ in range(times):
                    nursery.start_soon(self._answer_one, api, chat, action, draw.random(), answers)
            if len(answers) > 1:
                detail = f"{answers} were all taken as the answer to {action['call_id']}"
                self._report(Violation(Kind.ANSWER, chat, detail))

    async def _answer_one(self, api: Api, chat: str, action: Json, chance: float, answers: list[str]) -> None:
        call_id = action["call_id"]
        if action["kind"] == "client":
            body: Json = {"results": [{"call_id": call_id, "content": f"<mine {call_id}>"}]}
            answer, what = await api.write("POST", f"/chats/{chat}/tool-results", body), "result"
        elif action["kind"] == "question":
            answer, what = await self._reply(api, chat, action, chance), "reply"
        elif chance < 0.2:
            self._denied.add(call_id)
            answer, what = await api.write("POST", f"/chats/{chat}/tool-calls/{call_id}/deny", {}), "deny"
        else:
            path, body = f"/chats/{chat}/tool-calls/{call_id}/approve", {"digest": action["digest"]}
            answer, what = await api.write("POST", path, body), "approve"
        if answer.status == TAKEN:
            answers.append(what)
        if what == "approve" and answer.status in (None, TAKEN):
            self._approvals[call_id] += 1
        if what == "approve" and answer.status == TAKEN:
            self._approved.add(call_id)

    async def _reply(self, api: Api, chat: str, action: Json, chance: float) -> Answer:
        """A word, or a refusal."""
        call_id = action["call_id"]
        word = f"{call_id}w{len(self._words[call_id]) + 1}"
        reply = {"action": "decline"} if chance < DECLINED else {"action": "accept", "content": {"word": word}}
        self._words[call_id].append(word)
        body: Json = {"answers": {each["key"]: reply for each in action["questions"]}, "digest": action["digest"]}
        answer = await api.write("POST", f"/chats/{chat}/tool-calls/{call_id}/answer", body)
        if answer.status == TAKEN:
            self._taken.add(call_id)
        return answer

    # --- the judge ----------------------------------------------------------------------------

    def judge(self, chat: str, messages: Sequence[Json]) -> None:
        """The history of a chat that rests, against what ran. That each call has one result is the checker's."""
        runs = self._runs()
        names: dict[str, str] = {}
        for message in messages:
            for part in message["parts"]:
                if part["type"] == "tool_call":
                    names[part["id"]] = part["name"]
                    self.calls["asked"] += 1
                elif part["type"] == "tool_result":
                    call_id = part["call_id"]
                    self._judge_result(chat, call_id, names.get(call_id, ""), part, runs.get(call_id, []))

    def _judge_result(self, chat: str, call_id: str, name: str, part: Json, runs: Sequence[Ran]) -> None:
        if name in AGENT_TOOLS:
            return  # see ``families.py``
        text = "".join(piece.get("text", "") for piece in part["content"])
        is_error = part.get("is_error", False)
        allowed = max(1, self._approvals[call_id])
        self.calls["unknown" if "outcome is unknown" in text else "error" if is_error else "ok"] += 1
        if name in ASKING:
            self._judge_answer(chat, call_id, text, is_error=is_error)
        if name in ONCE and len(runs) > allowed:
            self._violate(Kind.RUN_TWICE, chat, f"{name} {call_id} ran {len(runs)} times; {allowed} may be")
        if len(runs) > 1:
            self.calls["run_again"] += 1
            if not is_error and RUN_AGAIN not in text:
                self._violate(Kind.RESULT, chat, f"{name} {call_id} ran {len(runs)} times and says {text[:80]!r}")
        if not is_error and f"{call_id}>" not in text:
            self._violate(Kind.RESULT, chat, f"{text[:80]!r} is no result that {name} gave for {call_id}")
        if text.startswith(NOT_ASKED):
            self._judge_refusal(chat, call_id, text, runs)

    def _judge_refusal(self, chat: str, call_id: str, text: str, runs: Sequence[Ran]) -> None:
        """A call that was approved may be refused still, if its worker died and somebody was asked again."""
        is_told = bool(runs) or EARLIER_RUN_TEXT in text
        if call_id in self._approved and not is_told:
            self._violate(Kind.ANSWER, chat, f"{call_id} was approved, and its result is {text[:80]!r}")
        if text.startswith(DENIED_TEXT) and call_id not in self._denied:
            self._violate(Kind.ANSWER, chat, f"nobody denied {call_id}, and its result is {text[:80]!r}")

    def _judge_answer(self, chat: str, call_id: str, text: str, *, is_error: bool) -> None:
        """What the server of a call was told that it asked."""
        unanswered = text.startswith(NOT_ANSWERED) if is_error else text.endswith("> cancel")
        self.calls["unanswered" if unanswered else "answered"] += unanswered or not is_error
        if unanswered and call_id in self._taken:
            self._violate(Kind.ANSWER, chat, f"the question of {call_id} was answered, and its result is {text[:80]!r}")
        heard = text.rpartition("> accept ")[2] if "> accept " in text else None
        if heard is not None and heard not in self._words[call_id]:
            self._violate(Kind.ANSWER, chat, f"{call_id} was told {heard!r}; {self._words[call_id]} was said")

    def _violate(self, kind: Kind, chat: str, detail: str) -> None:
        self._report(Violation(kind, chat, detail))

    def summary(self, faults: Sequence[Fault], clock_offset: float) -> dict[str, Any]:
        """Counts, and how long after the death of its worker a call was run again."""
        kills = sorted(fault.time + clock_offset for fault in faults if fault.kind == "kill")
        again = []
        for runs in self._runs().values():
            for run in sorted(runs)[1:]:
                before = [time for time in kills if time <= run.time]
                again += [run.time - before[-1]] if before else []
        return {**self.families.counts, "tool_calls": dict(self.calls), "tool_run_again_seconds": spread(again)}

    def _runs(self) -> dict[str, list[Ran]]:
        found: dict[str, list[Ran]] = defaultdict(list)
        for kind in KINDS:
            if self._log(kind).exists():
                for line in self._log(kind).read_text().splitlines():
                    entry = json.loads(line)
                    found[entry["call"]].append(Ran(entry["time"], entry["tool"]))
        return found

    def _log(self, kind: str) -> Path:
        return self._directory / f"{kind}.jsonl"


def orders(draw: random.Random, *, confusing: bool = True) -> str:
    """Blocks of a message that have the model call tools, before it answers in its second step; often none.

    ``confusing``: now and then the same tool twice whose server does not say which call it asks for.
    """
    if draw.random() >= CALLING:
        return ""
    names = [draw.choice(CALLABLE) for _ in range(draw.randint(1, CALLS_MAX))]
    if draw.random() < SWEARING_TWICE:
        names += 2 * [draw.choice(SWEARING)]
    if not confusing:
        names = [name for n, name in enumerate(names) if name not in SWEARING or name not in names[:n]]
    return "".join(f" [[call={name} {{}}]]" for name in names)
