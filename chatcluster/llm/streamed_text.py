"""The text of one Chat Completions answer, from the pieces as servers send them. Pure.

Four things are not as they seem:

* An answer that is continued from given words may begin with those again, which were told before (``_Echo``).
* A raw local model writes what it thinks into its text (``_Tagged``). Only the beginning of an answer is looked at:
  ``<think>``, the thoughts, ``</think>``, and then what it says. Some templates have the first tag in the prompt, so
  that the answer begins with the thoughts (``ThinkTags.CLOSING``).
* Gemini says beside a piece that it is a thought, and may put tags around all of them (``FlaggedThoughts``).
* A piece may be several tokens (``Tokens``).

A tag, and given words, may come in several pieces; what may be part of one is held back until it is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from chatcluster.llm.chunks import append_text
from chatcluster.llm.counts import COUNT_MAX
from chatcluster.models import ModelOptions, PrefixDialect, ThinkTags
from chatcluster.parts import Part, ReasoningPart, TextPart, Usage
from chatcluster.ports import Delta

OPENING, CLOSING = "<think>", "</think>"
FLAGGED_OPENING, FLAGGED_CLOSING = "<thought>", "</thought>"
FLAGS = ("google", "vertex")
HELD_CHARACTERS_MAX = 1000
"""Space before what may be a tag. Some models, once they say a blank, say nothing else."""
TOKEN_CHARACTERS_MAX = 8
"""A piece with as many for several times is several tokens, which some servers send together."""


class StreamedText:
    """The text of one answer, or of the rest of one that was ``begun``."""

    def __init__(self, options: ModelOptions, begun: str) -> None:
        self._echo = _Echo(begun if options.prefix is PrefixDialect.PREFIX_ECHOED else "")
        self._tagged = _Tagged(None if begun else options.think_tags)

    @property
    def is_plain(self) -> bool:
        """Whether what comes from here on is told as it is."""
        return self._echo.is_over and self._tagged.is_over

    def told(self, parts: Sequence[Part]) -> list[Part]:
        """The parts, without words that are said again, and with thoughts as such."""
        return self._tagged.told(self._echo.without(parts))

    def rest(self) -> list[Part]:
        """What was held back, now that nothing more comes."""
        held = self._echo.held()
        return [*([TextPart(held)] if held else []), *self._tagged.rest()]


class _Echo:
    """The words that an answer goes on from, where the server may tell them again before the rest."""

    def __init__(self, words: str) -> None:
        self._words = words
        self._taken = 0
        """How many of their characters came again."""

    def new_of(self, text: str) -> str:
        """What of the text is not said again. Where it turns out to be no echo, with what was held back."""
        rest = self._words[self._taken :]
        if rest.startswith(text):
            self._taken += len(text)
            return ""
        new = text[len(rest) :] if text.startswith(rest) else self._words[: self._taken] + text
        self._words, self._taken = "", 0
        return new

    def held(self) -> str:
        """What came again in part alone: so it was said anew."""
        return self._words[: self._taken] if self._taken < len(self._words) else ""

    def without(self, parts: Sequence[Part]) -> list[Part]:
        """The parts, without what is said again."""
        if self.is_over:
            return list(parts)
        kept = (TextPart(self.new_of(part.text)) if isinstance(part, TextPart) else part for part in parts)
        return [part for part in kept if not isinstance(part, TextPart) or part.text]

    @property
    def is_over(self) -> bool:
        return not self._words


class _Tagged:
    """The text of one answer, piece by piece. Without ``tags`` it is told as it is."""

    def __init__(self, tags: ThinkTags | None) -> None:
        self._tag = None if tags is None else OPENING if tags is ThinkTags.BOTH else CLOSING
        """The one that is looked for; None: what comes is said."""
        self._held = ""
        """What may be the beginning of it."""
        self._is_thought = False
        """Some of the thoughts were told: space before them is not."""
        self._is_said = tags is None
        """Some of what is said behind the thoughts was told: space before that is not."""

    @property
    def is_over(self) -> bool:
        """Nothing of what comes is changed any more."""
        return self._is_said

    def told(self, parts: Sequence[Part]) -> list[Part]:
        """The parts, with thoughts as such."""
        told: list[Part] = []
        for part in parts:
            if isinstance(part, TextPart):
                self._take(part.text, told)
            else:
                told.append(part)
        return told

    def rest(self) -> list[Part]:
        """What was held back, now that nothing more comes."""
        held, self._held = self._held, ""
        if not held:
            return []
        return [ReasoningPart(held) if self._tag == CLOSING else TextPart(held)]

    def _take(self, text: str, told: list[Part]) -> None:
        text, self._held = self._held + text, ""
        if self._tag == OPENING:
            text = self._begun(text)
        if self._tag == CLOSING:
            text = self._thought(text, told)
        if text and self._tag is None:
            said = text if self._is_said else text.lstrip()
            if said:
                self._is_said = True
                told.append(TextPart(said))

    def _begun(self, text: str) -> str:
        """What follows the first tag; or all of it, where there is none."""
        words = text.lstrip()
        if words.startswith(OPENING):
            self._tag = CLOSING
            return words[len(OPENING) :]
        if OPENING.startswith(words) and len(text) <= HELD_CHARACTERS_MAX:
            self._held = text
            return ""
        self._tag, self._is_said = None, True
        return text

    def _thought(self, text: str, told: list[Part]) -> str:
        """What follows the last tag."""
        thoughts, tag, words = text.partition(CLOSING)
        if tag:
            self._tag = None
        else:
            kept = next((n for n in range(len(CLOSING) - 1, 0, -1) if thoughts.endswith(CLOSING[:n])), 0)
            thoughts, self._held = thoughts[: len(thoughts) - kept], thoughts[len(thoughts) - kept :]
        if thoughts := thoughts if self._is_thought else thoughts.lstrip():
            self._is_thought = True
            told.append(ReasoningPart(thoughts))
        return words


class FlaggedThoughts:
    """The content of one answer, of which some may be flagged. The first of the rest may begin with the closing tag."""

    def __init__(self) -> None:
        self._is_open = False

    def take(self, content: Any, extra: Any, parts: list[Part]) -> None:
        """Append what the content of a piece says, ``extra`` being what stands beside it."""
        is_thought = extra is not None and _is_flagged(extra)
        if isinstance(content, str) and is_thought:
            thought, closing, content = content.removeprefix(FLAGGED_OPENING).partition(FLAGGED_CLOSING)
            self._is_open = not closing
            append_text(thought, parts, ReasoningPart)
        elif isinstance(content, str) and self._is_open:
            self._is_open = False
            content = content.removeprefix(FLAGGED_CLOSING)
        append_text(content, parts, TextPart)


def _is_flagged(extra: Any) -> bool:
    beside = [extra.get(flag) for flag in FLAGS] if isinstance(extra, dict) else []
    return any(isinstance(one, dict) and one.get("thought") is True for one in beside)


class Tokens:
    """How many tokens an answer has by now, with those that it was ``begun`` with."""

    def __init__(self, begun: int) -> None:
        self._begun = begun
        self._told = 0

    def told(self, parts: Sequence[Part], usage: Usage | None) -> Iterator[Delta]:
        """The parts of one chunk as what is told of them: the last one with the number behind it."""
        *rest, last = parts
        for part in rest:
            yield Delta(part)
        characters = sum(len(part.text) for part in parts if isinstance(part, TextPart))
        self._told += max(1, characters // TOKEN_CHARACTERS_MAX)
        if usage is not None:
            self._told = max(self._told, min(usage.output_tokens or 0, COUNT_MAX))
        yield Delta(last, self._begun + self._told)
