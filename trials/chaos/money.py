"""Money in a chaos run: what the cluster booked, against what its model's server counted itself (P1).

The simulated model notes each answer in a ledger, numbers it, and tells the number in the answer's usage. The cluster
books that like any other count; so each row of ``usage_events`` whose cost is **known** can be held against the very
line that it is of: the same tokens, and no two rows with one number.

What it cost is **unknown** of an attempt whose usage never came: it failed, was interrupted, or its owner died. Such a
row has no number. So for each chat, and for all agents together, they are counted: as many rows without a number as
there are lines that no row names, of answers that were surely under way. Surely is an answer whose client had the time
to see it begin (``SURELY_SENT`` tokens), or was sent all of it. Rows of attempts that were *lost* may be more, as a
burial does not know whether the dead owner had asked yet; other rows without a number may not.

One row is excused for each message that was edited away: an attempt that an edit overtook is booked with its owner's
next commit, and an owner that dies right then takes it along. Not judged are chats with nothing to do with ours
(bystanders, victims), but for rows with a number; and titles, but for the same. A failover takes back what was booked
in its last moments: so an answer that ended then, or a little before or after (``LOSS_MARGIN_SECONDS``), need not be
booked. All else holds through it: nothing is booked twice, or with other counts, or for an answer that nobody gave.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import trio
from checker import Kind, Violation

from chaos.database import query
from chatcluster.llm.simulator.ledger import Line, read_ledger
from chatcluster.usage import SpentOutcome

SURELY_SENT = 10
SETTLE_SECONDS_MAX = 20.0
"""For those who are still at work when everybody else rests, and for the last burials."""
LOOK_SECONDS = 1.0
LOSS_MARGIN_SECONDS = 10.0
"""By how much the end of an answer and the transaction that books it may be apart: that of a burial, at most."""
AGENTS = "agents"
OTHERS = ""
TALK = re.compile(r"Question (c\d+n\d+)q")
"""What the messages of one conversation have in common: see ``writer.py``."""
TASK = "Task "

ROWS = """
select chat_id::text, history_version, attempt, outcome, input_tokens, output_tokens, cached_input_tokens,
    (select content::text from messages where messages.chat_id = usage_events.chat_id and role = 'user'
     order by id limit 1)
