"""Images and documents in a request, as a strict provider reads them: whole, of the type that they say, not too large.
Pure. What a question came with can be told: by type, size and digest, so that a test knows that it arrived."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from chatcluster.errors import CallerError
from chatcluster.file_types import IMAGES, PDF, TEXT, Sniffer
from chatcluster.llm.simulator.question import RefusedQuestion

IMAGE_BYTES_MAX = 5 << 20
DOCUMENT_BYTES_MAX = 32 << 20
_DATA_URL = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,", re.ASCII)
_TEXT_FILE = re.compile(r"^\[file [^\n]+\]\n(.*?)\n\[end of file\]$", re.DOTALL | re.MULTILINE)
"""A text file among the words of a message."""


class Medium(NamedTuple):
    media_type: str
    size_bytes: int
    sha256: str

    def __str__(self) -> str:
        return f"* {self.media_type}, {self.size_bytes} bytes, sha256 {self.sha256}"


def read_image(url: Any, where: str) -> Medium:
    """Read an image from the URL that it has on OpenAI's wires."""
    return read_media(*_parts_of(url, where), IMAGES, where)


def read_file(file: Any, where: str) -> Medium:
    """Read a document from the name and the URL that it has there."""
    if not isinstance(file, dict) or not isinstance(file.get("filename"), str) or not file["filename"]:
        raise RefusedQuestion(f"Missing required parameter: '{where}.filename'.")
    return read_media(*_parts_of(file.get("file_data"), where), (PDF,), where)


def read_media(media_type: Any, data: Any, allowed: Iterable[str], where: str) -> Medium:
    """Read an image or a document from its base64. Raises ``RefusedQuestion``."""
    if media_type not in allowed:
        raise RefusedQuestion(f"{where}: {str(media_type)[:80]!r} is not one of {', '.join(allowed)}.")
    try:
        content = b64decode(str(data), validate=True)
    except (binascii.Error, ValueError):
        raise RefusedQuestion(f"{where}: the data is not valid base64.") from None
    if len(content) > (DOCUMENT_BYTES_MAX if media_type == PDF else IMAGE_BYTES_MAX):
        raise RefusedQuestion(f"{where}: {len(content)} bytes are more than the maximum.")
    if _type_of(content) != media_type:
        raise RefusedQuestion(f"{where}: the data is no {media_type}.")
    return Medium(media_type, len(content), sha256(content).hexdigest())


def text_files(texts: Iterable[str]) -> Iterator[Medium]:
    """The files whose words stand in the messages."""
    for text in texts:
        for found in _TEXT_FILE.findall(text):
            content = str(found).encode()
            yield Medium(TEXT, len(content), sha256(content).hexdigest())


def _parts_of(url: Any, where: str) -> tuple[str, str]:
    match = _DATA_URL.match(str(url)[:200])
    if match is None:
        raise RefusedQuestion(f"Invalid '{where}': a data URL in base64 was expected.")
    return match[1], str(url)[match.end() :]


def _type_of(content: bytes) -> str:
    sniffer = Sniffer()
    try:
        sniffer.feed(content)
        return sniffer.media_type()
    except CallerError:
        return ""
