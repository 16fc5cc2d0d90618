"""What the simulated model says when nothing is ordered: readable Markdown, the same for the same prompt. Pure."""

from __future__ import annotations

from zlib import crc32

QUOTED_CHARACTERS_MAX = 80

_OPENINGS = (
    "A good question. The short answer is that it depends on the tide, and the long one follows.",
    "There are three ways to look at this, and the second is the one that people forget.",
    "Most of what is said about this is older than it looks; here is what still holds.",
)
_BODY = """\
Nobody thought about this: the words come from **simulate-llm**, which stands in until a real model is set. They are \
here so that there is something to look at while it streams.

1. A list, with `code` in it and a word in *italics*.
2. Its second item, which is long enough to be broken into two lines on a narrow screen, and so shows how that looks.
3. And a last one.

```python
def harbour(ships: list[str]) -> dict[str, int]:
    \"\"\"How many letters each ship has.\"\"\"
    return {ship: len(ship) for ship in ships}
```

| Ship | Letters | Built |
|---|---:|---|
| Aurora | 6 | 1903 |
| Fram | 4 | 1892 |

> To be told something else, put an order into the message: `[ [tokens=20] ]`, without the spaces.
"""


def prose(prompt: str) -> str:
    """An answer to ``prompt``, of some 120 words."""
    quoted = " ".join(prompt.replace("`", "'").split())
    if len(quoted) > QUOTED_CHARACTERS_MAX:
        quoted = quoted[: QUOTED_CHARACTERS_MAX - 1] + "…"
    opening = _OPENINGS[crc32(prompt.encode("utf-8", "replace")) % len(_OPENINGS)]
    about = f"You asked: `{quoted}`\n\n" if quoted else ""
    return f"{about}{opening} {_BODY}"