from usage_events
"""
EDITED = """
select chat_id::text, count(*) from messages where role = 'user' and deleted_at is not null group by chat_id
"""


Span = tuple[float, float]
"""From when until when, by the clock that the ledger has: what was written then may be lost."""


class Row(NamedTuple):
    """An attempt as it is booked. ``number``: of its line in the ledger, if its usage came."""

    chat: str
    attempt: str
    outcome: str
    input: int | None
    output: int | None
    number: int | None
    group: str

    @property
    def is_title(self) -> bool:
        return self.outcome == SpentOutcome.TITLE or self.attempt.startswith("0.")


def group_of(text: str) -> str:
    """Whose words these are: of one conversation of ours, of any agent, or of others."""
    found = TALK.search(text)
    return found[1] if found else AGENTS if TASK in text else OTHERS


class Money:
    """The judge. ``report`` gets each violation."""

    def __init__(self, ledger: Path, report: Callable[[Violation], None]) -> None:
        self._ledger = ledger
        self._report = report
        self._summary: dict[str, Any] = {}

    async def judge(self, database_url: str, lost: Sequence[Span] = ()) -> None:
        """Look until nothing is wrong, or everybody had the time to come to an end."""
        violations: list[Violation] = []
        with trio.move_on_after(SETTLE_SECONDS_MAX):
            while True:
                rows, edited = await _booked(database_url)
                lines = read_ledger(self._ledger)
                violations = found(lines, rows, edited, lost)
                self._summary = summary(lines, rows)
                if not violations:
                    break
                await trio.sleep(LOOK_SECONDS)
        for violation in violations:
            self._report(violation)

    def summary(self) -> dict[str, Any]:
        """Counts of answers, rows and tokens; empty where nothing was judged."""
        return {"money": self._summary} if self._summary else {}


async def _booked(database_url: str) -> tuple[list[Row], dict[str, int]]:
    rows = [
        Row(chat, f"{version}.{attempt}", outcome, asked, answered, number, group_of(text or ""))
        for chat, version, attempt, outcome, asked, answered, number, text in await query(database_url, ROWS)
    ]
    groups = {row.chat: row.group for row in rows}
    edited: Counter[str] = Counter()
    for chat, count in await query(database_url, EDITED):
        edited[groups.get(chat, OTHERS)] += count
    return rows, edited


def found(
    lines: Sequence[Line], rows: Sequence[Row], edited: dict[str, int], lost: Sequence[Span] = ()
) -> list[Violation]:
    """What is wrong. ``edited``: how many messages of each group were edited away."""
    known = [row for row in rows if row.number is not None]
    named = {row.number for row in known}
    excused = {line.number for line in lines if any(begin <= line.at <= end for begin, end in map(_widened, lost))}
    return [*_misbooked(lines, known), *_miscounted(lines, rows, named, edited, excused)]


def _widened(span: Span) -> Span:
    return span[0] - LOSS_MARGIN_SECONDS, span[1] + LOSS_MARGIN_SECONDS


def _misbooked(lines: Sequence[Line], known: Sequence[Row]) -> Iterable[Violation]:
    """Rows with a number that are not what was told under it, or that are there twice."""
    by_number = {line.number: line for line in lines}
    rows_of: dict[int | None, list[Row]] = {}
    for row in known:
        rows_of.setdefault(row.number, []).append(row)
        line = by_number.get(row.number or 0)
        if line is None:
            yield _violation(row, "names an answer that nobody gave")
        elif not _is_as_told(row, line):
            yield _violation(row, f"is booked with {row.input} and {row.output} tokens; told were {line}")
        elif row.group not in (group_of(line.text), OTHERS):
            yield _violation(row, f"is booked for the answer to {line.text[:60]!r}")
    for number, twice in rows_of.items():
        if len(twice) > 1:
            yield _violation(twice[1], f"is the answer {number}, which {twice[0].attempt} of {twice[0].chat} is too")


def _is_as_told(row: Row, line: Line) -> bool:
    """On one of the wires what was read from the cache is counted apart, and is the input with the rest."""
    if row.input not in (line.input, line.input + line.number):
        return False
    return row.output == line.output if line.told else (row.output or 0) <= line.output


def _miscounted(
    lines: Sequence[Line],
    rows: Sequence[Row],
    named: Collection[int | None],
    edited: dict[str, int],
    excused: Collection[int],
) -> Iterable[Violation]:
    """Answers without a row, and rows without an answer, as far as one can count."""
    unnamed = [line for line in lines if line.number not in named and line.purpose != "title"]
    unknown = [row for row in rows if row.number is None and not row.is_title]
    for group in sorted({*(group_of(line.text) for line in unnamed), *(row.group for row in unknown)} - {OTHERS}):
        answers = [line for line in unnamed if group_of(line.text) == group]
        surely = sum(line.told or line.sent >= SURELY_SENT for line in answers if line.number not in excused)
        without = [row for row in unknown if row.group == group]
        not_lost = sum(row.outcome != SpentOutcome.LOST for row in without)
        if surely > len(without) + edited.get(group, 0):
            detail = f"{surely} answers were under way that no row names, and {len(without)} rows may be theirs"
            yield Violation(Kind.MONEY, group, detail)
        if not_lost > len(answers):
            detail = f"{not_lost} rows without a number say that an answer began; {len(answers)} may be theirs"
            yield Violation(Kind.MONEY, group, detail)


def summary(lines: Sequence[Line], rows: Sequence[Row]) -> dict[str, Any]:
    named = {row.number for row in rows if row.number is not None}
    told = [line for line in lines if line.number in named]
    outcomes = Counter(row.outcome for row in rows)
    return {
        "answers": len(lines),
        "rows": len(rows),
        "rows_by_outcome": dict(sorted(outcomes.items())),
        "rows_without_usage": sum(row.number is None for row in rows),
        "input_tokens_booked": sum(row.input or 0 for row in rows),
        "input_tokens_told": sum(line.input for line in told),
        "output_tokens_booked": sum(row.output or 0 for row in rows),
        "output_tokens_told": sum(line.output for line in told),
        "output_tokens_of_unknown_cost": sum(line.sent for line in lines if line.number not in named),
    }


def _violation(row: Row, what: str) -> Violation:
    return Violation(Kind.MONEY, row.chat, f"attempt {row.attempt} {what}")
