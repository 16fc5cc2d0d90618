"""Names of workspaces that nobody named: the template's, and four characters drawn by lot."""

from __future__ import annotations

import re
import secrets

NAME_CHARS_MAX = 32
BASE_CHARS_MAX = 27

_OTHERS = re.compile(r"[^a-z0-9]+")


def drawn_name(base: str) -> str:
    """``base``, as far as it can be a name, a hyphen and four hexadecimal digits."""
    plain = _OTHERS.sub("-", base.lower()).strip("-")[:BASE_CHARS_MAX].strip("-") or "workspace"
    return f"{plain}-{secrets.token_hex(2)}"
