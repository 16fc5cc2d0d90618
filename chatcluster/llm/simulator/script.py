"""What the simulated provider says, and how it fails: pure, so that a checker can predict every byte.

The **prompt** is the last paragraph of the last user message: clients join adjacent user messages with
blank lines, and an order given in an earlier one is not meant for this answer. Directives in the prompt,
``[[name=value name=value]]``, change this answer only; several blocks add up, later ones win.

====================== ==================================================================================
``tokens=200``         length of the answer; token *i* is ``w<i>`` and a space
``tps=100``            tokens per second; 0 is as fast as possible
``first_ms=5``         delay to the first token
``mode=echo``          ``words``, ``echo`` (repeat the prompt), or ``clock`` (each token is the server's
                       ``time.monotonic_ns()`` when it was written)
``word=x``             token *i* is ``x<i>`` and a space
``seed=7``             token *i* is drawn from a small vocabulary by the seed, the prompt and *i*; 0 is off
``say=any text]]``     the answer; takes all text up to the end of the block (no blank lines)
``reasoning=20``       20 tokens ``r<i>`` of reasoning come first
``finish=length``      the finish reason
``fail=429``           answer with this HTTP status; ``code=...`` and ``retry_after=2`` (or ``500ms``) go with it
``drop=1``             close the connection without an answer
``cut_after=10``       lose the connection after 10 tokens, reasoning included, as for all the following
``silence_after=5``    then say nothing until the client goes
``no_end_after=7``     then end the body cleanly, without a terminal event
``error_after=5``      then send an error object, with ``code=...``, and end
``empty=1``            a complete answer with nothing in it
``odd=1``              the same answer, with all that real servers mix in: comments, empty choices, nulls,
                       unknown fields, usage in odd places, no ``[DONE]``
``times=2``            the faults of this block, ``fail`` to ``empty``, are for the first 2 attempts at this prompt
                       in this conversation; the others do without them
====================== ==================================================================================
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum, auto
from typing import Any

from chatcluster.errors import ConfigError

TOKENS_MAX = 1_000_000
TPS_MIN = 0.001
FIRST_MS_MAX = 86_400_000.0
MODES = ("words", "echo", "clock")
FAULTS = frozenset(
    ("fail", "code", "retry_after", "drop", "cut_after", "silence_after", "no_end_after", "error_after", "empty")
)

_BLOCK = re.compile(r"\[\[(\s*[a-z_]+=.*?)\]\]", re.DOTALL)
_SAY = re.compile(r"(?:^|\s)say=(.*)", re.DOTALL)
_TOKEN = re.compile(r"^\s+|\S+\s*")
_PARAGRAPHS = re.compile(r"\n[ \t]*\n")
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


@dataclass(frozen=True, kw_only=True)
class Script:
    """One answer. Each field is the directive of the same name."""

    tokens: int = 100
    tps: float = 50.0
    first_ms: float = 0.0
    mode: str = "words"
    word: str = "w"
    seed: int = 0
    say: str | None = None
    reasoning: int = 0
    finish: str = "stop"
    fail: int = 0
    code: str = ""
    retry_after: str = ""
    drop: bool = False
    cut_after: int | None = None
    silence_after: int | None = None
    no_end_after: int | None = None
    error_after: int | None = None
    empty: bool = False
    odd: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.tokens <= TOKENS_MAX or not 0 <= self.reasoning <= TOKENS_MAX:
            raise DirectiveError(f"tokens and reasoning must be from 0 to {TOKENS_MAX}")
        if not (self.tps == 0 or TPS_MIN <= self.tps < math.inf) or not 0 <= self.first_ms <= FIRST_MS_MAX:
            raise DirectiveError(f"tps must be 0 or at least {TPS_MIN:g}, and first_ms from 0 to {FIRST_MS_MAX:g}")
        if self.mode not in MODES:
            raise DirectiveError(f"mode must be one of {', '.join(MODES)}")
        if self.fail and not 400 <= self.fail <= 599:
            raise DirectiveError("fail must be an HTTP status from 400 to 599")
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
            return Ending.COMPLETE, 2 * TOKENS_MAX
        after, ending = min(ordered, key=lambda fault: fault[0])
        return ending, after

    def text(self, prompt: str) -> tuple[int, Callable[[int], str]]:
        """The number of the answer's tokens, reasoning left out, and the text of each."""
        if self.empty:
            return 0, str
        if self.say is not None or self.mode == "echo":
            spoken: Sequence[str] = _TOKEN.findall(spoken_part(prompt) if self.say is None else self.say)
            return len(spoken), spoken.__getitem__
        if self.mode == "clock":
            return self.tokens, lambda _index: f"{time.monotonic_ns()} "
        if self.seed:
            draw = random.Random(f"{self.seed} {prompt}")
            drawn = [draw.choice(_VOCABULARY) + " " for _ in range(self.tokens)]
            return len(drawn), drawn.__getitem__
        return self.tokens, lambda index: f"{self.word}{index} "

    @property
    def reasoning_count(self) -> int:
        return 0 if self.empty else self.reasoning


_DEFAULTS = Script()
_NAMES = frozenset(item.name for item in fields(Script))


def last_paragraph(text: str) -> str:
    return _PARAGRAPHS.split(text.strip())[-1]


def spoken_part(prompt: str) -> str:
    """The prompt without its directives."""
    return _BLOCK.sub("", prompt).strip()


def has_times(prompt: str) -> bool:
    """Whether the answer depends on how often it was asked for."""
    return any("times" in _directives(block) for block in _BLOCK.findall(prompt))


def read_script(prompt: str, defaults: Script, attempt: int = 1) -> Script:
    """The script that ``prompt`` orders for its ``attempt``-th attempt (from 1).

    Raises ``DirectiveError`` for an unknown name or a malformed value.
    """
    script = defaults
    for block in _BLOCK.findall(prompt):
        values = _directives(block)
        times = values.pop("times", None)
        changes = {name: _convert(name, text) for name, text in values.items()}
        if times is not None and attempt > _number("times", times, int):
            changes = {name: value for name, value in changes.items() if name not in FAULTS}
        script = replace(script, **changes)
    return script


def expected_text(prompt: str, defaults: Script = _DEFAULTS) -> str:
    """The answer that a client must have in the end, whatever failed on the way. Not for ``clock``."""
    script = read_script(last_paragraph(prompt), defaults, attempt=TOKENS_MAX)
    count, token = script.text(last_paragraph(prompt))
    return "".join(token(index) for index in range(count))


def _directives(block: str) -> dict[str, str]:
    values: dict[str, str] = {}
    said = _SAY.search(block)
    if said is not None:
        values["say"] = said[1]
        block = block[: said.start()]
    for word in block.split():
        name, equals, value = word.partition("=")
        if not equals or (name not in _NAMES and name != "times"):
            raise DirectiveError(f"there is no directive {word[:40]!r}; there are {', '.join(sorted(_NAMES))}, times")
        values[name] = value
    return values


def _convert(name: str, text: str) -> Any:
    default = getattr(_DEFAULTS, name)
    if name == "say" or isinstance(default, str):
        return text
    if isinstance(default, bool):
        return text not in ("0", "false", "no")
    return _number(name, text, float if isinstance(default, float) else int)


def _number(name: str, text: str, kind: type[int] | type[float]) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise DirectiveError(f"{name} must be a number, not {text[:40]!r}") from None
