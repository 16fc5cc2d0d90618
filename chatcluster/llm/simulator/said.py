"""One step of a simulated answer: how long it is, how it fails, and what it says, token by token. Pure, but for the
mode that tells the time. ``script.py`` reads it from a prompt, and says what each field means."""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from chatcluster.errors import ConfigError
from chatcluster.llm.simulator.overflow import CUT, WAYS
from chatcluster.llm.simulator.prose import prose

TOKENS_MAX = 1_000_000
TPS_MIN = 0.001
FIRST_MS_MAX = 86_400_000.0
MODES = ("markdown", "words", "echo", "results", "request", "files", "silent", "clock")

_NUMBER_OF_TOKENS = f"tokens and reasoning must be from 0 to {TOKENS_MAX}"
_TOKEN = re.compile(r"^\s+|\S+\s*")
_VOCABULARY = ("the", "a", "river", "lamp", "quiet", "green", "moves", "over", "and", "then", "so", "light")


class DirectiveError(ConfigError):
    """A directive that does not exist, or whose value has the wrong form."""


class Ending(Enum):
    """What follows the last token that is sent."""

    COMPLETE = auto()
    CUT = auto()
    SILENCE = auto()
    NO_END = auto()
    ERROR = auto()


class OrderedCall(NamedTuple):
    name: str
    arguments: str


class OrderedSource(NamedTuple):
    url: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Words:
    """The text of an answer. Each field is the directive of the same name, as in ``Faults`` and ``Script``."""

    tokens: int = 100
    mode: str = "markdown"
    word: str = "w"
    seed: int = 0
    say: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.tokens <= TOKENS_MAX:
            raise DirectiveError(_NUMBER_OF_TOKENS)
        if self.mode not in MODES:
            raise DirectiveError(f"mode must be one of {', '.join(MODES)}")

    def spoken(self, prompt: str, results: str = "", repeated: str = "") -> tuple[int, Callable[[int], str]]:
        """The number of its tokens, and the text of each. ``results`` is what the tools said, ``repeated`` what of the
        request is told: all of it, or its files."""
        if self.say is None and self.mode == "clock":
            return self.tokens, lambda _index: f"{time.monotonic_ns()} "
        if self.say is None and self.mode == "words" and not self.seed:
            return self.tokens, lambda index: f"{self.word}{index} "
        return by_token(self._whole(prompt, results, repeated))

    def _whole(self, prompt: str, results: str, repeated: str) -> str:
        if self.say is not None:
            return self.say
        match self.mode:
            case "words":
                draw = random.Random(f"{self.seed} {prompt}")
                return "".join(draw.choice(_VOCABULARY) + " " for _ in range(self.tokens))
            case "echo":
                return spoken_part(prompt)
            case "results":
                return results
            case "request" | "files":
                return repeated
            case "markdown":
                return prose(spoken_part(prompt))
            case _:
                return ""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong. ``times=`` orders it for the first attempts only."""

    fail: int = 0
    code: str = ""
    retry_after: str = ""
    drop: bool = False
    cut_after: int | None = None
    silence_after: int | None = None
    no_end_after: int | None = None
    error_after: int | None = None
    empty: bool = False
    too_long: str = ""

    def __post_init__(self) -> None:
        if self.fail and not 400 <= self.fail <= 599:
            raise DirectiveError("fail must be an HTTP status from 400 to 599")
        if self.too_long not in ("", CUT, *WAYS):
            raise DirectiveError(f"too_long must be one of {', '.join((*WAYS, CUT))}")
        if not (self.retry_after.isascii() and self.retry_after.isprintable()):
            raise DirectiveError("retry_after must be printable ASCII")

    def ending(self) -> tuple[Ending, int]:
        """How the answer ends, and after how many tokens at the latest: the earliest fault wins."""
        faults = (
            (self.cut_after, Ending.CUT),
            (self.silence_after, Ending.SILENCE),
            (self.no_end_after, Ending.NO_END),
            (self.error_after, Ending.ERROR),
        )
        ordered = [(after, ending) for after, ending in faults if after is not None]
        if not ordered:
            return Ending.COMPLETE, 4 * TOKENS_MAX
        after, ending = min(ordered, key=lambda fault: fault[0])
        return ending, after


@dataclass(frozen=True, kw_only=True)
class Script:
    """``calls`` and ``sources`` are those of this step."""

    words: Words = Words()
    faults: Faults = Faults()
    tps: float = 50.0
    first_ms: float = 0.0
    reasoning: int = 0
    finish: str = "stop"
    odd: bool = False
    forget: bool = False
    context: int = 0
    echoed: bool = False
    calls: tuple[OrderedCall, ...] = ()
    sources: tuple[OrderedSource, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.reasoning <= TOKENS_MAX:
            raise DirectiveError(_NUMBER_OF_TOKENS)
        if not (self.tps == 0 or TPS_MIN <= self.tps < math.inf) or not 0 <= self.first_ms <= FIRST_MS_MAX:
            raise DirectiveError(f"tps must be 0 or at least {TPS_MIN:g}, and first_ms from 0 to {FIRST_MS_MAX:g}")

    def text(self, prompt: str, results: str = "", repeated: str = "") -> tuple[int, Callable[[int], str]]:
        """As ``Words.spoken``, and nothing where the answer is empty; reasoning and calls are left out."""
        return (0, str) if self.faults.empty else self.words.spoken(prompt, results, repeated)

    @property
    def reasoning_count(self) -> int:
        return 0 if self.faults.empty else self.reasoning


BLOCK = re.compile(r"\[\[(\s*[a-z_]+=.*?)\]\]", re.DOTALL)
"""The directives of a prompt."""


def spoken_part(prompt: str) -> str:
    """The prompt without its directives."""
    return BLOCK.sub("", prompt).strip()


def by_token(text: str) -> tuple[int, Callable[[int], str]]:
    """A text word by word: the number of its tokens, and each of them."""
    spoken: Sequence[str] = _TOKEN.findall(text)
    return len(spoken), spoken.__getitem__
