"""Named queries from the files in ``sql/``.

A file is a series of sections. ``-- name: lock_chat`` starts a query, ``-- fragment: message`` a text that
``{message}`` stands for in the same file; those of ``fragments.sql`` and ``timeline.sql`` are known in every file.
``{moment chats.created_at}`` is the fragment ``moment`` with ``chats.created_at`` where it says ``{it}``.
Comments stay in the query: they are seen in ``pg_stat_activity``, too.

The fragments of a chat's columns (``short_columns``, ``stored_changes``, …) are in no file: ``columns.py`` makes them
of the fields that they are. Nor are ``content_version``, the newest content that this version can read, ``times_max``,
the rule of shares, and ``versions_forgotten_max``, a constant of the state machine.

A query with many arguments has names for them: see ``NamedQuery``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import resources
from operator import itemgetter
from typing import Any

from chatcluster.chat import VERSIONS_FORGOTTEN_MAX, VERSIONS_RAISED
from chatcluster.parts import CONTENT_VERSION
from chatcluster.ports.claim_rules import TIMES_MAX
from chatcluster.postgres import columns

SHARED_FILENAMES = ("fragments.sql", "timeline.sql")

_SECTION = re.compile(r"^-- (name|fragment): (\w+)\n", re.MULTILINE)
_REFERENCE = re.compile(r"\{(\w+)(?: ([^{}]+))?\}")
_ARGUMENT = re.compile(r"(?<![:\w]):([a-z]\w*)")


class NamedQuery:
    """A query that says ``:name`` where it wants an argument: ``text`` has ``$1``, ``$2``, … for them.

    ``values`` takes from a mapping what the server wants, in its order.
    """

    def __init__(self, text: str) -> None:
        numbers = {name: number for number, name in enumerate(dict.fromkeys(_ARGUMENT.findall(text)), start=1)}
        self.text = _ARGUMENT.sub(lambda match: f"${numbers[match[1]]}", text)
        self.values: Callable[[Mapping[str, object]], tuple[Any, ...]] = itemgetter(*numbers)


def load_queries(filename: str) -> dict[str, str]:
    """The queries of ``sql/<filename>`` by their names."""
    sections = [section for name in (*SHARED_FILENAMES, filename) for section in _sections(name)]
    fragments = {name: text for kind, name, text in sections if kind == "fragment"}
    fragments |= {"short_columns": columns.SHORT, "long_columns": columns.LONG, "unread_columns": columns.UNREAD}
    fragments |= {"made_columns": columns.MADE, "made_values": columns.MADE_VALUES}
    fragments |= {"stored_changes": columns.CHANGED, "set_up": columns.SET_UP}
    fragments |= {"content_version": str(CONTENT_VERSION), "times_max": str(TIMES_MAX)}
    fragments |= {"versions_forgotten_max": str(VERSIONS_FORGOTTEN_MAX), "versions_raised": str(VERSIONS_RAISED)}
    return {name: _expand(text, fragments) for kind, name, text in sections if kind == "name"}


def _sections(filename: str) -> list[tuple[str, str, str]]:
    """Kind, name and text of each section."""
    content = resources.files("chatcluster.postgres").joinpath("sql", filename).read_text()
    _, *pieces = _SECTION.split(content)
    texts = [text.strip() for text in pieces[2::3]]
    return list(zip(pieces[0::3], pieces[1::3], texts, strict=True))


def _expand(text: str, fragments: dict[str, str]) -> str:
    """``text`` with its references, and those of what they stand for, replaced; an unknown one is a ``KeyError``."""

    def meant(match: re.Match[str]) -> str:
        name, it = match.groups()
        return _expand(fragments[name], fragments if it is None else fragments | {"it": it})

    return _REFERENCE.sub(meant, text)
