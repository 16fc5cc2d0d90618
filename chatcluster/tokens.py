"""API tokens as text: ``ccl_<id>_<secret><checksum>``. Pure; nothing here knows where they are stored.

* The **id** names the token in listings and finds its row.
* The **secret** has 256 bits from the operating system's generator. What is stored is a SHA-256 of the whole
  token, so the plain text exists once, when it is made; a fast hash is enough for a random secret.
* The **checksum** (CRC-32) tells a mistyped or cut token from a wrong one without asking the database, and
  lets secret scanners find leaks without false alarms. It protects nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from typing import NamedTuple

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_CHARS = 12
SECRET_CHARS = 43
"""The least number of base62 characters that holds 256 bits."""
CHECKSUM_CHARS = 6

_TOKEN = re.compile(
    rf"(ccl_([0-9A-Za-z]{{{ID_CHARS}}})_[0-9A-Za-z]{{{SECRET_CHARS}}})([0-9A-Za-z]{{{CHECKSUM_CHARS}}})"
)

_SECRET = re.compile(rf"[0-9A-Za-z]{{{SECRET_CHARS}}}")


class NewToken(NamedTuple):
    """A token as it is made: ``plaintext`` is shown once, ``digest`` is stored."""

    plaintext: str
    token_id: str
    digest: bytes


class ParsedToken(NamedTuple):
    """A well-formed token: what to look it up by. Whether it is a token of ours only the database knows."""

    token_id: str
    digest: bytes


class SessionKey(NamedTuple):
    """The secret of a browser's session, by what it is looked up."""

    digest: bytes


Credential = ParsedToken | SessionKey


class NewSecret(NamedTuple):
    """The secret of a session, or a code: ``plaintext`` goes to its user, ``digest`` is stored."""

    plaintext: str
    digest: bytes


def generate_secret() -> NewSecret:
    plaintext = _random(SECRET_CHARS)
    return NewSecret(plaintext, _digest(plaintext))


def secret_digest(text: str) -> bytes | None:
    """What a secret is looked up by, None if ``text`` cannot be one."""
    return _digest(text) if _SECRET.fullmatch(text) else None


def generate() -> NewToken:
    """A new token; nobody can guess or make it again."""
    token_id = _random(ID_CHARS)
    body = f"ccl_{token_id}_{_random(SECRET_CHARS)}"
    plaintext = body + _checksum(body)
    return NewToken(plaintext, token_id, _digest(plaintext))


def parse(text: str) -> ParsedToken | None:
    """What ``text`` says it is, None if it is not a token at all (a typing error, most likely)."""
    match = _TOKEN.fullmatch(text)
    if match is None or match[3] != _checksum(match[1]):
        return None
    return ParsedToken(match[2], _digest(text))


def _random(chars: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(chars))


def _digest(plaintext: str) -> bytes:
    return hashlib.sha256(plaintext.encode("ascii")).digest()


def _checksum(body: str) -> str:
    value = zlib.crc32(body.encode("ascii"))
    digits = []
    for _ in range(CHECKSUM_CHARS):
        value, digit = divmod(value, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
