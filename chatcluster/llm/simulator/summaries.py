"""What the simulated model says when it is to summarise, and what it reads in its own summaries. Pure.

A summary says which one in a row it is, how much it stands for, and how many steps were taken for the message that is
being answered: orders for one step (``step=2``) go by that, so a turn that was summarised in its middle goes on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from chatcluster.context import SUMMARY_REQUEST

_TOLD = re.compile(r"\[summary (\d+): \d+ messages, (\d+) steps taken\]")


def asks_for_summary(prompt: str) -> bool:
    return prompt.startswith(SUMMARY_REQUEST)


def summary(texts: Sequence[str], steps: int) -> str:
    """A summary of what was said; the request for it is not among that."""
    before = max((int(number) for text in texts for number, _ in _TOLD.findall(text)), default=0)
    return f"[summary {before + 1}: {len(texts)} messages, {steps} steps taken]"


def has_summary(text: str) -> bool:
    return _TOLD.search(text) is not None


def steps_told(text: str) -> int:
    """The steps that a summary tells of, if the text has one."""
    return sum(int(steps) for _, steps in _TOLD.findall(text))
