"""What the simulated provider says, and how it fails: pure, so that a checker can predict every byte.

The **prompt** is the last paragraph of the last user message with a text: clients join adjacent user messages with
blank lines, and an order given in an earlier one is not meant for this answer. Directives in the prompt,
``[[name=value name=value]]``, change the answer to it only; several blocks add up, later ones win. A prompt without any
is answered in prose that looks like an answer: paragraphs, a list, a block of code, a table.

An answer that calls tools has several **steps**: each request behind results is one more, from 1. A block counts for
all of them, one with ``step=2`` for that step alone. Without further orders a step with calls has no text, and the step
behind the last results tells them.

====================== ==================================================================================
``tokens=200``         length of the answer; token *i* is ``w<i>`` and a space
``tps=100``            tokens per second; 0 is as fast as possible
``first_ms=5``         delay to the first token
``mode=echo``          ``words``, ``markdown`` (the prose), ``echo`` (repeat the prompt), ``results`` (repeat what
                       the tools said), ``request`` (repeat the whole request, as JSON), ``files`` (type, size and
                       digest of each file in the request), ``silent`` (no text), or
                       ``clock`` (each token is the server's ``time.monotonic_ns()`` when it was written)
``word=x``             token *i* is ``x<i>`` and a space
``seed=7``             token *i* is drawn from a small vocabulary by the seed, the prompt and *i*; 0 is off
``say=any text]]``     the answer; takes all text up to the end of the block (no blank lines)
``call=name {"a":1}]]`` call this tool, after the text. Its arguments take all text up to the end of the block and
                       are sent as they stand, JSON or not; write ``] ]`` for brackets that close together. Several
                       blocks call several tools at once, in the first step where they name none. ``$agent1`` in
                       the arguments is the first sub-agent that ``spawn_agent`` told of, and so on
``source=http://a A]]`` the text cites this address, called ``A``, as if it had been found on the web. The title takes
                       all text up to the end of the block, and several blocks cite several
``step=2``             this block is for the second step alone
``reasoning=20``       20 tokens ``r<i>`` of reasoning come first
``finish=length``      the finish reason
``fail=429``           answer with this HTTP status; ``code=...`` and ``retry_after=2`` (or ``500ms``) go with it
``drop=1``             close the connection without an answer
``cut_after=10``       lose the connection after 10 tokens, those of reasoning and calls included, as for all the
                       following
``silence_after=5``    then say nothing until the client goes
``no_end_after=7``     then end the body cleanly, without a terminal event
``error_after=5``      then send an error object, with ``code=...``, and end
``empty=1``            a complete answer with nothing in it
``odd=1``              the same answer, with all that real servers mix in: comments, empty choices, nulls,
                       unknown fields, usage in odd places, calls without index, no ``[DONE]``
``forget=1``           an answer in the background is not remembered: nobody can attach to it later
``echoed=1``           where an answer goes on from given words, they are said again first
``context=500``        the model takes so many tokens, which it counts as words, and no more
``too_long=vllm``      how it says so: ``openai``, ``anthropic``, ``too-large`` (413), ``gemini``, ``vllm`` or
                       ``llamacpp``; ``cut`` reads what there is room for and says nothing. Without ``context`` it says
                       so of each conversation that has no summary
``times=2``            the faults of this block, ``fail`` to ``empty`` and ``too_long``, are for the first 2 attempts at
                       this prompt in this conversation, and at each of its steps; the others do without them
====================== ==================================================================================

A request for a summary of the conversation is answered with one in a line, ``[summary 2: 9 messages, 1 steps taken]``.

Requests are read as strictly as a provider reads them: a call without its result right behind it, a result out of
place, a name that no provider takes, and the like are refused with status 400.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

from chatcluster.llm.simulator.said import (
    BLOCK,
    MODES,
    TOKENS_MAX,
    DirectiveError,
    Ending,
    Faults,
    OrderedCall,
    OrderedSource,
    Script,
    Words,
    spoken_part,
)

__all__ = [
    "MODES",
    "DirectiveError",
    "Ending",
    "Faults",
    "OrderedCall",
    "OrderedSource",
    "Script",
    "Words",
    "expected_text",
    "has_times",
    "last_paragraph",
    "read_script",
    "spoken_part",
]

_TO_THE_END = re.compile(r"(?:^|\s)(say|call|source)=(.*)", re.DOTALL)
"""Directives that take all text up to the end of their block."""
_PARAGRAPHS = re.compile(r"\n[ \t]*\n")
_DEFAULTS = Script()
WORDS = frozenset(item.name for item in fields(Words))
FAULTS = frozenset(item.name for item in fields(Faults))
OTHERS = frozenset(item.name for item in fields(Script)) - {"words", "faults", "calls", "sources"}
_ORDER_A_TEXT = WORDS - {"mode"} | {"empty"}
_NAMES = WORDS | FAULTS | OTHERS | {"call", "source", "step", "times"}
_VALUES: dict[str, Any] = vars(_DEFAULTS) | vars(_DEFAULTS.words) | vars(_DEFAULTS.faults)
"""What directives are where nobody says otherwise."""


class _Block(NamedTuple):
    values: dict[str, str]
    step: int
    """0: every step."""
    call: OrderedCall | None
    source: OrderedSource | None
    times: int | None

    @property
    def call_step(self) -> int:
        return self.step or 1

    def changes(self, attempt: int) -> dict[str, Any]:
        is_over = self.times is not None and attempt > self.times
        return {name: _convert(name, text) for name, text in self.values.items() if not (is_over and name in FAULTS)}


def last_paragraph(text: str) -> str:
    return _PARAGRAPHS.split(text.strip())[-1]


def has_times(prompt: str) -> bool:
    """Whether the answer depends on how often it was asked for."""
    return any(block.times is not None for block in _blocks(prompt))


def read_script(prompt: str, defaults: Script, attempt: int = 1, step: int = 1) -> Script:
    """The script that ``prompt`` orders for a step of its answer, at the ``attempt``-th attempt (both from 1).

    Raises ``DirectiveError`` for an unknown name or a malformed value.
    """
    blocks = _blocks(prompt)
    if not blocks:
        return defaults
    script = defaults
    for block in blocks:
        changes = block.changes(attempt)
        if block.step in (0, step):
            script = _changed(script, changes)
    calls = tuple(block.call for block in blocks if block.call is not None and block.call_step == step)
    sources = tuple(block.source for block in blocks if block.source is not None and block.step in (0, step))
    words = replace(script.words, mode=_mode(script.words.mode, blocks, step, has_calls=bool(calls)))
    return replace(script, calls=calls, sources=sources, words=words)


def _changed(script: Script, values: Mapping[str, Any]) -> Script:
    def of(names: Collection[str]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name in names}

    words, faults = replace(script.words, **of(WORDS)), replace(script.faults, **of(FAULTS))
    return replace(script, words=words, faults=faults, **of(OTHERS))


def expected_text(prompt: str, defaults: Script = _DEFAULTS) -> str:
    """The answer that a client must have in the end, whatever failed on the way. Not for ``clock``, nor with calls."""
    script = read_script(last_paragraph(prompt), defaults, attempt=TOKENS_MAX)
    count, token = script.text(last_paragraph(prompt))
    return "".join(token(index) for index in range(count))


def _mode(mode: str, blocks: Iterable[_Block], step: int, *, has_calls: bool) -> str:
    ordered = {name for block in blocks if block.step == step or (block.step == 0 and not has_calls)
               for name in block.values}  # fmt: skip
    if "mode" in ordered:
        return mode
    if has_calls and not ordered & _ORDER_A_TEXT:
        return "silent"
    if not ordered & _ORDER_A_TEXT and any(block.call is not None for block in blocks):
        return "results"
    return "words" if mode == "markdown" else mode


def _blocks(prompt: str) -> list[_Block]:
    return [_read_block(block) for block in BLOCK.findall(prompt)]


def _read_block(block: str) -> _Block:
    values: dict[str, str] = {}
    to_the_end = _TO_THE_END.search(block)
    if to_the_end is not None:
        values[to_the_end[1]] = to_the_end[2]
        block = block[: to_the_end.start()]
    for word in block.split():
        name, equals, value = word.partition("=")
        if not equals or name not in _NAMES:
            raise DirectiveError(f"there is no directive {word[:40]!r}; there are {', '.join(sorted(_NAMES))}")
        values[name] = value
    step = _number("step", values.pop("step", "0"), int)
    call, source = values.pop("call", None), values.pop("source", None)
    times = values.pop("times", None)
    return _Block(
        values,
        step,
        None if call is None else OrderedCall(*_named(call)),
        None if source is None else OrderedSource(*_named(source)),
        None if times is None else _number("times", times, int),
    )


def _named(text: str) -> tuple[str, str]:
    name, _, rest = text.strip().partition(" ")
    return name, rest.strip()


def _convert(name: str, text: str) -> Any:
    default = _VALUES[name]
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
