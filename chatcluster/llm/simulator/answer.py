"""One simulated answer, token by token, before it is put on a wire: blocks of reasoning, text and calls. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from enum import Enum, auto
from uuid import uuid4

from chatcluster.llm.chunks import is_json_object
from chatcluster.llm.simulator.question import Question, RefusedQuestion
from chatcluster.llm.simulator.said import Ending, OrderedCall, Script, by_token

CHARACTERS_PER_PIECE = 12
"""So many characters of a call's arguments are sent in a piece."""
REQUEST_CHARACTERS_MAX = 256 << 10


class Kind(Enum):
    REASONING = auto()
    TEXT = auto()
    CALL = auto()


@dataclass(frozen=True)
class Block:
    kind: Kind
    count: int
    """The number of tokens. The first of a call is its beginning, without arguments."""
    token: Callable[[int], str]
    id: str = ""
    name: str = ""

    @property
    def whole(self) -> str:
        return "".join(map(self.token, range(self.count)))

    @property
    def whole_arguments(self) -> bytes:
        """The arguments of a call as a whole, where they have to be JSON."""
        return self.whole.encode() if is_json_object(self.whole) else b"{}"


class Answer:
    """What is said to a question. ``sent_count`` tokens go out before the ending."""

    def __init__(self, script: Script, question: Question) -> None:
        if script.words.mode == "silent" and script.calls and not question.may_call:
            script = replace(script, words=replace(script.words, mode="words"))
        self.id = uuid4().hex
        self.number = 0
        """The answer's number in the ledger, if there is one: told as the tokens that were read from the cache."""
        self.sent = 0
        """So many of the answer's tokens were sent."""
        self.script = script
        self.question = question
        text_count, text = script.text(question.prompt, question.results, _repeated(script, question))
        if question.begun:
            script = self.script = replace(script, reasoning=0)
            text_count, text = _rest_of(question.begun, text_count, text, echoed=script.echoed)
        calls = script.calls if question.may_call and not script.faults.empty else ()
        blocks = [
            Block(Kind.REASONING, script.reasoning_count, "r{} ".format),
            Block(Kind.TEXT, text_count, text),
            *(_call_block(call, question.agents) for call in calls),
        ]
        self.blocks = list(_cut(blocks, question.output_tokens_max))
        if sum(block.count for block in blocks) > question.output_tokens_max:
            self.script = replace(script, finish="length")
        self.ending, limit = script.faults.ending()
        self.count = sum(block.count for block in self.blocks)
        self.sent_count = min(limit, self.count)

    def attached_to(self) -> Answer:
        """The answer as a later connection gets it: what befell the first one is over."""
        later = copy(self)
        if later.ending is not Ending.ERROR:
            later.ending, later.sent_count = Ending.COMPLETE, self.count
        return later

    @property
    def calls(self) -> list[Block]:
        return [block for block in self.blocks if block.kind is Kind.CALL]

    @property
    def reasoning_count(self) -> int:
        return sum(block.count for block in self.blocks if block.kind is Kind.REASONING)

    def place(self, index: int) -> tuple[int, int]:
        """The number of the block with token ``index``, and which of its tokens that is."""
        for number, block in enumerate(self.blocks):
            if index < block.count:
                return number, index
            index -= block.count
        raise IndexError(index)


def _cut(blocks: Iterable[Block], tokens_max: int) -> Iterator[Block]:
    """What there is of the blocks within so many tokens."""
    for block in blocks:
        count = min(block.count, tokens_max)
        tokens_max -= count
        if count:
            yield replace(block, count=count)


def _repeated(script: Script, question: Question) -> str:
    """What an answer tells of the request itself."""
    match script.words.mode:
        case "request":
            return question.request[:REQUEST_CHARACTERS_MAX].decode("utf-8", "replace")
        case "files":
            return "\n".join(question.media) or "There are no files."
        case _:
            return ""


def _rest_of(begun: str, count: int, token: Callable[[int], str], *, echoed: bool) -> tuple[int, Callable[[int], str]]:
    """What is left of a text behind words that it begins with. Raises ``RefusedQuestion`` if it begins otherwise."""
    whole = "".join(map(token, range(count)))
    if not whole.startswith(begun):
        raise RefusedQuestion(f"The answer does not begin with {begun[:40]!r}: there is nothing to go on from.")
    return by_token(whole if echoed else whole[len(begun) :])


def _call_block(call: OrderedCall, agents: Sequence[str]) -> Block:
    arguments = call.arguments
    for number, agent in reversed(list(enumerate(agents, 1))):
        arguments = arguments.replace(f"$agent{number}", agent)
    starts = range(0, len(arguments), CHARACTERS_PER_PIECE)

    def token(index: int) -> str:
        start = (index - 1) * CHARACTERS_PER_PIECE
        return arguments[start : start + CHARACTERS_PER_PIECE] if index else ""

    return Block(Kind.CALL, 1 + len(starts), token, f"call_{uuid4().hex[:24]}", call.name)
