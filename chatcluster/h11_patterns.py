"""h11 reads heads and chunks without going back over what it has read. For that its patterns are replaced here.

Its own try every place for the end of some blanks: a field of 32 kB of them held the process for four seconds, and what
a server answers may have 100 kB (P10). httpx, whose connections h11 reads, leaves no choice of the parser. What is
understood, and as what, stays the same: these are its patterns, but for the blanks, which are taken at once.

``read_in_one_go`` is called in each process that opens connections which h11 reads. The version is bounded in
pyproject.toml: with a pattern that is not the known one, nothing is replaced, and a test fails.
"""

from __future__ import annotations

import re
from typing import Any

import h11

_READERS: Any = vars(h11)["_readers"]
REPLACED = {
    "header_field_re": (rb":[ \t]*(?P<field_value>", rb":[ \t]*+(?P<field_value>"),
    "chunk_header_re": (rb"(?P<chunk_ext>;.*)?[ \t]*", rb"(?P<chunk_ext>;(?:(?!\r\n).)*+)?+[ \t]*+"),
}
"""By name: what of the pattern is replaced by what. ``*+`` and ``?+`` take all that they can, and give nothing back."""


def read_in_one_go() -> None:
    """Once is enough, and more do no harm."""
    for name, (known, without_return) in REPLACED.items():
        pattern = getattr(_READERS, name).pattern
        if known in pattern:
            setattr(_READERS, name, re.compile(pattern.replace(known, without_return)))
