"""What a simulated model is asked, whatever wire it came on. Pure."""

from __future__ import annotations

import re
import sys
from typing import NamedTuple

import msgspec

from chatcluster.errors import InvalidRequest
from chatcluster.llm.simulator.said import BLOCK
from chatcluster.llm.simulator.script import last_paragraph
from chatcluster.llm.simulator.summaries import has_summary, steps_told, summary
from chatcluster.title_text import TITLE_INSTRUCTION, first_words

MODEL_DEFAULT = "simulated"
SPAWN = "spawn_agent"
_AGENT = re.compile(r'"chat_id":\s*"([0-9a-f-]{36})"')


class RefusedQuestion(InvalidRequest):
    """The request is none that the provider would take."""


class Spoken(NamedTuple):
    """A message of the request, or a result in it. A message with calls has several of these."""

    role: str
    """``system``, ``user``, ``assistant``, ``call`` or ``result``."""
    text: str
    name: str = ""
    """The name of the tool, for calls and results."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    spoken: tuple[Spoken, ...]
    request: bytes
    media: tuple[str, ...] = ()
    """A line on each image and document that came with it."""
    model: str = MODEL_DEFAULT
    streams: bool = False
    wants_usage: bool = False
    may_call: bool = True
    members: frozenset[str] = frozenset()
    """What can be called of the provider's set of tools for screens."""
    sealed: str = ""
    """Stands for all that was said before the answer: what is sealed in it fits there alone."""
    in_background: bool = False
    words_max: int = sys.maxsize
    """More are neither read nor counted."""
    output_tokens_max: int = sys.maxsize
    begun: str = ""
    """The answer has these words already: the rest is asked for."""

    @property
    def prompt(self) -> str:
        """The last paragraph of the last user message that has a text; where a title is wanted, the order to say it."""
        if self.wants_title:
            return f"[[tps=0 say={self._title}]]"
        return last_paragraph(self.spoken[self._asked_at].text) if self._asked_at >= 0 else ""

    @property
    def wants_title(self) -> bool:
        """Whether the conversation is to be named, and not to be gone on with."""
        return any(one.role in ("system", "developer") and one.text == TITLE_INSTRUCTION for one in self.spoken)

    @property
    def is_uncounted(self) -> bool:
        """Whether what is sent of the answer is not what counts as generated for a conversation."""
        return self.in_background or self.wants_title

    @property
    def _title(self) -> str:
        """What the message is about, without its orders."""
        said = self.spoken[self._asked_at].text if self._asked_at >= 0 else ""
        return first_words(BLOCK.sub(" ", said).replace("[", " ").replace("]", " ")).rstrip("?!.,;: ")

    @property
    def step(self) -> int:
        """Which request this is since that message, from 1: each further one has the results of the one before."""
        roles = [one.role for one in self.spoken[self._asked_at + 1 :]]
        taken = sum(role == "call" and roles[at - 1 : at] != ["call"] for at, role in enumerate(roles))
        return 1 + self._steps_before + taken

    @property
    def results(self) -> str:
        """What the tools said since that message, as a list."""
        found = (one for one in self.spoken[self._asked_at + 1 :] if one.role == "result")
        return "\n".join(f"* `{one.name}`: {one.text}" for one in found)

    @property
    def agents(self) -> list[str]:
        """The sub-agents that were spawned since that message, in the order of the calls, as ``spawn_agent`` told."""
        told = "\n".join(one.text for one in self.spoken[self._asked_at + 1 :] if one.name == SPAWN)
        return _AGENT.findall(told)

    @property
    def conversation(self) -> bytes:
        """All that was said: what is the same in every attempt at answering it."""
        said = list(self.spoken)
        while said and said[-1].role in ("assistant", "system"):
            said.pop()
        return msgspec.json.encode(said)

    @property
    def words(self) -> int:
        return min(self.words_max, sum(len(one.text.split()) for one in self.spoken))

    @property
    def summary(self) -> str:
        """What is said to a request for one: what was said before that, and the steps taken for the last message."""
        *said, asking = self.spoken
        before, _, _ = asking.text.rpartition(self.prompt)
        if before.strip():
            said.append(asking._replace(text=before))
        steps = msgspec.structs.replace(self, spoken=tuple(said)).step - 1
        return summary([one.text for one in said], steps)

    @property
    def is_summarised(self) -> bool:
        return any(has_summary(one.text) for one in self.spoken if one.role == "user")

    @property
    def _steps_before(self) -> int:
        """The steps that a summary right before the message tells of."""
        at = self._asked_at
        while at > 0 and self.spoken[at - 1].role == "user":
            at -= 1
        return sum(steps_told(one.text) for one in self.spoken[max(at, 0) : self._asked_at + 1])

    @property
    def _asked_at(self) -> int:
        return next((at for at in range(len(self.spoken) - 1, -1, -1) if self._is_asking(at)), -1)

    def _is_asking(self, at: int) -> bool:
        return self.spoken[at].role == "user" and bool(self.spoken[at].text.strip())
